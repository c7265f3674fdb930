"""Drift: how exams that came later differ from those that a model knows.

Two manifests are compared quantity by quantity: geometry, lengths, intensities and acquisition
facts, label, site and the way in. Each patient counts once (see `permutation`).

Numbers are tested by the Kolmogorov–Smirnov distance, at `CUTS` quantiles of all values at most: it
sees another spread as well as another level. The effect is Cliff's delta, P(new > reference) −
P(new < reference) (Cliff 1993, doi:10.1037/0033-2909.114.3.494): ranks only, and ties count half.
Categories are tested by the chi-squared statistic of a table in which both groups weigh alike; the
effect is Cramér's V of that table, so that it does not shrink because few exams are new, and less
what chance alone gives. What is not known of a number is a quantity of its own, `<name>_known`.

p-values come from permutations of patients and are corrected by Holm's method (1979): without any
assumption on how quantities hang together (height and width, mean and percentiles), the probability
of a false alarm in a comparison, however many quantities it looks at, is at most `LEVEL`.
"""

import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from keyslice.exams import permutation
from keyslice.exams.exam import CODES
from keyslice.exams.permutation import Array, Shares
from keyslice.exams.source import UNKNOWN
from keyslice.exams.split import group

LEVEL = 0.05
"""Probability, at most, that a comparison calls anything shifted where nothing is."""
FEWEST = 5
"""Patients in each group, below which nothing is told."""
DRAWS = 1999
"""Permutations: the least p-value is 1 in 2000, which stays below LEVEL after correction for as
many as 99 quantities."""
CUTS = 20
NUMBERS = (
    "frames",
    "height",
    "width",
    "frame_spacing",
    "row_spacing",
    "column_spacing",
    "frame_time",
    "constant_frames",
    "intensity_mean",
    "intensity_sd",
    "intensity_low",
    "intensity_high",
)
"""Columns of the manifest."""
CATEGORIES = ("label", "site", "modality", "source_format", "dtype", "channels")
WORDS = ("negligible", "small", "medium", "large")
DELTA = (0.147, 0.33, 0.474)
"""Where Cliff's delta becomes small, medium and large (Romano et al. 2006)."""
CRAMER = (0.1, 0.3, 0.5)
"""The same of Cramér's V (Cohen 1988)."""
DISTANCE = (0.08, 0.197, 0.311)
"""The same of the Kolmogorov–Smirnov distance: that of two normal distributions whose means are
0.2, 0.5 and 0.8 standard deviations apart (Cohen's small, medium, large): 2 Φ(d / 2) − 1."""

Kind = Literal["numeric", "categorical"]


@dataclass(frozen=True)
class Shift:
    """What one quantity has to say; None where it cannot be told."""

    name: str
    kind: Kind
    reference_exams: int
    """That have a value."""
    new_exams: int
    reference_patients: int
    new_patients: int
    before: str
    """In the reference: the median, or the share of the category that changed most."""
    now: str
    """Among the new exams."""
    effect: float | None = None
    """Cliff's delta, above 0 where new values are greater; or Cramér's V."""
    distance: float | None = None
    """Kolmogorov–Smirnov; of numbers only."""
    magnitude: str | None = None
    """One of `WORDS`: the greater of what effect and distance are called."""
    p: float | None = None
    corrected: float | None = None
    """p-value after Holm's correction."""
    unseen: tuple[str, ...] = ()
    """Categories of new exams that no exam of the reference has."""
    sentence: str = ""

    @property
    def shifted(self) -> bool:
        """Corrected p-value below `LEVEL`, and an effect that is not negligible."""
        tested = self.corrected is not None and self.corrected < LEVEL
        return tested and self.magnitude != WORDS[0]


@dataclass(frozen=True)
class Drift:
    """New exams against a reference."""

    reference_exams: int
    new_exams: int
    reference_patients: int
    new_patients: int
    shifts: tuple[Shift, ...]
    """A shift for each quantity, also where there is none; empty where there are too few exams."""

    @property
    def shifted(self) -> list[str]:
        """Names of the quantities that shifted."""
        return [shift.name for shift in self.shifts if shift.shifted]

    @property
    def sentence(self) -> str:
        """The whole of it, in a line."""
        if not self.new_exams:
            return "no new exams"
        if not self.shifts:
            return (
                f"nothing can be told: {self.new_patients} new patients against "
                f"{self.reference_patients}, of the {FEWEST} at least that each side needs"
            )
        found = f"shifted: {', '.join(self.shifted)}" if self.shifted else "no shift found"
        unseen = [shift.name for shift in self.shifts if shift.unseen]
        return found + (f"; never seen before: a value of {', '.join(unseen)}" if unseen else "")

    def as_dict(self) -> dict[str, Any]:
        """For JSON, without NaN."""
        shifts = [asdict(shift) | {"shifted": shift.shifted} for shift in self.shifts]
        return asdict(self) | {
            "level": LEVEL,
            "shifted": self.shifted,
            "sentence": self.sentence,
            "shifts": shifts,
        }


def split_new(manifest: pd.DataFrame, reference: pd.DataFrame) -> pd.DataFrame:
    """The rows of `manifest` whose exam the reference does not have."""
    return manifest[~manifest["exam_id"].isin(reference["exam_id"])]


def compare(reference: pd.DataFrame, new: pd.DataFrame, *, seed: int = 0) -> Drift:
    """Compare new exams with a reference, quantity by quantity.

    The same manifests and seed give the same figures; a quantity's do not depend on the others,
    its corrected p-value aside.

    Args:
        reference: rows of a manifest.
        new: rows of another one, or of a later version.
        seed: of the permutations.
    """
    rows = pd.concat([reference, new], ignore_index=True)
    is_new = np.arange(len(rows)) >= len(reference)
    units = [group(*pair) for pair in zip(rows["exam_id"], rows["patient"], strict=True)]
    patients = pd.factorize(np.array(units, object))[0].astype(np.int64)
    counts = [len(np.unique(patients[side])) for side in (~is_new, is_new)]
    shifts: list[Shift] = []
    if min(counts) >= FEWEST:
        for name, kind, values in _quantities(rows):
            generator = np.random.default_rng((seed, zlib.crc32(name.encode())))
            look = _numeric if kind == "numeric" else _categorical
            known = values.notna().to_numpy()
            if known.any():
                found = values[known], is_new[known], patients[known]
                shifts.append(look(name, *found, generator))
    return Drift(len(reference), len(new), counts[0], counts[1], tuple(_corrected(shifts)))


def _quantities(rows: pd.DataFrame) -> Iterator[tuple[str, Kind, pd.Series]]:
    """Name, kind and values of each; what is not known is NaN in numbers, a word in categories."""
    for name in filter(rows.columns.__contains__, CATEGORIES):
        yield name, "categorical", rows[name].fillna(UNKNOWN).astype(str)
    for name in filter(rows.columns.__contains__, NUMBERS):
        yield from _number(name, rows[name])
    if "facts" not in rows.columns:
        return
    facts = pd.DataFrame.from_records([json.loads(text) for text in rows["facts"]], rows.index)
    for name in sorted(facts.columns):
        values = facts[name]
        if name not in CODES and pd.api.types.is_numeric_dtype(values):
            yield from _number(name, values)
        else:
            words = [UNKNOWN if pd.isna(value) else _word(value) for value in values]
            yield name, "categorical", pd.Series(words, rows.index, dtype=object)


def _word(value: Any) -> str:
    """0 and 0.0 are one: a missing value elsewhere in its column makes whole numbers floats."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _number(name: str, values: pd.Series) -> Iterator[tuple[str, Kind, pd.Series]]:
    values = values.astype(float)
    yield name, "numeric", values
    known = values.notna()
    if known.any() and not known.all():
        yield f"{name}_known", "categorical", known.map({True: "yes", False: "no"})


def _numeric(
    name: str,
    values: pd.Series,
    new: NDArray[np.bool_],
    patients: NDArray[np.int64],
    generator: np.random.Generator,
) -> Shift:
    numbers = values.to_numpy(dtype=float)
    shares = permutation.by_patient(_binned(numbers), new, patients)
    weights = _weights(new, patients)
    sides = [(numbers[side], weights[side]) for side in (~new, new)]
    before, now = (f"{_median(*side):.4g}" if len(side[0]) else "" for side in sides)
    blank = _blank(name, "numeric", new, shares, before, now)
    if (why := _untestable(shares)) is not None:
        return replace(blank, sentence=why)
    p, _ = permutation.p_value(shares, _kolmogorov_smirnov, DRAWS, generator)
    delta = _cliffs_delta(*sides[0], *sides[1])
    distance = float(_kolmogorov_smirnov(*shares.means))
    magnitude = WORDS[max(_size(abs(delta), DELTA), _size(distance, DISTANCE))]
    way = "greater" if delta > 0 else "smaller"
    if _size(abs(delta), DELTA) == 0 and magnitude != WORDS[0]:
        way = "otherwise spread"
    sentence = f"new values are {way}: median {before}, now {now}"
    return replace(
        blank, effect=delta, distance=distance, magnitude=magnitude, p=p, sentence=sentence
    )


def _categorical(
    name: str,
    values: pd.Series,
    new: NDArray[np.bool_],
    patients: NDArray[np.int64],
    generator: np.random.Generator,
) -> Shift:
    codes, words = pd.factorize(values.to_numpy(dtype=object), sort=True)
    shares = permutation.by_patient(codes.astype(np.int64), new, patients)
    unseen = tuple(words[code] for code in sorted({*codes[new]} - {*codes[~new]}))
    old_shares, new_shares = shares.means if min(shares.counts) else (np.zeros(len(words)),) * 2
    most = int(np.abs(new_shares - old_shares).argmax())
    before, now = (f"{words[most]} {side[most]:.0%}" for side in (old_shares, new_shares))
    blank = replace(_blank(name, "categorical", new, shares, before, now), unseen=unseen)
    if (why := _untestable(shares)) is not None:
        return replace(blank, sentence=why)
    p, drawn = permutation.p_value(shares, _chi_squared, DRAWS, generator)
    chance = drawn.mean()
    above = (float(_chi_squared(old_shares, new_shares)) - chance) / (1 - chance)
    effect = float(np.sqrt(max(0.0, above)))
    sentence = f"{words[most]}: {old_shares[most]:.0%}, now {new_shares[most]:.0%}"
    magnitude = WORDS[_size(effect, CRAMER)]
    return replace(blank, effect=effect, magnitude=magnitude, p=p, sentence=sentence)


def _blank(
    name: str, kind: Kind, new: NDArray[np.bool_], shares: Shares, before: str, now: str
) -> Shift:
    """A shift of which nothing is told yet but how many there are."""
    old_patients, new_patients = shares.counts
    return Shift(
        name,
        kind,
        reference_exams=int((~new).sum()),
        new_exams=int(new.sum()),
        reference_patients=old_patients,
        new_patients=new_patients,
        before=before,
        now=now,
    )


def _untestable(shares: Shares) -> str | None:
    """Why there is nothing to test; None: there is."""
    if min(shares.counts) < FEWEST:
        return f"known of fewer than {FEWEST} patients on one side"
    return "the same in all exams" if shares.of_block.shape[1] == 1 else None


def _binned(values: Array) -> NDArray[np.int64]:
    """(N,) numbers of the intervals between at most CUTS quantiles of all values."""
    cuts = np.unique(values)
    if len(cuts) > CUTS:
        levels = np.linspace(0, 1, CUTS + 1)[1:]
        cuts = np.unique(np.quantile(values, levels, method="inverted_cdf"))
    return np.searchsorted(cuts, values).astype(np.int64)


def _kolmogorov_smirnov(old: Array, new: Array) -> Array:
    """Max |F − G| over the cut points, of shares (…,C) in ascending intervals."""
    return np.abs(np.cumsum(new - old, axis=-1)).max(-1)


def _chi_squared(old: Array, new: Array) -> Array:
    """½ Σ (q − p)² / (q + p): χ² / N of a table whose two rows weigh alike, which is V²; 0 to 1."""
    both = old + new
    parts = np.divide((new - old) ** 2, both, out=np.zeros_like(both), where=both > 0)
    return 0.5 * parts.sum(-1)


def _weights(new: NDArray[np.bool_], patients: NDArray[np.int64]) -> Array:
    """(N,) of exams, so that each patient counts once in a group; they sum to 1 in each group."""
    _, index, count = np.unique(2 * patients + new, return_inverse=True, return_counts=True)
    weights = 1.0 / count[index]
    for side in (new, ~new):
        weights[side] /= max(weights[side].sum(), 1.0)
    return weights


def _cliffs_delta(old: Array, old_weights: Array, new: Array, new_weights: Array) -> float:
    """Σᵢⱼ wᵢ vⱼ sign(newⱼ − oldᵢ), in time N log N."""
    order = np.argsort(old)
    below = np.concatenate([[0.0], np.cumsum(old_weights[order])])
    left, right = (np.searchsorted(old[order], new, side) for side in ("left", "right"))
    delta = float((new_weights * (below[left] - (below[-1] - below[right]))).sum())
    return round(delta, 12) + 0.0  # the order of a sum moves its last digits, and the sign of 0


def _median(values: Array, weights: Array) -> float:
    order = np.argsort(values)
    half = np.cumsum(weights[order]) >= weights.sum() / 2 - permutation.EQUAL
    return float(values[order][half.argmax()])


def _size(value: float, bounds: Sequence[float]) -> int:
    """The place in `WORDS`."""
    return int(np.searchsorted(bounds, value, side="right"))


def _corrected(shifts: Sequence[Shift]) -> list[Shift]:
    """With Holm's correction: the i-th smallest of m p-values times m − i + 1, never descending."""
    tested = [(shift.p, place) for place, shift in enumerate(shifts) if shift.p is not None]
    found, highest = list(shifts), 0.0
    for rank, (p, place) in enumerate(sorted(tested)):
        highest = max(highest, min(1.0, p * (len(tested) - rank)))
        found[place] = replace(found[place], corrected=highest)
    return [replace(shift, sentence=_sentence(shift)) for shift in found]


def _sentence(shift: Shift) -> str:
    """What is to be told, now that chance has been allowed for."""
    told = shift.sentence if shift.shifted or shift.p is None else "no shift found"
    return f"{told}; never seen before: {', '.join(shift.unseen)}" if shift.unseen else told
