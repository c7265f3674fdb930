"""A sweep tells of every way what the network gives that is set to it."""

import os
import shutil
import signal
import threading
import time
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from keyslice import files
from keyslice.config import Evaluate, Params, Workspace
from keyslice.config import TestTime as Settings
from keyslice.console import sweeping
from keyslice.errors import UserError
from keyslice.evaluation import sweep as shown
from keyslice.evaluation.presentation import difference
from keyslice.evaluation.sweep import ONCE, SHIFTS, VIEWS, Looks
from keyslice.models.inference import Meter
from keyslice.models.test_time import TestTime
from keyslice.prepared import PreparedStore
from keyslice.stages import sweep as stage
from keyslice.stages.evaluate import trained, unseen
from keyslice.stages.train import train
from tests.stages.test_train_evaluate import PARAMS, workspace

__all__ = ["workspace"]
SEED = 3
DEEPEST: Any = {"layers": 3, "border": "zeros"}


@pytest.fixture(scope="module")
def swept(workspace: Workspace) -> Workspace:
    threads = torch.get_num_threads()
    try:
        train(workspace, PARAMS, "ward", "uniform")
        for seed in PARAMS.stage("ward", "uniform").train.seeds:
            found = list(stage.sweep(workspace, PARAMS, "ward", "uniform", seed))
            assert found == [way.name for way in stage.WAYS]
    finally:
        torch.set_num_threads(threads)
    return workspace


@pytest.fixture(scope="module")
def found(swept: Workspace) -> dict[Looks, object]:
    return shown.read(swept.sweep("ward", "uniform"), PARAMS.stage("ward", "uniform").train.seeds)


@pytest.mark.parametrize(
    ("looks", "settings"),
    [
        (ONCE, Settings()),
        (Looks(VIEWS, "mean", 3), Settings(views=("flip_horizontal", "flip_vertical"))),
        (Looks(SHIFTS, "mean", 3), Settings(views=("shift_left", "shift_right"))),
        (Looks("entropy", "entropy", 4), Settings(budget=4, aggregation="entropy", **DEEPEST)),
        (Looks("random", "mean", 8), Settings(budget=8, criterion="random", **DEEPEST)),
        (Looks("all-levels", "mean", 15), Settings(budget=15, layers="all", border="zeros")),
        (Looks("kept-border", "mean", 4), Settings(budget=4, layers=3)),
        (
            Looks("first-levels", "entropy", 8),
            Settings(budget=8, aggregation="entropy"),
        ),
    ],
)
def test_a_way_is_what_the_network_gives_that_is_set_to_it(
    swept: Workspace, found, looks: Looks, settings: Settings
) -> None:
    stage_settings = PARAMS.stage("ward", "uniform")
    model = trained(swept, stage_settings, SEED)
    looking = TestTime(model, settings, stage_settings.prepare.image_size).eval()
    meter, table = Meter(looking, SEED), found[looks]
    own = table[table["seed"] == SEED].set_index("exam_id")
    for batch, _ in unseen(PreparedStore.open(swept.prepared("ward")), stage_settings):
        for exam, (output, macs) in zip(
            batch.exam_ids, meter(batch.frames, batch.lengths, batch.exam_ids), strict=True
        ):
            told = own.loc[exam]
            np.testing.assert_allclose(told["probabilities"], output.probabilities, rtol=1e-4)
            assert told["macs"] == pytest.approx(macs)


def test_what_is_there_is_not_done_again_and_what_depends_on_another_network_is(
    swept: Workspace, tmp_path: Path
) -> None:
    folder = swept.sweep("ward", "uniform") / f"seed-{SEED}"

    def written() -> dict[str, int]:
        return {file.parent.name: file.stat().st_mtime_ns for file in folder.glob("*/*")}

    before = written()
    list(stage.sweep(swept, PARAMS, "ward", "uniform", SEED))
    assert written() == before
    network = swept.models("ward", "uniform") / f"seed-{SEED}" / "model.safetensors"
    content = network.read_bytes()
    try:
        # Another network of the same shape: the other seed's.
        network.write_bytes((network.parents[1] / "seed-0" / network.name).read_bytes())
        assert next(stage.sweep(swept, PARAMS, "ward", "uniform", SEED)) == VIEWS
        [views] = [name for name in written() if name.startswith(VIEWS)]
        assert views not in before
        assert {*written()} - {views} < {*before}
    finally:
        network.write_bytes(content)
        list(stage.sweep(swept, PARAMS, "ward", "uniform", SEED))


def test_figures_of_a_network_that_is_replaced_meanwhile_are_not_kept(
    swept: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = swept.sweep("ward", "uniform") / f"seed-{SEED}"
    network = swept.models("ward", "uniform") / f"seed-{SEED}" / "model.safetensors"
    content, other = network.read_bytes(), network.parents[1] / "seed-0" / network.name
    [random] = folder.glob("random-*")
    shutil.rmtree(random)
    (folder / ".DS_Store").write_text("no folder")
    tried = stage._tried

    def meanwhile(*arguments: Any) -> stage.Tried:
        network.write_bytes(other.read_bytes())
        return tried(*arguments)

    monkeypatch.setattr(stage, "_tried", meanwhile)
    try:
        with pytest.raises(UserError, match="changed while it was being read"):
            list(stage.sweep(swept, PARAMS, "ward", "uniform", SEED))
    finally:
        network.write_bytes(content)
        (folder / ".DS_Store").unlink()
    assert not [*folder.glob("*random-*")]
    monkeypatch.undo()
    list(stage.sweep(swept, PARAMS, "ward", "uniform", SEED))
    assert random.is_dir()


def _waits(_: Workspace, __: Params, ___: str, variant: str, seed: int) -> None:
    if variant == "full":
        raise UserError("not trained")
    time.sleep(600)


@pytest.mark.parametrize("interrupted", [True, False])
def test_a_failure_or_ctrl_c_ends_what_else_runs(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, interrupted: bool
) -> None:
    monkeypatch.setattr(sweeping, "_swept", _waits)
    variants = ["uniform", "uniform"] if interrupted else ["full", "uniform"]
    before = set(active_children())
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored under xdist
    if interrupted:
        threading.Timer(5, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    try:
        with pytest.raises(KeyboardInterrupt if interrupted else UserError):
            sweeping.run(workspace, PARAMS, "ward", variants, parallel=2)
    finally:
        signal.signal(signal.SIGINT, handler)
    assert set(active_children()) <= before


def test_gains_are_over_one_look_and_over_views_that_cost_as_much(found) -> None:
    table = shown.gains(found, Evaluate(resamples=50)).set_index(["way", "aggregation", "budget"])
    assert len(table) == len(found) - 1
    assert ONCE not in table.index
    views = table.loc[VIEWS]
    assert views["auc_minus_views"].isna().all()
    assert views["cost"].to_numpy() == pytest.approx(
        views.index.get_level_values("budget"), rel=0.05
    )
    own = table.loc["entropy", "mean", 15]
    beside = table.loc[VIEWS, "mean", own["views"]]
    assert abs(own["cost"] - beside["cost"]) == (own["cost"] - views["cost"]).abs().min()
    difference = own["auc_gain"] - beside["auc_gain"]
    assert own["auc_minus_views"] == pytest.approx(difference)
    assert own["auc_gain_low"] <= own["auc_gain"] <= own["auc_gain_high"]


@pytest.mark.parametrize(("gained", "low"), [(-0.1, -0.2), (0.0, -0.1), (0.2, -0.01), (0.2, 0.01)])
def test_what_validation_exams_would_have_one_choose_is_told(
    found, gained: float, low: float
) -> None:
    table = shown.gains(found, Evaluate(resamples=9))
    table["validation_auc_gain"], table["validation_auc_gain_low"] = gained - 0.5, -1.0
    two = table.index[[3, 7]]
    table.loc[two, "validation_auc_gain"] = gained
    table.loc[two, "validation_auc_gain_low"] = low
    table.loc[table.index[5], "validation_auc_gain"] = 0.3 if low > 0 else -0.3  # by chance
    row = table.loc[two].sort_values("cost").iloc[0]
    told = shown.best(table)
    if gained <= 0:
        assert told == "On validation exams nothing gains in AUC: one look it is."
    else:
        first = (
            "Best on validation exams by AUC:"
            if low > 0
            else "On validation exams no gain in AUC can be told from 0; the largest is that of"
        )
        assert told.startswith(
            f"{first} {row['way']}, {row['aggregation']}, budget {row['budget']}, "
        )
        assert f": {difference(row, 'validation_auc_gain')}, " in told
        assert f"On test exams: {difference(row, 'auc_gain')}, " in told
        assert told in shown.markdown(table)


def test_intervals_that_leave_0_out_are_counted_apart_for_states_and_views() -> None:
    rows = pd.DataFrame(
        [
            ("entropy", 0.01, 0.2),
            ("entropy", -0.2, -0.01),
            ("random", -0.3, -0.1),
            ("random", -0.1, 0.1),
            (VIEWS, 0.02, 0.1),
            (SHIFTS, 0.0, 0.1),
        ],
        columns=["way", "auc_gain_low", "auc_gain_high"],
    )
    assert shown.counted([rows, rows[:1]]) == (
        "Intervals of the gain in AUC: 2 above 0 and 2 below of 5 rows of states, "
        "1 above 0 and 0 below of 2 rows of views."
    )


def test_a_section_has_a_row_for_each_way_and_a_picture(swept: Workspace, tmp_path: Path) -> None:
    page = tmp_path / "results.md"
    found = sweeping.tables(swept, PARAMS, "ward", ["uniform"])
    text = sweeping.section(swept, PARAMS, "ward", found, page)
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    ways = [row.split(" | ")[0][2:] for row in rows[2:]]
    assert {way.name for way in stage.WAYS} == {*ways}
    assert ways.count("entropy") == 9
    assert (ways.count(VIEWS), ways.count(SHIFTS)) == (11, 8)
    seeds = PARAMS.stage("ward", "uniform").train.seeds
    weights = [swept.models("ward", "uniform") / f"seed-{n}" / "model.safetensors" for n in seeds]
    assert all(files.sha256(file)[:12] in text for file in weights)
    assert shown.counted(found.values()) in text
    told = {way.name: f"- `{way.name}`: {way.settings.states}\n" for way in stage.WAYS}
    assert all((line in text) is (name not in (VIEWS, SHIFTS)) for name, line in told.items())
    drawn = (tmp_path / "figures" / "ward-test-time.svg").read_text()
    assert drawn.startswith("<svg")
    assert "gain in AUC" in drawn
