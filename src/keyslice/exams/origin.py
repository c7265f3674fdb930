"""What the source of a dataset offers now, whichever kind of source it is."""

from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path

from keyslice.config import FolderDataset, MedMNISTDataset, PhantomDataset, Workspace
from keyslice.config.datasets import Dataset
from keyslice.exams import fingerprint, folder, keyring, medmnist, offer
from keyslice.exams.barred import Barred
from keyslice.exams.discovery import Header
from keyslice.exams.fingerprint import Note
from keyslice.exams.keyring import Keyring
from keyslice.exams.offer import Offer
from keyslice.exams.pseudonym import PUBLISHED_KEY, pseudonym
from keyslice.exams.workers import Workers


def keys_of(
    workspace: Workspace,
    name: str,
    dataset: Dataset,
    ban: Barred,
) -> Keyring:
    """What pseudonyms and tokens of the dataset are made with.

    Args:
        workspace: that holds the dataset.
        name: of the dataset.
        dataset: its settings.
        ban: who has withdrawn.

    Raises:
        UserError: it is secret, and KEYSLICE_KEY_FILE names none; or a key is missing that its
            pseudonyms were made with.
    """
    if isinstance(dataset, FolderDataset) and dataset.identifiers == "secret":
        return keyring.secret(workspace, name, ban)
    return Keyring([PUBLISHED_KEY])


def renewed(
    workspace: Workspace,
    name: str,
    dataset: Dataset,
    ring: Keyring,
    note: Note,
    workers: Workers,
) -> Note:
    """The note of the last ingestion, with tokens of the key of now.

    After a rotation the source is gone through under both keys, to tell which place is which. A
    note whose key is not here any more comes without its tokens: all headers are read again.

    Args: see `offered`.

    Raises:
        UserError: see `offered`.
    """
    key, now = ring.key(note.key), ring.key_of_now
    if key == now or not (note.headers or note.places):
        return note._replace(key=ring.now)
    if key is None or not isinstance(dataset, FolderDataset):
        return note._replace(headers={}, places={}, key=ring.now)
    place = fingerprint.folder_of(workspace, name, dataset)
    folder.check_place(workspace, place, dataset, name)
    before = _explored(place, dataset, name, workers, key, note.headers).places
    after = _explored(place, dataset, name, workers, now, {})
    moved = {after.places[one]: old for one, old in before.items() if one in after.places}
    places = {new: note.places[old] for new, old in moved.items() if old in note.places}
    return note._replace(headers=after.headers, places=places, key=ring.now)


def offered(
    workspace: Workspace,
    name: str,
    dataset: Dataset,
    ring: Keyring,
    note: Note,
    ban: Barred,
    workers: Workers,
) -> Offer:
    """The exams of its source, without those of patients who have withdrawn.

    Args:
        workspace: that holds the dataset.
        name: of the dataset.
        dataset: its settings.
        ring: its keys.
        note: of the last ingestion: spares reading headers again.
        ban: who has withdrawn.
        workers: read headers.

    Raises:
        UserError: the source breaks a rule, or cannot be read.
    """
    if isinstance(dataset, MedMNISTDataset):
        return offer.of_listings(medmnist.listings(workspace, dataset, name))
    if isinstance(dataset, PhantomDataset):
        from keyslice.exams import phantom  # loads nibabel and scipy: a second

        place = workspace.inbox(name)
        settings = phantom.write(place, dataset, name)
    else:
        place, settings = fingerprint.folder_of(workspace, name, dataset), dataset
        folder.check_place(workspace, place, dataset, name)
    key = ring.key(note.key)
    if key is None:  # nothing in the note can be told
        note, key = note._replace(headers={}, places={}), ring.key_of_now
    found = _explored(place, settings, name, workers, key, note.headers, note.places)
    if ban.patients:
        found.bar(lambda patient: not ban.patients.isdisjoint(ring.all(*patient)))
    return found


def _explored(
    place: Path,
    dataset: FolderDataset,
    name: str,
    workers: Workers,
    key: bytes,
    headers: Mapping[str, Header],
    places: Collection[str] = (),
) -> Offer:
    """The exams in a folder, tokens made with this key."""
    return offer.of_folder(
        place,
        dataset,
        name,
        workers=workers,
        token=partial(pseudonym, key, "series"),
        known=places,
        headers=headers,
    )
