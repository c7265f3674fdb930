"""A package in use: exams in, probabilities and frame numbers of the exam as given out."""

import json

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


def test_more_exams_than_a_batch_are_all_predicted(predictor):
    used = predictor("uniform")
    size = used.settings.evaluate.batch_size
    assert len(used.predict_arrays([exam(2, seed) for seed in range(size + 1)])) == size + 1


def test_what_cannot_be_predicted_is_a_line_that_names_it(predictor, tmp_path):
    with pytest.raises(UserError, match=r"absent\.nii: no such file"):
        predictor("uniform").predict_files([tmp_path / "absent.nii"])
    torn = tmp_path / "torn.nii.gz"
    torn.write_bytes(b"\x1f\x8b torn")
    with pytest.raises(UserError, match=r"torn\.nii\.gz"):
        predictor("uniform").predict_files([torn])
    with pytest.raises(UserError, match=r"holds no package\.json"):
        Predictor.load(tmp_path)
