"""Phantoms: synthetic exams written as real files into the inbox, with a table of labels."""

import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np

from keyslice import files
from keyslice.config import FolderDataset, PhantomDataset
from keyslice.errors import UserError
from keyslice.exams import phantom_video, phantom_volume

Draw = Callable[[str, np.random.Generator], tuple[np.ndarray, list[int]]]
"""From a class to frames (T, H, W) uint8 and the numbers of the informative ones."""

KINDS: dict[str, tuple[Sequence[str], Draw]] = {
    "volume": (phantom_volume.CLASSES, phantom_volume.draw),
    "video": (phantom_video.CLASSES, phantom_video.draw),
}
EXAMS_PER_PATIENT = 2
SPACING_MM = (5.0, 1.0, 1.0)
"""Of volumes: between slices, rows, columns."""
FRAME_TIME_MS = 40.0
COLUMNS = ("file", "patient_id", "label", "modality", "informative")


def write(folder: Path, dataset: PhantomDataset, name: str) -> FolderDataset:
    """Write the exams that are not there yet, then the table; the same settings, the same bytes.

    Exam i depends on (seed, i) alone, so a larger set begins with the smaller one. A patient's
    exams have one label.

    Returns:
        The settings by which the folder is read, as any other is.

    Raises:
        UserError: the classes are not those of this kind of phantom.
    """
    classes, draw = KINDS[dataset.kind]
    if set(dataset.classes) != set(classes):
        raise UserError(
            f"the classes are {', '.join(dataset.classes)}",
            where=f"datasets.{name}.classes",
            rule=f"phantoms of kind {dataset.kind} have {', '.join(classes)}",
            remedy="name these",
        )
    labels = folder / "labels.csv"
    there = _rows(labels)
    rows = []
    for number in range(dataset.exams):
        patient = number % dataset.patients if dataset.patients else number // EXAMS_PER_PATIENT
        label = classes[patient % len(classes)]
        file = f"{dataset.kind}_{dataset.seed}_{number:05d}.nii"
        row = [file, f"P{patient:05d}", label, f"phantom {dataset.kind}"]
        known = there.get(tuple(row))
        if known is None or not (folder / file).is_file():
            frames, informative = draw(label, np.random.default_rng([dataset.seed, number]))
            known = " ".join(map(str, informative))
            with files.beside(folder / file) as part:
                part.write_bytes(_nifti(frames, dataset.kind == "video"))
        rows.append([*row, known])
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows([COLUMNS, *rows])
    if not labels.is_file() or labels.read_text(encoding="utf-8") != table.getvalue():
        files.write_text(labels, table.getvalue())
    return FolderDataset(
        source="folder",
        classes=dataset.classes,
        identifiers="public",
        issuer=issuer_of(dataset),
        settle=0.0,  # nobody else writes there
    )


def issuer_of(dataset: PhantomDataset) -> str:
    """Who gives out the ids of phantom patients: another seed's are other patients."""
    return f"phantom {dataset.kind} {dataset.seed}"


def _rows(labels: Path) -> dict[tuple[str, ...], str]:
    """From the table as it stands: the informative frames, by the columns before that."""
    if not labels.is_file():
        return {}
    with labels.open(encoding="utf-8", newline="") as file:
        return {tuple(row[:-1]): row[-1] for row in csv.reader(file) if row}


def _nifti(frames: np.ndarray, video: bool) -> bytes:
    """Frames (T, H, W) as a NIfTI file, oriented so that reading it gives them back as they are."""
    samples = frames.transpose(2, 1, 0)
    between, rows, columns = SPACING_MM
    # Columns run to the patient's left, rows to the back: LPS, as in DICOM.
    image = nib.Nifti1Image(
        samples[:, :, None] if video else samples, np.diag([-columns, -rows, between, 1.0])
    )
    if video:
        image.header.set_zooms((columns, rows, between, FRAME_TIME_MS))
    image.header.set_xyzt_units("mm", "msec")
    return image.to_bytes()
