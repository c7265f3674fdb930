import numpy as np
import pandas as pd
import pytest

from keyslice.evaluation.attended import attended


def rows(*exams):
    columns = ["seed", "kept", "informative", "macs"]
    return pd.DataFrame(exams, columns=columns)


def test_repeats_count_as_kept_but_not_as_distinct():
    found = attended(rows((0, [1, 1, 4], None, 10.0))).loc[0]
    assert (found["frames_kept"], found["distinct_frames"]) == (3, 2)


def test_cost_is_the_mean_over_the_exams_of_a_seed():
    found = attended(rows((0, [1], None, 10.0), (0, [1], None, 20.0), (1, [1], None, 5.0)))
    assert found["macs"].tolist() == [15.0, 5.0]


def test_a_hit_is_one_informative_frame_and_recall_their_share():
    found = attended(
        rows(
            (0, [1, 2, 3], np.array([2, 3, 4, 5]), 1.0),
            (0, [1, 2, 3], np.array([7]), 1.0),
        )
    ).loc[0]
    assert found["hit_rate"] == pytest.approx(1 / 2)
    assert found["informative_recall"] == pytest.approx((2 / 4 + 0) / 2)


def test_exams_without_informative_frames_count_neither_way():
    found = attended(rows((0, [1, 2], np.array([2]), 1.0), (0, [1], None, 1.0))).loc[0]
    assert found["hit_rate"] == 1


def test_informative_frames_that_were_dropped_before_the_sampler_are_a_miss():
    dropped = (0, [1], np.array([], int), 1.0)
    found = attended(rows((0, [1, 2], np.array([2]), 1.0), dropped)).loc[0]
    assert found["hit_rate"] == found["informative_recall"] == 0.5


def test_without_known_frames_there_is_no_hit_rate():
    assert attended(rows((0, [1], None, 1.0)))["hit_rate"].isna().all()
