"""What the manifest says of an exam's intensities."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from keyslice.exams.exam import Exam
from keyslice.exams.taking import Taken, take


@pytest.mark.parametrize("shape", [(32, 512, 512), (64, 256, 256), (64, 64, 64), (9, 256, 256, 3)])
def test_intensities_are_those_of_all_columns_and_colours(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    frames = np.random.default_rng(0).integers(900, 1100, shape, np.int16)
    frames[:, :, : shape[2] // 4] = 0  # dark columns, as beside a fan
    if len(shape) == 4:
        frames[..., 0] = 0
    taken = take(partial(Exam, frames), tmp_path)
    assert isinstance(taken, Taken)
    assert taken.row["intensity_mean"] == pytest.approx(frames.mean(), rel=0.03)
    assert taken.row["intensity_sd"] == pytest.approx(frames.std(), rel=0.03)
    assert taken.row["intensity_low"] == 0
    assert taken.row["intensity_high"] > 1090
