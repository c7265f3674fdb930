"""A package in use: exams in, probabilities and frame numbers of the exam as given out."""

import json

import nibabel as nib
import numpy as np
import pytest

from keyslice.config import Prepare
from keyslice.errors import UserError
from keyslice.models import build
from keyslice.models.predictor import Predictor
from keyslice.prepared import thinned


@pytest.fixture
def predictor(stage_settings):
    """`predictor("das", max_frames=…)`: an untrained network in use."""

    def make(sampler: str, **prepare: object) -> Predictor:
        settings = stage_settings(sampler)
        settings = settings.model_copy(update={"prepare": Prepare(image_size=32, **prepare)})
        return Predictor(build.fresh(settings, seed=1).eval(), settings, seed=1)

    return make


def exam(frames: int, seed: int = 0, *, colour: bool = False) -> np.ndarray:
    shape = (frames, 20, 24, 3) if colour else (frames, 20, 24)
    return np.random.default_rng(seed).integers(0, 255, shape, dtype=np.uint8)


def test_kept_frames_are_numbered_as_in_the_exam_that_was_given(predictor):
    found = predictor("full", max_frames=5).predict_arrays([exam(23)])[0]
    assert found.kept == thinned(23, 5).tolist() == [2, 6, 11, 16, 20]


@pytest.mark.parametrize("sampler", ["random", "das_paper", "das"])
def test_kept_frames_are_numbered_as_in_the_file_that_was_given(predictor, tmp_path, sampler):
    """The same slices from foot to head and from head to foot: the same frames, numbered so."""
    used = predictor(sampler, max_frames=11)
    samples = exam(20).transpose(2, 1, 0)
    up, down = tmp_path / "up.nii", tmp_path / "down.nii"
    nib.save(nib.Nifti1Image(samples, np.diag([1, 1, 5, 1.0])), up)
    nib.save(nib.Nifti1Image(samples[:, :, ::-1], np.diag([1, 1, -5, 1.0])), down)
    one, other = used.predict_files([up, down])
    assert other.kept != one.kept
    assert np.array_equal(samples[:, :, one.kept], samples[:, :, ::-1][:, :, other.kept[::-1]])
    assert other.attention == one.attention[::-1]
    assert other.probabilities == pytest.approx(one.probabilities)
    assert (one.plane, other.plane) == ("axial", "axial")
    assert one.as_dict()["plane"] == "axial"


@pytest.mark.parametrize("sampler", ["random", "das_paper", "das", "adps"])
def test_a_prediction_does_not_depend_on_the_exams_beside_it(predictor, sampler):
    used = predictor(sampler)
    exams = [exam(9), exam(4, 1, colour=True), exam(1, 2)]
    together = used.predict_arrays(exams)
    alone = [used.predict_arrays([given])[0] for given in exams]
    assert [found.kept for found in together] == [found.kept for found in alone]
    for one, other in zip(together, alone, strict=True):
        assert one.probabilities == pytest.approx(other.probabilities, rel=1e-3)


def test_probabilities_and_attention_add_up_to_one(predictor):
    found = predictor("uniform").predict_arrays([exam(8)])[0]
    assert found.probabilities.keys() == {"no", "yes"}
    assert sum(found.probabilities.values()) == pytest.approx(1)
    assert sum(found.attention) == pytest.approx(1)
    assert found.as_dict()["label"] == found.label
    json.dumps(found.as_dict())


@pytest.mark.parametrize(("offset", "reaches"), [(0, True), (1e-9, False)])
def test_a_class_is_above_its_threshold_from_the_threshold_on(predictor, offset, reaches):
    used = predictor("uniform")
    probability = used.predict_arrays([exam(8)])[0].probabilities["yes"]
    used.thresholds = {"yes": probability + offset}
    found = used.predict_arrays([exam(8)])[0]
    assert found.above_threshold == found.as_dict()["above_threshold"] == ["yes"] * reaches


def test_more_exams_than_a_batch_are_all_predicted(predictor):
    used = predictor("uniform")
    size = used.settings.evaluate.batch_size
    assert len(used.predict_arrays([exam(2, seed) for seed in range(size + 1)])) == size + 1


def test_files_are_read_a_batch_at_a_time_and_one_at_fault_stops_no_other(
    predictor, tmp_path, monkeypatch
):
    used = predictor("uniform")
    size = used.settings.evaluate.batch_size
    paths = [tmp_path / f"{number}.nii" for number in range(2 * size)]
    for seed, path in enumerate(paths[1:]):
        nib.save(nib.Nifti1Image(exam(3, seed).transpose(2, 1, 0), np.diag([1, 1, 5, 1.0])), path)
    asked = []
    read = used._read
    monkeypatch.setattr(used, "_read", lambda path: asked.append(path) or read(path))
    each = used.predict_each(paths)
    assert isinstance(next(each), UserError)
    assert asked == paths[:size]
    rest = list(each)
    assert len(rest) == len(paths) - 1
    assert not any(isinstance(one, UserError) for one in rest)
    [alone] = used.predict_files([paths[1]])
    assert rest[0].kept == alone.kept
    assert rest[0].probabilities == pytest.approx(alone.probabilities, rel=1e-3)


def test_a_batch_of_nothing_but_faults_is_told_file_by_file(predictor, tmp_path):
    found = list(predictor("uniform").predict_each([tmp_path / "a.nii", tmp_path / "b.nii"]))
    assert [str(one).split(": ")[0] for one in found] == [f"{tmp_path}/a.nii", f"{tmp_path}/b.nii"]


def test_what_cannot_be_predicted_is_a_line_that_names_it(predictor, tmp_path):
    with pytest.raises(UserError, match=r"absent\.nii: no such file"):
        predictor("uniform").predict_files([tmp_path / "absent.nii"])
    (tmp_path / "labels.csv").write_text("file,label\n")
    with pytest.raises(UserError, match=r"labels\.csv: .*of no known format"):
        predictor("uniform").predict_files([tmp_path / "labels.csv"])
    torn = tmp_path / "torn.nii.gz"
    torn.write_bytes(b"\x1f\x8b torn")
    with pytest.raises(UserError, match=r"torn\.nii\.gz"):
        predictor("uniform").predict_files([torn])
    with pytest.raises(UserError, match=r"holds no package\.json"):
        Predictor.load(tmp_path)
