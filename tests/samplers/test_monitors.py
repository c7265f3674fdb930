"""An epoch's figures and what they warn of."""

import math
from dataclasses import replace

import pytest
import torch

from keyslice.config import SAMPLER_SETTINGS
from keyslice.samplers import Selection
from keyslice.samplers.monitors import Figures, figures, per_exam, row_entropy, warnings

HEALTHY = Figures(
    distinct=1.0,
    positions=(0.1,) * 10,
    entropy=0.6,
    head_similarity=0.4,
    temperature_low=0.9,
    temperature_high=1.2,
)
DAS = SAMPLER_SETTINGS["das"]()


def selection_of(chosen, T, soft=None, diagnostics=None):
    chosen = torch.tensor(chosen)
    B = len(chosen)
    return Selection.from_choices(
        chosen,
        torch.ones_like(chosen, dtype=torch.bool),
        torch.full((B,), T),
        torch.ones(B, T, dtype=torch.bool),
        soft=soft,
        diagnostics=diagnostics,
    )


def test_entropy_is_one_for_no_preference_and_zero_for_certainty():
    soft = torch.tensor([[[0.25] * 4], [[0.0, 1.0, 0.0, 0.0]], [[0.5, 0.5, 0.0, 0.0]]])
    entropy = row_entropy(soft, torch.ones(3, 1, dtype=torch.bool), torch.tensor([4, 4, 4]))
    torch.testing.assert_close(entropy, torch.tensor([1.0, 0.0, math.log(2) / math.log(4)]))


def test_entropy_of_an_exam_of_one_frame_is_zero():
    entropy = row_entropy(
        torch.ones(1, 1, 1), torch.ones(1, 1, dtype=torch.bool), torch.tensor([1])
    )
    assert entropy.tolist() == [0.0]


def test_rows_that_an_exam_has_not_do_not_count():
    soft = torch.tensor([[[0.5, 0.5], [0.0, 0.0]]])
    assert row_entropy(soft, torch.tensor([[True, False]]), torch.tensor([2])).item() == 1


def test_positions_are_shares_of_the_kept_frames_along_the_exam():
    epoch = figures([per_exam(selection_of([[0, 1, 19]], 20)), per_exam(selection_of([[10]], 20))])
    assert epoch.positions == pytest.approx((0.5, 0, 0, 0, 0, 0.25, 0, 0, 0, 0.25))


def test_distinct_frames_are_a_share_of_the_kept_ones():
    assert figures([per_exam(selection_of([[3, 3, 3, 5]], 9))]).distinct == 0.5


def test_every_exam_counts_once_however_the_epoch_is_batched():
    a, b = (selection_of(chosen, 9) for chosen in ([[1, 2], [3, 3]], [[4, 4]]))
    joint = selection_of([[1, 2], [3, 3], [4, 4]], 9)
    assert figures([per_exam(a), per_exam(b)]) == figures([per_exam(joint)])


def test_temperatures_are_the_lowest_and_the_highest_of_the_epoch():
    batches = [
        per_exam(selection_of([[0]], 3, diagnostics={"temperature": torch.tensor([t])}))
        for t in (0.75, 1.25, 1.0)
    ]
    epoch = figures(batches)
    assert (epoch.temperature_low, epoch.temperature_high) == (0.75, 1.25)


def test_a_sampler_with_nothing_learned_has_no_entropy():
    epoch = figures([per_exam(selection_of([[0]], 3))])
    assert epoch.entropy is None
    assert warnings(epoch, SAMPLER_SETTINGS["uniform"]()) == []


def test_figures_carry_no_gradient(name, make, run):
    frames = torch.zeros(2, 6, 1, 8, 8, dtype=torch.uint8)
    batch = per_exam(run(make(name), frames, torch.tensor([6, 4])))
    assert not any(values.requires_grad for values in batch.values())
    assert 0 < figures([batch]).distinct <= 1


def test_a_healthy_epoch_gives_no_warning():
    assert warnings(HEALTHY, DAS) == []


@pytest.mark.parametrize(
    ("change", "warning"),
    [
        ({"head_similarity": 0.999}, "collapsed into one"),
        ({"entropy": 0.001}, "no entropy left"),
        ({"temperature_low": 0.5, "temperature_high": 0.505}, "sits at its bound"),
        ({"temperature_low": 1.495, "temperature_high": 1.5}, "sits at its bound"),
    ],
)
def test_each_failure_is_told_in_one_sentence(change, warning):
    (told,) = warnings(replace(HEALTHY, **change), DAS)
    assert warning in told


def test_a_fixed_temperature_is_at_no_bound():
    settings = SAMPLER_SETTINGS["das"](adaptive_temperature=False)
    at_base = replace(HEALTHY, temperature_low=0.5, temperature_high=0.5)
    assert warnings(at_base, settings) == []
