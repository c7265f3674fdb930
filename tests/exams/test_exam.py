import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from keyslice.exams.exam import Exam, exam_id, from_other_end, load, save

frames = st.sampled_from(["uint8", "int16", "float32"]).flatmap(
    lambda dtype: arrays(
        dtype,
        array_shapes(min_dims=3, max_dims=3, max_side=4),
        elements={"allow_nan": False, "allow_infinity": False} if dtype == "float32" else None,
    )
)


@given(frames)
def test_the_id_does_not_depend_on_how_the_samples_lie_in_memory(samples):
    swapped = samples.astype(samples.dtype.newbyteorder(">"))
    assert exam_id(np.asfortranarray(samples)) == exam_id(samples) == exam_id(swapped)


@given(frames, st.data())
def test_any_changed_sample_changes_the_id(samples, data):
    place = tuple(data.draw(st.integers(0, size - 1)) for size in samples.shape)
    changed = samples.copy()
    changed[place] = 1 if samples[place] != 1 else 2
    assert exam_id(changed) != exam_id(samples)


def test_shape_and_dtype_are_part_of_the_id():
    zeros = np.zeros((2, 3, 4), np.uint8)
    others = [zeros.reshape(2, 4, 3), np.zeros((1, 3, 4), np.int16), zeros.view(np.int16)]
    assert len({exam_id(samples) for samples in [zeros, *others]}) == 4


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
def test_saving_and_loading_gives_the_exam_back(tmp_path: Path, dtype: str):
    samples = np.arange(2 * 3 * 4 * 3).reshape(2, 3, 4, 3).astype(dtype)
    exam = Exam(samples, (5.0, 1.0, 0.5), None, {"orientation": "LPS", "slice_axis": 2})
    save(exam, tmp_path / "e.npz")
    back = load(tmp_path / "e.npz")
    assert back.frames.dtype == dtype
    assert (back.frames == samples).all()
    assert (back.spacing, back.frame_time, back.facts) == (exam.spacing, None, exam.facts)


def test_the_same_exam_gives_the_same_bytes_at_any_time(tmp_path: Path):
    exam = Exam(np.zeros((2, 3, 4), np.uint8), frame_time=40.0)
    save(exam, tmp_path / "a.npz")
    save(exam, tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        assert {entry.date_time[0] for entry in archive.infolist()} == {1980}


def test_an_object_array_is_not_loaded(tmp_path: Path):
    np.savez(tmp_path / "e.npz", frames=np.array([{}], dtype=object), facts="{}")
    with pytest.raises(ValueError, match="allow_pickle"):
        load(tmp_path / "e.npz")


@pytest.mark.parametrize(
    ("samples", "rule"),
    [
        (np.zeros((2, 3), np.uint8), "shape"),
        (np.zeros((0, 3, 3), np.uint8), "shape"),
        (np.zeros((2, 3, 3, 2), np.uint8), "shape"),
        (np.zeros((2, 3, 3), np.float64), "float64"),
        (np.full((2, 3, 3), np.nan, np.float32), "not finite"),
    ],
)
def test_frames_that_break_a_rule_are_refused(samples, rule):
    with pytest.raises(ValueError, match=rule):
        Exam(samples)


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_a_spacing_or_time_that_is_none_is_refused(value):
    samples = np.zeros((2, 3, 3), np.uint8)
    with pytest.raises(ValueError, match=r"frame_time is .* must be finite and above zero"):
        Exam(samples, frame_time=value)
    with pytest.raises(ValueError, match=r"spacing is .* must be finite and above zero"):
        Exam(samples, spacing=(1.0, value, 1.0))


def test_a_stored_measure_that_is_none_is_not_known(tmp_path: Path):
    """Files of before that rule."""
    samples = np.zeros((2, 3, 3), np.uint8)
    np.savez(tmp_path / "e.npz", frames=samples, spacing=[1, np.nan, 1], frame_time=-1, facts="{}")
    exam = load(tmp_path / "e.npz")
    assert (exam.spacing, exam.frame_time) == (None, None)


def test_frames_without_facts_are_in_their_own_order():
    exam = Exam(np.zeros((2, 3, 3), np.uint8))
    assert (exam.reversed, exam.plane) == (False, None)


def test_numbers_from_the_other_end_name_the_same_frames():
    assert from_other_end([0, 2, 2], 5) == [2, 2, 4]


def test_a_fact_that_is_not_in_the_list_is_refused():
    with pytest.raises(ValueError, match="patient_name"):
        Exam(np.zeros((2, 3, 3), np.uint8), facts={"patient_name": "x"})
