"""A stage that runs elsewhere: what it is given, where it runs, and what comes back of it.

Code, settings and dvc.lock travel with the order, as git sees them. Data travel by their hashes,
through one of DVC's remotes. What comes back is the stage's entry in DVC's run cache: with it, DVC
itself finds here that the stage has been run with the inputs that it has here, and takes its
results for its own.
"""

import io
import json
import os
import re
import socket
import sys
import tarfile
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from keyslice import files
from keyslice.config import Workspace, load
from keyslice.errors import RunError, UserError
from keyslice.versioning import dvc, git, lock, objects, places, processes, push, run_cache
from keyslice.versioning.own_code import code_first
from keyslice.versioning.recovery import recover

_PASSWORD = re.compile(r"://[^/@\s]*:[^/@\s]*@")
_RUN = re.compile(r"[0-9a-f]{2}/[0-9a-f]{64}/[0-9a-f]{64}")
_CHANGED = "{}: what it depends on has changed since it was sent; the next retraining does it anew"


@dataclass(frozen=True)
class Parcel:
    """What every stage of one dataset's retraining is given."""

    installation: str
    """Whose it is (`keyslice.provenance.installation`): another's may have the same names."""
    dataset: str
    tree: str
    """sha of `code` in git."""
    code: bytes = field(repr=False)
    """What git tracks in the workspace, and the run's own files (`git.run_commit`), as tar.gz."""
    remote: str
    """DVC's name of the remote through which data travel."""
    url: str
    """Of the remote."""


@dataclass(frozen=True)
class Result:
    """What comes back of a stage. Small: its files lie in the remote."""

    stage: str
    outcome: dvc.Outcome
    entry: dict[str, Any]
    """Of dvc.lock: command, and md5 of inputs, settings and results."""
    run: str
    """Where DVC's run cache keeps `text`."""
    text: str
    host: str
    seconds: float
    """From the order to the results in the remote."""


class Changed(RunError):  # noqa: N818 - named for what happened
    """What a stage depends on has changed while it ran elsewhere; its results are of no use."""


def check(workspace: Workspace, remote: str) -> str:
    """The address of a remote that data may travel through.

    Raises:
        UserError: DVC has no such remote, it rewrites what is committed, or its address holds a
            password, which would travel with every order.
        RunError: DVC's settings cannot be read.
    """
    push.check_remotes(workspace, [remote], where="run.remote")
    url = objects.remotes(workspace)[remote.lower()]
    if _PASSWORD.search(url):
        raise UserError(
            "its address holds a password",
            where=f"DVC's remote {remote}",
            rule="the address is sent to every worker",
            remedy="use keys, or have each machine's own settings name the password",
        )
    return url


def pack(
    workspace: Workspace,
    installation: str,
    dataset: str,
    remote: str,
    trained: Iterable[str] = (),
) -> Parcel:
    """What the dataset's variants are given; the frames that they read are sent to the remote.

    So are the models of the variants that are `trained` already.

    Raises:
        UserError: the remote is unfit, or git cannot read the workspace.
        RunError: the frames could not be sent.
    """
    url = check(workspace, remote)
    tree, code = git.archive(workspace)
    models = [f"train@{dataset}-{variant}" for variant in trained]
    inputs = [f"prepare@{dataset}", *_networks(workspace, dataset), *models]
    push.push_stages(workspace, inputs, remote)
    return Parcel(installation, dataset, tree, code, remote, url)


def carry_out(
    parcel: Parcel,
    stage: str,
    base: Path,
    *,
    before: Sequence[Result] = (),
    on_line: Callable[[str], None] | None = None,
) -> Result:
    """Run a stage of a dataset in a place of its own below `base`.

    Args:
        parcel: code and settings, and where data come from.
        stage: train@ or evaluate@.
        base: folder of this machine for such work; several processes and installations may share
            it.
        before: what earlier stages left elsewhere that this one reads.
        on_line: told of each line of output.

    Raises:
        UserError, StageFailed, TimeLimitError, DVCError: see `versioning.reproduce`.
        RunError: data could not be fetched or sent.
    """
    start = time.monotonic()
    base = folder_of(base, parcel.installation)
    variant = _variant(parcel.dataset, stage)
    with places.place(base, variant) as place:
        _unpack(place, parcel, base / "cache", variant)
        code = code_first(place)
        if more := os.environ.get("PYTHONPATH"):  # what this machine's libraries may need
            code["PYTHONPATH"] += os.pathsep + more
        inputs = [f"prepare@{parcel.dataset}", *_networks(place, parcel.dataset)]
        if stage.startswith("evaluate@") and not before:
            inputs.append(f"train@{stage.partition('@')[2]}")
        dvc.call(place, "--wait-for-lock", "pull", "--remote", parcel.remote, *inputs)
        take_in(place, before, parcel.remote)
        limit = 3600 * load(place.params).retrain.stage_hours
        outcome = dvc.reproduce(place, stage, on_line=on_line, limit=limit, variables=code)
        entry = lock.entries(place)[stage]
        run, text = _run_of(base / "cache", entry)
        push.push_stages(place, [stage], parcel.remote)
    seconds = time.monotonic() - start
    return Result(stage, outcome, entry, run, text, socket.gethostname(), seconds)


def folder_of(base: Path, installation: str) -> Path:
    """Below `base`, where an installation's stages run: places, checkpoints and data of its own."""
    return base / installation


def take_in(workspace: Workspace, results: Sequence[Result], remote: str) -> None:
    """Make results from elsewhere the workspace's own: files in their places, entries in dvc.lock.

    Each file's hash is computed anew as it comes in. A kill leaves the stage as it was, or done.

    Args:
        workspace: to take them in.
        results: in the order of the graph.
        remote: that they lie in.

    Raises:
        Changed: code, settings or inputs of a stage are not what it ran with.
        RunError: files are missing in the remote or not what their names say.
    """
    if not results:
        return
    wanted = [
        md5 for one in results for md5 in lock.outputs({one.stage: one.entry}, one.stage).values()
    ]
    cache = _fetch(workspace, wanted, remote)
    for one in results:
        if not _RUN.fullmatch(one.run):
            raise RunError(f"{one.stage}: {one.run!r} is no place in DVC's run cache")
        files.write_text(cache / "runs" / one.run, one.text)
    for one in results:
        if not run_cache.known(workspace, [one.stage]):
            raise Changed(_CHANGED.format(one.stage))
        _restore(workspace, one.stage)
        if lock.entries(workspace).get(one.stage) != one.entry:
            raise RunError(f"{one.stage}: its entry in dvc.lock is not the one that came back")


def restored(workspace: Workspace, stages: Sequence[str]) -> set[str]:
    """Those of the stages that DVC had results of, with the inputs of now; they are in their place.

    The others are as they were.

    Raises:
        DVCError: DVC cannot say, or put them there.
    """
    done = set[str]()
    for stage in run_cache.known(workspace, stages):
        with suppress(Changed):
            _restore(workspace, stage)
            done.add(stage)
    return done


def _restore(workspace: Workspace, stage: str) -> None:
    """Have DVC put the results that it has of a stage in their place.

    Raises:
        Changed: it has begun to run the stage: an input has changed since it was asked.
    """

    def stop(line: str) -> None:
        if line.startswith("> "):  # the command
            raise Changed(_CHANGED.format(stage))

    try:
        dvc.reproduce(workspace, stage, on_line=stop)
    except Changed:
        recover(workspace)  # the notes of the DVC that was ended
        raise


def _networks(workspace: Workspace, dataset: str) -> list[str]:
    """DVC's pointer to what trainings start from, where they do not start from scratch."""
    pointer = workspace.networks_pointer(dataset)
    return [pointer.relative_to(workspace.root).as_posix()] if pointer.is_file() else []


def _variant(dataset: str, stage: str) -> Path:
    """Where a variant's checkpoints lie below their folder."""
    return Path(dataset) / stage.partition("@")[2].removeprefix(f"{dataset}-")


def _unpack(place: Workspace, parcel: Parcel, cache: Path, variant: Path) -> None:
    """The parcel's tree in the place, and nothing else but checkpoints of the variant."""
    processes.end_orphans(place.root)
    places.empty(place.root, places.CHECKPOINTS / variant)
    place.root.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(parcel.code)) as tree:
        tree.extractall(place.root, filter="data")
    own = (
        f"[core]\n    no_scm = true\n    analytics = false\n"
        f'[cache]\n    dir = {cache.resolve()}\n    type = "reflink,hardlink,copy"\n'
        f"['remote \"{parcel.remote}\"']\n    url = {parcel.url}\n    verify = true\n"
    )
    files.write_text(place.root / ".dvc" / "config.local", own)


def _run_of(cache: Path, entry: dict[str, Any]) -> tuple[str, str]:
    """The file of DVC's run cache that holds a stage's entry: its place there, and its text."""
    runs = cache / "runs"
    for file in runs.glob("*/*/*"):
        text = file.read_text(encoding="utf-8")
        if yaml.safe_load(text) == entry:
            return file.relative_to(runs).as_posix(), text
    raise RunError("DVC's run cache has no entry of the stage")


_SCRIPT = """
import json, sys
from dvc.repo import Repo
from dvc_data.hashfile.hash_info import HashInfo
from dvc_data.hashfile.tree import Tree

repo = Repo(".")
remote, wanted = sys.argv[1], json.loads(sys.argv[2])
odb = repo.cloud.get_remote_odb(remote, "fetch")
odb.verify = True
hashes = {HashInfo("md5", md5) for md5 in wanted}
here = repo.cache.local
repo.cloud.pull(hashes, odb=odb)
for tree in [one for one in hashes if one.isdir and here.exists(one.value)]:
    hashes |= {entry[2] for entry in Tree.load(here, tree)}
repo.cloud.pull(hashes, odb=odb)
if missing := [one for one in hashes if not here.exists(one.value)]:
    sys.exit(f"{len(missing)} files are missing there, or are not what they should be")
print("cache:", repo.cache.legacy.path)
"""


def _fetch(workspace: Workspace, md5s: Sequence[str], remote: str) -> Path:
    """Have files, and folders with all that is in them, in DVC's cache; returns its folder."""
    command = (sys.executable, "-c", _SCRIPT, remote, json.dumps(md5s))
    try:
        finished = processes.ask(command, cwd=workspace.root, limit=dvc.LONGEST)
    except processes.TimeLimitError as late:
        raise processes.TimeLimitError(f"DVC's remote {remote}: fetching {late}") from None
    said = [line for line in finished.lines if line.strip()]
    if finished.code != 0:
        raise RunError(f"DVC's remote {remote}: {said[-1] if said else finished.code}")
    return Path(said[-1].removeprefix("cache: "))
