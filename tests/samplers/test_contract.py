"""What every sampler of the registry must do."""

import pytest
import torch

from keyslice.config import SAMPLER_SETTINGS
from keyslice.samplers import SAMPLERS, build, kept_count

T = 20
LENGTHS = torch.tensor([20, 13, 1, 2, 7, 20, 11, 16] * 8)  # 64 exams


@pytest.fixture(scope="module")
def frames():
    generator = torch.Generator().manual_seed(1)
    frames = torch.randint(0, 256, (64, T, 1, 8, 8), dtype=torch.uint8, generator=generator)
    padded = torch.arange(T) >= LENGTHS[:, None]
    frames[padded] = 0
    frames[:, ::5] = 7  # some frames are empty
    return frames


@pytest.fixture(params=["training", "inference"])
def mode(request):
    return request.param


@pytest.fixture
def select(name, mode, make, run, frames):
    sampler = make(name).train(mode == "training")

    def select(frames=frames, lengths=LENGTHS, seed=0):
        with torch.set_grad_enabled(mode == "training"):
            return run(sampler, frames, lengths, seed=seed)

    return select


def same(a, b):
    return torch.equal(a.indices, b.indices) and torch.equal(a.mask, b.mask)


def test_the_registry_and_the_settings_name_the_same_samplers():
    assert SAMPLERS.keys() == SAMPLER_SETTINGS.keys()


def test_the_registry_says_what_a_choice_may_see():
    sees = {name: sampler.sees for name, sampler in SAMPLERS.items()}
    assert sees == {
        "full": "nothing",
        "random": "nothing",
        "uniform": "nothing",
        "dps": "nothing",
        "adps": "kept",
        "nonempty": "all",
        "das_paper": "all",
        "das": "all",
    }


def test_each_exam_keeps_its_share_of_its_own_frames(select, name):
    kept = select().kept
    assert torch.equal(kept, LENGTHS if name == "full" else kept_count(0.5, LENGTHS))


def test_rows_are_one_hot_and_zero_where_an_exam_has_no_further_frame(select):
    selection = select()
    matrix = selection.matrix
    assert set(matrix.unique().tolist()) <= {0.0, 1.0}
    assert torch.equal(matrix.sum(-1), selection.mask.float())
    rows = matrix.argmax(-1)
    assert torch.equal(rows[selection.mask], selection.indices[selection.mask])


def test_kept_frames_are_distinct(select, name):
    if name == "das_paper":
        pytest.skip("draws with replacement")
    selection = select()
    assert torch.equal(selection.distinct, selection.kept)
    assert selection.matrix.sum(1).max() == 1


def test_distinct_counts_the_different_frames(select):
    selection = select()
    counted = [
        len(set(row[mask].tolist()))
        for row, mask in zip(selection.indices, selection.mask, strict=True)
    ]
    assert selection.distinct.tolist() == counted


def test_indices_are_in_frame_order(select):
    selection = select()
    rising = selection.indices[:, 1:] >= selection.indices[:, :-1]
    assert rising[selection.mask[:, 1:]].all()


def test_padded_frames_are_never_kept(select):
    selection = select()
    assert (selection.indices < LENGTHS[:, None]).all()
    if selection.soft is not None:
        padded = torch.arange(T) >= LENGTHS[:, None]
        assert (selection.soft * padded[:, None]).abs().max() == 0


def test_the_kept_frames_come_out_bit_for_bit(select, frames):
    selection = select()
    taken = selection.gather(frames)
    for i, mask in enumerate(selection.mask):
        assert torch.equal(taken[i][mask], frames[i, selection.indices[i][mask]].float())
        assert (taken[i][~mask] == 0).all()


def test_frames_not_kept_change_nothing_in_the_output(select, frames):
    selection = select()
    frames = frames.float()
    kept = selection.matrix.sum(1).bool()
    changed = torch.where(kept[..., None, None, None], frames, 1e6)
    assert torch.equal(selection.gather(frames), selection.gather(changed))


def test_what_a_choice_may_not_see_changes_nothing(select, name, frames):
    sees = SAMPLERS[name].sees
    if sees == "all":
        pytest.skip("sees all frames")
    selection = select()
    hidden = torch.ones(64, T, dtype=torch.bool)
    if sees == "kept":
        hidden &= ~selection.matrix.sum(1).bool()
    changed = torch.where(hidden[..., None, None, None], 255 - frames, frames)
    assert same(select(changed), selection)


def test_the_same_seed_repeats_the_choice(select):
    assert same(select(seed=3), select(seed=3))


def test_noise_is_on_where_the_sampler_says_so(select, name, mode):
    drawn = mode == "training" and name in {"random", "dps", "adps", "das_paper", "das"}
    drawn |= SAMPLERS[name].stochastic_at_inference
    assert same(select(seed=0), select(seed=100)) != drawn


def test_a_missing_generator_is_refused_where_noise_is_needed(name, make, frames, encode):
    sampler = make(name).eval()
    if sampler.stochastic_at_inference:
        with pytest.raises(ValueError, match="pass generator="):
            sampler(frames, LENGTHS, encode=encode)
    else:
        sampler(frames, LENGTHS, encode=encode)


def test_too_few_generators_are_refused(frames, make):
    with pytest.raises(ValueError, match="3 generators for 64 exams"):
        make("random")(frames, LENGTHS, generator=[torch.Generator()] * 3)


def test_the_global_generator_is_left_alone(select):
    before = torch.random.get_rng_state()
    select()
    assert torch.equal(torch.random.get_rng_state(), before)


def test_one_generator_may_serve_the_whole_batch(name, make, frames, encode):
    sampler = make(name)
    first, second = (
        sampler(frames, LENGTHS, encode=encode, generator=torch.Generator().manual_seed(5))
        for _ in range(2)
    )
    assert same(first, second)


def test_a_choice_does_not_depend_on_the_rest_of_the_batch(name, mode, make, frames, encode):
    sampler = make(name).train(mode == "training")
    seeds = range(len(frames))
    together = sampler(
        frames,
        LENGTHS,
        encode=encode,
        generator=[torch.Generator().manual_seed(seed) for seed in seeds],
    )
    for exam in (1, 2, 4, 7):
        own = slice(exam, exam + 1)
        alone = sampler(
            frames[own, : LENGTHS[exam]],
            LENGTHS[own],
            encode=encode,
            generator=[torch.Generator().manual_seed(exam)],
        )
        mask = together.mask[exam]
        assert torch.equal(together.indices[exam][mask], alone.indices[0])


def test_a_state_dict_carries_the_choice_over(name, make, run, frames):
    trained, fresh = make(name, seed=1).eval(), make(name, seed=2).eval()
    fresh.load_state_dict(trained.state_dict())
    assert same(run(trained, frames, LENGTHS), run(fresh, frames, LENGTHS))


def test_every_parameter_gets_a_finite_nonzero_gradient(name, make, run, frames):
    sampler = make(name).train()
    selection = run(sampler, frames, LENGTHS)
    if not list(sampler.parameters()):
        assert selection.soft is None
        return
    (selection.matrix @ torch.linspace(-1, 1, T).cos()).sum(1).square().sum().backward()
    for parameter, values in sampler.named_parameters():
        assert values.grad is not None, parameter
        assert values.grad.isfinite().all(), parameter
        assert values.grad.abs().max() > 1e-5, parameter


def test_rows_and_places_of_choice_follow_the_indices(select):
    selection = select()
    for order, mask in zip(selection.order, selection.mask, strict=True):
        assert sorted(order.tolist()) == list(range(len(order)))
        assert order[mask].max() < mask.sum()
    if selection.soft is not None:
        # With the noise drawn, the hard choice is the mode of its own soft row.
        hard = selection.indices[selection.mask]
        assert torch.equal(selection.soft[selection.mask].argmax(-1), hard)


def test_the_relaxation_is_made_only_where_gradients_are_recorded(select, name, mode):
    learned = name in {"dps", "adps", "das_paper", "das"}
    assert (select().soft is not None) == (learned and mode == "training")


def test_keeping_everything_keeps_each_frame_once(name, make, run, frames):
    if name == "das_paper":
        pytest.skip("draws with replacement")
    selection = run(make(name, keep=1.0), frames, LENGTHS)
    assert torch.equal(selection.kept, LENGTHS)
    assert torch.equal(selection.distinct, LENGTHS)


def test_colour_frames_are_taken_too(name, make, run):
    frames = torch.arange(2 * 6 * 3 * 16 * 16).remainder(251).to(torch.uint8)
    frames = frames.reshape(2, 6, 3, 16, 16)
    selection = run(make(name), frames, torch.tensor([6, 4]))
    assert selection.gather(frames).shape[2:] == (3, 16, 16)


def test_a_sampler_that_sees_what_it_kept_needs_the_width_of_the_encodings():
    with pytest.raises(ValueError, match="feature_width"):
        build("adps", 0.5, SAMPLER_SETTINGS["adps"]())
