"""The benchmarks run, and against what they say; what they find is for `make bench`."""

import pytest
import torch

from benchmarks import __main__ as page
from benchmarks import discarded, inference, training
from keyslice.models.test_time import TestTime


@pytest.fixture(autouse=True)
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


@pytest.mark.parametrize("title", ["Inference on the CPU", "Search over states", "Training step"])
def test_each_row_has_what_its_head_says(title: str) -> None:
    _, head, measure = page.TABLES[title]
    rows = [*measure()]
    assert rows
    assert {len(row) for row in rows} == {len(head)}


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
