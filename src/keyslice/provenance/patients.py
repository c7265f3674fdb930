"""From a patient's real id, or a pseudonym, to the pseudonym in each dataset."""

import re
from typing import Any

from keyslice.config import FolderDataset, Params, PhantomDataset, Workspace
from keyslice.errors import UserError, did_you_mean
from keyslice.exams import fingerprint, manifest_columns
from keyslice.exams.pseudonym import KEY_VARIABLE, PUBLISHED_KEY, pseudonym, secret_key
from keyslice.exams.table import LabelTable
from keyslice.provenance import membership

_PSEUDONYM = re.compile(r"[0-9a-f]{32}")


def datasets(workspace: Workspace, params: Params) -> list[str]:
    """All that are configured or have a kept manifest; also those that left the settings."""
    return sorted({*params.datasets, *membership.datasets(workspace, [])})


def pseudonyms(
    workspace: Workspace,
    params: Params,
    *,
    patient: str | None = None,
    known_as: str | None = None,
    issuer: str | None = None,
    dataset: str | None = None,
) -> dict[str, str]:
    """The pseudonym that a patient has, or would have, in each dataset that knows patients.

    Args:
        workspace: that holds the datasets.
        params: its settings.
        patient: the real id; a key makes the pseudonym of it.
        known_as: the pseudonym itself; either this or `patient`.
        issuer: who gave out the id, where it is not the dataset's own `issuer`.
        dataset: only this one.

    Raises:
        UserError: no such dataset, no pseudonym, or the key is missing or another one.
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
    found = {}
    for name in [dataset] if dataset else names:
        source = _source(workspace, params, name)
        if known_as is not None and source["source"] != "medmnist":
            found[name] = known_as
        elif patient is not None and source["source"] != "medmnist":
            key = _key(workspace, name, source)
            found[name] = pseudonym(key, source["issuer"] if issuer is None else issuer, patient)
    if not found:
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


def _key(workspace: Workspace, name: str, source: dict[str, Any]) -> bytes:
    if source["identifiers"] != "secret":
        return PUBLISHED_KEY
    key = secret_key(workspace)
    kept = [*workspace.manifests(name).glob("[!.]*.parquet")][:1]
    recorded = manifest_columns.read_identity(kept[0]).get("key") if kept else None
    if recorded not in (None, pseudonym(key, "keyslice", "which key")):
        raise UserError(
            f"the key is not the one that the pseudonyms of {name} were made with",
            where=KEY_VARIABLE,
            rule="a patient is found through the key that was used then",
            remedy="set it to that key, or give --pseudonym",
        )
    return key


def originals(
    workspace: Workspace, params: Params, name: str, patient: str
) -> list[tuple[int, str]] | None:
    """Lines of a source's table that name a patient's files: their number, and the file or series.

    None: it cannot be told now, as where the source is not mounted or the key is not set.

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
        key = PUBLISHED_KEY if configured.identifiers == "public" else secret_key(workspace)
        table = LabelTable(folder, configured, name)
    except UserError:
        return None
    return table.named(lambda who: pseudonym(key, *who) == patient)
