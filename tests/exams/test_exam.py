import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from keyslice.exams.exam import CODES, FACTS, Exam, exam_id, from_other_end

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


def test_frames_without_facts_are_in_their_own_order():
    exam = Exam(np.zeros((2, 3, 3), np.uint8))
    assert (exam.reversed, exam.plane) == (False, None)


def test_numbers_from_the_other_end_name_the_same_frames():
    assert from_other_end([0, 2, 2], 5) == [2, 2, 4]


def test_a_fact_that_is_not_in_the_list_is_refused():
    with pytest.raises(ValueError, match="patient_name"):
        Exam(np.zeros((2, 3, 3), np.uint8), facts={"patient_name": "x"})


@pytest.mark.parametrize("word", ["Roe^Ann", "Roe Ann", "", "x" * 33, "a/b"])
def test_a_fact_that_is_no_plain_word_is_refused(word):
    with pytest.raises(ValueError, match="coding is no word"):
        Exam(np.zeros((2, 3, 3), np.uint8), facts={"coding": word})


def test_numbers_that_are_codes_are_facts() -> None:
    assert FACTS.keys() >= CODES
