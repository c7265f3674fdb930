import pytest

from keyslice.evaluation.published import BENCHMARK, PAPER, paper


@pytest.mark.parametrize("table", [PAPER, BENCHMARK], ids=["paper", "benchmark"])
def test_figures_are_shares_of_one(table):
    assert len(table) == 6
    assert all(0 < v < 1 for row in table.values() for one in row.values() for v in one[:2])


def test_a_variant_that_keeps_another_share_has_no_published_figure():
    assert paper("adrenalmnist3d", "dps", 0.5) == (0.590, 0.634, "")
    assert paper("adrenalmnist3d", "dps", 0.25) is None


def test_the_full_exam_has_one_at_its_own_share():
    assert paper("adrenalmnist3d", "full", 1.0) == (0.671, 0.764, "")


def test_other_data_and_other_samplers_have_none():
    assert paper(None, "dps", 0.5) is None
    assert paper("adrenalmnist3d", "nonempty", 0.5) is None


def test_a_misprint_is_named():
    assert "0.782" in PAPER["nodulemnist3d"]["adps"].note
