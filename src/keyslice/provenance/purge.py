"""A withdrawal in the workspace: out of kept manifests, and away with what was made of the exams.

Each step may be done twice: a withdrawal that was killed takes it again.
"""

import json
import shutil
from collections.abc import Collection
from pathlib import Path

from keyslice import files, initial, versioning
from keyslice.config import Workspace
from keyslice.exams import fingerprint
from keyslice.exams.barred import Barred
from keyslice.exams.exam import exam_path
from keyslice.provenance import erasure, reproduction
from keyslice.provenance.traces import PIXELS, Plan, entry_of, kept_items
from keyslice.provenance.withdrawn import Erased


def kept_manifests(workspace: Workspace, name: str, ban: Barred) -> list[Erased]:
    """Take them out of the manifests that are kept of every version; what each was and is."""
    entries = []
    for path, item in [*kept_items(workspace, name, ban)]:
        entries.append(entry_of(path, item, ban))
        content = b"".join(erasure.without(path, item, ban))
        with files.beside(path) as part:
            part.write_bytes(content)
    return entries


def initial_networks(workspace: Workspace, name: str, models: Collection[int]) -> None:
    """Have no training start from a version that learned from them.

    What did start from one is trained anew by the next retraining; so is what started from a
    network that is not here to be kept.
    """
    known = initial.read(workspace, name)
    if not any(one is not None and one.version in models for one in known.values()):
        return
    left = {
        variant: ancestor
        for variant, ancestor in known.items()
        if ancestor is not None
        and ancestor.version not in models
        and initial.network(workspace, name, ancestor.weights).is_file()
    }
    versioning.lay(workspace, name, dict.fromkeys(known) | left, {})


def derived(workspace: Workspace, name: str, ban: Barred) -> None:
    """Remove from data/ what was made of their exams; the next retraining makes it anew."""
    store = workspace.prepared(name)
    whole = store / "index.parquet"
    if whole.is_file() and erasure.exams_in(whole, ban):
        (store / "store.json").unlink(missing_ok=True)  # first: without it no store is complete
    for record in store.glob("*.json"):
        try:
            mine = json.loads(record.read_bytes()).keys() & ban.exams
        except (ValueError, AttributeError):
            continue
        if mine:  # the shard first: the record says that it is theirs
            record.with_suffix(".npy").unlink(missing_ok=True)
            record.unlink()
    for hidden in store.glob(".*"):  # a shard that a kill cut off
        hidden.unlink()
    for folder in (store, workspace.data / "results" / name):
        _remove_tables(folder, ban)
    for shown in PIXELS:
        (workspace.comparison(name) / shown).unlink(missing_ok=True)
    for exam in ban.exams:
        exam_path(workspace.exams(name), exam).unlink(missing_ok=True)
        (workspace.root / f"{exam}.png").unlink(missing_ok=True)  # of `keyslice show`


def state(workspace: Workspace, found: Plan) -> None:
    """Remove from state/ what was made of single exams."""
    reproduction.sweep(workspace)
    for part in found.parts:
        fingerprint.forget(workspace, part.dataset, found.ban.exams)
        if part.exams:
            # Of stages that were killed; and of sweeps, which are made again when asked for.
            for kind in ("checkpoints", "states", "sweeps"):
                shutil.rmtree(workspace.state / kind / part.dataset, ignore_errors=True)
    for folder in workspace.state.iterdir():
        if folder.is_dir() and folder.name != "manifests":
            _remove_tables(folder, found.ban)


def _remove_tables(folder: Path, ban: Barred) -> None:
    for path in [*folder.rglob("*.parquet")]:
        if erasure.exams_in(path, ban):
            path.unlink()
