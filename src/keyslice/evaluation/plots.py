"""The report's figures of what each variant achieves, from tables to a matplotlib Figure."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from keyslice.evaluation.palette import INK, Look, styled
from keyslice.evaluation.palette import looks as palette
from keyslice.evaluation.predictions import Predicted
from keyslice.evaluation.runs import Run
from keyslice.evaluation.summary import NAMES, confusion
from keyslice.evaluation.sweep import SHIFTS, VIEWS
from keyslice.metrics import confidence_bins


@styled
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


@styled
def gains(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """What looking more than once gains in AUC, against what it costs; a panel per variant.

    Args:
        tables: of `keyslice.evaluation.sweep.gains`, by variant.
    """
    names = list(dict.fromkeys(_ways(pd.concat(tables.values()))))
    looks = palette(names)
    figure = Figure(figsize=(max(6.2, 3.1 * len(tables) + 0.4), 3.6))
    panels = figure.subplots(1, len(tables), sharey=True, squeeze=False)[0]
    for axes, (variant, table) in zip(panels, tables.items(), strict=True):
        axes.axhline(0, color=INK, linewidth=0.8)
        for name, rows in table.groupby(_ways(table), sort=False):
            look, rows = looks[str(name)], rows.sort_values("cost")
            axes.fill_between(
                rows["cost"],
                rows["auc_gain_low"],
                rows["auc_gain_high"],
                color=look.colour,
                alpha=0.08,
                linewidth=0,
            )
            axes.plot(
                rows["cost"],
                rows["auc_gain"],
                color=look.colour,
                marker=look.marker,
                markersize=4.5,
                label=name,
            )
        axes.set(title=variant, xlim=(0, None), xlabel="cost, one look = 1")
    panels[0].set(ylabel="gain in AUC")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4)
    return figure


def _ways(table: pd.DataFrame) -> list[str]:
    return [
        way if way in (VIEWS, SHIFTS) else f"{way}, {aggregation}"
        for way, aggregation in zip(table["way"], table["aggregation"], strict=True)
    ]


@styled
def more_looks(table: pd.DataFrame, metric: str, looks: Mapping[str, Look]) -> Figure:
    """From one look to as many as each variant is used with: `metric` against cost.

    Args:
        table: see `cost`; with variants that look more than once.
        metric: "auc" or "balanced_accuracy".
        looks: by variant.
    """
    figure = Figure(figsize=(4.8, 3.7))
    axes = figure.add_subplot()
    for _, row in table[table[f"{metric}_gain"].notna()].iterrows():
        look = looks[row["variant"]]
        costs = [row["plain_cost"], row["cost"]]
        values = [row[f"{metric}_plain_mean"], row[f"{metric}_mean"]]
        drawn = {"color": look.colour, "marker": look.marker, "markersize": 7}
        axes.plot(costs, values, **drawn, linewidth=1.3, markevery=[1], label=row["variant"])
        axes.plot(costs[:1], values[:1], **drawn, markerfacecolor="none", linestyle="none")
    axes.set(
        xlim=(0, None),
        xlabel="cost: multiply-accumulates, one look at the full exam = 1",
        ylabel=NAMES[metric],
    )
    axes.xaxis.grid(visible=False)
    figure.legend(loc="outside lower center", ncols=4, handletextpad=0.4, columnspacing=1.2)
    return figure


def _spread_out(costs: np.ndarray, near: float = 0.03, step: float = 0.035) -> np.ndarray:
    """`costs` with those that follow one another within `near` set `step` apart, mean kept."""
    order = np.argsort(costs, kind="stable")
    spread = costs.astype(float).copy()
    for group in np.split(order, np.flatnonzero(np.diff(costs[order]) > near) + 1):
        offsets = (np.arange(len(group)) - (len(group) - 1) / 2) * step
        spread[group] = costs[group].mean() + offsets if len(group) > 1 else costs[group]
    return spread


@styled
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


@styled
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


@styled
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
