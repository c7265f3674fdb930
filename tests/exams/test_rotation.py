"""The key of pseudonyms is followed by another: nobody becomes a stranger, or crosses splits."""

import csv
import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

from keyslice.cli import main
from keyslice.config import FolderDataset, Split, Workspace
from keyslice.errors import UserError
from keyslice.exams import barred, fingerprint, history, manifest, manifest_columns
from keyslice.exams.barred import Barred
from keyslice.exams.ingestion import ingest
from keyslice.exams.keyring import Keyring
from keyslice.exams.news import news
from keyslice.exams.pseudonym import FORMER_VARIABLE, KEY_VARIABLE, mark, pseudonym
from tests.scans import enter

DATASET = FolderDataset(
    source="folder",
    classes=("no", "yes"),
    split=Split(train=0.34, validation=0.33, test=0.33),
    settle=0,
    dates="shifted",
)
COLUMNS = ("file", "patient_id", "label", "acquired", "labeller")
KEYS = [bytes([number]) * 32 for number in range(5)]
patients = st.tuples(st.sampled_from(["", "a", "b"]), st.integers(0, 6).map(str))
lives = st.lists(st.tuples(st.sampled_from(KEYS), st.lists(patients)))
"""The keys that are set one after another, and who comes in under each."""


@given(lives)
def test_under_any_keys_one_patient_has_one_pseudonym_and_two_have_two(life):
    known: dict[tuple[str, str], str] = {}
    used: list[bytes] = []
    for key, arriving in life:
        keys = [key, *(former for former in reversed(used) if former != key)]
        ring = Keyring(keys, known=set(known.values()))
        for who in arriving:
            made = ring.name(*who)
            assert known.setdefault(who, made) == made
            if made == pseudonym(key, *who):
                assert ring.maker(made) == key
        used.append(key)
    assert len(set(known.values())) == len(known)


@given(lives, patients)
def test_a_stranger_gets_a_pseudonym_of_the_key_of_now(life, stranger):
    known = {pseudonym(key, *who) for key, some in life for who in some if who != stranger}
    keys = [*dict.fromkeys(key for key, _ in life)] or KEYS[:1]
    ring = Keyring(keys, known=known)
    assert ring.name(*stranger) == pseudonym(keys[0], *stranger)
    assert ring.makers([ring.name(*stranger)]) == [mark(keys[0])]


@pytest.fixture
def key(tmp_path: Path) -> Callable[[str], bytes]:
    """`key("a")`: what lies in the key of this name; the same in every run, and so are splits."""

    def get(name: str) -> bytes:
        (tmp_path / name).write_bytes(name.encode() * 32)
        (tmp_path / name).chmod(0o600)
        return (tmp_path / name).read_bytes()

    return get


@pytest.fixture
def use(
    tmp_path: Path, key: Callable[[str], bytes], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., None]:
    """`use("b", "a")`: b is the key of now, a its forerunner."""

    def put(now: str, *former: str) -> None:
        for name in (now, *former):
            key(name)
        monkeypatch.setenv(KEY_VARIABLE, str(tmp_path / now))
        paths = [str(tmp_path / name) for name in former]
        monkeypatch.setenv(FORMER_VARIABLE, os.pathsep.join(paths))

    return put


@pytest.fixture
def deliver(workspace: Workspace) -> Callable[..., None]:
    """`deliver("a.npz", "007", "no")`: a new exam of patient 007."""

    def add(name: str, patient: str, label: str, *, labeller: str = "Dr. Roe") -> None:
        inbox = workspace.inbox("ward")
        enter(inbox, COLUMNS, [(name, patient, label, "2024-03-01", labeller)])
        rng = np.random.default_rng(len((inbox / "labels.csv").read_bytes()))
        np.savez(inbox / name, frames=rng.integers(0, 255, (3, 8, 8), np.uint8))

    return add


@pytest.fixture
def ward(use: Callable[..., None], deliver: Callable[..., None], workspace: Workspace) -> None:
    """Twelve patients, half of each class, taken in under key a."""
    use("a")
    for number in range(12):
        deliver(f"{number}.npz", f"{number:03}", ("no", "yes")[number % 2])
    ingest(workspace, "ward", DATASET)
    history.keep(workspace, "ward", "1.dir")


def rows(workspace: Workspace) -> list[dict[str, Any]]:
    return [*manifest.rows(manifest.read(workspace.manifest("ward"))).values()]


def marks(workspace: Workspace) -> tuple[str, ...]:
    return manifest_columns.marks(manifest_columns.read_identity(workspace.manifest("ward")))


def test_known_patients_keep_pseudonym_and_split_and_strangers_get_the_new_key(
    workspace, ward, use, key, deliver
):
    before = {row["exam_id"]: row for row in rows(workspace)}
    use("b", "a")
    deliver("again.npz", "003", "yes")
    deliver("stranger.npz", "044", "no", labeller="Dr. Doe")
    report = ingest(workspace, "ward", DATASET)
    assert (report.present, report.accepted, report.quarantined) == (12, 2, 0)
    after = {row["exam_id"]: row for row in rows(workspace)}
    assert {exam: after[exam] for exam in before} == before
    of_old, of_new = (pseudonym(key(n), "", p) for n, p in (("a", "003"), ("b", "044")))
    [again, stranger] = sorted(
        (row for exam, row in after.items() if exam not in before),
        key=lambda row: row["patient"] == of_new,
    )
    assert (again["patient"], stranger["patient"]) == (of_old, of_new)
    [first] = [row for row in before.values() if row["patient"] == of_old]
    # The days between two exams of one patient stay, and a labeller is one person.
    for column in ("split", "acquired", "labeller"):
        assert again[column] == first[column]
    assert stranger["labeller"] == pseudonym(key("b"), "labeller", "Dr. Doe")
    assert marks(workspace) == (mark(key("a")), mark(key("b")))


def test_a_rotation_alone_changes_no_byte_of_the_dataset(workspace, ward, use, key):
    before = workspace.manifest("ward").read_bytes()
    use("b", "a")
    assert ingest(workspace, "ward", DATASET).present == 12
    assert workspace.manifest("ward").read_bytes() == before
    assert fingerprint.note(workspace, "ward").key == mark(key("b"))


@pytest.mark.parametrize("then", [("b",), ("b", "c"), ("c", "b")])
def test_without_the_key_that_patients_are_known_by_nothing_is_taken_in(workspace, ward, use, then):
    before = workspace.manifest("ward").read_bytes()
    use(*then)
    for look in (ingest, lambda *where: news(*where)):
        with pytest.raises(UserError, match=rf"the key is not the one .*ward.*{FORMER_VARIABLE}"):
            look(workspace, "ward", DATASET)
    assert workspace.manifest("ward").read_bytes() == before


def test_each_key_that_made_a_pseudonym_is_needed_and_no_other(workspace, ward, use, key, deliver):
    use("b", "a")
    deliver("stranger.npz", "044", "no")
    ingest(workspace, "ward", DATASET)
    for then in (("b",), ("a",), ("c", "a"), ("c", "b")):
        use(*then)
        with pytest.raises(UserError, match="the key is not the one"):
            ingest(workspace, "ward", DATASET)
    for then in (("c", "b", "a"), ("d", "a", "b"), ("a", "b")):
        use(*then)
        assert ingest(workspace, "ward", DATASET).present == 13
    assert marks(workspace) == (mark(key("a")), mark(key("b")))


def test_an_older_version_does_not_forget_a_key_that_came_after_it(
    workspace, ward, use, deliver, tmp_path
):
    shutil.copytree(workspace.exams("ward"), tmp_path / "first")
    use("b", "a")
    deliver("stranger.npz", "044", "no")
    ingest(workspace, "ward", DATASET)
    history.keep(workspace, "ward", "2.dir")
    then = {row["patient"]: row["split"] for row in rows(workspace)}
    shutil.rmtree(workspace.exams("ward"))
    shutil.copytree(tmp_path / "first", workspace.exams("ward"))
    use("c", "a")
    with pytest.raises(UserError, match="the key is not the one"):
        ingest(workspace, "ward", DATASET)
    use("c", "b", "a")
    ingest(workspace, "ward", DATASET)
    assert {row["patient"]: row["split"] for row in rows(workspace)} == then
    assert len(marks(workspace)) == 2


def test_who_has_withdrawn_stays_out_after_rotations(workspace, use, key, deliver):
    use("a")
    theirs = Barred(frozenset([pseudonym(key("a"), "", "003")]), keys=frozenset([mark(key("a"))]))
    barred.add(workspace, "ward", theirs)  # before anything came: no manifest tells of the key
    for number in range(14):
        deliver(f"{number}.npz", f"{number:03}", ("no", "yes")[number % 2])
    use("b")
    with pytest.raises(UserError, match="the key is not the one"):
        ingest(workspace, "ward", DATASET)
    for then in (("b", "a"), ("c", "b", "a")):
        use(*then)
        report = ingest(workspace, "ward", DATASET)
        assert (report.shut, report.exams) == (("3.npz",), 13)


def test_no_real_patient_gets_a_pseudonym_of_the_published_key(workspace, use, deliver):
    """A name that was a public dataset's is a secret one's now: its key is nobody's."""
    use("a")
    for number in range(12):
        deliver(f"{number}.npz", f"{number:03}", ("no", "yes")[number % 2])
    ingest(workspace, "ward", DATASET.model_copy(update={"identifiers": "public"}))
    history.keep(workspace, "ward", "1.dir")
    public = {row["patient"] for row in rows(workspace)}
    shutil.rmtree(workspace.exams("ward"))
    (workspace.state / "sources" / "ward.json").unlink()
    ingest(workspace, "ward", DATASET)
    assert not public & {row["patient"] for row in rows(workspace)}


@pytest.mark.parametrize(
    ("name", "content", "mode", "fault"),
    [
        ("workspace/a", KEYS[0], 0o600, "inside the workspace"),
        ("a", KEYS[0][:31], 0o600, "holds 31 bytes"),
        ("a", KEYS[0], 0o640, "read by others"),
        ("a", None, 0o600, "cannot read"),
    ],
    ids=["inside", "short", "readable", "gone"],
)
def test_a_former_key_is_held_to_the_same_rules(
    workspace, use, tmp_path, monkeypatch, name, content, mode, fault
):
    use("b")
    if content is not None:
        (tmp_path / name).write_bytes(content)
        (tmp_path / name).chmod(mode)
    monkeypatch.setenv(FORMER_VARIABLE, f"{tmp_path / 'b'}{os.pathsep}{tmp_path / name}")
    with pytest.raises(UserError, match=rf"^{FORMER_VARIABLE}: .*{fault}"):
        ingest(workspace, "ward", DATASET)


def _slice(folder: Path, series: str, place: int) -> None:
    """One of a series (6,6), of a patient with a name."""
    one = Dataset()
    one.file_meta = FileMetaDataset()
    one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    one.file_meta.MediaStorageSOPClassUID = one.SOPClassUID = CTImageStorage
    one.SOPInstanceUID = UID(f"{series}.{place}")
    one.file_meta.MediaStorageSOPInstanceUID = one.SOPInstanceUID
    one.SeriesInstanceUID = one.StudyInstanceUID = series
    one.PatientID, one.Modality = f"of {series}", "CT"
    one.InstanceNumber, one.ImagePositionPatient = place, [0, 0, float(place)]
    one.ImageOrientationPatient, one.PixelSpacing = [1, 0, 0, 0, 1, 0], [1, 1]
    one.Rows = one.Columns = 6
    one.BitsAllocated = one.BitsStored = 16
    one.HighBit, one.PixelRepresentation, one.SamplesPerPixel = 15, 0, 1
    one.PhotometricInterpretation = "MONOCHROME2"
    rng = np.random.default_rng([int(series[-1]), place])
    one.PixelData = rng.integers(0, 999, (6, 6), np.uint16).tobytes()
    folder.mkdir(parents=True, exist_ok=True)
    one.save_as(folder / f"{place}.dcm", enforce_file_format=True)


def _series(workspace: Workspace, lines: Sequence[tuple[str, str, str]]) -> None:
    with (workspace.inbox("ward") / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("series", "patient_id", "label"), *lines])


def test_series_that_the_note_of_the_last_ingestion_tells_of_stay_the_same_after_it(
    workspace, use, key, tmp_path
):
    """The note holds tokens of UIDs and of DICOM's own patient ids, made with the key of then."""
    use("a")
    lines = [(f"1.2.{n}", f"{n:03}", ("no", "yes")[n % 2]) for n in range(1, 9)]
    for series, _, _ in lines:
        for place in range(2):
            _slice(workspace.inbox("ward") / series, series, place)
    _series(workspace, lines)
    dataset = DATASET.model_copy(update={"rare_classes": "leave_out"})
    assert ingest(workspace, "ward", dataset).exams == 8
    old = fingerprint.note(workspace, "ward")
    tokens = {token for header in old.headers.values() for token in header[:3]} | {*old.places}

    use("b", "a")
    _slice(workspace.inbox("ward") / "1.2.1", "1.2.1", 2)  # grown
    _series(workspace, [*lines[:-2], ("1.2.7", "007", "")])  # a label withdrawn, a line gone
    assert news(workspace, "ward", dataset).waiting == 1
    report = ingest(workspace, "ward", dataset)
    assert (report.exams, report.removed, report.waiting) == (7, 2, 2)
    assert sum(row["frames"] == 3 for row in rows(workspace)) == 1

    note = fingerprint.note(workspace, "ward")
    assert note.key == mark(key("b"))
    text = (workspace.state / "sources" / "ward.json").read_text()
    assert len(tokens) == 8 * 3  # a series, whose it is, its place
    assert not any(token in text for token in tokens)
    use("c", "a")  # b made no pseudonym, so its loss harms nobody
    assert ingest(workspace, "ward", dataset).exams == 7


def run(workspace: Workspace, monkeypatch: pytest.MonkeyPatch, *words: str) -> tuple[int, str]:
    monkeypatch.chdir(workspace.root)
    done = CliRunner().invoke(main, words)
    return done.exit_code, done.stdout


def test_status_tells_which_keys_are_set_and_which_are_needed(
    workspace, ward, use, key, deliver, folder_params, monkeypatch, tmp_path
):
    folder_params("ward", "fresh")
    (tmp_path / "params.yaml").replace(workspace.params)
    use("b", "a")
    deliver("stranger.npz", "044", "no")
    ingest(workspace, "ward", DATASET)
    a, b = mark(key("a")), mark(key("b"))
    code, told = run(workspace, monkeypatch, "key", "status", "--json")
    assert code == 0
    assert json.loads(told) == {
        "now": b,
        "former": [a],
        "datasets": {
            "fresh": {"keys": [], "missing": []},
            "ward": {"keys": [a, b], "missing": []},
        },
    }
    use("c", "b")
    code, told = run(workspace, monkeypatch, "key", "status")
    assert code == 1
    assert f"not set: {a[:8]}." in told
    assert f"key of now: {mark(key('c'))[:8]}" in told
    monkeypatch.delenv(KEY_VARIABLE)
    code, told = run(workspace, monkeypatch, "key", "status", "--json")
    assert (code, json.loads(told)["now"]) == (1, None)
