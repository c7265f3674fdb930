"""The parts of a test set in which a challenger must not be worse: sites, modalities, classes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from keyslice.config import Promote
from keyslice.metrics import METRICS, Metric


@dataclass(frozen=True)
class Exams:
    """N test exams."""

    labels: NDArray[np.int64]
    """(N,) indices into `classes`."""
    units: np.ndarray
    """(N,) each exam's patient; the exam where nobody knows whose it is."""
    site: np.ndarray
    """(N,) names; "" or None where unknown."""
    modality: np.ndarray
    """(N,) the same."""
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Subgroup:
    """Exams on which two models can be compared, or the reason why they cannot."""

    name: str
    group: str
    metric_name: str
    metric: Metric
    margin: float
    where: NDArray[np.bool_]
    """(N,) its exams; none where they are too few."""
    words: str
    """What was left out, and of how many patients there are too few; empty: nothing."""


def subgroups(plan: Promote, exams: Exams) -> Iterator[Subgroup]:
    """Each site and each modality, where there are two or more of them, and each class.

    In a site or modality the primary metric is taken over the classes that have enough patients
    there (`promote.minimum_cases`); where that is one class alone, the share of it that is right.
    Of a class it is the recall. What is not known of an exam puts it into no group.
    """
    margins = {"site": plan.site_margin, "modality": plan.modality_margin}
    for group, margin in margins.items():
        values = np.array([str(value or "") for value in getattr(exams, group)], dtype=object)
        names = sorted(set(values) - {""})
        for name in names if len(names) > 1 else ():
            yield _part(plan, exams, group, name, values == name, margin)
    every = np.ones(len(exams.labels), dtype=bool)
    for label, name in enumerate(exams.classes):
        patients = _patients(exams, every, label)
        enough = patients >= plan.minimum_cases
        yield Subgroup(
            name=f"class {name}: recall",
            group="class",
            metric_name="recall",
            metric=METRICS["accuracy"],
            margin=plan.class_margin,
            where=(exams.labels == label) & enough,
            words="" if enough else f"{_of(name, patients)}, fewer than {plan.minimum_cases}",
        )


def _part(
    plan: Promote, exams: Exams, group: str, name: str, inside: NDArray[np.bool_], margin: float
) -> Subgroup:
    patients = {c: _patients(exams, inside, c) for c in np.unique(exams.labels[inside]).tolist()}
    kept = [c for c, number in patients.items() if number >= plan.minimum_cases]
    few = [_of(exams.classes[c], n) for c, n in patients.items() if c not in kept]
    metric = plan.primary if len(kept) > 1 else "balanced_accuracy"
    return Subgroup(
        name=f"{group} {name}: {words_of(metric)}",
        group=group,
        metric_name=metric,
        metric=METRICS[metric],
        margin=margin,
        where=inside & np.isin(exams.labels, kept),
        words=_left_out(few, plan.minimum_cases),
    )


def words_of(metric: str) -> str:
    """A metric's name for readers."""
    return "AUC" if metric == "auc" else metric.replace("_", " ")


def _patients(exams: Exams, inside: NDArray[np.bool_], label: int) -> int:
    return len(np.unique(exams.units[inside & (exams.labels == label)].astype(str)))


def _of(name: str, patients: int) -> str:
    return f"{name} has {patients} patient{'' if patients == 1 else 's'}"


def _left_out(few: Sequence[str], least: int) -> str:
    return f"{', '.join(few)}, fewer than {least}" if few else ""
