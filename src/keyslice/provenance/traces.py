"""What there is of a patient: in which versions, in which objects of DVC's, in which models."""

import json
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from keyslice import files
from keyslice.config import Workspace
from keyslice.errors import UserError
from keyslice.exams import barred
from keyslice.exams.barred import Barred
from keyslice.provenance import descent, erasure, events, ledger, standing
from keyslice.provenance.erasure import Item, Stretch
from keyslice.provenance.withdrawn import Erased
from keyslice.versioning import lock, objects
from keyslice.versioning.objects import Store

PIXELS = ("report.html", "figures/exam_maps.svg")
"""Files of a comparison that show single exams."""
_TUPLES = ("exams", "models", "aliases", "keys")
"""Of a part; the last two are not in notes from before keys could be rotated."""


@dataclass(frozen=True)
class Part:
    """What a withdrawal means for one dataset.

    Args:
        dataset: its name.
        patient: the pseudonym.
        exams: ids of all that it ever held of theirs.
        versions: how many of them each version holds.
        present: whether the version of now holds any.
        models: versions of its model that learned from one of those versions, or started from one
            that did.
        champion: the one of them that is the champion now; None: it is none of them.
        aliases: other pseudonyms that exams of theirs were found under; see `patients.Person`.
        keys: marks of the keys of the pseudonym, where they are known.
    """

    dataset: str
    patient: str
    exams: tuple[str, ...]
    versions: dict[str, int]
    present: bool
    models: tuple[int, ...]
    champion: int | None
    aliases: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """What a withdrawal will touch.

    Args:
        id: of the withdrawal.
        reason: as it goes into the ledger.
        parts: of each dataset, also those that only bar.
        ban: who is sought, and the ids of what was theirs.
        items: what is to be erased.
        erased: of each file that was found, before and after.
        places: how many objects the cache and each remote hold, by name.
        only: the one dataset that it is restricted to.
    """

    id: str
    reason: str
    parts: tuple[Part, ...]
    ban: Barred
    items: tuple[Item, ...]
    erased: tuple[Erased, ...]
    places: dict[str, int]
    only: str | None = None

    @property
    def exams(self) -> frozenset[str]:
        """Ids of all exams that a version here ever held of theirs."""
        return frozenset(exam for part in self.parts for exam in part.exams)

    @property
    def empty(self) -> bool:
        """Whether nothing of theirs is anywhere."""
        return not (self.items or self.exams or self.erased)

    def counts(self) -> dict[str, int]:
        """How many objects of each kind are erased."""
        kinds = [item.kind for item in self.items]
        return {kind: kinds.count(kind) for kind in sorted(set(kinds))}

    def dumps(self) -> str:
        """As JSON."""
        ban = {"patients": sorted(self.ban.patients), "exams": sorted(self.ban.exams)}
        return json.dumps(asdict(self) | {"ban": ban})

    @classmethod
    def loads(cls, text: str) -> "Plan":
        """From what `dumps` gave."""
        told = json.loads(text)
        return cls(
            **told
            | {
                "parts": tuple(
                    Part(**p | {name: tuple(p.get(name, ())) for name in _TUPLES})
                    for p in told["parts"]
                ),
                "ban": Barred(*(frozenset(told["ban"][k]) for k in ("patients", "exams"))),
                "items": tuple(
                    Item(i["md5"], i["kind"], tuple((a, b) for a, b in i["stretches"]))
                    for i in told["items"]
                ),
                "erased": tuple(told["erased"]),
            }
        )


def survey(
    workspace: Workspace,
    stores: Sequence[Store],
    patients: Mapping[str, str],
    reason: str,
    only: str | None,
    also: Mapping[str, Barred] | None = None,
) -> Plan:
    """Find all that there is of a patient; changes nothing.

    Args:
        workspace: that is searched.
        stores: DVC's cache and remotes.
        patients: the pseudonym in each dataset.
        reason: for the plan.
        only: the one dataset that is meant; what versions of others need is left out.
        also: other pseudonyms in each dataset, and the keys; see `patients.Person.also`.

    Raises:
        UserError: a kept manifest or the ledger is damaged.
    """
    kept = {name: manifests(workspace, name) for name in patients}
    others = {name: (also or {}).get(name, Barred()) for name in patients}
    who = Barred(frozenset(patients.values()).union(*(one.patients for one in others.values())))
    tables = [
        (md5, path)
        for store in stores
        for md5, path in store.all()
        if not md5.endswith(objects.TREE) and erasure.is_table(path)
    ]
    mine = {name: _in_all(held.values(), who) for name, held in kept.items()}
    ban = who | Barred(exams=frozenset().union(*mine.values()))
    for name in patients:  # what an earlier withdrawal has erased may have come back
        ban |= Barred(exams=barred.read(workspace, name).exams)
    if only is None:  # of versions that were never kept here, as a colleague's in a shared remote
        ban |= Barred(exams=frozenset(_in_all((path for _, path in tables), who)))
    items = _items(workspace, stores, tables, ban, kept, restricted=only is not None)
    erased, places = _foreseen(stores, items, ban)
    erased += [entry_of(*one, ban) for name in patients for one in kept_items(workspace, name, ban)]
    whole = unique(erased)
    changed = {one["md5"] for one in whole}
    items = tuple(item for item in items if item.md5 in changed)  # not what is a tombstone already
    known = ledger.read(workspace)
    parts = []
    for name, patient in patients.items():
        counts = {version: len(erasure.exams_in(path, ban)) for version, path in kept[name].items()}
        held = {version: count for version, count in counts.items() if count and version}
        here = "" if "" in counts else lock.version(workspace, name)
        models, champion = _models(known, name, held)
        exams = tuple(sorted(mine[name]))
        present = bool(counts.get(here or ""))
        aliases = tuple(
            one
            for one in sorted(others[name].patients - {patient})
            if _in_all(kept[name].values(), Barred(frozenset([one])))
        )
        keys = tuple(sorted(others[name].keys))
        parts.append(Part(name, patient, exams, held, present, models, champion, aliases, keys))
    return Plan(secrets.token_hex(8), reason, tuple(parts), ban, items, whole, places, only)


def _in_all(paths: Iterable[Path], ban: Barred) -> set[str]:
    """Ids of their exams in any of these tables."""
    return {exam for path in paths for exam in erasure.exams_in(path, ban)}


def manifests(workspace: Workspace, name: str) -> dict[str, Path]:
    """Every kept manifest of a dataset, by version; under "" the one in data/.

    Raises:
        UserError: one of them is damaged.
    """
    paths = {path.stem: path for path in workspace.manifests(name).glob("[!.]*.parquet")}
    if workspace.manifest(name).is_file():
        paths[""] = workspace.manifest(name)
    for path in paths.values():
        if erasure.told(path) is None:
            raise UserError(
                "cannot be read as a manifest",
                where=str(path.relative_to(workspace.root)),
                rule="it says who is in a version",
                remedy="restore it from the backup, or dvc checkout --force",
            )
    return dict(sorted(paths.items()))


def _items(
    workspace: Workspace,
    stores: Sequence[Store],
    tables: Sequence[tuple[str, Path]],
    ban: Barred,
    kept: Mapping[str, Mapping[str, Path]],
    *,
    restricted: bool,
) -> tuple[Item, ...]:
    """All objects that hold something of theirs.

    Args:
        workspace: whose they are.
        stores: the cache and the remotes.
        tables: among their objects.
        ban: who is sought, and what.
        kept: the manifests of the datasets that are meant, by dataset and version.
        restricted: to these datasets: what versions of others need stays.
    """
    found: set[Item] = set()
    indexes: dict[str, dict[str, tuple[Stretch, ...]]] = {}
    scope = {e for held in kept.values() for path in held.values() for e in erasure.all_exams(path)}
    for md5, path in tables:
        if not erasure.exams_in(path, ban):
            continue
        if restricted and not scope & erasure.all_exams(path):
            continue
        kind = erasure.kind_of_table(path)
        found.add(Item(md5, kind))
        if kind == "index":
            indexes[md5] = erasure.shards_of(path, ban)
    names = {f"{exam}.zip" for exam in ban.exams}
    others = _others_versions(workspace, kept) if restricted else frozenset[str]()
    with_them = {
        name: {v for v, path in held.items() if erasure.exams_in(path, ban)}
        for name, held in kept.items()
    }
    safe: set[str] = set()
    seen: set[str] = set()
    for tree, path in ((tree, path) for store in stores for tree, path in store.all()):
        if not tree.endswith(objects.TREE) or tree in seen:
            continue
        seen.add(tree)
        listed = {entry["relpath"]: entry["md5"] for entry in objects.entries(path)}
        if tree in others:
            safe |= set(listed.values())
            continue
        found |= {Item(listed[name], "exam") for name in names & listed.keys()}
        for shard, stretches in indexes.get(listed.get("index.parquet", ""), {}).items():
            if shard in listed:
                found.add(Item(listed[shard], "shard", stretches))
            if (record := str(Path(shard).with_suffix(".json"))) in listed:
                found.add(Item(listed[record], "record"))
        if "candidate.json" in listed and _may_show(stores, listed, kept, with_them):
            found |= {Item(listed[name], "report") for name in PIXELS if name in listed}
    return tuple(sorted(item for item in found if item.md5 not in safe))


def _others_versions(workspace: Workspace, meant: Mapping[str, Any]) -> frozenset[str]:
    """Versions of the datasets that a restricted withdrawal leaves as they are."""
    kept = (workspace.state / "manifests").glob("*/[!.]*.parquet")
    return frozenset(path.stem for path in kept if path.parent.name not in meant)


def _may_show(
    stores: Sequence[Store],
    listed: Mapping[str, str],
    kept: Mapping[str, Mapping[str, Path]],
    with_them: Mapping[str, set[str]],
) -> bool:
    """Whether a comparison may show an exam of theirs: unless it names a version without any."""
    try:
        dataset = json.loads(_first(stores, listed["candidate.json"]))["dataset"]
    except (ValueError, KeyError, TypeError):
        return True  # damaged
    if not with_them.get(dataset):
        return False
    page = _first(stores, listed.get("report.html", ""))
    named = {version for version in kept[dataset] if version and version[:12].encode() in page}
    return not named or bool(named & with_them[dataset])


def _first(stores: Sequence[Store], md5: str) -> bytes:
    return next((p.read_bytes() for s in stores for p in (s.find(md5) if md5 else ())), b"")


def _foreseen(
    stores: Sequence[Store], items: Iterable[Item], ban: Barred
) -> tuple[list[Erased], dict[str, int]]:
    """What becomes of each object, and how many of them each store holds."""
    erased: list[Erased] = []
    places = dict.fromkeys((store.name for store in stores), 0)
    for store in stores:
        store.need(item.md5 for item in items)
        for item in items:
            for path in store.find(item.md5):
                erased.append(entry_of(path, item, ban))
                places[store.name] += erased[-1]["was"] != erased[-1]["replaced_by"]
    return erased, places


def kept_items(workspace: Workspace, name: str, ban: Barred) -> Iterator[tuple[Path, Item]]:
    """The kept manifests of a dataset that hold rows of theirs."""
    for path in sorted(workspace.manifests(name).glob("[!.]*.parquet")):
        if erasure.exams_in(path, ban):
            yield path, Item(files.md5(path), "manifest")


def entry_of(path: Path, item: Item, ban: Barred) -> Erased:
    """What becomes of a file."""
    return {
        "md5": item.md5,
        "kind": item.kind,
        "was": files.sha256(path),
        "replaced_by": erasure.digest(erasure.without(path, item, ban)),
    }


def unique(entries: Iterable[Erased]) -> tuple[Erased, ...]:
    """Each once, those that change nothing left out, by md5."""
    found = {
        tuple(sorted(entry.items())) for entry in entries if entry["was"] != entry["replaced_by"]
    }
    return tuple(dict(entry) for entry in sorted(found))


def _models(
    known: Sequence[ledger.Event], name: str, held: Iterable[str]
) -> tuple[tuple[int, ...], int | None]:
    """Versions of the model that learned from these versions, and the champion if it is of them.

    Also those that started from one that did.
    """
    made = {
        int(event.payload["version"])
        for event in known
        if event.action == events.MODEL_REGISTERED
        and event.payload["model"] == name
        and event.payload["dataset_version"] in set(held)
    }
    learned = made | {*descent.descendants(known, name, made)}
    champion = standing.champion(known, name)
    return tuple(sorted(learned)), champion if champion in learned else None
