import io
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from keyslice.exams import codecs
from keyslice.exams.codecs import raw
from keyslice.exams.container import dumps, load
from keyslice.exams.exam import Encoded, Exam

samples = st.sampled_from(["uint8", "int16", "float32"]).flatmap(
    lambda dtype: arrays(
        dtype,
        array_shapes(min_dims=3, max_dims=3, max_side=5),
        elements={"allow_nan": False, "allow_infinity": False} if dtype == "float32" else None,
    )
)


@given(samples)
def test_samples_come_back_bit_for_bit(frames):
    for order in (frames, np.asfortranarray(frames), frames.astype(frames.dtype.newbyteorder(">"))):
        encoded = raw.encode(order)
        back = raw.decode(encoded.parameters, encoded.parts)
        assert (back.dtype, back.shape) == (frames.dtype, frames.shape)
        assert back.tobytes() == frames.tobytes()


@pytest.mark.parametrize(
    ("slope", "intercept", "dtype"), [(2.5, -1.0, "float32"), (1.0, -1024.0, "int16")]
)
def test_scaled_samples_are_kept_as_they_were_acquired(slope, intercept, dtype):
    samples = np.random.default_rng(0).integers(0, 4096, (4, 32, 32)).astype(np.uint16)
    encoded = raw.encode(samples, slope=slope, intercept=intercept)
    frames = raw.decode(encoded.parameters, encoded.parts)
    assert frames.dtype == dtype
    assert (frames == samples * slope + intercept).all()
    assert len(encoded.parts[0]) < samples.nbytes


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
def test_a_file_gives_its_exam_back(dtype):
    frames = np.arange(2 * 3 * 4 * 3).reshape(2, 3, 4, 3).astype(dtype)
    exam = Exam(frames, (5.0, 1.0, 0.5), 40.0, {"orientation": "LPS", "slice_axis": 2})
    back = load(io.BytesIO(dumps(exam)))
    assert back.frames.dtype == dtype
    assert (back.frames == frames).all()
    assert (back.spacing, back.frame_time) == (exam.spacing, exam.frame_time)
    assert back.facts == exam.facts


def test_the_same_exam_gives_the_same_bytes_at_any_time():
    exam = Exam(np.zeros((2, 3, 4), np.uint8), frame_time=40.0)
    content = dumps(exam)
    assert content == dumps(exam)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert {entry.date_time[0] for entry in archive.infolist()} == {1980}


def test_smooth_volumes_take_less_room_than_by_deflate():
    steps = np.random.default_rng(0).integers(-3, 4, (8, 64, 64))
    frames = np.cumsum(steps, axis=2).astype(np.int16)
    deflated = io.BytesIO()
    np.savez_compressed(deflated, frames)
    assert len(dumps(Exam(frames))) < 0.95 * len(deflated.getvalue())


def test_what_a_file_tells_of_modality_and_date_is_not_stored():
    exam = Exam(np.zeros((2, 3, 4), np.uint8), modality="CT", acquired="2024-03-01")
    assert dumps(exam) == dumps(Exam(exam.frames))


def test_an_unknown_codec_is_refused():
    exam = Exam(np.zeros((1, 2, 2), np.uint8), encoded=Encoded("pickle", {}, (b"",)))
    with pytest.raises(ValueError, match="no codec is named 'pickle'"):
        load(io.BytesIO(dumps(exam)))
    assert "pickle" not in codecs.CODECS
