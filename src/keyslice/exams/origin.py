"""What the source of a dataset offers now, whichever kind of source it is."""

from functools import partial

from keyslice.config import FolderDataset, MedMNISTDataset, PhantomDataset, Workspace
from keyslice.config.datasets import Dataset
from keyslice.exams import fingerprint, folder, medmnist, offer
from keyslice.exams.barred import Barred
from keyslice.exams.fingerprint import Note
from keyslice.exams.offer import Offer
from keyslice.exams.pseudonym import PUBLISHED_KEY, pseudonym, secret_key
from keyslice.exams.workers import Workers


def key_of(workspace: Workspace, dataset: Dataset) -> bytes:
    """What pseudonyms and tokens of the dataset are made with.

    Raises:
        UserError: it is secret, and KEYSLICE_KEY_FILE names none.
    """
    if isinstance(dataset, FolderDataset) and dataset.identifiers == "secret":
        return secret_key(workspace)
    return PUBLISHED_KEY


def offered(
    workspace: Workspace,
    name: str,
    dataset: Dataset,
    key: bytes,
    note: Note,
    ban: Barred,
    workers: Workers,
) -> Offer:
    """The exams of its source, without those of patients who have withdrawn.

    Args:
        workspace: that holds the dataset.
        name: of the dataset.
        dataset: its settings.
        key: see `key_of`.
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
    found = offer.of_folder(
        place,
        settings,
        name,
        workers=workers,
        token=partial(pseudonym, key, "series"),
        known=note.places.keys(),
        headers=note.headers,
    )
    if ban.patients:
        found.bar(lambda patient: pseudonym(key, *patient) in ban.patients)
    return found
