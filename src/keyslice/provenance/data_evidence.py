"""Whether the exams, and all that was made from them, are byte for byte what DVC noted."""

import csv
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keyslice import files
from keyslice.config import Workspace
from keyslice.errors import UserError
from keyslice.provenance import withdrawn
from keyslice.provenance.code_evidence import LOCK
from keyslice.provenance.evidence import Item, State
from keyslice.provenance.ledger import Event
from keyslice.versioning import commits, lock
from keyslice.versioning.objects import TREE, Store

Progress = Callable[[str, int, int], None]
"""Called with what is being read, how many files have been, and of how many."""


@dataclass(frozen=True)
class _Source:
    """Where files are looked for."""

    workspace: Workspace
    cache: Store
    erased: Mapping[str, frozenset[str]]
    incomplete: bool
    """A withdrawal has removed from the workspace what was made of the exams."""
    progress: Progress


def look(
    workspace: Workspace,
    registered: Event,
    found: Sequence[Event],
    cache: Store,
    progress: Progress = lambda what, done, total: None,
) -> Iterator[Item]:
    """Read every byte of the version's exams and of its stages' results.

    In DVC's cache; and in the workspace, where that is at the same version.

    Args:
        workspace: that holds them.
        registered: the event of the version's registration.
        found: all events: what a withdrawal has replaced is not what it was.
        cache: of DVC.
        progress: for a progress bar.
    """
    told: Any = registered.payload
    dataset = told["model"]
    incomplete = withdrawn.exams_withdrawn(found, dataset, told["dataset_version"]) > 0
    source = _Source(workspace, cache, withdrawn.replacements(found), incomplete, progress)
    exams = workspace.exams(dataset).relative_to(workspace.root).as_posix()
    outputs = {("data", exams): told["dataset_version"]}
    try:
        texts = commits.contents(workspace, told["run_commit"], LOCK)
        noted = lock.entries_in(texts[LOCK] or "")
    except (UserError, ValueError):  # `code_evidence` tells of it
        noted = {}
    own = lock.stages_of(dataset, told["variant"]).values()
    for stage in own:
        outputs |= {("results", path): md5 for path, md5 in lock.outputs(noted, stage).items()}
    here = _here(workspace, dataset, exams)
    for (part, path), md5 in outputs.items():
        place = workspace.root / path if here.get(path) == md5 else None
        yield from _output(source, part, path, md5, place)
    yield from _manifest(source, told, found)
    if not withdrawn.barred_as_told(found, workspace, dataset):
        shown = f"state/ledger/barred/{dataset}.txt"
        yield Item("data", shown, "altered", "it names who has withdrawn")
    try:
        others = [v for v in compared(workspace, dataset, noted, cache) if v != told["variant"]]
    except (OSError, ValueError, LookupError):
        return  # the comparison is not there: told of already
    faults = 0
    for stage in sorted({*lock.stage_names(dataset, others)} - {*own}):
        for path, md5 in lock.outputs(noted, stage).items():
            place = workspace.root / path if here.get(path) == md5 else None
            for item in _output(source, "results", path, md5, place):
                if item.state != "sound":
                    faults += 1
                    yield item
    if others and not faults:
        yield Item("results", f"compared with it: {', '.join(others)}", "sound")


def compared(
    workspace: Workspace, dataset: str, noted: Mapping[str, Any], cache: Store
) -> list[str]:
    """The variants that stage compare compared.

    Raises:
        OSError, ValueError, LookupError: its table is not in the cache.
    """
    table = workspace.comparison(dataset) / "comparison.csv"
    files_of_it = listing(noted, f"compare@{dataset}", cache)
    md5 = files_of_it[table.relative_to(workspace.root).as_posix()]
    with cache.find(md5)[0].open(encoding="utf-8", newline="") as lines:
        return [row["variant"] for row in csv.DictReader(lines)]


def listing(noted: Mapping[str, Any], stage: str, cache: Store) -> dict[str, str]:
    """The MD5 of every file that a stage left, by path.

    Raises:
        OSError, ValueError, LookupError: the listing of a folder is not in the cache.
    """
    found = {}
    for path, md5 in lock.outputs(noted, stage).items():
        if not md5.endswith(TREE):
            found[path] = md5
            continue
        listed = json.loads(cache.find(md5)[0].read_bytes())
        found |= {f"{path}/{one['relpath']}": one["md5"] for one in listed}
    return found


def _here(workspace: Workspace, dataset: str, exams: str) -> dict[str, str | None]:
    """What DVC says lies in the workspace, by path."""
    try:
        here = {exams: lock.version(workspace, dataset)}
        now = lock.entries(workspace)
    except UserError:  # `registry.verification` tells of it
        return {}
    for stage in now:
        here |= lock.outputs(now, stage)
    return here


def _output(source: _Source, part: str, path: str, md5: str, place: Path | None) -> Iterator[Item]:
    """One output of a stage: its listing and files in the cache, and what lies in the workspace."""
    listed = {"": md5}
    if md5.endswith(TREE):
        content = _object(source.cache, md5)
        if content is None:
            yield Item(part, path, "missing", "its listing is not in DVC's cache; dvc pull")
            return
        if hashlib.md5(content).hexdigest() != md5.removesuffix(TREE):  # noqa: S324
            yield Item(part, path, "altered", "its listing in DVC's cache")
            return
        listed = {one["relpath"]: one["md5"] for one in json.loads(content)}
    faults = 0
    for number, (name, digest) in enumerate(listed.items()):
        source.progress(path, number, len(listed))
        shown = f"{path}/{name}" if name else path
        for found in _file(source, digest, place and place / name):
            faults += 1
            yield Item(part, shown, *found)
    if place is not None and md5.endswith(TREE):
        for name in sorted(_names(place) - set(listed)):
            faults += 1
            yield Item(part, f"{path}/{name}", "altered", "it does not belong there")
    if not faults:
        many = "1 file" if len(listed) == 1 else f"{len(listed)} files"
        both = place is not None and not source.incomplete
        yield Item(part, path, "sound", many + (", here and in the cache" if both else ""))


def _file(source: _Source, md5: str, place: Path | None) -> Iterator[tuple[State, str]]:
    """What is wrong with a file: state and detail, for each place."""
    kept = source.cache.find(md5)
    if not kept:
        yield "missing", "not in DVC's cache; dvc pull"
    for path in kept:
        if not _is(path, md5, source.erased):
            yield "altered", "in DVC's cache"
    if place is None:
        return
    if not place.is_file():
        if not source.incomplete:
            yield "missing", "in the workspace"
    elif not _is(place, md5, source.erased):
        yield "altered", "in the workspace"


def _is(path: Path, md5: str, erased: Mapping[str, frozenset[str]]) -> bool:
    """Whether a file holds what its md5 says, or else what a withdrawal put in its place."""
    if md5 in erased:
        return files.sha256(path) in erased[md5]
    return files.md5(path) == md5


def _manifest(source: _Source, told: Mapping[str, Any], found: Sequence[Event]) -> Iterator[Item]:
    """The manifest that is kept apart from the exams; the one beside them was read with them."""
    kept = source.workspace.kept_manifest(told["model"], told["dataset_version"])
    shown = kept.relative_to(source.workspace.root).as_posix()
    if not kept.is_file():
        yield Item("data", shown, "missing", "in state/manifests")
        return
    expected = withdrawn.successor(found, told["manifest"])
    sound = files.sha256(kept) == expected
    detail = "" if expected == told["manifest"] else "without who has withdrawn"
    yield Item("data", shown, "sound" if sound else "altered", detail)


def _object(cache: Store, md5: str) -> bytes | None:
    found = cache.find(md5)
    return found[0].read_bytes() if found else None


def _names(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
