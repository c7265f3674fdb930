"""The attention over states, fitted on what they show."""

from typing import Any

import numpy as np
import pytest
import torch

from keyslice.config import StageSettings
from keyslice.config import TestTime as Settings
from keyslice.models import build
from keyslice.models.discarded.aggregation import StateAttention
from keyslice.models.test_time import Stack, TestTime
from keyslice.training.batches import Exams
from keyslice.training.states import _Kept, fit


@pytest.fixture
def settings(stage_settings) -> StageSettings:
    own = stage_settings("uniform", batch_size=4)
    attention = {"width": 8, "learning_rate": 0.05, "epochs": 6, "patience": 6}
    test_time = Settings.model_validate(
        {"budget": 4, "criterion": "random", "aggregation": "learned", "attention": attention}
    )
    return own.model_copy(
        update={"evaluate": own.evaluate.model_copy(update={"test_time": test_time})}
    )


def _looking(settings: StageSettings) -> TestTime:
    model = build.fresh(settings, seed=1).eval()
    torch.manual_seed(0)
    attention = StateAttention(model.backbone.width, 8)
    test_time = settings.evaluate.test_time
    return TestTime(model, test_time, settings.prepare.image_size, attention).eval()


def test_the_attention_alone_learns_and_its_best_epoch_is_kept(settings, store, tmp_path) -> None:
    train, validation = (Exams(store, split, settings.classes) for split in ("train", "validation"))
    looking, other = _looking(settings), _looking(settings)
    before = {name: value.clone() for name, value in looking.model.state_dict().items()}
    shown = tmp_path / "states"
    (shown / "train").mkdir(parents=True)
    (shown / "train" / "0.npy").write_text("what a kill left")
    losses = fit(looking, train, validation, settings, 0, shown)
    assert not shown.exists()
    assert all(torch.equal(before[n], v) for n, v in looking.model.state_dict().items())
    assert len(losses) == 7
    assert len(set(losses)) > 1
    assert fit(other, train, validation, settings, 0, shown) == losses
    pairs = zip(looking.attention.parameters(), other.attention.parameters(), strict=True)
    assert all(torch.equal(mine, theirs) for mine, theirs in pairs)
    query = looking.attention.query.weight
    assert bool(query.any()) == (losses.index(min(losses)) > 0)


def test_what_exams_show_is_not_left_where_the_fit_fails(
    settings, store, tmp_path, monkeypatch
) -> None:
    train, validation = (Exams(store, split, settings.classes) for split in ("train", "validation"))
    looking, shown = _looking(settings), tmp_path / "states"

    def fails(*_: object) -> None:
        assert [*shown.rglob("*.npy")]
        raise RuntimeError("no memory left")

    monkeypatch.setattr(TestTime, "attended", fails)
    with pytest.raises(RuntimeError, match="no memory left"):
        fit(looking, train, validation, settings, 0, shown)
    assert not shown.exists()


@pytest.mark.parametrize("times", [1, 1e6])
def test_what_exams_show_may_be_beyond_half_precision(
    settings, store, tmp_path, monkeypatch, times
) -> None:
    validation = Exams(store, "validation", settings.classes)
    stacks = TestTime.stacks

    def large(*arguments: Any) -> list[Stack]:
        return [Stack(one.positions * times, one.shape) for one in stacks(*arguments)]

    monkeypatch.setattr(TestTime, "stacks", large)
    kept = _Kept(_looking(settings), validation, settings, 0, tmp_path / "states")
    assert float(kept._stack(0).positions.abs().max()) > times / 100
    assert kept.loss(4) < float("inf")
    assert np.load(tmp_path / "states" / "0.npy").dtype == (np.float16, np.float32)[times > 1]


@pytest.mark.parametrize("better", [True, False])
def test_where_it_chooses_states_as_well_it_is_judged_with_those_that_it_chooses(
    settings, store, tmp_path, monkeypatch, better
) -> None:
    test_time = settings.evaluate.test_time.model_copy(update={"criterion": "learned"})
    evaluate = settings.evaluate.model_copy(update={"test_time": test_time})
    settings = settings.model_copy(update={"evaluate": evaluate})
    train, validation = (Exams(store, split, settings.classes) for split in ("train", "validation"))
    looking, told = _looking(settings), []

    def loss(kept: _Kept, size: int) -> float:
        assert size == 4
        learned = bool(looking.attention.query.weight.any())
        told.append((kept._folder.name, learned))
        if kept._folder.name == "again":
            return 0.5 if better else 1.0
        return 0.25 if learned else 1.0

    monkeypatch.setattr(_Kept, "loss", loss)
    losses = fit(looking, train, validation, settings, 0, tmp_path / "states")
    assert told == [("validation", False), *[("validation", True)] * 6, ("again", True)]
    assert losses == [1.0, *[0.25] * 6, 0.5 if better else 1.0]
    assert bool(looking.attention.query.weight.any()) == better


def test_where_nothing_is_gained_the_plain_mean_is_kept(settings, store, tmp_path) -> None:
    train, validation = (Exams(store, split, settings.classes) for split in ("train", "validation"))
    validation.labels = 1 - train.labels[[0] * len(validation)]  # what is learned is wrong there
    train.labels = train.labels[[0] * len(train)]
    attention = settings.evaluate.test_time.attention.model_copy(update={"patience": 1})
    test_time = settings.evaluate.test_time.model_copy(update={"attention": attention})
    evaluate = settings.evaluate.model_copy(update={"test_time": test_time})
    settings = settings.model_copy(update={"evaluate": evaluate})
    looking = _looking(settings)
    losses = fit(looking, train, validation, settings, 0, tmp_path / "states")
    assert len(losses) == 2
    assert min(losses) == losses[0]
    assert not looking.attention.query.weight.any()
