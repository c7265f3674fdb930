"""Whether the run's commit is whole and says what the ledger says of code and parameters."""

import hashlib
from collections.abc import Iterator
from typing import Any

import yaml
from pydantic import ValidationError

from keyslice.config import SERVICE, Params, StageSettings, Workspace
from keyslice.errors import UserError
from keyslice.provenance.evidence import Item
from keyslice.provenance.ledger import Event
from keyslice.versioning import commits, git, lock

PARAMS, LOCK, REQUIREMENTS = "params.yaml", "dvc.lock", "requirements.lock"


def look(workspace: Workspace, registered: Event) -> Iterator[Item]:
    """Recompute the hashes of the commit that a version names, and hold its files against them.

    Args:
        workspace: whose git repository.
        registered: the event of the version's registration.
    """
    told = registered.payload
    commit, dataset = told["run_commit"], told["model"]
    try:
        broken = commits.damaged(workspace, commit)
        pointer = f"data/exams/{dataset}.dvc"
        texts = commits.contents(workspace, commit, PARAMS, LOCK, REQUIREMENTS, pointer)
    except UserError as error:
        yield Item("code", f"run commit {commit[:12]}", "missing", str(error))
        return
    for name in broken:
        yield Item("code", f"{name} in run commit {commit[:12]}", "altered", "git's hash of it")
    if not broken:
        yield Item("code", f"run commit {commit[:12]}", "sound", "every file")
    ref = f"{git.RUNS}/{told['run']}"
    if git.revision(workspace.root, ref) == commit:
        yield Item("code", ref, "sound")
    else:
        yield Item("code", ref, "altered", "it keeps the run's commit from being cleared away")
    yield _held("code", REQUIREMENTS, _sha256(texts[REQUIREMENTS]), told["requirements"])
    yield _held("code", pointer, _version(texts[pointer]), told["dataset_version"])
    yield from _stages(texts[LOCK], told)
    yield _settings(texts[PARAMS], told)


def same_for_models(one: bytes | None, other: str | None) -> bool:
    """Whether two texts of params.yaml differ at most in comments and in the sections SERVICE."""
    try:
        values = [yaml.safe_load(text or "") for text in (one, other)]
    except (yaml.YAMLError, UnicodeDecodeError):
        return False
    if not all(isinstance(value, dict) for value in values):
        return False
    first, second = ({k: v for k, v in value.items() if k not in SERVICE} for value in values)
    return first == second


def _stages(text: str | None, told: Any) -> Iterator[Item]:
    try:
        entries = lock.entries_in(text or "")
    except ValueError:
        yield Item("code", LOCK, "missing" if text is None else "altered", "of the run's commit")
        return
    for kind, stage in lock.stages_of(told["model"], told["variant"]).items():
        yield _held("code", stage, lock.hash_of(entries, stage) or "", told["stages"][kind])


def _settings(text: str | None, told: Any) -> Item:
    try:
        params = Params.model_validate(yaml.safe_load(text or ""))
        found = params.stage(told["model"], told["variant"])
    except (ValidationError, yaml.YAMLError, UserError):
        # A release that knows other settings may have written them: the commit's own hashes stand.
        return Item("code", PARAMS, "unseen", f"written for keyslice {told['keyslice']}")
    same = _sha256(found.model_dump_json()) == told["parameters"] or same_settings(
        found.model_dump(mode="json"), told["settings"]
    )
    return Item("code", PARAMS, "sound" if same else "altered", "" if same else "of the run")


def same_settings(one: Any, other: Any) -> bool:
    """Whether settings of stages are equal by value: a release writes the defaults it has added.

    What one release has trained, another may take from DVC's cache and register.
    """
    try:
        return StageSettings.model_validate(one) == StageSettings.model_validate(other)
    except ValidationError:  # written by a release that knows other settings
        return bool(one == other)


def _held(part: str, what: str, found: str, told: str) -> Item:
    if found == told:
        return Item(part, what, "sound")
    return Item(part, what, "altered" if found else "missing", f"by the ledger {told[:12]}")


def _version(text: str | None) -> str:
    try:
        return lock.version_in(text or "") or ""
    except ValueError:
        return ""


def _sha256(text: str | None) -> str:
    return "" if text is None else hashlib.sha256(text.encode()).hexdigest()
