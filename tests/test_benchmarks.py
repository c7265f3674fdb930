"""The benchmarks run, and against what they say; what they find is for `make bench`."""

import pytest
import torch

from benchmarks import __main__ as page
from benchmarks import discarded, inference, offsets, training
from keyslice.config import StageSettings, Workspace
from keyslice.models.classifier import FrameClassifier
from keyslice.models.test_time import TestTime
from keyslice.prepared import PreparedStore
from keyslice.stages.evaluate import trained
from keyslice.stages.train import train
from tests.stages.test_train_evaluate import PARAMS, workspace

__all__ = ["workspace"]
SEED = 3


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(discarded, "EXAMS", {28: 2})
    monkeypatch.setattr(discarded, "ROUNDS", 2)
    monkeypatch.setattr(discarded, "BUDGETS", (4,))
    monkeypatch.setattr(inference, "SETTINGS", (inference.Setting(4, 28, 2, 2),))
    monkeypatch.setattr(inference, "CHUNKS", (4, None))
    monkeypatch.setattr(training, "STEPS", 2)
    monkeypatch.setattr(training, "ROUNDS", 2)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("title", ["Inference on the CPU", "Search over states", "Training step"])
def test_each_row_has_what_its_head_says(title: str) -> None:
    _, head, measure = page.TABLES[title]
    rows = [*measure()]
    assert rows
    assert {len(row) for row in rows} == {len(head)}


@pytest.mark.usefixtures("small")
def test_a_search_is_measured_against_as_many_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    passes = list[tuple[int, int]]()
    looked = TestTime.looked

    def counted(self: TestTime, *arguments: object):
        found = [*looked(self, *arguments)]
        passes.append((self._settings.budget, sum(len(states) for states in found)))
        return iter(found)

    monkeypatch.setattr(TestTime, "looked", counted)
    rows = [*discarded.measure()]
    assert {row[3] for row in rows} == {"4"}
    searched = [states for budget, states in passes if budget == 4]
    assert {*searched} == {4 * 2}
    independent = sum(states for budget, states in passes if budget == 1)
    assert independent * len(rows) == sum(searched)


Trained = tuple[FrameClassifier, PreparedStore, StageSettings]


@pytest.fixture(scope="module")
def ward(workspace: Workspace) -> Trained:
    train(workspace, PARAMS, "ward", "uniform")
    settings = PARAMS.stage("ward", "uniform")
    store = PreparedStore.open(workspace.prepared("ward"))
    return trained(workspace, settings, SEED), store, settings


def test_what_an_offset_costs_is_told_of_each_level_and_border(ward: Trained) -> None:
    backbone = ward[0].backbone
    found = [*offsets.changes(*ward, SEED)]
    assert ward[0].backbone is backbone
    levels = {what for what, _, _ in found if "level" in what}
    shifts = {what for what, _, _ in found if "shifted" in what}
    assert (len(levels), len(shifts)) == (5, 3)
    assert len(found) == 2 * 3 * (5 + 3)  # borders, and what is not (0,0)
    assert all(-1 <= change <= 1 for _, _, change in found)
    assert any(change for _, _, change in found)


def test_what_changes_nothing_costs_nothing(ward: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offsets, "_moved", lambda frames, **_: frames)
    found = offsets.changes(*ward, SEED)
    assert {change for what, _, change in found if "shifted" in what} == {0.0}
