"""All variants of a dataset side by side, on the same exams and the same resamples."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from keyslice.config import Evaluate, Variant
from keyslice.evaluation import published
from keyslice.evaluation.intervals import Array
from keyslice.evaluation.predictions import predicted
from keyslice.evaluation.summary import PAIRED, Assessment, assess, split_counts


class DifferentExamsError(ValueError):
    """Two variants were evaluated on different exams, so nothing can be compared."""

    def __init__(self, first: str, other: str, split: str) -> None:
        self.first, self.other = first, other
        super().__init__(f"{first} and {other} were evaluated on different {split} exams")


def assess_all(
    results: Mapping[str, pd.DataFrame], split: str, settings: Evaluate
) -> dict[str, Assessment]:
    """Every variant's figures on one split; the resamples are the same for all.

    Args:
        results: predictions by variant.
        split: "validation" or "test".
        settings: resamples, bins and seed.

    Raises:
        DifferentExamsError: the variants' exams, patients or labels are not the same.
    """
    first = next(iter(results))
    reference = predicted(results[first], split)
    for variant, table in results.items():
        other = predicted(table, split)
        for name in ("exams", "units", "labels"):
            if not np.array_equal(getattr(reference, name), getattr(other, name)):
                raise DifferentExamsError(first, variant, split)
    counts: Array = split_counts(reference, split, settings)
    bins = settings.calibration_bins
    return {variant: assess(table, split, counts, bins) for variant, table in results.items()}


def compare(
    assessed: Mapping[str, Assessment],
    variants: Mapping[str, Variant],
    references: Sequence[str],
    confidence: float,
    flag: str | None,
    plain: Mapping[str, Assessment] | None = None,
) -> pd.DataFrame:
    """One row per variant, from the assessments of the test split.

    Args:
        assessed: figures by variant, in the order of the rows.
        variants: their samplers and shares of kept frames.
        references: variants that the others are held against, in pairs.
        confidence: of the intervals.
        flag: the MedMNIST set, where published figures are known.
        plain: of variants that look more than once (`evaluate.test_time`), the same with one look.

    Returns:
        Columns
            variant, sampler, keep, seeds (their number);
            <metric>_mean, _sd (over seeds), _low, _high (interval) for auc, balanced_accuracy,
            accuracy and brier; calibration_error_mean, _sd;
            <metric>_minus_<reference>, with _low and _high, for auc and balanced_accuracy;
            <metric>_gain, with _low and _high, for auc and balanced_accuracy: over one look, in
            pairs; <metric>_plain_mean and _sd, plain_cost: of one look;
            macs (per exam), cost (macs relative to one look of the variant whose sampler is
            `full`),
            frames_kept, distinct_frames, hit_rate, informative_recall (means over exams and seeds);
            published_auc, published_accuracy.
        NaN: not defined, or not known.
    """
    plain = plain or {}
    full = next((name for name in assessed if variants[name].sampler == "full"), None)
    whole = plain.get(full, assessed[full]) if full else None
    rows = []
    for name, one in assessed.items():
        variant = variants[name]
        known = published.paper(flag, variant.sampler, variant.keep)
        rows.append(
            {
                "variant": name,
                "sampler": variant.sampler,
                "keep": variant.keep,
                "seeds": len(one.figures),
                **_metrics(one, confidence),
                **_differences(name, assessed, references, confidence),
                **_gains(one, plain.get(name), confidence),
                "macs": one.figures["macs"].mean(),
                "cost": _cost(one, whole),
                "plain_cost": _cost(plain.get(name), whole),
                **{
                    column: one.figures[column].mean()
                    for column in (
                        "frames_kept",
                        "distinct_frames",
                        "hit_rate",
                        "informative_recall",
                    )
                },
                "published_auc": known.auc if known else np.nan,
                "published_accuracy": known.accuracy if known else np.nan,
            }
        )
    return pd.DataFrame(rows)


def _metrics(one: Assessment, confidence: float) -> dict[str, float]:
    columns = {}
    for metric, estimate in one.estimates.items():
        low, high = estimate.interval(confidence)
        columns |= {f"{metric}_mean": estimate.mean, f"{metric}_sd": estimate.sd}
        columns |= {f"{metric}_low": low, f"{metric}_high": high}
    calibration = one.figures["calibration_error"]
    return columns | {
        "calibration_error_mean": calibration.mean(),
        "calibration_error_sd": calibration.std(),
    }


def _differences(
    name: str, assessed: Mapping[str, Assessment], references: Sequence[str], confidence: float
) -> dict[str, float]:
    """Paired differences to each reference; NaN to itself."""
    columns = {}
    for reference in references:
        for metric in PAIRED:
            mine, theirs = (assessed[n].estimates[metric] for n in (name, reference))
            mean = low = high = np.nan
            if name != reference:
                difference = mine.minus(theirs)
                mean, (low, high) = difference.mean, difference.interval(confidence)
            column = f"{metric}_minus_{reference}"
            columns |= {column: mean, f"{column}_low": low, f"{column}_high": high}
    return columns


def _gains(one: Assessment, plain: Assessment | None, confidence: float) -> dict[str, float]:
    """What looking more than once gains; NaN where it looks once."""
    columns = {}
    for metric in PAIRED:
        gain = low = high = mean = sd = np.nan
        if plain is not None:
            before = plain.estimates[metric]
            difference = one.estimates[metric].minus(before)
            gain, (low, high) = difference.mean, difference.interval(confidence)
            mean, sd = before.mean, before.sd
        columns |= {f"{metric}_gain": gain, f"{metric}_gain_low": low, f"{metric}_gain_high": high}
        columns |= {f"{metric}_plain_mean": mean, f"{metric}_plain_sd": sd}
    return columns


def _cost(one: Assessment | None, full: Assessment | None) -> float:
    if one is None or full is None:
        return np.nan
    return one.figures["macs"].mean() / full.figures["macs"].mean()
