"""What DVC wrote down, read from its files: dataset versions and what each stage's results hold."""

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml

from keyslice.config import Workspace
from keyslice.errors import UserError

SETTLED_SECONDS = 0.3
"""Without a change, after which a file counts as written to its end."""
PATIENCE_SECONDS = 5.0
"""Until a file that makes no sense counts as damaged."""

T = TypeVar("T")
# libyaml's, where PyYAML came with it: a dvc.lock of many variants takes a second without.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MERGE = re.compile(r"^(<<<<<<<|>>>>>>>) ", re.MULTILINE)
KINDS = ("prepare", "train", "evaluate", "compare")
"""Of stages, in the order of the graph."""


def version(workspace: Workspace, dataset: str) -> str | None:
    """The dataset's version: DVC's md5 of the folder of exams ("….dir"); None before the first.

    An empty pointer is as none: DVC empties it before it writes, and may be killed in between.

    Raises:
        UserError: its pointer is none that DVC has written.
    """
    return _read(workspace.pointer(dataset), _md5)


def networks_version(workspace: Workspace, dataset: str) -> str | None:
    """As `version`, of the networks that trainings start from; None: there are none.

    Raises:
        UserError: their pointer is none that DVC has written.
    """
    return _read(workspace.networks_pointer(dataset), _md5)


def prepared_version(workspace: Workspace, dataset: str) -> str | None:
    """The version of the exams that stage prepare has read; None: it has not been run."""
    exams = workspace.exams(dataset).relative_to(workspace.root).as_posix()
    read = entries(workspace).get(f"prepare@{dataset}", {}).get("deps", [])
    return next((entry.get("md5") for entry in read if entry["path"] == exams), None)


def stage_names(dataset: str, variants: Iterable[str]) -> list[str]:
    """Every stage of a dataset, in the order of the graph."""
    variants = list(variants)
    return [
        f"prepare@{dataset}",
        *(f"train@{dataset}-{variant}" for variant in variants),
        *(f"evaluate@{dataset}-{variant}" for variant in variants),
        f"compare@{dataset}",
    ]


def stages_of(dataset: str, variant: str) -> dict[str, str]:
    """The stages that one variant's results come from, by kind."""
    return dict(zip(KINDS, stage_names(dataset, [variant]), strict=True))


def followers(stage: str, names: Iterable[str]) -> set[str]:
    """Those of `names` that are the stage or come after it in the graph."""
    kind, dataset, variant = _parts(stage)
    if kind not in KINDS:
        return set()
    parts = {name: _parts(name) for name in names}
    return {
        name
        for name, (k, d, v) in parts.items()
        if d == dataset
        and KINDS.index(k) >= KINDS.index(kind)
        and ("" in (variant, v) or v == variant)
    }


def _parts(stage: str) -> tuple[str, str, str]:
    """Kind, dataset and variant; empty where there is none."""
    kind, _, item = stage.partition("@")
    dataset, _, variant = item.partition("-")
    return kind, dataset, variant


def stage_hash(workspace: Workspace, *stages: str) -> str | None:
    """sha256 over the stages' entries in dvc.lock (command, dependencies, parameters, outputs).

    Equal hashes mean equal inputs and equal results. None: one of them has not been run.
    """
    return hash_of(entries(workspace), *stages)


def hash_of(known: Mapping[str, Any], *stages: str) -> str | None:
    """`stage_hash` of what `entries` or `entries_in` gave."""
    if any(stage not in known for stage in stages):
        return None
    canonical = json.dumps({s: known[s] for s in stages}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def lock_hash(workspace: Workspace, dataset: str, variants: Iterable[str]) -> str | None:
    """`stage_hash` of the dataset's whole chain; None while a part of it has not been run."""
    return stage_hash(workspace, *stage_names(dataset, variants))


def trained_before(workspace: Workspace, dataset: str, cache: Path) -> list[str]:
    """`stage_hash` of every training of a dataset that dvc.lock or DVC's run cache knows.

    What the run cache knows DVC restores instead of training it.

    Args:
        workspace: whose dvc.lock is read.
        dataset: its name.
        cache: folder of DVC's cache.
    """
    known = entries(workspace)
    prefix = f"train@{dataset}-"
    found = {hash_of(known, stage) for stage in known if stage.startswith(prefix)}
    command = f"keyslice stage train {dataset} "
    for file in (cache / "runs").glob("*/*/*"):
        text = file.read_text(encoding="utf-8", errors="replace")
        if not text.startswith(f"cmd: {command}"):
            continue
        try:
            entry = _parsed(text)
            stage = prefix + entry["cmd"].removeprefix(command)
        except (yaml.YAMLError, LookupError, TypeError, AttributeError):
            continue  # DVC does not restore from it either
        found.add(hash_of({stage: entry}, stage))
    return sorted(one for one in found if one)


def entries_in(text: str) -> dict[str, Any]:
    """What a dvc.lock says of each stage, by its text.

    Raises:
        ValueError: it is none.
    """
    try:
        return _stages(_parsed(text))
    except (yaml.YAMLError, LookupError, TypeError, AttributeError) as error:
        raise ValueError("is no dvc.lock") from error


def outputs(known: Mapping[str, Any], stage: str) -> dict[str, str]:
    """The md5 of what a stage left at each path; a folder's ends in `.dir`."""
    outs = known.get(stage, {}).get("outs", [])
    return {out["path"]: out["md5"] for out in outs if "md5" in out}  # else it is cut off


def version_in(text: str) -> str | None:
    """The version in a pointer, by its text.

    Raises:
        ValueError: it is none.
    """
    try:
        return _md5(_parsed(text))
    except (yaml.YAMLError, LookupError, TypeError) as error:
        raise ValueError("is no pointer of DVC's") from error


def entries(workspace: Workspace) -> dict[str, Any]:
    """What dvc.lock says of each stage now."""
    return _read(workspace.root / "dvc.lock", _stages) or {}


def _parsed(text: str) -> Any:
    return yaml.load(text, Loader=_LOADER)  # noqa: S506 - both are safe


def _stages(content: Any) -> dict[str, Any]:
    """The part of dvc.lock that tells of stages; raises what a damaged one leads to."""
    stages = content["stages"]
    for entry in stages.values():
        _ = entry["cmd"], [dep["path"] for dep in entry.get("deps", [])]
    return stages


def _md5(content: Any) -> str | None:
    """The version in a pointer, None in an empty one; raises what a damaged one leads to."""
    return None if content is None else str(content["outs"][0]["md5"])


def _read(path: Path, part: Callable[[Any], T]) -> T | None:
    """The part of a file of DVC's that is asked for; None: there is no such file.

    DVC writes in place, piece by piece: a file that is young, changes or makes no sense is read
    again for a while. (The first pieces alone may make sense.)

    Raises:
        UserError: it makes no sense for PATIENCE_SECONDS, or has marks of a merge.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            before = path.stat()
            text = path.read_text(encoding="utf-8", errors="replace")
            changes = path.stat().st_mtime_ns != before.st_mtime_ns
        except FileNotFoundError:
            return None
        if _MERGE.search(text):
            raise _damaged(path, "has marks of a merge", "git checkout --ours {0}, or --theirs")
        over = time.monotonic() > deadline
        if over or not (changes or 0 <= time.time() - before.st_mtime < SETTLED_SECONDS):
            try:
                return part(_parsed(text))
            except (yaml.YAMLError, LookupError, TypeError, AttributeError):
                if over:
                    remedy = "git checkout {0}, or remove it: keyslice retrain writes it anew"
                    raise _damaged(path, "cannot be read", remedy) from None
        time.sleep(0.05)


def _damaged(path: Path, what: str, remedy: str) -> UserError:
    name = "/".join(path.parts[-3:]) if path.suffix == ".dvc" else path.name
    rule = "it is as DVC wrote it, whole"
    return UserError(what, where=name, rule=rule, remedy=remedy.format(name))
