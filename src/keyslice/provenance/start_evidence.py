"""Whether a version's training started from what the ledger says, by the bytes it started from."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from keyslice import initial
from keyslice.config import Workspace
from keyslice.errors import UserError
from keyslice.initial import Ancestor
from keyslice.provenance import descent, standing
from keyslice.provenance.code_evidence import LOCK
from keyslice.provenance.data_evidence import listing
from keyslice.provenance.evidence import Item
from keyslice.provenance.ledger import Event
from keyslice.versioning import commits, lock
from keyslice.versioning.objects import Store

PART = "start"


def look(
    workspace: Workspace, registered: Event, found: Sequence[Event], cache: Store
) -> Iterator[Item]:
    """What the training noted, the run's commit and the ancestor's registration say of it.

    Nothing is said of a version from before trainings could start from another one.

    Args:
        workspace: that it was registered from.
        registered: the event of the version's registration.
        found: all events.
        cache: of DVC.
    """
    told: Any = registered.payload
    if "started_from" not in told:
        return
    dataset, variant = told["model"], told["variant"]
    said, pointer = workspace.initial(dataset), workspace.networks_pointer(dataset)
    names = [path.relative_to(workspace.root).as_posix() for path in (said, pointer)]
    try:
        texts = commits.contents(workspace, told["run_commit"], LOCK, *names)
        noted = lock.entries_in(texts[LOCK] or "")
    except (UserError, ValueError):
        return  # told of with the code
    try:
        path = workspace.models(dataset, variant) / "settings.json"
        files = listing(noted, lock.stages_of(dataset, variant)["train"], cache)
        [settings, *_] = cache.find(files[path.relative_to(workspace.root).as_posix()])
        value = json.loads(settings.read_bytes()).get("initial")
    except (OSError, ValueError, LookupError):
        yield Item(PART, "what the training noted", "unseen", "not in DVC's cache; dvc pull")
        return
    began = words(value)
    sound = began == told["started_from"]
    detail = began if sound else f"{began}; by the ledger {told['started_from']}"
    yield Item(PART, "what the training noted", "sound" if sound else "altered", detail)
    number = descent.parent(registered)
    if not sound or number is None:
        return
    ancestor = initial.entry(value)
    assert ancestor is not None
    yield _held("as data/initial in the run's commit", _entry(texts[names[0]], variant) == ancestor)
    yield _of_the_ledger(standing.registered(found, dataset, number), ancestor)
    yield _network(texts[names[1]], ancestor, cache)


def words(value: Any) -> str:
    """`scratch`, or the version, as `liver/3`, of what a training or a package noted."""
    try:
        ancestor = initial.entry(initial.SCRATCH if value is None else value)
    except (ValueError, TypeError):
        return "no version of a model"
    return initial.SCRATCH if ancestor is None else ancestor.name


def _entry(text: str | None, variant: str) -> Ancestor | None:
    try:
        return initial.entry(json.loads(text or "")[variant])
    except (ValueError, LookupError, TypeError):
        return None


def _of_the_ledger(event: Event | None, ancestor: Ancestor) -> Item:
    told: Mapping[str, Any] = {} if event is None else event.payload
    keys = ("weights", "package", "dataset_version")
    same = all(told.get(key) == getattr(ancestor, key) for key in keys)
    return _held(f"as {ancestor.name} was registered", same)


def _network(pointer: str | None, ancestor: Ancestor, cache: Store) -> Item:
    """The bytes that it started from."""
    what = f"the network of {ancestor.name}"
    try:
        tree = lock.version_in(pointer or "")
        listed = json.loads(cache.find(tree or "")[0].read_bytes())
        name = f"{ancestor.weights}{initial.SUFFIX}"
        [md5] = [one["md5"] for one in listed if one["relpath"] == name]
        content = cache.find(md5)[0].read_bytes()
    except (OSError, ValueError, LookupError):
        return Item(PART, what, "missing", "not in DVC's cache; dvc pull")
    sound = hashlib.sha256(content).hexdigest() == ancestor.weights
    return Item(PART, what, "sound" if sound else "altered", "" if sound else "in DVC's cache")


def _held(what: str, sound: bool) -> Item:
    return Item(PART, what, "sound" if sound else "altered")
