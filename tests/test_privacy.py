"""Names planted in files of every format are in nothing that ingestion and preparation write.

`make chaos`: in nothing that a whole retraining writes (test_end_to_end.py searches that for those
of one format).
"""

import base64
import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import chdir
from functools import cache
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from click.testing import CliRunner

from keyslice.cli import main
from keyslice.exams import container
from keyslice.exams.codecs import CODECS

_PLACE = Path(__file__).parent / "planting"
_SPEC = importlib.util.spec_from_file_location(
    "planting", _PLACE / "__init__.py", submodule_search_locations=[str(_PLACE)]
)
assert _SPEC
assert _SPEC.loader
sys.modules["planting"] = importlib.util.module_from_spec(_SPEC)
from planting import dicom, files, videos, words  # noqa: E402 # pyright: ignore

WHOLE = "KEYSLICE_CHAOS" in os.environ
PARAMS = {
    "datasets": {"ward": {"source": "folder", "classes": ["no", "yes"], "settle": 0}},
    "variants": {"uniform": {"sampler": "uniform", "keep": 0.5}},
    "prepare": {"image_size": 32},
    "backbone": {"name": "test_resnet", "weights": "none"},
    "train": {"seeds": [0], "epochs": 1, "batch_size": 8, "device": "cpu"},
    "model": {},
    "evaluate": {"resamples": 20},
    "compare": {"references": [], "contact_sheets": 2},
}
FRAMES = np.random.default_rng(0).integers(0, 200, (4, 64, 64, 3), dtype=np.uint8)
FRAMES = np.sort(FRAMES, axis=2)  # smooth enough for any encoder, large enough for all of libx265
FOLDER = f"Ward {words.NAME}"
OTHERS = f"{FOLDER}/others {words.name('folder')}"
NUMBERS = tuple(words.number(place) for place in range(100))


def _environment(root: Path) -> dict[str, str]:
    own = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "PREFECT_"))}
    return own | {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "KEYSLICE_KEY_FILE": str(root.with_name("secret")),
    }


def _keyslice(root: Path, *arguments: str) -> str:
    with chdir(root), patch.dict(os.environ, _environment(root), clear=True):
        done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, f"{arguments}: {done.output}"
    return done.stdout


@cache
def _exams() -> dict[str, bytes]:
    """Files of sound exams, in folders that bear a name."""
    made = {f"{FOLDER}/{name}": content for name, content in files.exams(FRAMES).items()}
    made |= {f"{FOLDER}/dicom/{n}": c for n, c in dicom.files(FRAMES).items()}
    made |= {f"{FOLDER}/videos/{n}": c for n, c in videos.files(FRAMES).items()}
    inside = {f"{words.name('member')}/0": dicom.enhanced(20, FRAMES[..., 0] + 20)}
    return made | {f"{words.name('export')}.zip": files.archive(inside)}


def _others() -> dict[str, bytes]:
    """Files that are refused, that wait, or that are no exams."""
    sound = files.exams(FRAMES[:, ::-1])
    slices = [dicom.single(series, FRAMES[0, :, :, 0]) for series in range(30, 34)]
    video = videos.files(FRAMES[::-1])
    word = words.NAME.encode()
    headers = {
        "syntax": f"{{'descr': '{words.name('syntax')}' 'shape': 3}}",
        "keys": f"{{'{words.name('key')}': 1}}",
        "descr": f"{{'descr': '{words.name('descr')}', 'fortran_order': False, 'shape': (2,)}}",
    }
    fields = np.zeros((2, 4, 4), np.dtype([(words.name("field"), "u1")]))
    made = {
        **{f"{n}.npy": _array(header.encode()) for n, header in headers.items()},
        "fields.npy": files.array(fields),
        "text.npy": files.array(np.full((2, 3, 3), words.name("samples"))),
        "words.nii": word * 100,
        "words.nii.gz": word * 100,
        "words.dcm": bytes(128) + b"DICM" + word * 100,
        "words.mp4": b"\0\0\0\x14ftypisom" + word * 100,
        "words.mkv": word * 100,
        "words.zip": b"PK\3\4" + word * 100,
        "words.png": b"\x89PNG\r\n\x1a\n" + word * 100,
        "words.jpg": b"\xff\xd8\xff\xe0" + word * 100,
        "words.tif": b"II*\0" + word * 100,
        "cut.dcm": slices[0][:-3000],
        "cut.nii": sound["a.nii"][:600],
        "cut.npz": sound["d.npz"][:-40],
        "cut.png": sound["pngs/0.png"][:200],
        "vr.dcm": slices[1].replace(b"\x28\0\x10\0US", b"\x28\0\x10\0LO", 1),
        "syntax.dcm": slices[2].replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.773194620518", 1),
        "photometric.dcm": slices[3].replace(b"MONOCHROME2 ", b"ZQXWVKJHNAME"),
        "chunk.png": sound["pngs/0.png"].replace(b"zqXp", b"IDAT", 1),
        "members.zip": files.archive({f"../{words.name('path')}.nii": sound["a.nii"]}),
        "inner.zip": files.archive({f"{words.name('inner')}.zip": sound["i.zip"]}),
        "line.nii": sound["a.nii"],
        "unlisted.nii": sound["a.nii"],
        "unlabelled.nii": sound["b.nii.gz"],
        "notes.txt": word,
        ".hidden": word,
        "coming.part": word,
        "DICOMDIR": dicom.index(),
        "empty.nii": b"",
        "closed.nii": word,
    }
    for number, (name, content) in enumerate(video.items()):
        middle = len(content) // 2
        made[f"videos/{number}{name}"] = content[:middle] + word + content[middle + 40 :]
    return {f"{OTHERS}/{name}": content for name, content in made.items()}


def _array(header: bytes) -> bytes:
    """A file of NumPy's with this header, which libraries quote when they object to it."""
    return b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header


def _write(inbox: Path, contents: dict[str, bytes]) -> None:
    for name, content in contents.items():
        path = inbox / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _named(contents: dict[str, bytes]) -> list[str]:
    """How the table names these exams: a folder for those of many files."""
    return sorted({str(Path(n).parent) if Path(n).stem.isdigit() else n for n in contents})


def _write_table(inbox: Path) -> None:
    header = "file,patient_id,label,issuer,labeller,site,acquired,remarks,birth"
    lines = [header]
    for place, file in enumerate(_named(_exams())):
        if file.endswith("/i.zip"):
            file += f"/{words.name('folder')}/{words.name('member')}.nii"
        if file.endswith(f"{words.name('export')}.zip"):
            file += f"/{words.name('member')}/0"
        label = ("no", "yes")[place % 2]
        lines.append(_line(file, words.number(place), label))
    for place, file in enumerate(sorted(_others())):
        label, patient = ("no", "yes")[place % 2], words.number(60 + place % 30)
        if "unlisted" in file:
            continue
        if "unlabelled" in file:
            label = words.name("label")
        if "/line.nii" in file:
            lines.append(_line(file, patient, "yes"))
            label = "no"
        lines.append(_line(file, patient, label))
    table = inbox / "labels.csv"
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _line(file: str, patient: str, label: str) -> str:
    return (
        f"{file},{patient},{label},{words.name('issuer')},{words.name('labeller')},north,"
        f"2019-11-23,{words.name('remark')},1953-04-12"
    )


@pytest.fixture(scope="module")
def workspace(clone: Callable[..., Path]) -> Path:
    """Ingested, again with news, prepared or retrained, checked, asked about its quarantine."""
    root = clone(PARAMS)
    inbox = root / "data" / "inbox" / "ward"
    news, others = dict(_exams()), _others()
    late = {name: news.pop(name) for name in [*news] if "/videos/" in name or "/c.npy" in name}
    _write(inbox, news | others)
    outside = root.with_name(f"{root.name} {words.NAME}.nii")
    outside.touch()
    (inbox / f"{words.name('link')}.nii").symlink_to(outside)
    (inbox / OTHERS / "closed.nii").chmod(0)
    _write_table(inbox)
    for command in (["git", "init", "-q"], [sys.executable, "-m", "dvc", "init", "-q"]):
        subprocess.run(command, cwd=root, check=True)
    _keyslice(root, "key", "new", str(root.with_name("secret")))
    _keyslice(root, "ingest", "ward")
    _write(inbox, late)
    if WHOLE:
        # On its own: Prefect reads where it may write when it is imported.
        command = [sys.executable, "-m", "keyslice.cli", "retrain", "ward"]
        subprocess.run(command, cwd=root, env=_environment(root), check=True)
    else:
        _keyslice(root, "ingest", "ward")
        _keyslice(root, "stage", "prepare", "ward")
    _keyslice(root, "check", "ward")
    _keyslice(root, "quarantine", "ward")
    return root


def _written(root: Path) -> Iterator[Path]:
    """All files but those that came in, the list of the refused and the copied source."""
    for top in ("data", "state", ".dvc", ".git"):
        for path in sorted((root / top).rglob("*")):
            inside = path.relative_to(root).parts[:2]
            if path.is_file() and inside not in (("data", "inbox"), ("data", "quarantine")):
                yield path


def _decoded(path: Path) -> bytes:
    """Samples of a stored exam, also those of one weight together; of other files nothing."""
    if path.suffix != ".zip" or ("exams" not in path.parts and "cache" not in path.parts):
        return b""
    frames = container.load(path).frames
    planes = frames.reshape(-1).view(np.uint8).reshape(-1, frames.itemsize).T
    return frames.tobytes() + b"\n" + planes.tobytes()


def _everything(root: Path, contents: Callable[[Path], bytes]) -> Iterator[tuple[str, bytes]]:
    """Name and content of all that was written, as it is and unpacked, and the names themselves."""
    for path in _written(root):
        yield f"{path} (as it is)", path.read_bytes()
        yield f"{path} (unpacked)", contents(path)
        yield f"{path} (samples)", _decoded(path)
        yield f"{path} (name)", str(path.relative_to(root)).encode()
    git = subprocess.run(
        ["git", "cat-file", "--batch-all-objects", "--batch"],
        cwd=root,
        capture_output=True,
        check=True,
    )
    yield "objects of git", git.stdout


def test_all_sound_exams_went_in_in_every_way_in_which_they_are_stored(workspace: Path) -> None:
    listed = json.loads(_keyslice(workspace, "quarantine", "--json", "ward"))["quarantined"]
    refused = {refusal["file"] for refusal in listed}
    assert len(refused) > 30
    inside = {f"{one}/" for one in refused}
    assert not [name for name in _exams() if any(one.startswith(f"{name}/") for one in inside)]
    stored = sorted((workspace / "data" / "exams" / "ward").glob("*.zip"))
    assert len(stored) >= len(_named(_exams()))
    about = [json.loads(zipfile.ZipFile(path).read(container.ABOUT)) for path in stored]
    assert {one["codec"] for one in about} == set(CODECS)
    assert len({one["facts"].get("coding") for one in about}) > 10


@pytest.mark.parametrize(
    "written",
    [
        words.NAME.encode(),
        words.NAME.lower().encode("utf-16-le"),
        words.NAME.encode("utf-16-be"),
        words.NAME[::-1].encode(),
        words.NAME.encode().hex().encode(),
        base64.b64encode(b"1" + words.NAME.encode() + b"1"),
        base64.b64encode(b"12" + NUMBERS[5].encode()),
        b"born 1953-04-12",
        b"seen:20191123,",
        hashlib.sha256(NUMBERS[7].encode()).hexdigest().encode(),
    ],
)
def test_the_search_finds_a_word_however_it_is_written(written: bytes) -> None:
    assert words.Search(NUMBERS).found(b"before " + written + b" behind")


def test_the_search_finds_names_where_they_may_be(
    workspace: Path, contents: Callable[[Path], bytes]
) -> None:
    search = words.Search()
    assert search.found(contents(workspace / "data" / "quarantine" / "ward.csv"))
    for path in (workspace / "data" / "inbox").rglob("i.zip"):
        assert search.found(contents(path))


def test_nothing_that_was_planted_is_in_anything_that_was_written(
    workspace: Path, contents: Callable[[Path], bytes]
) -> None:
    kinds = {path.suffix for path in _written(workspace)}
    assert {".zip", ".parquet", ".json", ".npy", ".dvc"} <= kinds
    assert not WHOLE or {".db", ".log", ".safetensors"} <= kinds
    search = words.Search(NUMBERS)
    found = {
        name: places
        for name, content in _everything(workspace, contents)
        if (places := search.found(content))
    }
    assert not found


def test_the_key_is_in_nothing_that_was_written(
    workspace: Path, contents: Callable[[Path], bytes]
) -> None:
    key = workspace.with_name("secret").read_bytes()
    forms = (key, key.hex().encode(), base64.b64encode(key)[:40])
    for name, content in _everything(workspace, contents):
        assert not any(form in content for form in forms), name
