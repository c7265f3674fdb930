"""Is a dataset as it should be? Every stored byte, the manifest, its splits and its classes."""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import pandera.errors
import pyarrow.parquet as pq

from keyslice.config import Params, Workspace
from keyslice.config.datasets import CommonDataset
from keyslice.errors import UserError
from keyslice.exams import container, history, manifest, near, quarantine
from keyslice.exams.exam import exam_path
from keyslice.exams.finding import Finding, of_exams
from keyslice.exams.lock import dataset_lock
from keyslice.exams.plausible import implausible, shortcuts
from keyslice.exams.source import UNKNOWN
from keyslice.exams.split import SPLITS, group

Progress = Callable[[int, int], None]
"""Called with the number of exams read so far, and of all."""
FEW_PATIENTS = 5
"""Of a class in a split; with fewer, a figure says more about them than about the model."""
AT_ONCE = 1000
"""Exams handed to the threads together; bounds memory."""
STATES = {
    "missing": "are missing from the store",
    "damaged": "are not stored as they were ingested",
    "unreadable": "are stored where this account cannot read them",
    "erased": "were erased because their patient has withdrawn, and the manifest still names them",
}


def run(
    workspace: Workspace, params: Params, name: str, progress: Progress | None = None
) -> list[Finding]:
    """All that is wrong with dataset `name`, then all that is worth a look.

    Its lock is held meanwhile: no ingestion changes what is checked.

    Args:
        workspace: that holds the dataset.
        params: its settings.
        name: under `datasets`.
        progress: told of each stored exam that was read.

    Raises:
        UserError: the dataset is not configured, not ingested, or not here.
    """
    dataset = params.dataset(name)
    with dataset_lock(workspace, name, "check"):
        _check_here(workspace, name)
        table, findings = read(workspace.manifest(name))
        if table is not None:
            findings += past_splits(workspace, name, table)
            hashes = dict(zip(table["exam_id"], table["sha256"], strict=True))
            findings += stored(workspace.exams(name), hashes, progress)
            findings += strange(workspace.exams(name), hashes, workspace.manifest(name).name)
            findings += erased(workspace.exams(name), hashes)
            findings += between_splits(table)
            findings += classes(table, dataset, name)
            findings += implausible(table, name)
            findings += shortcuts(table)
        findings += refused(workspace, name)
    return sorted(findings, key=lambda finding: finding.level != "wrong")


def _check_here(workspace: Workspace, name: str) -> None:
    if workspace.manifest(name).is_file():
        return
    if workspace.pointer(name).is_file():
        raise UserError(
            f"the exams of {name} are not here, but git holds a version of them",
            rule="what is checked lies in data/exams",
            remedy=f"dvc pull {workspace.pointer(name).relative_to(workspace.root)}",
        )
    raise UserError(
        f"{name} has not been ingested yet",
        rule="there is nothing to check before",
        remedy=f"keyslice ingest {name}",
    )


def read(path: Path) -> tuple[pd.DataFrame | None, list[Finding]]:
    """The manifest, None where it breaks its schema, and the rules that it breaks."""
    try:
        return manifest.read(path), []
    except UserError as error:
        found = _broken_rules(path)
        return None, found or [Finding("wrong", "manifest", str(error))]


def _broken_rules(path: Path) -> list[Finding]:
    """Of the schema; none where the file cannot even be read as a table."""
    try:
        table = manifest.to_pandas(pq.read_table(path))
    except (ValueError, OSError, KeyError):
        return []
    remedy = f"dvc checkout --force data/exams/{path.parent.name}.dvc"
    try:
        manifest.SCHEMA.validate(table, lazy=True)
    except pandera.errors.SchemaErrors as errors:
        # Values are not told: an edited cell may hold anything.
        cases = errors.failure_cases[["column", "check"]].astype(str).value_counts(sort=False)
        broken = [
            Finding("wrong", "manifest", f"manifest breaks the rule {check} ({column})", remedy)
            for column, check in cases.index
        ]
    else:
        broken = []
    if {"exam_id", "patient", "split"} <= {*table}:
        broken += across_splits(table, remedy)
    return broken


def across_splits(table: pd.DataFrame, remedy: str) -> list[Finding]:
    """Exams of patients who are in more than one split."""
    known = table[table["patient"] != UNKNOWN]
    splits = known.groupby("patient")["split"].transform("nunique")
    return of_exams(
        "wrong",
        "across_splits",
        "are of patients who are in more than one split",
        remedy,
        known["exam_id"][splits > 1],
    )


def past_splits(workspace: Workspace, name: str, table: pd.DataFrame) -> list[Finding]:
    """Whether any kept version has a patient in another split."""
    rows = table[["exam_id", "patient", "split"]].to_dict("records")
    try:
        history.settled(workspace, name, ({str(k): v for k, v in row.items()} for row in rows))
    except UserError as error:
        return [Finding("wrong", "past_splits", str(error))]
    return []


def stored(
    folder: Path, hashes: Mapping[str, str], progress: Progress | None = None
) -> list[Finding]:
    """Exams that are missing or damaged; every byte is read.

    Args:
        folder: that holds the exams.
        hashes: the SHA-256 of each exam's file, by exam id.
        progress: told of each exam.
    """
    exams = [*hashes]
    states: dict[str, str] = {}
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for start in range(0, len(exams), AT_ONCE):
            some = exams[start : start + AT_ONCE]
            states_of_some = pool.map(lambda exam: _state(folder, exam, hashes[exam]), some)
            for exam, state in zip(some, states_of_some, strict=True):
                states[exam] = state
                if progress is not None:
                    progress(len(states), len(exams))
    remedy = f"dvc checkout --force data/exams/{folder.name}.dvc"
    return [
        finding
        for state, what in STATES.items()
        for finding in of_exams(
            "wrong", state, what, remedy, (exam for exam in exams if states[exam] == state)
        )
    ]


def _state(folder: Path, exam: str, sha256: str) -> str:
    try:
        with exam_path(folder, exam).open("rb") as file:
            whole = hashlib.file_digest(file, "sha256").hexdigest() == sha256
        if not whole and container.is_tombstone(exam_path(folder, exam)):
            return "erased"
    except FileNotFoundError:
        return "missing"
    except OSError:
        return "unreadable"
    return "whole" if whole else "damaged"


def strange(folder: Path, exams: Iterable[str], manifest_name: str) -> list[Finding]:
    """Whether files lie among the exams that the manifest does not name."""
    own = {exam_path(folder, exam).name for exam in exams} | {manifest_name}
    others = (path for path in folder.iterdir() if path.name not in own)
    count = sum(not container.is_tombstone(path) for path in others)
    if not count:
        return []
    # Counted only: a file's name may be a person's.
    return [
        Finding(
            "wrong",
            "strange_files",
            f"data/exams/{folder.name} holds files that the manifest does not name: {count}",
            f"keyslice ingest {folder.name} removes what a killed one left, and refuses others",
        )
    ]


def erased(folder: Path, exams: Iterable[str]) -> list[Finding]:
    """How many tombstones lie among the exams, as where an older version is checked out."""
    own = {exam_path(folder, exam).name for exam in exams}
    others = (path for path in folder.glob("*.zip") if path.name not in own)
    count = sum(map(container.is_tombstone, others))
    if not count:
        return []
    told = f"exams of this version that were erased because their patient has withdrawn: {count}"
    remedy = f"nothing is to be done; keyslice ingest {folder.name} makes a version without them"
    return [Finding("note", "erased", told, remedy)]


def between_splits(table: pd.DataFrame) -> list[Finding]:
    """Pairs of exams in different splits that look nearly the same; see `near`."""
    pairs = near.near_duplicates(table)
    found = Finding(
        "note",
        "near_duplicates",
        "look nearly the same as an exam of an earlier split",
        "a hint from coarse hashes: look at both with keyslice show; the same examination under "
        "two patients makes a model look better than it is",
        tuple(pair.exam for pair in pairs),
        tuple(pair.other for pair in pairs),
    )
    return [
        *([found] if pairs else []),
        *of_exams(
            "note",
            "plain",
            "are too plain, as masks are, to be searched for near-duplicates",
            "whether splits share some of these cannot be told from here",
            near.plain(table),
        ),
    ]


def classes(table: pd.DataFrame, dataset: CommonDataset, name: str) -> list[Finding]:
    """Classes without exams, or with too few patients in a split, and labels that are none."""
    where = f"datasets.{name}.classes"
    found = of_exams(
        "wrong",
        "label",
        "have a label that is none of the classes",
        f"name it under {where}, or mend the table of labels",
        table["exam_id"][~table["label"].isin(dataset.classes)],
    )
    who = [group(*pair) for pair in zip(table["exam_id"], table["patient"], strict=True)]
    patients = table.assign(who=who).groupby(["label", "split"])["who"].nunique().to_dict()
    for label in dataset.classes:
        counts = {split: patients.get((label, split), 0) for split in SPLITS}
        if not any(counts.values()):
            # With `leave_out` a person has allowed it.
            level = "note" if dataset.rare_classes == "leave_out" else "wrong"
            remedy = f"add exams of three patients or more, or take it out of {where}"
            found.append(Finding(level, "class", f"class {label!r} has no exams", remedy))
            continue
        few = {split: count for split, count in counts.items() if count < FEW_PATIENTS}
        if few:
            told = ", ".join(f"{split} {count}" for split, count in few.items())
            found.append(
                Finding(
                    "note" if all(counts.values()) else "wrong",
                    "class",
                    f"class {label!r} has fewer than {FEW_PATIENTS} patients in: {told}",
                    "figures of it will vary widely; add patients",
                )
            )
    return found


def refused(workspace: Workspace, name: str) -> list[Finding]:
    """How many files wait in quarantine, and why."""
    try:
        kinds = Counter(refusal.kind for refusal in quarantine.read(workspace.quarantine(name)))
    except UserError as error:
        return [Finding("wrong", "quarantine", str(error))]
    if not kinds:
        return []
    told = ", ".join(f"{kind} {count}" for kind, count in sorted(kinds.items()))
    remedy = f"keyslice quarantine {name} lists and explains them"
    return [Finding("note", "quarantine", f"files wait in quarantine: {told}", remedy)]
