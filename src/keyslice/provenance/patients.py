"""From a patient's real id, or a pseudonym, to the pseudonym in each dataset."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from keyslice.config import FolderDataset, Params, PhantomDataset, Workspace
from keyslice.errors import UserError, did_you_mean
from keyslice.exams import barred, fingerprint, history, keyring, manifest_columns
from keyslice.exams.barred import Barred
from keyslice.exams.keyring import Keyring
from keyslice.exams.pseudonym import PUBLISHED_KEY, former_keys, pseudonym, secret_key
from keyslice.exams.table import LabelTable
from keyslice.provenance import membership


@dataclass(frozen=True)
class Person:
    """A patient, as the datasets have them.

    Args:
        patients: the pseudonym that each dataset has, or would make.
        others: what its keys make of the same id besides; nobody's, unless a dataset was started
            anew under another key, or a colleague's was.
        keys: the mark of the key of a pseudonym in `patients`, where that is secret.
    """

    patients: dict[str, str] = field(default_factory=dict)
    others: dict[str, frozenset[str]] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)

    def also(self, names: Iterable[str]) -> dict[str, Barred]:
        """What a withdrawal from these datasets is to seek besides `patients`, and to note."""
        none = frozenset[str]()
        return {
            name: Barred(
                self.others.get(name, none),
                keys=frozenset([self.keys[name]]) if name in self.keys else none,
            )
            for name in names
        }


_PSEUDONYM = re.compile(r"[0-9a-f]{32}")


def datasets(workspace: Workspace, params: Params) -> list[str]:
    """All that are configured or have a kept manifest; also those that left the settings."""
    return sorted({*params.datasets, *membership.datasets(workspace, [])})


def secret_datasets(workspace: Workspace, params: Params) -> list[str]:
    """Those of `datasets` whose pseudonyms are made with a secret key."""
    names = datasets(workspace, params)
    return [n for n in names if _source(workspace, params, n)["identifiers"] == "secret"]


def person(
    workspace: Workspace,
    params: Params,
    *,
    patient: str | None = None,
    known_as: str | None = None,
    issuer: str | None = None,
    dataset: str | None = None,
) -> Person:
    """A patient, in each dataset that knows patients.

    Args:
        workspace: that holds the datasets.
        params: its settings.
        patient: the real id; a key makes the pseudonym of it.
        known_as: the pseudonym itself; either this or `patient`.
        issuer: who gave out the id, where it is not the dataset's own `issuer`.
        dataset: only this one.

    Raises:
        UserError: no such dataset, no pseudonym, or a key is missing.
    """
    names = datasets(workspace, params)
    if dataset is not None and dataset not in names:
        raise UserError(
            f"unknown dataset {dataset!r}",
            where="--dataset",
            rule="it is named under `datasets` in params.yaml, or was ingested here before",
            remedy=did_you_mean(dataset, names),
        )
    if (patient is None) == (known_as is None):
        raise UserError(
            "one of --patient and --pseudonym is needed",
            rule="a patient is named by the real id or by the pseudonym",
        )
    patient = None if patient is None else patient.strip()  # as the tables of labels are read
    if patient == "":
        raise UserError("is empty", where="--patient", rule="it is an id as the hospital gives it")
    if known_as is not None and not _PSEUDONYM.fullmatch(known_as):
        raise UserError(
            "is no pseudonym",
            where="--pseudonym",
            rule="a pseudonym is 32 hex digits, as the column patient of a manifest has them",
            remedy="for an id of the hospital use --patient",
        )
    found = Person()
    for name in [dataset] if dataset else names:
        source = _source(workspace, params, name)
        if source["source"] == "medmnist":
            continue
        if patient is None:
            found.patients[name] = known_as or ""
            continue
        secret = source["identifiers"] == "secret"
        ring = _keys(workspace, name) if secret else Keyring([PUBLISHED_KEY])
        who = (source["issuer"] if issuer is None else issuer, patient)
        found.patients[name] = own = ring.name(*who)
        found.others[name] = frozenset(ring.all(*who)) - {own}
        if secret:
            [found.keys[name]] = ring.makers([own])
    if not found.patients:
        raise UserError(
            "no dataset here knows its patients",
            rule="of a public set without patient ids nobody can be found",
        )
    return found


def _source(workspace: Workspace, params: Params, name: str) -> dict[str, Any]:
    """`source`, `identifiers` and `issuer` of a dataset, from the settings or from a manifest."""
    configured = params.datasets.get(name)
    if isinstance(configured, FolderDataset):
        return configured.model_dump(include={"source", "identifiers", "issuer"})
    if isinstance(configured, PhantomDataset):
        from keyslice.exams.phantom import issuer_of  # nibabel

        return {"source": "phantom", "identifiers": "public", "issuer": issuer_of(configured)}
    recorded = {} if configured else _recorded(workspace, name)
    unknown = {"source": "medmnist", "identifiers": "public", "issuer": ""}
    return unknown | {key: recorded[key] for key in unknown.keys() & recorded.keys()}


def _recorded(workspace: Workspace, name: str) -> dict[str, Any]:
    """What the newest manifest says that a dataset is made of."""
    kept = workspace.manifests(name).glob("[!.]*.parquet")
    newest = max(kept, key=lambda path: path.stat().st_mtime_ns, default=None)
    return manifest_columns.read_identity(newest) if newest else {}


def _keys(workspace: Workspace, name: str) -> Keyring:
    ban = barred.read(workspace, name)
    ring = keyring.secret(workspace, name, ban)
    if len(ring.here) == 1:
        return ring  # nobody is known otherwise: manifests need not be read
    return ring.knowing(history.patients(workspace, name) | ban.patients)


def originals(
    workspace: Workspace, params: Params, name: str, patient: str
) -> list[tuple[int, str]] | None:
    """Lines of a source's table that name a patient's files: their number, and the file or series.

    None: it cannot be told now, as where the source is not mounted or a key is not set.

    Args:
        workspace: that holds the dataset.
        params: its settings.
        name: of the dataset.
        patient: the pseudonym.
    """
    configured = params.datasets.get(name)
    if isinstance(configured, PhantomDataset):
        folder, issuer = workspace.inbox(name), _source(workspace, params, name)["issuer"]
        configured = FolderDataset(
            source="folder", classes=configured.classes, identifiers="public", issuer=issuer
        )
    elif isinstance(configured, FolderDataset):
        folder = fingerprint.folder_of(workspace, name, configured)
    else:
        return None
    try:
        public = configured.identifiers == "public"
        keys = [PUBLISHED_KEY] if public else [secret_key(workspace), *former_keys(workspace)]
        table = LabelTable(folder, configured, name)
    except UserError:
        return None
    return table.named(lambda who: patient in [pseudonym(key, *who) for key in keys])
