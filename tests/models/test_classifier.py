import pytest
import torch

from keyslice.config import SAMPLER_SETTINGS
from keyslice.models import build
from keyslice.models.seeding import per_exam
from keyslice.samplers import adps, das, das_paper, nonempty

SAMPLERS = sorted(SAMPLER_SETTINGS)


def _exams(*lengths: int, size: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    frames = torch.zeros(len(lengths), max(lengths), 1, size, size, dtype=torch.uint8)
    for b, length in enumerate(lengths):
        shape = (length, 1, size, size)
        frames[b, :length] = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    return frames, torch.tensor(lengths)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_prediction_does_not_depend_on_the_batch_or_its_padding(stage_settings, sampler):
    model = build.fresh(stage_settings(sampler), seed=1)
    model.eval()
    frames, lengths = _exams(9, 4, 6)
    with torch.inference_mode():
        together = model(frames, lengths, per_exam(0, "abc"))
        for b, length in enumerate(lengths.tolist()):
            alone = model(frames[b : b + 1, :length], lengths[b : b + 1], per_exam(0, ["abc"[b]]))
            kept = together.selection.indices[b][together.selection.mask[b]]
            assert kept.tolist() == alone.selection.indices[0].tolist()
            torch.testing.assert_close(together.logits[b], alone.logits[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_parameter_learns(stage_settings, sampler):
    model = build.fresh(stage_settings(sampler), seed=1)
    model.train()
    frames, lengths = _exams(9, 4, 6, 9)
    output = model(frames, lengths, torch.Generator().manual_seed(0))
    scores = output.logits if output.prefix_logits is None else output.prefix_logits
    scores.square().sum().backward()
    # A fresh residual branch ends in a scale of zero, so nothing before that has a gradient yet.
    named = {n: p for n, p in model.named_parameters() if ".layer" not in n}
    still = [n for n, p in named.items() if p.grad is None or not p.grad.abs().sum() > 0]
    assert still == []


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_frames_that_were_not_kept_do_not_reach_the_scores(stage_settings, sampler, monkeypatch):
    model = build.fresh(stage_settings(sampler), seed=1)
    model.eval()
    frames, lengths = _exams(9, 4, 6)
    with torch.inference_mode():
        first = model(frames, lengths, per_exam(0, "abc"))
        kept = first.selection.matrix.sum(1).bool()[..., None, None, None]
        _hold(monkeypatch, first.selection)
        again = model(torch.where(kept, frames, 255 - frames), lengths, per_exam(0, "abc"))
    assert torch.equal(again.selection.indices, first.selection.indices)
    assert torch.equal(again.logits, first.logits)


def _hold(monkeypatch, selection):
    """Whatever the scores say, choose the frames of `selection`."""
    monkeypatch.setattr(das, "choose", lambda scores, valid: selection.indices)
    steps = iter(selection.indices.gather(1, selection.order.argsort(1)).split(1, dim=1))
    monkeypatch.setattr(adps, "choose_one", lambda scores, closed: next(steps))
    for module, name in ((nonempty, "NonEmpty"), (das_paper, "DASPaper")):
        cls = getattr(module, name)
        monkeypatch.setattr(cls, "forward", lambda *_, **__: selection)


def test_chunks_change_nothing(stage_settings):
    model = build.fresh(stage_settings("uniform"), seed=1)
    model.eval()
    frames, lengths = _exams(9, 9)
    with torch.inference_mode():
        model.chunk = None
        whole = model(frames, lengths).logits
        model.chunk = 4
        torch.testing.assert_close(model(frames, lengths).logits, whole)


def test_the_same_seed_builds_the_same_network_and_leaves_the_global_generator_alone(
    stage_settings,
):
    before = torch.get_rng_state()
    first = build.fresh(stage_settings("das"), seed=5)
    second = build.fresh(stage_settings("das"), seed=5)
    other = build.fresh(stage_settings("das"), seed=6)
    assert torch.equal(before, torch.get_rng_state())
    assert all(map(torch.equal, first.state_dict().values(), second.state_dict().values()))
    assert not all(map(torch.equal, first.state_dict().values(), other.state_dict().values()))


def test_a_saved_network_predicts_the_same(stage_settings, tmp_path):
    settings = stage_settings("das")
    model = build.fresh(settings, seed=1)
    model.eval()
    build.save(model, tmp_path / "m.safetensors")
    frames, lengths = _exams(9, 4)
    with torch.inference_mode():
        expected = model(frames, lengths).logits
        loaded = build.load(settings, tmp_path / "m.safetensors")
        assert torch.equal(loaded(frames, lengths).logits, expected)


def test_the_last_prefix_is_the_whole_exam(stage_settings):
    settings = stage_settings("adps")
    averaged = settings.sampler_settings.model_copy(update={"average_steps": True})
    model = build.fresh(settings.model_copy(update={"sampler_settings": averaged}), seed=1)
    model.train()
    model.head[2].p = 0.0
    frames, lengths = _exams(8, 8)
    output = model(frames, lengths, torch.Generator().manual_seed(0))
    torch.testing.assert_close(output.prefix_logits[:, -1], output.logits)


def test_choosing_leaves_the_batchnorm_statistics_alone(stage_settings):
    model = build.fresh(stage_settings("adps"), seed=1)
    model.train()
    before = {k: v.clone() for k, v in model.backbone.named_buffers()}
    model._encode_for_choice(_exams(4)[0][0])
    assert all(torch.equal(v, before[k]) for k, v in model.backbone.named_buffers())
    assert model.backbone.training
