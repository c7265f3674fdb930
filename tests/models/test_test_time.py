"""A classifier that looks more than once, held against the classifier itself."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from keyslice.config import SAMPLER_SETTINGS, StageSettings
from keyslice.config import TestTime as Settings
from keyslice.models import build
from keyslice.models.discarded import Subsampled
from keyslice.models.discarded.aggregation import StateAttention
from keyslice.models.inference import infer, multiply_accumulates
from keyslice.models.last_maps import LastMaps
from keyslice.models.seeding import per_exam
from keyslice.models.test_time import VIEWS, TestTime

SIZE = 32
BACKBONES = (
    "mobilenetv3_small_100",
    "vit_tiny_patch16_224",
    "convnext_atto",
    "swin_tiny_patch4_window7_224",
)


def _exams(*lengths: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    frames = torch.zeros(len(lengths), max(lengths), 1, SIZE, SIZE, dtype=torch.uint8)
    for b, length in enumerate(lengths):
        shape = (length, 1, SIZE, SIZE)
        frames[b, :length] = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    return frames, torch.tensor(lengths)


def _looking(settings: StageSettings, *, chunk: int | None = None, **values: Any) -> TestTime:
    model = build.fresh(settings, seed=1).eval()
    model.chunk = chunk
    torch.manual_seed(0)
    for layer in model.backbone.modules():
        if isinstance(layer, nn.BatchNorm2d):  # timm's last of a block begin at 0
            torch.nn.init.uniform_(layer.weight, 0.5, 1.5)
    attention = StateAttention(model.backbone.width, 8)
    torch.nn.init.normal_(attention.query.weight)
    torch.nn.init.normal_(model.head[-1].weight)  # else all are about as certain
    return TestTime(model, Settings(**values), SIZE, attention).eval()


def test_one_look_is_the_classifiers(stage_settings) -> None:
    looking = _looking(stage_settings("uniform"), budget=1)
    frames, lengths = _exams(9, 4, 6)
    with torch.inference_mode():
        once, plain = looking(frames, lengths), looking.model(frames, lengths)
    torch.testing.assert_close(once.logits, plain.logits.log_softmax(1))
    assert torch.equal(once.selection.indices, plain.selection.indices)
    torch.testing.assert_close(once.attention, plain.attention)


@pytest.mark.parametrize("chunk", [None, 5, 9])
@pytest.mark.parametrize("criterion", ["entropy", "learned", "random"])
@pytest.mark.parametrize("aggregation", ["mean", "entropy", "learned"])
def test_an_exam_is_looked_at_for_itself(stage_settings, criterion, aggregation, chunk) -> None:
    values = {"criterion": criterion, "aggregation": aggregation}
    looking = _looking(stage_settings("das"), chunk=chunk, budget=10, layers=3, **values)
    frames, lengths = _exams(8, 7, 6, 5, 4, 3, 1, 2, 5, 3)
    ids = "abcdefghij"
    with torch.inference_mode():
        together = looking(frames, lengths, per_exam(0, ids))
        plain = looking.model(frames, lengths, per_exam(0, ids))
        for b, length in enumerate(lengths.tolist()):
            alone = looking(frames[b : b + 1, :length], lengths[b : b + 1], per_exam(0, ids[b]))
            torch.testing.assert_close(together.logits[b], alone.logits[0], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(together.logits, plain.logits.log_softmax(1), atol=1e-5)


@pytest.mark.parametrize(("budget", "deepest"), [(1, 5), (5, 5 + 2 + 4 + 3)])
def test_a_chunk_goes_through_together_and_of_four_exams_what_begins_deep(
    stage_settings, budget: int, deepest: int
) -> None:
    looking = _looking(stage_settings("full"), chunk=5, budget=budget, layers=3)
    frames, lengths = _exams(5, 3, 4, 1, 5, 2, 4, 3, 5)
    layers = [m for m in looking.model.backbone.modules() if isinstance(m, nn.Conv2d)]
    rows: list[list[int]] = [[], []]
    for layer, noted in zip((layers[0], layers[-1]), rows, strict=True):
        layer.register_forward_hook(lambda _, maps, __, noted=noted: noted.append(len(maps[0])))
    with torch.inference_mode():
        looking(frames, lengths)
    assert [max(noted) for noted in rows] == [5, deepest]


@pytest.mark.parametrize("border", ["zeros", "kept"])
def test_layers_meet_at_the_border_what_the_settings_say(stage_settings, border: str) -> None:
    looking = _looking(stage_settings("full"), budget=8, layers=3, border=border)
    frames, lengths = _exams(3)
    with torch.inference_mode():
        selection, kept = looking.taken(frames, lengths, None)
        [looked] = looking.looked(kept, selection, None)
        found = torch.stack([one.output for one in looked])
        backbone, example = looking.model.backbone.network, kept[0, :1]
        for own in ("zeros", "kept"):
            network = Subsampled(backbone, example, 3, border=own, method="forward_features")
            wanted = torch.stack([network(kept[0], one.state) for one in looked])
            assert torch.allclose(found, wanted, atol=1e-5) == (own == border)


@pytest.mark.parametrize("sampler", sorted(SAMPLER_SETTINGS))
def test_every_sampler_is_looked_after(stage_settings, sampler) -> None:
    looking = _looking(stage_settings(sampler), budget=3, views=("flip_horizontal",))
    frames, lengths = _exams(9, 4)
    found = infer(looking, frames, lengths, ["a", "b"], seed=0)
    plain = infer(looking.model, frames, lengths, ["a", "b"], seed=0)
    for one, other in zip(found, plain, strict=True):
        assert one.kept == other.kept
        assert sum(one.probabilities) == pytest.approx(1)


def test_the_most_certain_state_is_extended(stage_settings) -> None:
    looking = _looking(stage_settings("full"), budget=8)
    frames, lengths = _exams(5)
    with torch.inference_mode():
        model = looking.model
        selection = model.select(frames, lengths)
        kept = selection.gather(frames, model.normalisation)
        [looked] = looking.looked(kept, selection, None)
        for one in looked:
            features = model.backbone.pool(one.output)[None]
            p = model.classify(features, selection).logits.softmax(1)
            assert one.score == pytest.approx(float((p * p.log()).sum()), abs=1e-4)


def test_views_are_averaged(stage_settings) -> None:
    settings = stage_settings("uniform")
    frames, lengths = _exams(6, 4)
    flipped = frames.flip(-1)
    with torch.inference_mode():
        both = _looking(settings, views=("flip_horizontal",))(frames, lengths).logits.exp()
        model = _looking(settings).model
        wanted = (
            model(frames, lengths).logits.softmax(1) + model(flipped, lengths).logits.softmax(1)
        ) / 2
    torch.testing.assert_close(both, wanted)


def test_views_are_for_any_network(stage_settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("traced for one state")

    monkeypatch.setattr("keyslice.models.test_time.Subsampled", refuse)
    frames, lengths = _exams(5, 3)
    with torch.inference_mode():
        both = _looking(stage_settings("uniform"), views=("shift_up",))(frames, lengths)
    assert both.logits.exp().sum(1).tolist() == pytest.approx([1, 1])


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_is_of_the_same_size_and_another_one(name) -> None:
    frames = torch.randn(2, 3, 5, 6)
    found = VIEWS[name](frames)
    assert found.shape == frames.shape
    assert not torch.equal(found, frames)


def test_a_shift_is_by_one_pixel_and_repeats_the_border() -> None:
    frames = torch.arange(4.0).expand(1, 1, 4, 4)
    assert VIEWS["shift_left"](frames)[0, 0, 0].tolist() == [1, 2, 3, 3]
    assert VIEWS["shift_down"](frames.transpose(2, 3))[0, 0, :, 0].tolist() == [0, 0, 1, 2]


@pytest.mark.parametrize("name", BACKBONES)
def test_any_layout_of_maps_is_combined(stage_settings, name) -> None:
    settings = stage_settings("uniform")
    settings = settings.model_copy(
        update={"backbone": settings.backbone.model_copy(update={"name": name, "weights": "none"})}
    )
    frames, lengths = _exams(3)
    for aggregation in ("mean", "learned"):
        looking = _looking(settings, budget=3, aggregation=aggregation)
        with torch.inference_mode():
            found = looking(frames, lengths).logits
        assert found.isfinite().all()


class _Maps(nn.Module):
    """A backbone of which only the layout of the last maps matters."""

    def __init__(self, **network: Any) -> None:
        super().__init__()
        self.network = nn.Module()
        for name, value in network.items():
            setattr(self.network, name, value)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC", "tokens"])
def test_maps_of_any_layout_are_moved_back_to_where_they_were(layout: str) -> None:
    places = torch.arange(5 * 7.0).reshape(1, 1, 5, 7)  # rows count more than columns
    own, other = places.expand(2, 3, 5, 7), places.roll((-1, -2), (2, 3)).expand(2, 3, 5, 7)
    maps = torch.stack([own, other])  # the second begins one row and two columns later
    if layout == "NCHW":
        last = LastMaps(_Maps())
    elif layout == "NHWC":
        last, maps = LastMaps(_Maps(output_fmt="NHWC")), maps.permute(0, 1, 3, 4, 2)
    else:
        grid = SimpleNamespace(grid_size=(5, 7))
        last = LastMaps(_Maps(patch_embed=grid, num_prefix_tokens=1))
        of_no_place = torch.full((2, 2, 1, 3), -1.0)
        maps = torch.cat([of_no_place, maps.flatten(3).transpose(2, 3)], 2)
    found = last.moved_back(maps, [(0.0, 0.0), (1.0, 2.0)])
    torch.testing.assert_close(found[0], maps[0])
    positions = torch.stack([last.positions(one) for one in found])
    if layout == "tokens":
        torch.testing.assert_close(found[:, :, :1], maps[:, :, :1])
        positions = positions[:, :, 1:]
    back = positions.transpose(2, 3).reshape(2, 2, 3, 5, 7)
    torch.testing.assert_close(back[1, ..., 1:, 2:], own[..., 1:, 2:])


def test_states_weigh_by_their_own_certainty(stage_settings) -> None:
    looking = _looking(stage_settings("uniform"), budget=4, aggregation="entropy")
    frames, lengths = _exams(6, 4)
    with torch.inference_mode():
        selection, kept = looking.taken(frames, lengths, None)
        looked = list(looking.looked(kept, selection, None))
        found = looking.classified(looked, selection, "entropy").logits
        model, combined = looking.model, []
        for exam, states in enumerate(looked):
            mask = selection.mask[exam]
            weights = []
            for one in states:
                features = model.backbone.pool(one.output)[None]
                own = model.scores(features, mask[mask][None]).softmax(1)
                weights.append(float((own * own.log()).sum().exp()))
            maps = looking._stack(states).positions
            total = sum(w * m for w, m in zip(weights, maps, strict=True)) / sum(weights)
            combined.append(looking._maps.shaped(total, states[0].output.shape))
        wanted = model.classify(looking._features(combined, selection.mask), selection).logits
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_the_state_whose_moved_maps_answer_best_is_extended(stage_settings) -> None:
    settings = stage_settings("full", image_size=64)
    model = build.fresh(settings, seed=1).eval()
    torch.manual_seed(0)
    attention = StateAttention(model.backbone.width, 8)
    torch.nn.init.normal_(attention.query.weight)
    looking = TestTime(model, Settings(budget=8, criterion="learned"), 64, attention).eval()
    frames = torch.randint(0, 256, (1, 4, 1, 64, 64), dtype=torch.uint8)
    with torch.inference_mode():
        selection, kept = looking.taken(frames, torch.tensor([4]), None)
        [looked] = looking.looked(kept, selection, None)
        maps = looking._stack(looked).positions
        for one, positions in zip(looked, maps, strict=True):
            wanted = float(attention.scores(positions, maps[0]).mean())
            assert one.score == pytest.approx(wanted, rel=1e-3)
    assert len({round(one.score, 6) for one in looked}) > 4


def test_cost_is_that_of_what_is_looked_at(stage_settings) -> None:
    settings = stage_settings("uniform")
    frames, _ = _exams(6)
    once = multiply_accumulates(_looking(settings), frames)
    plain = multiply_accumulates(_looking(settings).model, frames)
    assert once == pytest.approx(plain, rel=0.01)
    more = multiply_accumulates(_looking(settings, budget=4), frames)
    assert 1.1 * plain < more < 4 * plain
