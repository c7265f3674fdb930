import io

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from keyslice.config import Evaluate, Variant
from keyslice.evaluation.comparison import assess_all, compare
from keyslice.evaluation.presentation import (
    brief,
    cells,
    difference,
    gains,
    markdown,
    signed,
    spread,
    terminal,
)

VARIANTS = {
    "full": Variant(sampler="full"),
    "uniform": Variant(sampler="uniform", keep=0.5),
    "a_variant_with_a_long_name": Variant(sampler="das", keep=0.5),
}


@pytest.fixture
def table(make):
    results = {name: make(noise=number) for number, name in enumerate(VARIANTS)}
    test = assess_all(results, "test", Evaluate(resamples=50))
    return compare(test, VARIANTS, ("full", "uniform"), 0.95, None)


def test_a_mean_of_one_seed_has_no_spread():
    assert spread(pd.Series({"auc_mean": 0.5, "auc_sd": np.nan}), "auc") == "0.500"


def test_a_difference_carries_signs_and_interval():
    row = pd.Series({"d": -0.01, "d_low": -0.03, "d_high": 0.02})
    assert difference(row, "d") == "−0.010 (−0.030 to +0.020)"


def test_columns_without_any_value_are_left_out(table):
    assert "published AUC" not in cells(table, ("full",))
    assert "hit rate" in cells(table, ("full",))


def test_markdown_has_a_row_per_variant_of_equal_width(table):
    lines = markdown(table, ("full", "uniform")).splitlines()
    assert len(lines) == 2 + len(VARIANTS)
    assert len({line.count("|") for line in lines}) == 1
    assert not any(line.endswith(" ") for line in lines)


def test_the_brief_table_takes_its_cells_from_the_whole_one(table):
    headings, _, *rows = [
        line.strip("| ").split(" | ") for line in brief(table, ("full",)).splitlines()
    ]
    assert headings == ["variant", "AUC", "balanced accuracy", "AUC − full", "cost"]
    assert rows == cells(table, ("full",))[headings].to_numpy().tolist()


def test_the_brief_table_shows_what_was_published(table):
    table = table.assign(published_auc=[0.7, None, None])
    assert brief(table, ()).splitlines()[2].endswith(" | 0.700 |")


def shown(view):
    buffer = io.StringIO()
    Console(file=buffer, width=80, color_system=None).print(view)
    return buffer.getvalue().splitlines()


def test_the_terminal_table_fits_80_columns_uncut(table):
    lines = shown(terminal(table, "full", "a_variant_with_a_long_name"))
    assert max(map(len, lines)) <= 80
    for row, line in zip(table.itertuples(), lines[1:-1], strict=True):
        assert line.split()[0] == row.variant
        assert f"{row.auc_mean:.3f} ± {row.auc_sd:.3f}" in line
        assert line.rstrip().endswith("%")


@pytest.mark.parametrize("reference", ["full", "das_that_keeps_half_of_all_frames_a"])
def test_long_names_are_folded_and_stay_apart(table, reference):
    names = ["full", "das_that_keeps_half_of_all_frames_a", "das_that_keeps_half_of_all_frames_b"]
    renamed = table.assign(variant=names).rename(
        columns={"auc_minus_uniform": f"auc_minus_{names[1]}"}
    )
    lines = shown(terminal(renamed, reference, names[2]))
    assert max(map(len, lines)) <= 80
    first_column = "".join(line.split("  ")[0] for line in lines[:-1])
    assert first_column.replace(" ", "") == "variant" + "".join(names) + "◀"


def test_the_candidate_is_marked(table):
    marked = [line for line in shown(terminal(table, "full", "uniform")) if "◀" in line]
    assert [line.split()[0] for line in marked] == ["uniform"]


def test_a_table_read_back_from_its_file_looks_the_same(table, tmp_path):
    table.to_csv(tmp_path / "comparison.csv", index=False)
    again = pd.read_csv(tmp_path / "comparison.csv")
    assert shown(terminal(again, "full", None)) == shown(terminal(table, "full", None))


@pytest.mark.parametrize(("sd", "words"), [(0.1, "mean ± sd over seeds"), (np.nan, "one seed")])
def test_the_terminal_table_says_what_its_spread_is(table, sd, words):
    caption = shown(terminal(table.assign(auc_sd=sd), "full", None))[-1].strip()
    assert caption == f"test exams, {words}; intervals are in the report"


@pytest.fixture
def often(make):
    """The last two variants look more than once, at three times the cost."""
    results = {name: make(noise=number) for number, name in enumerate(VARIANTS)}
    test = assess_all(results, "test", Evaluate(resamples=50))
    before = {
        name: make(noise=9).assign(macs=table["macs"] / 3)
        for name, table in results.items()
        if name != "full"
    }
    once = assess_all(before, "test", Evaluate(resamples=50))
    return compare(test, VARIANTS, ("full", "uniform"), 0.95, None, once)


def test_where_every_variant_looks_once_nothing_is_told_of_gains(table):
    assert gains(table) is None
    assert gains(table.drop(columns="auc_gain")) is None  # of an earlier release


def test_what_looking_more_than_once_gains_and_costs_fits_80_columns(often):
    lines = shown(gains(often))
    assert max(map(len, lines)) <= 80
    rows = {row.variant: row for row in often.itertuples()}
    told = [line.split() for line in lines[2:] if "×" in line]
    assert told[0][0] == "uniform"
    assert told[1][0].startswith("a_variant_with")  # the rest comes below
    for line, name in zip(told, ("uniform", "a_variant_with_a_long_name"), strict=True):
        gained = [n for n, word in enumerate(line) if word == signed(rows[name].auc_gain)]
        assert gained
        assert line[gained[0] + 4] == signed(rows[name].balanced_accuracy_gain)
        assert line[-1] == "3.00×"


def test_gains_are_told_where_no_variant_sees_all_frames(often):
    blind = often.assign(cost=np.nan, plain_cost=np.nan)
    assert [line.split()[-1] for line in shown(gains(blind)) if "±" in line or "(" in line]
    assert "+ looks more than once" in shown(terminal(blind, "uniform", None))[-1]


def test_who_loses_by_looking_more_than_once_is_marked(often):
    interval = {"balanced_accuracy_gain_low": -0.3, "balanced_accuracy_gain_high": -0.1}
    worse = often.copy()
    worse.loc[worse["variant"] == "uniform", [*interval]] = [*interval.values()]
    better = worse.assign(auc_gain_high=0.1, balanced_accuracy_gain_high=0.1)
    assert any(line.startswith("uniform ▼") for line in shown(gains(worse)))
    assert "an interval lies below 0" in shown(gains(worse))[-1]
    assert "▼" not in " ".join(shown(gains(better)))


def test_the_terminal_table_marks_who_looks_more_than_once(table, often):
    lines = shown(terminal(often, "full", "uniform"))
    assert [line.split()[1] == "+" for line in lines[1:3]] == [False, True]
    assert lines[2].startswith("uniform + ◀")
    assert lines[-1].strip() == "+ looks more than once"
    for one in (table, table.drop(columns="plain_cost")):  # the second of an earlier release
        assert "+ looks" not in " ".join(shown(terminal(one, "full", None)))


def test_the_brief_table_tells_gain_and_cost_of_looking_more_than_once(often):
    headings = brief(often, ()).splitlines()[0].strip("| ").split(" | ")
    assert headings[-3:] == ["gain in AUC", "cost", "cost, one look"]
