"""Small sources of real files."""

import csv
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from keyslice.config import FolderDataset, Split, Workspace
from keyslice.exams.source import SourceFile, file_state

COLUMNS = ("file", "patient_id", "label")


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    root = tmp_path / "workspace"
    root.mkdir()
    (root / "params.yaml").touch()
    return Workspace(root)


@pytest.fixture
def dataset() -> FolderDataset:
    """With six patients of a class, each split has two: losing one leaves no split without."""
    shares = Split(train=0.34, validation=0.33, test=0.33)
    return FolderDataset(
        source="folder", classes=("no", "yes"), identifiers="public", split=shares, settle=0
    )


@pytest.fixture
def write_exam(workspace: Workspace) -> Callable[..., np.ndarray]:
    """`write_exam("a.nii", seed, dtype=…)`: a random volume in the inbox of `ward`.

    With `downwards`, the file has the same slices from head to foot.
    """

    def write(
        name: str, seed: int, *, dtype: str = "uint8", slices: int = 5, downwards: bool = False
    ) -> np.ndarray:
        rng = np.random.default_rng(seed)
        samples = rng.integers(0, 200, size=(6, 7, slices)).astype(dtype)
        path = workspace.inbox("ward") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        stored, step = (samples[:, :, ::-1], -4.0) if downwards else (samples, 4.0)
        nib.save(nib.Nifti1Image(stored, np.diag([1.0, 1.0, step, 1.0])), path)
        return samples

    return write


@pytest.fixture
def write_table(workspace: Workspace) -> Callable[..., None]:
    """`write_table(rows, columns=…)`: the table of labels of `ward`."""

    def write(rows: Sequence[Sequence[str]], columns: Sequence[str] = COLUMNS) -> None:
        folder = workspace.inbox("ward")
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([columns, *rows])

    return write


@pytest.fixture
def ward(
    write_exam: Callable[..., np.ndarray], write_table: Callable[..., None]
) -> list[tuple[str, str, str]]:
    """Twelve exams of twelve patients, half of each class; the rows of their table."""
    rows = [(f"{n}.nii", f"{n:03}", "yes" if n % 2 else "no") for n in range(12)]
    for seed, (name, _, _) in enumerate(rows):
        write_exam(name, seed)
    write_table(rows)
    return rows


@pytest.fixture
def source_file() -> Callable[[Path], SourceFile]:
    """`source_file(path)`: a file on the disk, as a source offers it."""

    def describe(path: Path) -> SourceFile:
        size, time = file_state(path.stat())
        return SourceFile(path.name, path, size, time)

    return describe


@pytest.fixture
def member_file(source_file: Callable[[Path], SourceFile]) -> Callable[[Path], SourceFile]:
    """`member_file(path)`: the same file as the only member of a zip archive beside it."""

    def describe(path: Path) -> SourceFile:
        archive = path.with_name(f"{path.name}.zip")
        with zipfile.ZipFile(archive, "w") as zipped:
            zipped.write(path, path.name)
        outside = source_file(archive)
        name = f"{archive.name}/{path.name}"
        return SourceFile(name, archive, path.stat().st_size, outside.time, path.name)

    return describe
