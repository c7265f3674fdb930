"""What a sweep over ways of looking more than once has shown: gains, costs, and views beside."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from keyslice.config import Evaluate
from keyslice.evaluation import predictions
from keyslice.evaluation.comparison import assess_all
from keyslice.evaluation.presentation import decimals, difference, pipes, signed, spread
from keyslice.evaluation.summary import PAIRED, Assessment


class Looks(NamedTuple):
    """How a network looks at exams.

    Attributes:
        way: by which states are found; or `VIEWS` or `SHIFTS`.
        aggregation: what they come to.
        budget: how many; of views the frames as they are among them.
    """

    way: str
    aggregation: str
    budget: int

    @property
    def file(self) -> str:
        """Holds the predictions, in a folder named after the way and a hash."""
        return f"{self.aggregation}-{self.budget}.parquet"

    @classmethod
    def of(cls, file: Path) -> "Looks":
        """Whose predictions a file holds."""
        aggregation, budget = file.stem.rsplit("-", 1)
        return cls(file.parent.name.rsplit("-", 1)[0], aggregation, int(budget))


VIEWS = "views"
"""Flips and shifts, which cost as much again each."""
SHIFTS = "shifts"
"""The latter alone."""
ONCE = Looks(VIEWS, "mean", 1)
"""The network as it was trained."""


def read(folder: Path, seeds: Sequence[int]) -> dict[Looks, pd.DataFrame]:
    """What `keyslice.stages.sweep` has written of a variant: predictions of all seeds."""
    found: dict[Looks, list[pd.DataFrame]] = defaultdict(list)
    for seed in seeds:
        for file in sorted((folder / f"seed-{seed}").glob("[!.]*/*.parquet")):
            found[Looks.of(file)].append(predictions.read(file))
    return {looks: pd.concat(tables, ignore_index=True) for looks, tables in found.items()}


def gains(found: Mapping[Looks, pd.DataFrame], settings: Evaluate) -> pd.DataFrame:
    """What each way gains over one look, and over views that cost as much; on the test exams.

    Args:
        found: predictions of one variant, those of `ONCE` among them.
        settings: of resamples and intervals.

    Returns:
        A row for each but `ONCE`; columns
            way, aggregation, budget; cost: multiply-accumulates, those of one look being 1;
            views: how many of them cost nearest to that;
            <metric>_once_mean and _sd (over seeds), for auc and balanced_accuracy: of one look;
            <metric>_gain, with _low and _high, for auc and balanced_accuracy: over one look, in
            pairs; <metric>_minus_views: over so many views, NaN of views themselves;
            validation_<metric>_gain, with _low and _high: what there is to choose by.
    """
    names = {str(tuple(looks)): looks for looks in found}
    tables = {name: found[looks] for name, looks in names.items()}
    validation, test = (
        {names[name]: one for name, one in assess_all(tables, split, settings).items()}
        for split in ("validation", "test")
    )
    costs = {looks: one.figures["macs"].mean() for looks, one in test.items()}
    rows = []
    for looks in sorted(set(test) - {ONCE}):
        beside = min(
            (other for other in test if other.way == VIEWS),
            key=lambda other: abs(costs[other] - costs[looks]),
        )
        row = looks._asdict() | {"cost": costs[looks] / costs[ONCE], "views": beside.budget}
        for metric in PAIRED:
            once = test[ONCE].estimates[metric]
            row |= {f"{metric}_once_mean": once.mean, f"{metric}_once_sd": once.sd}
            row |= _over(test[ONCE], test[looks], metric, "gain", settings.confidence)
            row |= _over(test[beside], test[looks], metric, "minus_views", settings.confidence)
            if beside == looks:
                row |= dict.fromkeys((n for n in row if f"{metric}_minus_views" in n), np.nan)
            own = _over(validation[ONCE], validation[looks], metric, "gain", settings.confidence)
            row |= {f"validation_{name}": value for name, value in own.items()}
        rows.append(row)
    return pd.DataFrame(rows)


def best(table: pd.DataFrame) -> str:
    """What the validation exams would have one choose, by AUC, and what the test exams say of it.

    Args:
        table: of `gains`.
    """
    if not table["validation_auc_gain"].max() > 0:
        return "On validation exams nothing gains in AUC: one look it is."
    sure = table[table["validation_auc_gain_low"] > 0]
    ranked = table if sure.empty else sure
    row = ranked.sort_values(["validation_auc_gain", "cost"], ascending=[False, True]).iloc[0]
    first = (
        "On validation exams no gain in AUC can be told from 0; the largest is that of"
        if sure.empty
        else "Best on validation exams by AUC:"
    )
    there, here = (
        f"{difference(row, f'{split}auc_gain')}, in balanced accuracy"
        f" {difference(row, f'{split}balanced_accuracy_gain')}"
        for split in ("validation_", "")
    )
    return (
        f"{first} {row['way']}, {row['aggregation']}, budget {row['budget']}, {row['cost']:.1f}"
        f" times the cost: {there}. On test exams: {here}."
    )


def counted(tables: Iterable[pd.DataFrame]) -> str:
    """In how many rows of `gains` the interval of the gain in AUC leaves 0 out, and how."""
    table = pd.concat(tables)
    views = table["way"].isin([VIEWS, SHIFTS])

    def told(rows: pd.DataFrame, name: str) -> str:
        above, below = (rows["auc_gain_low"] > 0).sum(), (rows["auc_gain_high"] < 0).sum()
        return f"{above} above 0 and {below} below of {len(rows)} rows of {name}"

    return (
        "Intervals of the gain in AUC: "
        f"{told(table[~views], 'states')}, {told(table[views], 'views')}."
    )


def _over(
    before: Assessment, after: Assessment, metric: str, name: str, confidence: float
) -> dict[str, float]:
    found = after.estimates[metric].minus(before.estimates[metric])
    low, high = found.interval(confidence)
    column = f"{metric}_{name}"
    return {column: found.mean, f"{column}_low": low, f"{column}_high": high}


def markdown(table: pd.DataFrame) -> str:
    """What one look achieves, and a pipe table of `gains`."""
    first = table.iloc[0]
    area, accuracy = (spread(first, f"{metric}_once") for metric in PAIRED)
    rows: Iterable[pd.Series] = [row for _, row in table.iterrows()]
    cells = pipes(
        pd.DataFrame(
            {
                "states": [row["way"] for row in rows],
                "combined by": [row["aggregation"] for row in rows],
                "budget": [str(row["budget"]) for row in rows],
                "cost": [decimals(row["cost"], 2) for row in rows],
                "gain in AUC": [difference(row, "auc_gain") for row in rows],
                "gain in bal. acc.": [difference(row, "balanced_accuracy_gain") for row in rows],
                "views": [str(row["views"]) for row in rows],
                "AUC − views": [difference(row, "auc_minus_views") for row in rows],
                "bal. acc. − views": [
                    difference(row, "balanced_accuracy_minus_views") for row in rows
                ],
                "validation: AUC": [signed(row["validation_auc_gain"]) for row in rows],
                "bal. acc.": [signed(row["validation_balanced_accuracy_gain"]) for row in rows],
            }
        )
    )
    return f"One look: AUC {area}, balanced accuracy {accuracy}.\n\n{cells}\n{best(table)}\n"
