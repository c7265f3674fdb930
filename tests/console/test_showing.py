"""`keyslice show` on real files, with an untrained model in the registry's place."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from keyslice.config import Params, PhantomDataset, Variant, Workspace
from keyslice.console import showing
from keyslice.errors import UserError
from keyslice.evaluation import exam_sheet
from keyslice.exams import container, manifest
from keyslice.exams.exam import Exam, exam_id, exam_path
from keyslice.exams.opening import open_exam
from keyslice.exams.source import Reading
from keyslice.models import build
from keyslice.models.predictor import Predictor

LABELLED = {"label": "lesion", "split": "test", "informative": [0, 1]}
ROW = {
    "patient": "c0ffee00" * 4,
    "batch": "0001",
    "modality": "CT",
    "site": "unknown",
    "acquired": "unknown",
    "source_format": "nifti",
    "sha256": "0" * 64,
    "label_source": "test",
    "labeller": "unknown",
    "difference_hash": "0" * 48,
    "constant_frames": 0,
    "intensity_mean": 0.0,
    "intensity_sd": 0.0,
    "intensity_low": 0.0,
    "intensity_high": 0.0,
}
BACKWARDS = {"orientation": "LPI", "slice_axis": 2}
"""Facts of an exam whose file has its slices from head to foot."""


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch) -> Workspace:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(showing, "models", lambda workspace: [])
    return Workspace(tmp_path)


@pytest.fixture
def params() -> Params:
    spots = PhantomDataset(source="phantom", kind="volume", classes=("healthy", "lesion"))
    return Params(
        datasets={"spots": spots},
        variants={"full": Variant(sampler="full"), "uniform": Variant(sampler="uniform", keep=0.5)},
    )


@pytest.fixture
def show(workspace, params, monkeypatch, capsys, stage_settings):
    """`show(exam, sampler)`: what is told in JSON; without a sampler no model is registered."""

    def run(exam: str, sampler: str = "", **given):
        if sampler:
            settings = stage_settings(sampler)
            predictor = Predictor(build.fresh(settings, seed=1).eval(), settings, seed=1)
            used = showing.Used("spots", "@challenger", predictor, Reading())
            monkeypatch.setattr(showing, "_model", lambda *_: used)
        options = {"name": None, "version": "@challenger", "output": None, "force": False}
        showing.run(workspace, params, exam, **options | {"as_json": True} | given)
        told = capsys.readouterr()
        return told if "as_json" in given else json.loads(told.out)

    return run


@pytest.fixture
def stored(workspace):
    """`stored(frames, facts)`: the id of an exam of dataset spots."""

    def store(frames: np.ndarray, facts=None) -> str:
        exam = exam_id(frames)
        container.save(
            Exam(frames, facts=facts or {}, spacing=(5.0, 1.0, 1.0)),
            exam_path(workspace.exams("spots"), exam),
        )
        count, height, width = frames.shape[:3]
        row = ROW | LABELLED | {"exam_id": exam, "frames": count, "height": height}
        row |= {"width": width, "channels": 1, "dtype": frames.dtype.name, "facts": "{}"}
        manifest.write(manifest.frame([row]), workspace.manifest("spots"), {})
        return exam

    return store


def frames(count: int, dtype: str = "uint8") -> np.ndarray:
    return np.random.default_rng(count).integers(0, 255, (count, 12, 16)).astype(dtype)


def test_a_stored_exam_is_drawn_by_the_first_digits_of_its_id(show, stored, workspace):
    exam = stored(frames(8))
    told = show(exam[:6].upper(), "uniform")
    assert told["output"] == f"{exam}.png"
    assert (told["exam"], told["dataset"], told["split"]) == (exam, "spots", "test")
    assert told["label"] == "lesion"
    assert len(told["model"]["kept"]) == 4
    assert told["shown"] == list(range(8))
    assert Image.open(workspace.root / f"{exam}.png").width == exam_sheet.WIDTH


def test_numbers_are_those_of_the_file_where_the_exam_runs_the_other_way(show, stored, monkeypatch):
    given = frames(9)
    drawn = []
    monkeypatch.setattr(
        exam_sheet, "draw", lambda sheet: drawn.append(sheet) or Image.new("L", (1, 1))
    )
    forward = show(stored(given), "das", force=True)
    backward = show(stored(given, BACKWARDS), "das", force=True)
    assert forward["informative"] == [0, 1]
    assert backward["informative"] == [7, 8]
    assert backward["model"]["kept"] == [8 - number for number in forward["model"]["kept"][::-1]]
    assert backward["model"]["attention"] == forward["model"]["attention"][::-1]
    assert (drawn[0].frames == given).all()
    assert (drawn[1].frames == given[::-1]).all()


def test_a_file_is_drawn_with_the_slices_that_predict_tells(show, workspace, stage_settings):
    path = workspace.root / "Doe.John.nii.gz"
    samples = frames(20).transpose(2, 1, 0)
    nib.save(nib.Nifti1Image(samples[:, :, ::-1], np.diag([1, 1, -5, 1.0])), path)
    told = show(path.name, "das")
    settings = stage_settings("das")
    predictor = Predictor(build.fresh(settings, seed=1).eval(), settings, seed=1)
    [predicted] = predictor.predict_files([path])
    assert told["model"]["kept"] == predicted.kept
    assert told["model"]["attention"] == predicted.attention
    assert told["output"] == f"{exam_id(open_exam(path, Reading()).frames)}.png"
    assert (told["dataset"], told["label"], told["plane"]) == (None, None, "axial")


def test_without_a_registered_model_the_sheet_is_without_marks_and_it_says_so(show, stored):
    exam = stored(frames(8))
    assert show(exam)["model"] is None
    told = show(exam, force=True, as_json=False)
    assert "no model of spots is registered yet: nothing is marked" in told.err
    assert told.out.startswith(f"wrote {exam}.png: 8 of 8 frames")


def test_no_picture_is_replaced_unasked(show, stored, workspace):
    exam = stored(frames(8))
    target = workspace.root / f"{exam}.png"
    target.write_bytes(b"mine")
    with pytest.raises(UserError, match=r"is there already.*--force"):
        show(exam)
    assert target.read_bytes() == b"mine"
    show(exam, force=True)
    assert target.read_bytes() != b"mine"


def test_the_exam_itself_is_never_replaced(show, workspace):
    path = workspace.root / "one.png"
    Image.fromarray(frames(1)[0]).save(path)
    before = path.read_bytes()
    with pytest.raises(UserError, match=r"is there already; .*name another --output$"):
        show("one.png", output=Path("one.png"), force=True)
    assert path.read_bytes() == before


def test_a_picture_must_be_a_png(show, stored):
    with pytest.raises(UserError, match=r"sheet\.jpg: is no name of a PNG"):
        show(stored(frames(2)), output=Path("sheet.jpg"))


@pytest.mark.parametrize("exam", ["absent.nii", "abcde"])
def test_what_is_neither_an_id_nor_a_path_is_told_with_the_way_out(show, exam):
    with pytest.raises(UserError, match=rf"{exam}: no such exam; .*6 or more.*data/exams/DATASET"):
        show(exam)


def test_a_file_that_is_no_exam_is_told(show, workspace):
    (workspace.root / "torn.nii.gz").write_bytes(b"\x1f\x8b torn")
    with pytest.raises(UserError, match=r"torn\.nii\.gz: .*one whole exam"):
        show("torn.nii.gz")


def test_grey_levels_are_those_that_the_settings_say(show, stored, workspace, params, monkeypatch):
    given = np.full((2, 12, 16), 40, np.int16)
    given[0, :, :8], given[1, :, :8] = -1000, 3000
    given[:, :, 8:] = 90
    changed = params.model_copy(
        update={"prepare": params.prepare.model_validate({"intensity": {"window": "liver"}})}
    )
    drawn = []
    draw = exam_sheet.draw
    monkeypatch.setattr(exam_sheet, "draw", lambda sheet: drawn.append(sheet) or draw(sheet))
    options = {"name": None, "version": "1", "output": None, "force": True, "as_json": True}
    showing.run(workspace, changed, stored(given), **options)
    [sheet] = drawn
    assert np.unique(sheet.frames).tolist() == [0, 230, 255]  # (90 + 45) / 150 · 255
    assert dict(sheet.facts)["grey levels"] == (
        "−45 is black, 105 is white (window: centre 30, width 150)"
    )


def test_several_models_are_asked_about_for_a_file_and_not_for_a_stored_exam(
    show, stored, workspace, monkeypatch
):
    class Registered:
        def __init__(self, name):
            self.name = name

    monkeypatch.setattr(showing, "models", lambda workspace: [Registered("a"), Registered("b")])
    assert show(stored(frames(2)))["model"] is None
    np.save(workspace.root / "x.npy", frames(3))
    with pytest.raises(UserError, match=r"several models are registered: a, b.*--model a"):
        show("x.npy")


def test_no_patient_and_no_file_name_is_on_the_picture_or_in_its_file(
    show, stored, workspace, monkeypatch
):
    words = []
    write = exam_sheet._text
    monkeypatch.setattr(
        exam_sheet,
        "_text",
        lambda pen, at, text, *a, **k: words.append(text) or write(pen, at, text, *a, **k),
    )
    path = workspace.root / "doe_john.npy"
    np.save(path, frames(3))
    show(path.name, "uniform")
    show(stored(frames(8)), "uniform", force=True)
    assert not any(word in text for text in words for word in ("doe", "c0ffee"))
    for picture in workspace.root.glob("*.png"):
        assert Image.open(picture).info == {}


def test_a_file_is_read_along_the_axis_that_the_model_was_trained_with(
    workspace, params, stage_settings, monkeypatch, capsys
):
    settings = stage_settings("uniform")
    loaded = Predictor(build.fresh(settings, seed=1).eval(), settings, seed=1, slice_axis=0)
    (workspace.root / "package.json").write_text('{"slice_axis": 0}')
    monkeypatch.setattr(showing, "download", lambda workspace, *_: workspace.root)
    monkeypatch.setattr(Predictor, "load", lambda folder: loaded)
    path = workspace.root / "x.nii"
    nib.save(nib.Nifti1Image(frames(20), np.diag([1, 1, 5, 1.0])), path)
    options = {"version": "1", "output": None, "force": False, "as_json": True}
    showing.run(workspace, params, path.name, name="spots", **options)
    told = json.loads(capsys.readouterr().out)
    assert (told["plane"], told["shape"][0]) == ("sagittal", 20)
    assert told["model"]["kept"] == loaded.predict_files([path])[0].kept
