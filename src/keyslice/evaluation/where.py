"""The report's figures of where in the exam each sampler looks, and their arithmetic."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from keyslice.evaluation.palette import INK, Look, styled

POSITION_BINS = 20
MOST_EXAMS = 48
"""Lines in an exam map."""


@styled
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


@styled
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
            share = kept[(middles * frames).astype(int)]
            # Of a long exam several frames lie in one part; none that was kept may be lost.
            parts = ((np.arange(frames) + 0.5) / frames * len(share)).astype(int)
            np.maximum.at(share, parts, kept)
            shares[line[exam_id]] += share
    for exam_id, row in exams.loc[order].iterrows():
        if row["informative"] is not None:
            points += [((t + 0.5) / row["frames"], line[exam_id] + 0.5) for t in row["informative"]]
    return shares, np.array(points).reshape(-1, 2).T
