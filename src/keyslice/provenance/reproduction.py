"""A version rebuilt from what its provenance names, and held against what was registered.

The run's commit is checked out beside the workspace, the exams come from DVC's cache, and the
stages run anew with the commit's own code: nothing of the first run's results is there to be taken
for new ones. Weights are equal bit for bit on the same kind of machine. Elsewhere rounding differs
and training amplifies it, so there the probabilities of the evaluated exams are compared.
"""

import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow.parquet

from keyslice import files
from keyslice.config import Workspace
from keyslice.errors import RunError, UserError
from keyslice.exams.lock import locked
from keyslice.provenance import environment, events, heads, ledger, standing, withdrawn
from keyslice.provenance.code_evidence import LOCK, REQUIREMENTS
from keyslice.versioning import commits, git, lock, processes
from keyslice.versioning.objects import Store
from keyslice.versioning.own_code import code_first

TOLERANCE = 0.02
"""Of a probability, where weights are not equal bit for bit: rounding, amplified by training."""
REPRODUCTION = "reproduction"
"""Lock of what is rebuilt, a copy of the exams: one at a time, and none while any is erased."""
Outcome = Literal["identical", "equivalent", "different", "not reproducible"]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Reproduction:
    """What a rebuilt version is like."""

    outcome: Outcome
    words: str
    difference: float | None = None
    """The largest of a probability; None where nothing was rebuilt."""
    epochs: int = 0
    """That were trained for it."""
    weights: str = ""
    """sha256 of the rebuilt weights."""
    state_attention: str = ""
    """sha256 of what was learned anew in order to look more than once; empty: nothing."""
    libraries: tuple[str, ...] = ()
    """Whose version was not the run's."""


def reproduce(
    workspace: Workspace,
    model: str,
    version: int,
    cache: Store,
    *,
    present: bool = False,
    tolerance: float = TOLERANCE,
    say: Say = lambda line: None,
) -> Reproduction:
    """Rebuild a version and tell the ledger how that went.

    Args:
        workspace: that it was registered from.
        model: its name.
        version: its number.
        cache: of DVC.
        present: use the libraries that are installed, also where they are not the run's; else the
            run's are installed beside them.
        tolerance: of a probability, within which a version that is not identical is equivalent.
        say: told how far it is.

    Raises:
        UserError: the ledger knows no such version, or its commit is not there.
        RunError: a stage, or the installation of the run's libraries, failed.
    """
    found = ledger.read(workspace)
    registered = standing.registered(found, model, version)
    if registered is None:
        raise UserError(
            f"the ledger knows no version {version}",
            where=f"model {model}",
            rule="a version is rebuilt from what the ledger says of it",
            remedy="keyslice status shows which there are",
        )
    told: Any = registered.payload
    erased = withdrawn.exams_withdrawn(found, model, told["dataset_version"])
    if erased:
        words = f"not reproducible: {erased} {'exam' if erased == 1 else 'exams'} withdrawn"
        made = Reproduction("not reproducible", words)
    else:
        with (
            locked(workspace, REPRODUCTION, "keyslice reproduce"),
            _checkout(workspace, told["run_commit"], cache) as place,
        ):
            made = _rebuild(place, told, cache, present, tolerance, say)
    payload = {
        "model": model,
        "version": version,
        **vars(made),
        "libraries": list(made.libraries),
        "platform": platform.platform(),
    }
    about = events.named(model, version)
    with ledger.exclusive(workspace):
        ledger.append(workspace, events.MODEL_REPRODUCED, about, payload)
        heads.note(workspace)
    return made


@contextmanager
def _checkout(workspace: Workspace, commit: str, cache: Store) -> Iterator[Workspace]:
    """The commit in a folder of its own, with the workspace's cache and nothing else of it."""
    sweep(workspace)
    with tempfile.TemporaryDirectory(prefix="keyslice-", dir=_roomy(workspace)) as folder:
        place = Path(folder) / "workspace"
        git.ask(workspace.root, "worktree", "add", "--quiet", "--detach", str(place), commit)
        try:
            own = f"[cache]\n    dir = {cache.root.resolve()}\n"
            files.write_text(place / ".dvc" / "config.local", own)
            yield Workspace(place)
        finally:
            git.ask(workspace.root, "worktree", "remove", "--force", "--force", str(place))


def sweep(workspace: Workspace) -> None:
    """Remove what a reproduction left that was killed: it holds exams."""
    left = workspace.state / "reproductions"
    if left.exists():
        shutil.rmtree(left)
        git.ask(workspace.root, "worktree", "prune")


def _roomy(workspace: Workspace) -> Path:
    """In state/: on the disk where the data are, not in a temporary file system in memory."""
    folder = workspace.state / "reproductions"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _rebuild(
    place: Workspace, told: Any, cache: Store, present: bool, tolerance: float, say: Say
) -> Reproduction:
    if not (place.root / "src" / "keyslice").is_dir():
        raise RunError("the run's commit holds no src/keyslice: its code cannot be run")
    lockfile = place.root / REQUIREMENTS
    others = environment.differences(lockfile.read_text(encoding="utf-8"))
    python = None
    if others and not present:
        say("installing the run's libraries")
        python = environment.install(lockfile, place.state / "environment", say)
        others = {}
    variables = code_first(place, python)
    exams = place.pointer(told["model"]).relative_to(place.root).as_posix()
    networks = place.networks_pointer(told["model"])
    started_from = [networks.relative_to(place.root).as_posix()] if networks.is_file() else []
    _dvc(place, say, variables, "checkout", exams, *started_from)
    stages = lock.stages_of(told["model"], told["variant"])
    output = place.models(told["model"], told["variant"])
    if output.exists() or (place.state / "checkpoints").exists():
        raise RunError(f"{output} is there before anything was trained: nothing would be proved")
    for kind in ("prepare", "train", "evaluate"):
        say(stages[kind])
        # --no-commit: results that differ are not to fill the cache.
        how = ("repro", "--force", "--no-run-cache", "--no-commit", "--single-item")
        _dvc(place, say, variables, *how, stages[kind])
    seed = output / f"seed-{told['seed']}"
    epochs = len((seed / "history.csv").read_text(encoding="utf-8").splitlines()) - 1
    if epochs < 1:
        raise RunError("no epoch was trained")
    weights = files.sha256(seed / "model.safetensors")
    learned = (
        place.results(told["model"], told["variant"]) / "test_time" / f"{seed.name}.safetensors"
    )
    attention = files.sha256(learned) if learned.is_file() else ""
    difference = _difference(place, told, cache)
    told_by = tuple(f"{name} {have}, not {want}" for name, (want, have) in others.items())
    looks_the_same = attention == told.get("state_attention", attention)
    same = weights == told["weights"]
    outcome, words = _judged(same, attention, looks_the_same, difference, tolerance)
    return Reproduction(outcome, words, difference, epochs, weights, attention, told_by)


def _judged(
    same: bool, attention: str, looks_the_same: bool, difference: float, tolerance: float
) -> tuple[Outcome, str]:
    weights = "the same weights" if same else "other weights"
    if attention or not looks_the_same:
        weights += f", {'the same' if looks_the_same else 'another'} state attention"
    if same and looks_the_same and difference == 0:
        return "identical", f"{weights} and the same predictions, bit for bit"
    largest = f"{weights}; the largest difference of a probability is {difference:.2g}"
    if difference <= tolerance:
        return "equivalent", f"{largest}, within {tolerance:g}"
    return "different", f"{largest}, above {tolerance:g}"


def _difference(place: Workspace, told: Any, cache: Store) -> float:
    """Largest difference of a probability between the rebuilt and the first evaluation."""
    path = place.results(told["model"], told["variant"]) / "predictions.parquet"
    name = path.relative_to(place.root).as_posix()
    text = commits.contents(place, told["run_commit"], LOCK)[LOCK]
    md5 = lock.outputs(
        lock.entries_in(text or ""), lock.stages_of(told["model"], told["variant"])["evaluate"]
    )[name]
    kept = cache.find(md5)
    if not kept:
        raise RunError(f"the first run's {name} is not in DVC's cache; dvc pull")
    before, now = (_probabilities(file, told["seed"]) for file in (kept[0], path))
    if before.keys() != now.keys():
        return 1.0
    largest = np.max([np.abs(before[exam] - now[exam]).max() for exam in before])
    return float(largest) if np.isfinite(largest) else 1.0  # NaN is as far off as can be


def _probabilities(path: Path, seed: int) -> dict[str, np.ndarray]:
    table = pyarrow.parquet.read_table(path, columns=["exam_id", "seed", "probabilities"])
    rows = table.to_pylist()
    return {r["exam_id"]: np.array(r["probabilities"]) for r in rows if r["seed"] == seed}


def _dvc(place: Workspace, say: Say, variables: dict[str, str], *arguments: str) -> None:
    log = place.state / "reproduction.log"
    command = (*processes.DVC, *arguments)
    finished = processes.run(command, cwd=place.root, log=log, on_line=say, variables=variables)
    if finished.code != 0:
        lines = [line for line in finished.lines if line.strip()]
        raise RunError(f"dvc {' '.join(arguments)}: {lines[-1] if lines else finished.code}")
