"""Splits: each patient's, assigned once, stratified by label, and never changed by later exams."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from keyslice.config import CommonDataset, Split
from keyslice.errors import UserError
from keyslice.exams.source import UNKNOWN, Listing

SPLITS = ("train", "validation", "test")
FEWEST_PATIENTS = len(SPLITS)
"""A class needs a patient in each split."""


def group(exam: str, patient: str) -> str:
    """What is assigned to a split as one: the patient; where unknown, the exam by itself."""
    return exam if patient == UNKNOWN else patient


def patients_by_label(pairs: Iterable[tuple[str, str]]) -> dict[str, set[str]]:
    """The patients of each label, from (patient, label) of every exam."""
    patients: dict[str, set[str]] = {}
    for patient, label in pairs:
        patients.setdefault(label, set()).add(patient)
    return patients


def assign(
    pairs: Iterable[tuple[str, str]], settled: Mapping[str, str], shares: Split
) -> dict[str, str]:
    """Every patient's split.

    Settled patients stay. The others come in the order of their pseudonyms, which is as good as
    random and the same on every machine. Each goes to the split that is furthest below its share
    of the patients with this label; when as many are left as there are splits without the label,
    they fill those. A patient with several labels counts under the rarest.

    Args:
        pairs: (patient, label) of every exam, old and new.
        settled: split of each patient that has one.
        shares: target shares of the three splits.
    """
    patients = patients_by_label(pairs)
    splits = dict(settled)
    # Rarest first: where patients have several labels, it is the rare ones that must be placed.
    for label in sorted(patients, key=lambda name: (len(patients[name]), name)):
        _fill(patients[label], splits, shares)
    return splits


def _fill(patients: set[str], splits: dict[str, str], shares: Split) -> None:
    """Add the patients of one label to `splits`."""
    counts = Counter(splits[patient] for patient in patients if patient in splits)
    new = sorted(patient for patient in patients if patient not in splits)
    for place, patient in enumerate(new):
        without = [split for split in SPLITS if not counts[split]]
        open_to = without if len(new) - place <= len(without) else SPLITS
        total = counts.total() + 1
        deficits = {split: getattr(shares, split) * total - counts[split] for split in open_to}
        splits[patient] = max(open_to, key=lambda split: deficits[split])
        counts[splits[patient]] += 1


def lacking(pairs: Iterable[tuple[str, str]], splits: Mapping[str, str]) -> dict[str, list[str]]:
    """Labels that some split has no patient of, with those splits; empty where all is well."""
    found = {
        label: [s for s in SPLITS if s not in {splits[p] for p in patients}]
        for label, patients in patients_by_label(pairs).items()
    }
    return {label: missing for label, missing in sorted(found.items()) if missing}


def split_rows(
    rows: Mapping[str, dict[str, Any]],
    offered: Mapping[str, Listing],
    settled: Mapping[str, str],
    name: str,
    dataset: CommonDataset,
) -> dict[str, dict[str, Any]]:
    """The manifest's rows with every split filled in, and without the classes that are left out.

    Where the patient is unknown, each exam counts as a patient of its own.

    Args:
        rows: by exam id, with patient and label.
        offered: listings by exam id; theirs are the official splits.
        settled: the splits of those that have one, by `group`.
        name: of the dataset.
        dataset: its settings.

    Raises:
        UserError: no exams, one class only, a class too small, an official split that is not the
            settled one, or a patient who became known of exams in two splits.
    """
    if not rows:
        raise UserError(
            "no exam is left",
            where=f"datasets.{name}",
            rule="a dataset needs exams",
            remedy=f"data/quarantine/{name}.csv says why each was refused",
        )
    _check_classes(rows, name)
    splits = dict(settled)
    _take_over(splits, rows, name)
    _add_official(splits, rows, offered, name)

    sizes = patients_by_label(_pairs(rows))
    few = {c: len(sizes.get(c, ())) for c in dataset.classes}
    few = {label: count for label, count in few.items() if count < FEWEST_PATIENTS}
    rows = _leave_out(rows, few, "{} patients", name, dataset)
    splits = assign(_pairs(rows), splits, dataset.split)
    absent = {label: ", ".join(missing) for label, missing in lacking(_pairs(rows), splits).items()}
    rows = _leave_out(rows, absent, "no patient in {}", name, dataset)
    return {exam: _with_split(row, splits[_group(row)]) for exam, row in rows.items()}


def _with_split(row: dict[str, Any], split: str) -> dict[str, Any]:
    """The row itself where it has the split: of 100,000 rows nearly all have."""
    return row if row.get("split") == split else row | {"split": split}


def _group(row: Mapping[str, Any]) -> str:
    return group(row["exam_id"], row["patient"])


def _pairs(rows: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str]]:
    return [(_group(row), row["label"]) for row in rows.values()]


def _check_classes(rows: Mapping[str, Mapping[str, Any]], name: str) -> None:
    labels = {row["label"] for row in rows.values()}
    if len(labels) < 2:
        raise UserError(
            f"all exams have one label ({', '.join(labels)})",
            where=f"datasets.{name}",
            rule="two classes at least are needed to tell them apart",
            remedy="add exams of the others, or check the table of labels",
        )


def _take_over(splits: dict[str, str], rows: Mapping[str, Mapping[str, Any]], name: str) -> None:
    """Give a patient who was unknown before the split that his exams had by themselves."""
    for exam, row in rows.items():
        if exam not in splits:
            continue
        settled = splits.setdefault(_group(row), splits[exam])
        if settled != splits[exam]:
            raise UserError(
                f"exam {exam} is in {splits[exam]}, another of its patient in {settled}",
                where=f"datasets.{name}",
                rule="a patient has one split, and models have learned from these exams as if "
                "their patients were strangers",
                remedy="give the dataset a new name to have it split anew, or leave this "
                "patient's id empty as it was",
            )


def _add_official(
    splits: dict[str, str],
    rows: Mapping[str, Mapping[str, Any]],
    offered: Mapping[str, Listing],
    name: str,
) -> None:
    for exam, listing in offered.items():
        if listing.split is None:
            continue
        settled = splits.setdefault(_group(rows[exam]), listing.split)
        if settled != listing.split:
            raise UserError(
                f"exam {exam} is listed in {listing.split}, its patient is settled in {settled}",
                where=f"datasets.{name}",
                rule="a patient keeps its split for good",
                remedy="list it there",
            )


def _leave_out(
    rows: Mapping[str, dict[str, Any]],
    faults: Mapping[str, object],
    wording: str,
    name: str,
    dataset: CommonDataset,
) -> dict[str, dict[str, Any]]:
    """The rows without the classes at fault, where the settings allow it."""
    if faults and dataset.rare_classes == "refuse":
        label, fault = next(iter(faults.items()))
        raise UserError(
            f"class {label!r} has {wording.format(fault)}",
            where=f"datasets.{name}",
            rule="each class needs a patient in train, validation and test",
            remedy=f"add patients, or set datasets.{name}.rare_classes: leave_out",
        )
    kept = {exam: row for exam, row in rows.items() if row["label"] not in faults}
    left = {row["label"] for row in kept.values()}
    if faults and len(left) < 2:
        raise UserError(
            f"leaving out {', '.join(faults)} leaves {len(left)} of the classes",
            where=f"datasets.{name}.rare_classes",
            rule="each class needs a patient in train, validation and test, and two must stay",
            remedy="add patients; where the table has a column split, put some into every split",
        )
    return kept
