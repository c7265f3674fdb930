"""What is different between two versions of a model: data, settings, code, packages, figures."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from keyslice.config import Workspace
from keyslice.provenance import lineage
from keyslice.provenance.ledger import Event
from keyslice.provenance.lineage import ModelLineage
from keyslice.provenance.membership import Row
from keyslice.provenance.wording import counted, value
from keyslice.versioning import git

LOCK = "requirements.lock"
FILES = 12
"""Of code, named in words; those that changed most."""
CODE = ("src", "flows", "dvc.yaml")
"""What of a run commit makes models; settings and packages are compared by themselves."""
_PINNED = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", re.MULTILINE)


@dataclass(frozen=True)
class Change:
    """A value before and after; None: there was none."""

    what: str
    before: Any
    after: Any


@dataclass(frozen=True)
class Data:
    """Between the manifests of two dataset versions, as they are kept now."""

    added: tuple[Row, ...]
    removed: tuple[Row, ...]
    relabelled: tuple[Change, ...]
    """By the exam's id."""
    moved: tuple[Change, ...]
    """Exams in another split."""
    patients_added: int
    patients_removed: int


@dataclass(frozen=True)
class File:
    """A file of the code that was changed."""

    path: str
    added: int | None
    """Lines; None: it is no text."""
    removed: int | None


@dataclass(frozen=True)
class Difference:
    """From an earlier version of a model, or any other, to this one."""

    before: ModelLineage
    after: ModelLineage
    data: Data | None
    """None: the manifest of one is not kept."""
    making: tuple[Change, ...]
    """Variant, seed, classes, what the training started from, keyslice's version."""
    settings: tuple[Change, ...]
    figures: tuple[Change, ...]
    """Validation AUC and all that were measured; the seed's own."""
    code: tuple[File, ...] | None
    """None: a run commit is not here."""
    packages: tuple[Change, ...] | None
    """Of requirements.lock; None: it is not in a commit that is here."""
    missing: tuple[str, ...] = field(default=())
    """Run commits that are not here."""


def between(
    workspace: Workspace, found: Sequence[Event], before: Event, after: Event
) -> Difference:
    """Of two versions of one model, by their registrations.

    Raises:
        UserError: a kept manifest is damaged, or the workspace is no git repository.
    """
    then, now = before.payload, after.payload
    models = [lineage.model(workspace, found, event) for event in (before, after)]
    kept = all(model.source.kept for model in models)
    commits = (then["run_commit"], now["run_commit"])
    root = workspace.root
    missing = tuple(
        dict.fromkeys(one for one in commits if not one or git.revision(root, one) is None)
    )
    return Difference(
        *models,
        data=_data(models[0].rows, models[1].rows) if kept else None,
        making=_changes(*({key: one.get(key) for key in _MAKING} for one in (then, now))),
        settings=_changes(_flat(then["settings"]), _flat(now["settings"])),
        figures=_changes(_figures(then), _figures(now)),
        code=None if missing else _code(root, *commits),
        packages=None if missing else _packages(root, *commits),
        missing=missing,
    )


_MAKING = ("variant", "seed", "classes", "started_from", "keyslice")


def words(difference: Difference) -> list[tuple[str, list[str]]]:
    """Headings, and sentences below each."""
    then, now = difference.before, difference.after
    return [
        ("data", _data_words(difference)),
        ("made with", [_told(change) for change in difference.making] or ["the same of all"]),
        (
            "settings",
            [_told(change) for change in difference.settings] or ["the same of all"],
        ),
        ("code", _code_words(difference)),
        ("packages", _package_words(difference)),
        ("figures", [_told(change) for change in difference.figures] or ["the same"]),
        ("result", [_result(then.registered, now.registered)]),
    ]


def _data(before: Sequence[Row], after: Sequence[Row]) -> Data:
    then, now = ({row.exam: row for row in some} for some in (before, after))
    both = [(then[exam], now[exam]) for exam in then if exam in now]
    patients = [{row.patient for row in some} for some in (before, after)]
    return Data(
        tuple(row for exam, row in now.items() if exam not in then),
        tuple(row for exam, row in then.items() if exam not in now),
        tuple(Change(b.exam, b.label, a.label) for b, a in both if b.label != a.label),
        tuple(Change(b.exam, b.split, a.split) for b, a in both if b.split != a.split),
        len(patients[1] - patients[0]),
        len(patients[0] - patients[1]),
    )


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"train": {"epochs": 3}}` as `{"train.epochs": 3}`."""
    flat: dict[str, Any] = {}
    for key, one in value.items():
        nested = isinstance(one, Mapping)
        flat |= _flat(one, f"{prefix}{key}.") if nested else {f"{prefix}{key}": one}
    return flat


def _figures(payload: Mapping[str, Any]) -> dict[str, Any]:
    return {"validation_auc": payload["validation_auc"]} | _flat(payload["figures"])


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[Change, ...]:
    return tuple(
        Change(key, before.get(key), after.get(key))
        for key in dict.fromkeys((*before, *after))
        if before.get(key) != after.get(key)
    )


def _code(root: Path, before: str, after: str) -> tuple[File, ...]:
    told = git.ask(root, "diff", "--numstat", "--no-renames", "-z", before, after, "--", *CODE)
    files = []
    for line in filter(None, told.split("\0")):
        added, removed, path = line.split("\t", 2)
        lines = (None, None) if added == "-" else (int(added), int(removed))
        files.append(File(path, *lines))
    return tuple(files)


def _packages(root: Path, before: str, after: str) -> tuple[Change, ...] | None:
    then, now = git.blobs(root, [f"{one}:{LOCK}" for one in (before, after)])
    if then is None or now is None:
        return None
    return _changes(*(dict(sorted(_PINNED.findall(text))) for text in (then, now)))


def _told(change: Change) -> str:
    return f"{change.what}: {value(change.before)} → {value(change.after)}"


def _data_words(difference: Difference) -> list[str]:
    before, after = difference.before.source, difference.after.source
    if before.version == after.version:
        return [f"the same dataset version, {after.name}"]
    told = [f"{before.name} → {after.name}"]
    data = difference.data
    if data is None:
        gone = [one.name for one in (before, after) if not one.kept]
        return [*told, f"which exams differ is not known: no manifest of {gone[0]} is kept"]
    changes = (
        ("added", data.added, data.patients_added, "new"),
        ("removed", data.removed, data.patients_removed, "gone"),
    )
    for verb, some, patients, as_ in changes:
        if some:
            by_split = _by(some, lambda row: row.split)
            people = f"; {counted(patients, 'patient')} {as_}" if patients else ""
            told.append(f"{counted(len(some), 'exam')} {verb} ({by_split}){people}")
    for what, some in (("label", data.relabelled), ("split", data.moved)):
        if some:
            pairs = _by(some, lambda change: f"{change.before} → {change.after}")
            told.append(f"{counted(len(some), 'exam')} with another {what} ({pairs})")
    withdrawn = {
        e.number: e for one in (difference.before, difference.after) for e in one.withdrawals
    }
    if withdrawn:
        exams = sum(event.payload["exams"] for event in withdrawn.values())
        told.append(f"without {counted(exams, 'exam')} withdrawn since: they are in no manifest")
    return told if len(told) > 1 else [*told, "the same exams, labels and splits"]


def _by(some: Sequence[Any], key: Callable[[Any], str]) -> str:
    """`train 5, test 1`: how many of each, the most first."""
    counts: dict[str, int] = {}
    for one in some:
        counts[key(one)] = counts.get(key(one), 0) + 1
    most = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{name} {number:,}" for name, number in most)


def _code_words(difference: Difference) -> list[str]:
    if difference.code is None:
        return [_missing(difference)]
    if not difference.code:
        return ["the same"]
    most = sorted(difference.code, key=lambda file: -((file.added or 0) + (file.removed or 0)))
    told = [
        f"{file.path}: "
        + ("no text" if file.added is None else f"+{file.added} −{file.removed} lines")
        for file in most[:FILES]
    ]
    left = len(most) - len(told)
    return [*told, f"and {counted(left, 'other file')}"] if left else told


def _package_words(difference: Difference) -> list[str]:
    hashes = {
        one.registered.payload["requirements"] for one in (difference.before, difference.after)
    }
    if len(hashes) == 1 and hashes != {""}:
        return ["the same, by the hash of requirements.lock"]
    if difference.packages is None:
        return [_missing(difference) if difference.missing else f"no {LOCK} is in the run commits"]
    return [_told(change) for change in difference.packages] or ["the same versions"]


def _missing(difference: Difference) -> str:
    if "" in difference.missing:
        return "not known: of one of them no run commit was recorded"
    some = " and ".join(one[:12] for one in difference.missing)
    return f"not known: the run commit {some} is not here; fetch it from where runs are pushed"


def _result(then: Event, now: Event) -> str:
    if then.payload["weights"] != now.payload["weights"]:
        return "other weights"
    before, after = (one.payload.get("state_attention", "") for one in (then, now))
    if before != after:
        return "the same weights; what it learned to look more than once is another"
    return "the same weights, bit for bit"
