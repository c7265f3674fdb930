from xml.sax.saxutils import escape

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.layout_engine import ConstrainedLayoutEngine

from keyslice.config import Evaluate, Variant
from keyslice.evaluation import palette, plots, where
from keyslice.evaluation.comparison import assess_all, compare
from keyslice.evaluation.predictions import predicted
from keyslice.evaluation.runs import Run

VARIANTS = {"full": Variant(sampler="full"), "das": Variant(sampler="das", keep=0.5)}
LOOKS = palette.looks(VARIANTS)


@pytest.fixture
def results(make):
    both = {"full": make(keep=1.0), "das": make(aim=2.0, noise=1)}
    return {name: table[table["split"] == "test"] for name, table in both.items()}


def draw(name, results):
    """One of the figures, from scratch."""
    history = pd.DataFrame(
        {"epoch": [0, 1], "train_loss": [1, 0.5], "validation_loss": [1, 2], "validation_auc": 0.5}
    )
    found = predicted(results["das"], "test")
    if name == "cost":
        assessed = assess_all(results, "test", Evaluate(resamples=50))
        return plots.cost(compare(assessed, VARIANTS, (), 0.95, None), "auc", LOOKS)
    if name == "looks":
        assessed = assess_all(results, "test", Evaluate(resamples=50))
        before = {"das": results["das"].assign(macs=results["das"]["macs"] / 2)}
        once = assess_all(before, "test", Evaluate(resamples=50))
        return plots.more_looks(compare(assessed, VARIANTS, (), 0.95, None, once), "auc", LOOKS)
    return {
        "training": lambda: plots.training({0: Run(history, 0, ())}, LOOKS["das"]),
        "positions": lambda: where.positions(results, LOOKS),
        "exam_maps": lambda: where.exam_maps(results, LOOKS),
        "reliability": lambda: plots.reliability(found, 15, LOOKS["das"]),
        "confusions": lambda: plots.confusions(found, ("a", "b"), LOOKS["das"]),
    }[name]()


FIGURES = ("cost", "looks", "training", "positions", "exam_maps", "reliability", "confusions")


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_drawn_twice_has_the_same_bytes(name, results):
    first, again = (palette.svg(draw(name, results)) for _ in range(2))
    assert first == again
    assert first.startswith("<svg")
    assert "<dc:date>" not in first


@pytest.mark.parametrize("name", [r"$\frac$", "$5", "a_1 & <b>"])
def test_a_class_is_named_as_it_is(name, results):
    found = predicted(results["das"], "test")
    drawn = palette.svg(plots.confusions(found, (name, "other"), LOOKS["das"]))
    assert drawn.count(f">{escape(name)}<") == 2


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_laid_out_around_its_legend_and_labels(name, results):
    assert isinstance(draw(name, results).get_layout_engine(), ConstrainedLayoutEngine)


def test_drawing_leaves_the_settings_of_matplotlib_as_they_were(results):
    before = dict(mpl.rcParams)
    palette.svg(draw("positions", results))
    assert dict(mpl.rcParams) == before


def test_variants_have_looks_of_their_own():
    looks = palette.looks([f"v{number}" for number in range(20)])
    assert len({(look.colour, look.marker) for look in looks.values()}) == 20


def test_a_variant_keeps_its_colour_when_others_follow():
    assert palette.looks(["a", "b"])["a"] == palette.looks(["a", "b", "c"])["a"]


def test_the_share_kept_is_counted_by_relative_position():
    rows = pd.DataFrame(
        {"frames": [2, 4], "kept": [[1], [2, 2]], "informative": [np.array([0]), None]}
    )
    kept, informative = where.kept_by_position(rows)
    # Of 2 frames the second lies at 0.75; of 4 the third at 0.625: bins 15 and 12 of 20.
    assert np.flatnonzero(kept).tolist() == [12, 15]
    assert kept[[12, 15]].tolist() == [1, 1]
    assert np.flatnonzero(informative).tolist() == [5]


def test_a_sampler_that_keeps_all_keeps_every_position(results):
    kept, _ = where.kept_by_position(results["full"])
    assert kept == pytest.approx(np.ones(where.POSITION_BINS))


def test_figures_do_without_known_informative_frames(make):
    rows = make(known=False)
    for figure in (where.positions, where.exam_maps):
        assert figure({"full": rows}, LOOKS).axes
