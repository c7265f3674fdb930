"""What the version learned from and was tested on: counts, origin, flow, versions, withdrawals."""

from collections import Counter
from typing import Any

import pandas as pd

from keyslice.audit.subject import Subject, when
from keyslice.exams import manifest_columns, quarantine
from keyslice.exams.source import UNKNOWN
from keyslice.exams.split import SPLITS
from keyslice.provenance import events, withdrawn
from keyslice.provenance.ledger import Event

GROUPS = {
    "site": "site",
    "modality": "modality",
    "format": "source_format",
    "label_source": "label_source",
}
"""Column of the manifest, by what the page calls it."""
_MEASURES = {
    "frames": "frames per exam",
    "height": "rows, pixels",
    "width": "columns, pixels",
    "frame_spacing": "spacing of frames, mm",
    "row_spacing": "spacing of rows, mm",
    "frame_time": "time from frame to frame, ms",
}


def data(one: Subject) -> dict[str, Any]:
    """Of the version's dataset, for JSON; None stands for what is not kept here."""
    name, version = one.model, one.told["dataset_version"]
    told = next((e for e in _versions(one) if e.payload["version"] == version), None)
    table = one.manifest
    return {
        "dataset": name,
        "version": version,
        "manifest": one.told["manifest"],
        "recorded": _recorded(told),
        "counts": None if table is None else _counts(table, one.told["classes"]),
        "groups": None if table is None else _groups(table),
        "measures": None if table is None else _measures(table),
        "years": None if table is None else _years(table),
        "identifiers": _identifiers(one),
        "quarantine": _quarantine(one),
        "versions": [_version(e, version) for e in _versions(one)],
        "withdrawals": [_withdrawal(e, one) for e in withdrawn.of_dataset(one.events, one.model)],
        "withdrawn_exams": withdrawn.exams_withdrawn(one.events, name, version),
    }


def _versions(one: Subject) -> list[Event]:
    """Told of, the first one first."""
    return [
        event
        for event in one.events
        if event.action == events.DATASET_VERSIONED and event.payload["dataset"] == one.model
    ]


def _recorded(event: Event | None) -> dict[str, Any] | None:
    """What the ledger was told when the version was made."""
    if event is None:
        return None
    names = ("exams", "patients", "splits", "labels", "previous")
    return {"event": event.number, "time": when(event.time)} | {n: event.payload[n] for n in names}


def _counts(table: pd.DataFrame, classes: list[str]) -> dict[str, Any]:
    """Exams and known patients: in all, by split, and by split and label."""
    return {
        "exams": len(table),
        "patients": _patients(table),
        "unknown_patients": int((table["patient"] == UNKNOWN).sum()),
        "batches": int(table["batch"].nunique()),
        "splits": {
            split: {
                "exams": len(part),
                "patients": _patients(part),
                "labels": {name: int((part["label"] == name).sum()) for name in classes},
            }
            for split in SPLITS
            for part in [table[table["split"] == split]]
        },
    }


def _patients(table: pd.DataFrame) -> int:
    return table.loc[table["patient"] != UNKNOWN, "patient"].nunique()


def _groups(table: pd.DataFrame) -> dict[str, list[dict[str, Any]]]:
    # Of a table of labels its column is told, not what the file is called.
    sources = [
        text if text.startswith("medmnist:") else f"column {text.rpartition(':')[2]}"
        for text in table["label_source"]
    ]
    table = table.assign(label_source=sources)
    return {kind: _by(table, column) for kind, column in GROUPS.items()}


def _by(table: pd.DataFrame, column: str) -> list[dict[str, Any]]:
    """Exams and patients of each value, by split; the most frequent first."""
    return [
        {
            "name": str(value),
            "exams": len(part),
            "patients": _patients(part),
            "splits": {split: int((part["split"] == split).sum()) for split in SPLITS},
        }
        for value, part in sorted(table.groupby(column), key=lambda g: (-len(g[1]), str(g[0])))
    ]


def _measures(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Median and range of what is known."""
    return [
        {
            "name": words,
            "known": len(values),
            "median": float(values.median()),
            "least": float(values.min()),
            "most": float(values.max()),
        }
        for column, words in _MEASURES.items()
        for values in [table[column].dropna()]
        if len(values)
    ]


def _years(table: pd.DataFrame) -> dict[str, Any] | None:
    """First and last year of acquisition: no date is told more exactly."""
    known = table.loc[table["acquired"] != UNKNOWN, "acquired"].str[:4]
    if known.empty:
        return None
    return {"first": known.min(), "last": known.max(), "known": len(known)}


def _identifiers(one: Subject) -> str | None:
    """`secret`, or `public` where patient ids are; None: nobody told, or no patients are named."""
    if one.manifest is None:
        return None
    path = one.workspace.kept_manifest(one.model, one.told["dataset_version"])
    return manifest_columns.read_identity(path).get("identifiers")


def _quarantine(one: Subject) -> dict[str, int]:
    """Files that wait in quarantine today, by kind; no names."""
    listed = quarantine.read(one.workspace.quarantine(one.model))
    return dict(sorted(Counter(refusal.kind for refusal in listed).items()))


def _version(event: Event, own: str) -> dict[str, Any]:
    names = ("version", "exams", "patients", "splits")
    return {
        "event": event.number,
        "time": when(event.time),
        "own": event.payload["version"] == own,
        **{name: event.payload[name] for name in names},
    }


def _withdrawal(event: Event, one: Subject) -> dict[str, Any]:
    versions = event.payload["versions"]
    return {
        "event": event.number,
        "time": when(event.time),
        "completed": event.action == events.WITHDRAWAL_COMPLETED,
        "reason": event.payload["reason"],
        "exams": event.payload["exams"],
        "of_this_version": versions.get(one.told["dataset_version"], 0),
    }
