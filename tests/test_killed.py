"""An ingestion may be killed at any moment, or meet another one: it ends as if it had not."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import nibabel as nib
import numpy as np
import psutil
import pytest
import yaml
from PIL import Image
from pydicom import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

ROOT = Path(__file__).parents[1]
EXAMS = 40
PATIENCE = 60.0
"""Seconds until a moment must have come, or a process have ended."""
PARAMS = {
    "datasets": {
        "ward": {
            "source": "folder",
            "identifiers": "public",
            "classes": ["no", "yes"],
            "settle": 0,
        }
    },
    "variants": {"full": {"sampler": "full"}, "das": {"sampler": "das", "keep": 0.5}},
    **{section: {} for section in ("prepare", "backbone", "model", "train", "evaluate")},
    "compare": {"references": ["full"]},
}


def _nifti(path: Path, frames: np.ndarray) -> None:
    nib.save(nib.Nifti1Image(frames.T, np.eye(4)), path.with_suffix(".nii.gz"))


def _array(path: Path, frames: np.ndarray) -> None:
    np.savez(path.with_suffix(".npz"), frames=frames)


def _gif(path: Path, frames: np.ndarray) -> None:
    first, *others = map(Image.fromarray, frames)
    first.save(path.with_suffix(".gif"), save_all=True, append_images=others)


def _images(path: Path, frames: np.ndarray) -> None:
    path.mkdir()
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(path / f"{number}.png")


def _dicom(path: Path, frames: np.ndarray) -> None:
    path.mkdir()
    for number, frame in enumerate(frames):
        slice_ = Dataset()
        slice_.file_meta = FileMetaDataset()
        slice_.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        slice_.SOPClassUID = CTImageStorage
        slice_.SeriesInstanceUID = f"1.2.{int(path.name)}"
        slice_.SOPInstanceUID = f"1.2.{int(path.name)}.{number}"
        slice_.Rows, slice_.Columns = frame.shape
        slice_.SamplesPerPixel, slice_.PhotometricInterpretation = 1, "MONOCHROME2"
        slice_.BitsAllocated = slice_.BitsStored = 8
        slice_.HighBit, slice_.PixelRepresentation = 7, 0
        slice_.ImagePositionPatient = [0, 0, number]
        slice_.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        slice_.PixelData = frame.tobytes()
        slice_.save_as(path / f"{number}.dcm", enforce_file_format=True)


FORMS: tuple[Callable[[Path, np.ndarray], None], ...] = (_nifti, _array, _gif, _images, _dicom)


def _deliver(inbox: Path, numbers: range) -> None:
    """Exams of every form in turn; among the later ones also some that do not go in."""
    inbox.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        rng = np.random.default_rng(number)
        FORMS[number % len(FORMS)](
            inbox / f"{number:02}", rng.integers(0, 255, (6, 16, 20), np.uint8)
        )
    if numbers.stop == EXAMS:
        (inbox / "damaged.nii").write_bytes(bytes(400))
        shutil.copy(inbox / "21.npz", inbox / "again.npz")
        shutil.copy(inbox / "01.npz", inbox / "another.npz")
        (inbox / "unlabelled.npz").write_bytes((inbox / "06.npz").read_bytes())
    files = [path for path in sorted(inbox.iterdir()) if path.suffix != ".csv"]
    names = {p.name: p.name[:2] for p in files if p.stem.partition(".")[0].isdigit()}
    names |= {"damaged.nii": "90", "again.npz": "21", "another.npz": "91"}
    lines = [
        f"{name},{patient},{('no', 'yes')[int(patient) // 5 % 2]}"
        for name, patient in names.items()
    ]
    (inbox / "labels.csv").write_text("\n".join(["file,patient_id,label", *lines]) + "\n")


def _start(root: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "keyslice.cli", "ingest", "--json", "ward"],
        cwd=root,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def _ended(process: subprocess.Popen[str]) -> dict[str, int]:
    """What became of the files, whether taken in now or by a run that was killed."""
    said, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors
    report = json.loads(said)["report"]
    parts = ("found", "duplicates", "waiting", "quarantined", "skipped", "exams")
    return {part: report[part] for part in parts} | {"in": report["accepted"] + report["present"]}


def _dataset(root: Path) -> dict[str, bytes]:
    """All that an ingestion leaves in data/, but for the day on which it refused a file."""
    data = root / "data"
    folders = (data / "exams", data / "quarantine")
    found = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    day = time.strftime("%Y-", time.gmtime()).encode()
    content = {str(path.relative_to(data)): path.read_bytes() for path in found}
    listed = content["quarantine/ward.csv"]
    content["quarantine/ward.csv"] = b"\n".join(
        b",".join(cell for cell in line.split(b",") if not cell.startswith(day))
        for line in listed.splitlines()
    )
    return content


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace that has ingested half of the exams; the others have come since."""
    root = tmp_path_factory.mktemp("half")
    (root / "params.yaml").write_text(yaml.safe_dump(PARAMS))
    shutil.copy(ROOT / ".gitignore", root)
    for command in (["git", "init", "-q"], [sys.executable, "-m", "dvc", "init", "-q"]):
        subprocess.run(command, cwd=root, check=True)
    _deliver(root / "data" / "inbox" / "ward", range(EXAMS // 2))
    _ended(_start(root))
    _deliver(root / "data" / "inbox" / "ward", range(EXAMS // 2, EXAMS))
    return root


@pytest.fixture
def copied(half: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(half, tmp_path / "copy", symlinks=True))


@pytest.fixture(scope="module")
def undisturbed(
    half: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, int], dict[str, bytes]]:
    root = shutil.copytree(half, tmp_path_factory.mktemp("undisturbed") / "copy", symlinks=True)
    return _ended(_start(root)), _dataset(root)


def _stored(root: Path) -> int:
    """Exams in their places, and those beside them."""
    return sum(path.suffix == ".zip" for path in (root / "data" / "exams" / "ward").iterdir())


def _changed(path: Path) -> Callable[[Path], bool]:
    """Whether the file is another one than before the run, which began less than a minute ago."""
    return lambda root: (root / path).stat().st_ctime_ns > (root / "start").stat().st_ctime_ns


MOMENTS: dict[str, Callable[[Path], bool]] = {
    "the lock is taken": lambda root: (root / "state/locks/dataset-ward.json").is_file(),
    "the first exam is stored": lambda root: _stored(root) > EXAMS // 2,
    "half of the exams are stored": lambda root: _stored(root) > EXAMS * 3 // 4,
    "the manifest is written": _changed(Path("data/exams/ward/manifest.parquet")),
    "DVC works": lambda root: any((root / "state/children").glob("[!.]*.json")),
    "the version is recorded": _changed(Path("data/exams/ward.dvc")),
}


def _until(come: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not come():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def _kin(session: int) -> Iterator[psutil.Process]:
    """Processes of the session; DVC's has one of its own."""
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                yield process
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue


CHAOS = pytest.mark.skipif("KEYSLICE_CHAOS" not in os.environ, reason="long: make chaos")
KILLS = [
    *(("all", moment) for moment in MOMENTS),
    # Workers and DVC are left, which have an exam, or the version, half done.
    ("parent", "half of the exams are stored"),
    ("parent", "DVC works"),
]
SHORT = ("parent", "half of the exams are stored")


@pytest.mark.parametrize(
    ("killed", "moment"),
    [pytest.param(*kill, marks=() if kill == SHORT else CHAOS) for kill in KILLS],
)
def test_an_ingestion_run_again_after_a_kill_ends_as_an_undisturbed_one(
    copied: Path,
    undisturbed: tuple[dict[str, int], dict[str, bytes]],
    moment: str,
    killed: str,
) -> None:
    (copied / "start").touch()
    process = _start(copied)
    _until(lambda: MOMENTS[moment](copied) or process.poll() is not None)
    assert process.poll() is None, "it ended before that moment"
    if killed == "all":
        victims = [*psutil.Process(process.pid).children(recursive=True), *_kin(process.pid)]
        process.kill()
        for victim in victims:
            with suppress(psutil.NoSuchProcess):
                victim.kill()
    process.kill()
    process.communicate()
    _until(lambda: not any(_kin(process.pid)))
    told, content = undisturbed
    assert _ended(_start(copied)) == told
    assert _dataset(copied) == content


def test_of_two_at_once_the_second_says_who_holds_the_lock_and_both_end_well(
    copied: Path, undisturbed: tuple[dict[str, int], dict[str, bytes]]
) -> None:
    first = _start(copied)
    _until(lambda: MOMENTS["the lock is taken"](copied))
    second = _start(copied)
    told, content = undisturbed
    assert _ended(first) == told
    said, waited = second.communicate(timeout=PATIENCE)
    assert second.returncode == 0
    assert f"dataset-ward is in use by `ingest`, process {first.pid} on" in waited
    assert json.loads(said)["report"]["accepted"] == 0
    assert _dataset(copied) == content
