"""Every claim of a version's provenance, recomputed from the bytes."""

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keyslice import files
from keyslice.config import Params, Workspace
from keyslice.errors import UserError
from keyslice.exams.lock import dataset_lock
from keyslice.provenance import (
    chain,
    code_evidence,
    data_evidence,
    events,
    ledger,
    signing,
    standing,
    start_evidence,
)
from keyslice.provenance.evidence import Item
from keyslice.provenance.ledger import Event
from keyslice.registry import (
    approval,
    champion,
    chronicle,
    marks,
    models,
    package,
    run_evidence,
    tags,
)
from keyslice.registry.client import existing
from keyslice.registry.owner import CHALLENGER, CHAMPION
from keyslice.versioning import commits, lock
from keyslice.versioning.objects import Store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion


def verify(
    workspace: Workspace,
    params: Params,
    model: str,
    version: int,
    cache: Store,
    progress: data_evidence.Progress = lambda what, done, total: None,
) -> list[Item]:
    """Look at everything that a version's provenance claims.

    Args:
        workspace: that it was registered from.
        params: settings.
        model: its name.
        version: its number.
        cache: of DVC.
        progress: for a progress bar.

    Raises:
        UserError: the ledger cannot be read at all; or it knows no such version.
    """
    with dataset_lock(workspace, model, "keyslice verify"):
        return _verify(workspace, params, model, version, cache, progress)


def _verify(
    workspace: Workspace,
    params: Params,
    model: str,
    version: int,
    cache: Store,
    progress: data_evidence.Progress,
) -> list[Item]:
    checked = chain.check(workspace, params.ledger.remote)
    found = [Item("ledger", f"event {f.number}", "altered", f.what) for f in checked.faults]
    if not found:
        found.append(Item("ledger", f"{checked.events} events", "sound", checked.proves))
    told = ledger.readable(workspace)  # what is wrong with the others is told already
    client = existing(workspace)
    found += _registry(client, told, model)
    registered = standing.registered(told, model, version)
    if registered is None:
        found.append(
            Item("ledger", events.named(model, version), "missing", "no event tells of it")
        )
        return found
    found += _version(client, told, registered)
    found += run_evidence.look(client, workspace, registered, told, cache)
    found += _package(client, workspace, registered)
    found += _decisions(workspace, told, model, version)
    found += code_evidence.look(workspace, registered)
    found += data_evidence.look(workspace, registered, told, cache, progress)
    found += start_evidence.look(workspace, registered, told, cache)
    found += _workspace(workspace, told, registered)
    return found


def _registry(client: "MlflowClient", found: list[Event], model: str) -> Iterator[Item]:
    """The aliases, and the versions that MLflow has of the model."""
    registered = client.search_registered_models(f"name = '{model}'")
    aliases: Mapping[str, Any] = registered[0].aliases if registered else {}
    by_ledger = {
        CHAMPION: standing.champion(found, model),
        CHALLENGER: standing.challenger(found, model),
    }
    for alias, told in by_ledger.items():
        seen = int(aliases[alias]) if alias in aliases else None
        here, expected = champion.words(seen), champion.words(told)
        detail = "" if seen == told else f"on {here}, by the ledger on {expected}"
        yield Item("registry", f"@{alias}", "sound" if seen == told else "altered", detail)
    if standing.unfinished(found, model) is not None:
        detail = "a decision was cut off; the next command about the model carries it out"
        yield Item("registry", f"@{CHAMPION}", "altered", detail)
    known = {
        e.payload["version"]
        for e in standing.of_model(found, model)
        if e.action == events.MODEL_REGISTERED
    }
    there = {int(v.version): v.tags for v in client.search_model_versions(f"name = '{model}'")}
    begun = {
        e.payload["identity"]
        for e in standing.of_model(found, model)
        if e.action == events.MODEL_REGISTERING
    }
    for number in sorted(there.keys() - known):
        what = f"version {number} in MLflow"
        if there[number].get(tags.IDENTITY) in begun:
            yield Item("registry", what, "unseen", "its registration was cut off; it is not in use")
        else:
            yield Item("registry", what, "altered", "no event tells of it")
    for number in sorted(known - there.keys()):
        yield Item("registry", f"version {number} in MLflow", "missing", "it was deleted there")


def _version(client: "MlflowClient", found: list[Event], registered: Event) -> Iterator[Item]:
    """The tags of the version."""
    told = registered.payload
    try:
        version = _mlflow(client, registered)
    except UserError:
        return  # told of with the versions
    seen = version.tags
    if version.run_id != told["run"] or version.status != "READY":
        yield Item("registry", "run and state of the version", "altered")
    # A version from before there was such a fact has neither.
    expected = {tag: str(told[key]) for key, tag in chronicle.FACTS.items() if key in told}
    expected |= {tags.stage_tag(kind): text for kind, text in told["stages"].items()}
    expected |= {tags.DATASET: told["model"], tags.INSTALLATION: found[0].object}
    expected |= marks.of(found, told["model"], told["version"])
    faults = 0
    for tag in sorted({*expected, *(name for name in marks.NAMES if name in seen)}):
        if seen.get(tag) != expected.get(tag):
            faults += 1
            detail = (
                f"{seen.get(tag, 'none')!s:.40}, by the ledger {expected.get(tag, 'none')!s:.40}"
            )
            yield Item("registry", f"tag {tag}", "altered", detail)
    if not faults:
        yield Item("registry", "tags of the version", "sound", f"{len(expected)} tags")


def _package(client: "MlflowClient", workspace: Workspace, registered: Event) -> Iterator[Item]:
    """The files that MLflow keeps, fetched anew from a server."""
    told: Any = registered.payload
    with tempfile.TemporaryDirectory(prefix="keyslice-") as place:
        try:
            folder = models.fetch(client, workspace, _mlflow(client, registered), Path(place))
        except UserError as error:
            yield Item("package", "its files", "missing", str(error))
            return
        data = folder / models.DATA
        yield _same("package", "all its files", package.digest(folder), told["artifact"])
        yield _same("package", "what the model is made of", package.digest(data), told["package"])
        try:
            weights = files.sha256(data / package.WEIGHTS)
            attention = data / package.STATE_ATTENTION
            learned = files.sha256(attention) if attention.is_file() else ""
            described = json.loads((data / package.DESCRIPTION).read_text(encoding="utf-8"))
            settings, provenance = described["settings"], described["provenance"]
        except (OSError, ValueError, LookupError):
            yield Item("package", package.DESCRIPTION, "altered", "it cannot be read")
            return
        yield _same("package", "weights", weights, told["weights"])
        if learned or told.get("state_attention"):
            what = "what it learned to look more than once"
            yield _same("package", what, learned, told.get("state_attention", ""))
        seen = _mlflow(client, registered).tags
        for tag, text in provenance.items():
            if tag not in chronicle.FACTS.values() and seen.get(tag) != text:
                yield Item("registry", f"tag {tag}", "altered", "not as the package has it")
        sound = code_evidence.same_settings(settings, told["settings"])
        yield Item("package", "settings", "sound" if sound else "altered")
        if "started_from" in told:
            began = start_evidence.words(described.get("training", {}).get("initial"))
            yield _same("package", "what its training started from", began, told["started_from"])


def _decisions(
    workspace: Workspace, found: list[Event], model: str, version: int
) -> Iterator[Item]:
    """The signatures under approvals and rejections."""
    listed = signing.signers(workspace)
    for event in standing.of_model(found, model):
        if event.action not in standing.DECISIONS or event.payload["version"] != version:
            continue
        made = event.payload["signature"]
        what = f"signature of event {event.number}"
        if made is None:
            if approval.demands(found, model, version).get("signed"):
                yield Item("ledger", what, "missing", "the plan demands it")
            continue
        if listed is None:
            yield Item("ledger", what, "unseen", f"{signing.SIGNERS_VARIABLE} is not set")
            continue
        gate = next((e for e in found if e.number == event.payload["gate"]), None)
        approved = event.action == events.MODEL_APPROVED
        payload = dict(event.payload)
        text = gate and approval.text(found, payload, gate, "approved" if approved else "rejected")
        who = signing.signed_by(text or "", made["text"], signing.APPROVAL, listed)
        sound = who is not None and who == (made["principal"] or who)
        yield Item("ledger", what, "sound" if sound else "altered", who or "of nobody who may sign")


def _workspace(workspace: Workspace, found: Sequence[Event], registered: Event) -> Iterator[Item]:
    """Parameters, lock and pointer in the workspace, as long as it is at this version."""
    told: Any = registered.payload
    dataset = told["model"]
    later = [
        event
        for event in found[found.index(registered) :]
        if event.action == events.RUN_STARTED and event.object == dataset
    ]
    if later or standing.challenger(found, dataset) != told["version"]:
        yield Item("workspace", "its files", "unseen", "a later run has begun to change them")
        return
    pointer = workspace.pointer(dataset).relative_to(workspace.root).as_posix()
    names = [code_evidence.PARAMS, code_evidence.LOCK, code_evidence.REQUIREMENTS]
    last = standing.last_version(found, dataset)
    newest = last.payload["version"] if last else told["dataset_version"]
    if newest == told["dataset_version"]:
        names.append(pointer)
    else:  # an ingestion or a withdrawal has gone on, and told the ledger
        yield _same("workspace", pointer, _version_here(workspace, dataset), newest)
    try:
        texts = commits.contents(workspace, told["run_commit"], *names)
    except UserError:
        return  # told of with the code
    for name in names:
        path = workspace.root / name
        here = path.read_bytes() if path.is_file() else None
        noted = texts[name]
        if here == (None if noted is None else noted.encode()):
            yield Item("workspace", name, "sound")
        elif name == code_evidence.PARAMS and code_evidence.same_for_models(here, noted):
            detail = "changed since, in nothing that a model is made from"
            yield Item("workspace", name, "sound", detail)
        else:
            detail = "not as in the run's commit; keyslice retrain makes a version of what is new"
            yield Item("workspace", name, "missing" if here is None else "altered", detail)


def _version_here(workspace: Workspace, dataset: str) -> str | None:
    try:
        return lock.version(workspace, dataset)
    except UserError:  # no pointer that DVC has written
        return None


def _mlflow(client: "MlflowClient", registered: Event) -> "ModelVersion":
    return models.resolved(client, registered.payload["model"], str(registered.payload["version"]))


def _same(part: str, what: str, found: str | None, told: str | None) -> Item:
    return Item(part, what, "sound" if found == told else "altered")
