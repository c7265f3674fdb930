"""The report's figures: each a function from tables to a matplotlib Figure, without pyplot."""

from collections.abc import Callable, Mapping
from functools import wraps

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from keyslice.evaluation.metrics import confidence_bins
from keyslice.evaluation.palette import INK, RC, Look
from keyslice.evaluation.predictions import Predicted
from keyslice.evaluation.runs import Run
from keyslice.evaluation.summary import confusion

NAMES = {"auc": "AUC", "balanced_accuracy": "balanced accuracy"}
POSITION_BINS = 20
MOST_EXAMS = 48
"""Lines in an exam map."""


def _styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """`draw` under the shared style; matplotlib's own settings are as before afterwards."""

    @wraps(draw)
    def styled(*args: object, **kwargs: object) -> Figure:
        with mpl.rc_context(RC):
            return draw(*args, **kwargs)

    return styled


@_styled
def cost(table: pd.DataFrame, metric: str, looks: Mapping[str, Look]) -> Figure:
    """`metric` with its interval against cost relative to the full exam, a point per variant.

    Points of nearly equal cost are spread sideways, or they would hide one another.

    Args:
        table: of `keyslice.evaluation.comparison.compare`.
        metric: "auc" or "balanced_accuracy".
        looks: by variant.
    """
    figure = Figure(figsize=(4.8, 3.7))
    axes = figure.add_subplot()
    for (_, row), x in zip(table.iterrows(), _spread_out(table["cost"].to_numpy()), strict=True):
        look, value = looks[row["variant"]], row[f"{metric}_mean"]
        ends = [[value - row[f"{metric}_low"]], [row[f"{metric}_high"] - value]]
        axes.errorbar(
            x,
            value,
            yerr=np.maximum(ends, 0),
            color=look.colour,
            marker=look.marker,
            markersize=7,
            elinewidth=1.3,
            capsize=2.5,
            linestyle="none",
            label=row["variant"],
        )
        if row["sampler"] == "full":
            axes.axhline(value, color=look.colour, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    axes.set(
        xlim=(0, None), xlabel="cost: multiply-accumulates, full exam = 1", ylabel=NAMES[metric]
    )
    axes.xaxis.grid(visible=False)
    figure.legend(loc="outside lower center", ncols=4, handletextpad=0.2, columnspacing=1.2)
    return figure


def _spread_out(costs: np.ndarray, near: float = 0.03, step: float = 0.035) -> np.ndarray:
    """`costs` with those that follow one another within `near` set `step` apart, mean kept."""
    order = np.argsort(costs, kind="stable")
    spread = costs.astype(float).copy()
    for group in np.split(order, np.flatnonzero(np.diff(costs[order]) > near) + 1):
        offsets = (np.arange(len(group)) - (len(group) - 1) / 2) * step
        spread[group] = costs[group].mean() + offsets if len(group) > 1 else costs[group]
    return spread


@_styled
def training(runs: Mapping[int, Run], look: Look) -> Figure:
    """Loss and validation AUC by epoch, a thin line per seed, the epoch that was kept marked.

    Args:
        runs: by seed.
        look: of the variant.
    """
    figure = Figure(figsize=(5.4, 2.7))
    loss, area = figure.subplots(1, 2)
    for run in runs.values():
        history, kept = run.history, run.history[run.history["epoch"] == run.best_epoch]
        thin = {"color": look.colour, "linewidth": 1.1}
        loss.plot(history["epoch"], history["train_loss"], linestyle=(0, (1, 1)), **thin)
        for axes, column in ((loss, "validation_loss"), (area, "validation_auc")):
            axes.plot(history["epoch"], history[column], **thin)
            axes.plot(kept["epoch"], kept[column], marker="o", markersize=4.5, color=look.colour)
    loss.legend(loss.lines[:2], ["training", "validation"])
    loss.set(title="loss", xlabel="epoch")
    area.set(title="validation AUC", xlabel="epoch")
    for axes in (loss, area):
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    return figure


@_styled
def positions(results: Mapping[str, pd.DataFrame], looks: Mapping[str, Look]) -> Figure:
    """Where in the exam each sampler looks: share of the frames at a position that it keeps.

    Dashed: how many of the frames there are known to be informative, scaled to its own peak.

    Args:
        results: by variant, the predictions of one split.
        looks: by variant.
    """
    figure = Figure(figsize=(4.8, 0.62 * len(results) + 0.75))
    rows = figure.subplots(len(results), 1, sharex=True, squeeze=False)[:, 0]
    edges = np.linspace(0, 1, POSITION_BINS + 1)
    for axes, (variant, table) in zip(rows, results.items(), strict=True):
        kept, informative = kept_by_position(table)
        axes.stairs(kept, edges, fill=True, color=looks[variant].colour, linewidth=0)
        if informative.max() > 0:
            scaled = informative / informative.max()
            axes.stairs(scaled, edges, baseline=None, color=INK, linestyle=(0, (3, 2)))
        axes.set(xlim=(0, 1), ylim=(0, 1.05), yticks=[0, 0.5, 1], yticklabels=["0", "", "1"])
        axes.set_ylabel(variant, rotation=0, ha="right", va="center", labelpad=8)
    rows[-1].set_xlabel("relative position in the exam")
    return figure


def kept_by_position(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """By relative position, the share of the frames that is kept, and that is informative.

    Returns:
        Two arrays (POSITION_BINS,); frame t of T lies at (t + 0.5) / T. Both are 0 where no exam
        has a frame.
    """
    present, kept, informative = np.zeros((3, POSITION_BINS))
    columns = table["frames"], table["kept"], table["informative"]
    for frames, chosen, known in zip(*columns, strict=True):
        where = ((np.arange(frames) + 0.5) / frames * POSITION_BINS).astype(int)
        present += np.bincount(where, minlength=POSITION_BINS)
        kept += np.bincount(where[np.unique(chosen)], minlength=POSITION_BINS)
        if known is not None:
            found = where[np.asarray(known, dtype=int)]
            informative += np.bincount(found, minlength=POSITION_BINS)
    frames = np.maximum(present, 1)
    return kept / frames, informative / frames


@_styled
def exam_maps(results: Mapping[str, pd.DataFrame], looks: Mapping[str, Look]) -> Figure:
    """Where each sampler looks in each exam: a line per exam, the deeper the colour the more seeds.

    The exams are ordered by their first informative frame, so that a sampler that finds it draws
    it; the informative frames are dotted. Of many exams, some are shown, evenly spread.

    Args:
        results: by variant, the predictions of one split.
        looks: by variant.
    """
    columns = 4
    rows = -(-len(results) // columns)
    figure = Figure(figsize=(4.8, 2.4 * rows + 0.3))
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, (variant, table) in zip(grid, results.items(), strict=False):
        shares, points = _kept_by_exam(table)
        paint = np.zeros((*shares.shape, 4)) + to_rgba(looks[variant].colour)
        paint[..., 3] = shares
        size = len(shares)
        axes.imshow(paint, aspect="auto", extent=(0, 1, size, 0), interpolation="nearest")
        axes.plot(*points, linestyle="none", marker="o", markersize=1.2, color=INK)
        axes.set(xticks=[0, 0.5, 1], xticklabels=["0", "½", "1"], yticks=[], ylim=(size, 0))
        axes.set_title(variant, fontsize=8.5)
        axes.grid(visible=False)
    for axes in grid[len(results) :]:
        axes.set_visible(False)
    figure.supxlabel("relative position in the exam", fontsize=9.5)
    figure.supylabel("exams", fontsize=9.5)
    return figure


def _kept_by_exam(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Share of the seeds that keep each part of each exam, and the informative frames' places.

    Returns:
        (exams, 2·POSITION_BINS) shares; (2, points) of relative position and line.
    """
    exams = table.drop_duplicates("exam_id").set_index("exam_id")
    start = [
        informative[0] / frames if informative is not None and len(informative) else np.inf
        for informative, frames in zip(exams["informative"], exams["frames"], strict=True)
    ]
    order = exams.assign(start=start).sort_values(["start", "exam_id"]).index
    order = order[np.unique(np.linspace(0, len(order) - 1, MOST_EXAMS).round().astype(int))]
    line = {exam_id: number for number, exam_id in enumerate(order)}
    shares, points = np.zeros((len(order), 2 * POSITION_BINS)), []
    seeds = table["seed"].nunique()
    middles = (np.arange(2 * POSITION_BINS) + 0.5) / (2 * POSITION_BINS)
    columns = table["exam_id"], table["frames"], table["kept"]
    for exam_id, frames, chosen in zip(*columns, strict=True):
        if exam_id in line:
            kept = np.zeros(frames)
            kept[chosen] = 1 / seeds
            shares[line[exam_id]] += kept[(middles * frames).astype(int)]
    for exam_id, row in exams.loc[order].iterrows():
        if row["informative"] is not None:
            points += [((t + 0.5) / row["frames"], line[exam_id] + 0.5) for t in row["informative"]]
    return shares, np.array(points).reshape(-1, 2).T


@_styled
def reliability(predicted: Predicted, bins: int, look: Look) -> Figure:
    """Accuracy by confidence, all seeds together; on the diagonal probabilities can be trusted.

    Args:
        predicted: one variant's predictions on one split.
        bins: of equal width over [0,1], as in the calibration error.
        look: of the variant.
    """
    probabilities = np.concatenate(list(predicted.probabilities))
    labels = np.tile(predicted.labels, len(predicted.seeds))
    bin_of = confidence_bins(probabilities, bins)
    exams = np.bincount(bin_of, minlength=bins)
    used = exams > 0
    correct = probabilities.argmax(1) == labels
    share = np.bincount(bin_of, weights=correct, minlength=bins)[used] / exams[used]
    confidence = np.bincount(bin_of, weights=probabilities.max(1), minlength=bins)[used]
    figure = Figure(figsize=(2.7, 2.7))
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    upper.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle=(0, (3, 2)))
    upper.plot(confidence / exams[used], share, color=look.colour, marker="o", markersize=4)
    upper.set(xlim=(0, 1), ylim=(0, 1.02), ylabel="accuracy")
    middles = (np.arange(bins) + 0.5) / bins
    lower.bar(middles, exams / len(predicted.seeds), width=0.9 / bins, color=look.colour)
    lower.set(xlabel="confidence", ylabel="exams")
    lower.yaxis.set_major_locator(MaxNLocator(nbins=2, integer=True))
    return figure


@_styled
def confusions(predicted: Predicted, classes: tuple[str, ...], look: Look) -> Figure:
    """Share of each true class given to each class, mean over seeds.

    Args:
        predicted: one variant's predictions on one split.
        classes: their names.
        look: of the variant.
    """
    counts = sum(confusion(predicted.labels, p) for p in predicted.probabilities)
    shares = counts / np.maximum(np.sum(counts, axis=1, keepdims=True), 1)
    side = 1.5 + 0.42 * len(classes)
    figure = Figure(figsize=(max(side, 2.7), max(side, 2.7)))
    axes = figure.add_subplot()
    _shade(axes, shares, look.colour)
    ticks = np.arange(len(classes))
    axes.set_xticks(ticks, classes, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(ticks, classes)
    axes.set(xlabel="predicted", ylabel="true")
    return figure


def _shade(axes: Axes, shares: np.ndarray, colour: str) -> None:
    """A square per cell, the colour as opaque as the share is large, so that any page suits it."""
    axes.grid(visible=False)
    for (row, column), share in np.ndenumerate(shares):
        axes.add_patch(
            Rectangle(
                (column - 0.48, row - 0.48),
                0.96,
                0.96,
                color=colour,
                alpha=0.08 + 0.8 * share,
                linewidth=0,
            )
        )
        if share >= 0.005:
            axes.text(column, row, f"{share:.0%}", ha="center", va="center", fontsize=8.5)
    size = len(shares)
    axes.set(xlim=(-0.5, size - 0.5), ylim=(size - 0.5, -0.5), aspect="equal")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
