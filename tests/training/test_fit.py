import json
import os
import signal
import subprocess
import sys
import textwrap
import time

import pandas as pd
import pytest
import torch

from keyslice.config import Train
from keyslice.errors import UserError
from keyslice.models import build
from keyslice.training import device, fit
from keyslice.training.batches import Exams
from keyslice.training.module import FitModule

OUTPUTS = ("model.safetensors", "history.csv", "summary.json")


def _fit(store, settings, folder, seed=0, fresh=build.fresh):
    splits = [Exams(store, split, settings.classes) for split in ("train", "validation")]
    fit.fit_seed(settings, *splits, seed, folder, fresh=fresh)
    return {name: (folder / name).read_bytes() for name in OUTPUTS}


TRAIN = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    import pandas as pd
    import torch
    from keyslice.config import StageSettings
    from keyslice.prepared import PreparedStore
    from keyslice.training import fit
    from keyslice.training.batches import Exams
    frames, inputs, folder = map(Path, sys.argv[1:])
    settings = StageSettings.model_validate_json((inputs / "settings.json").read_text())
    table = pd.read_parquet(frames / "table.parquet")
    store = PreparedStore(frames, table, settings.prepare, "0" * 64)
    torch.set_num_threads(1)
    splits = [Exams(store, split, settings.classes) for split in ("train", "validation")]
    fit.fit_seed(settings, *splits, 0, folder)
    """
)


class Killed(BaseException):
    """As from outside: nothing may catch it."""


@pytest.fixture
def kill_after(monkeypatch):
    """`kill_after(n)`: training ends abruptly when the n-th epoch has been recorded."""

    def arm(epochs):
        write = fit.write_history

        def dying(rows, file):
            write(rows, file)
            if len(rows) == epochs:
                monkeypatch.setattr(fit, "write_history", write)
                raise Killed

        monkeypatch.setattr(fit, "write_history", dying)

    return arm


@pytest.mark.parametrize("sampler", ["das", "adps", "random"])
def test_a_killed_training_gives_the_same_files(
    store, stage_settings, tmp_path, kill_after, sampler
):
    settings = stage_settings(sampler, epochs=4, patience=9, learning_rate=1e-3)
    expected = _fit(store, settings, tmp_path / "undisturbed")
    for epochs in (1, 3):
        kill_after(epochs)
        with pytest.raises(Killed):
            _fit(store, settings, tmp_path / "killed")
    assert _fit(store, settings, tmp_path / "killed") == expected


def test_one_that_began_with_another_network_and_was_killed_gives_the_same_files(
    store, stage_settings, tmp_path, kill_after
):
    settings = stage_settings("das", epochs=2, learning_rate=1e-3)
    _fit(store, stage_settings("das", epochs=1, learning_rate=1e-3), tmp_path / "before", seed=7)

    def continued(settings, seed):
        return build.continued(settings, tmp_path / "before" / "model.safetensors")

    expected = _fit(store, settings, tmp_path / "undisturbed", fresh=continued)
    kill_after(1)
    with pytest.raises(Killed):
        _fit(store, settings, tmp_path / "killed", fresh=continued)
    assert _fit(store, settings, tmp_path / "killed", fresh=continued) == expected
    other = _fit(store, settings, tmp_path / "fresh")
    assert other["model.safetensors"] != expected["model.safetensors"]


@pytest.mark.skipif("KEYSLICE_CHAOS" not in os.environ, reason="long: make chaos")
def test_a_training_ended_by_the_system_gives_the_same_files(store, stage_settings, tmp_path):
    settings = stage_settings("das", epochs=30, patience=30, learning_rate=1e-3)
    store.table.to_parquet(store.folder / "table.parquet")
    (tmp_path / "settings.json").write_text(settings.model_dump_json())
    folder = tmp_path / "killed"
    command = [sys.executable, "-c", TRAIN, str(store.folder), str(tmp_path), str(folder)]
    with subprocess.Popen(command) as process:
        while not (folder / "last.ckpt").exists():
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    assert not (folder / "summary.json").exists()
    subprocess.run(command, check=True)
    undisturbed = tmp_path / "undisturbed"
    subprocess.run([*command[:-1], str(undisturbed)], check=True)
    for name in OUTPUTS:
        assert (folder / name).read_bytes() == (undisturbed / name).read_bytes()


def test_seeds_differ_and_a_seed_repeats(store, stage_settings, tmp_path):
    settings = stage_settings("uniform", epochs=2)
    first = _fit(store, settings, tmp_path / "a", seed=0)
    assert _fit(store, settings, tmp_path / "b", seed=0) == first
    assert (
        _fit(store, settings, tmp_path / "c", seed=1)["model.safetensors"]
        != first["model.safetensors"]
    )


def test_a_complete_folder_is_left_alone(store, stage_settings, tmp_path):
    settings = stage_settings("uniform", epochs=1)
    _fit(store, settings, tmp_path / "a")
    times = {p: p.stat().st_mtime_ns for p in (tmp_path / "a").iterdir()}
    _fit(store, settings, tmp_path / "a")
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "a").iterdir()} == times


@pytest.mark.parametrize("torn", [b"", b"PK\x03\x04 torn", b"no checkpoint at all"])
def test_a_torn_checkpoint_means_a_fresh_start(store, stage_settings, tmp_path, torn):
    settings = stage_settings("uniform", epochs=1)
    expected = _fit(store, settings, tmp_path / "a")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "last.ckpt").write_bytes(torn)
    assert _fit(store, settings, tmp_path / "b") == expected


@pytest.mark.parametrize("loss", ["the best checkpoint", "the place"])
def test_a_checkpoint_that_cannot_be_resumed_exactly_means_a_fresh_start(
    store, stage_settings, tmp_path, kill_after, loss
):
    settings = stage_settings("uniform", epochs=4, patience=9, learning_rate=3e-2)
    expected = _fit(store, settings, tmp_path / "undisturbed")
    kill_after(3)
    with pytest.raises(Killed):
        _fit(store, settings, tmp_path / "killed")
    if loss == "the place":
        (tmp_path / "killed").rename(tmp_path / "moved")
        folder = tmp_path / "moved"
    else:
        (tmp_path / "killed" / "best.ckpt").unlink()
        folder = tmp_path / "killed"
    assert _fit(store, settings, folder) == expected


def test_what_separates_the_classes_is_learned_and_the_best_epoch_kept(
    store, stage_settings, tmp_path
):
    settings = stage_settings("full", epochs=12, patience=12, learning_rate=3e-3)
    _fit(store, settings, tmp_path)
    history = pd.read_csv(tmp_path / "history.csv")
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["best_epoch"] == history["validation_loss"].idxmin()
    assert history["validation_auc"].max() > 0.9
    assert list(history["epoch"]) == list(range(12))


def test_the_weights_that_are_kept_are_those_of_the_best_epoch(store, stage_settings, tmp_path):
    settings = stage_settings("uniform", epochs=6, patience=9, learning_rate=3e-2)
    _fit(store, settings, tmp_path)
    summary = json.loads((tmp_path / "summary.json").read_text())
    history = pd.read_csv(tmp_path / "history.csv")
    assert summary["best_epoch"] < 5, "the last epoch would prove nothing"
    model = build.load(settings, tmp_path / "model.safetensors")
    module = FitModule(model, settings.train, seed=0, classes=2)
    with torch.no_grad():
        for batch in Exams(store, "validation", settings.classes).batches(32):
            module.validation_step(batch)
    ((_, _, losses),) = module._validation
    assert losses.mean().item() == pytest.approx(summary["validation_loss"], rel=1e-5)
    assert summary["validation_loss"] == pytest.approx(history["validation_loss"].min())


def test_torch_is_asked_for_repeatable_algorithms_and_left_as_it_was(
    store, stage_settings, tmp_path, monkeypatch
):
    def asked():
        return (
            torch.are_deterministic_algorithms_enabled(),
            torch.utils.deterministic.fill_uninitialized_memory,
            torch.backends.cudnn.allow_tf32,
        )

    before, during, write = asked(), [], fit.write_history

    def watch(rows, file):
        during.append(asked())
        write(rows, file)

    monkeypatch.setattr(fit, "write_history", watch)
    _fit(store, stage_settings("uniform", epochs=1), tmp_path)
    assert during[0] == (True, False, False)
    assert asked() == before == (False, True, True)


def test_nothing_but_the_results_and_no_pickle_stays(store, stage_settings, tmp_path):
    _fit(store, stage_settings("das", epochs=1), tmp_path / "out")
    assert {p.name for p in (tmp_path / "out").iterdir()} == {*OUTPUTS}


def test_a_diverging_training_is_told_in_one_line(store, stage_settings, tmp_path):
    settings = stage_settings("uniform", epochs=2, learning_rate=1e30)
    with pytest.raises(UserError, match=r"loss is not finite.*lower train\.learning_rate"):
        _fit(store, settings, tmp_path)


def test_a_training_that_diverges_later_says_so_in_its_summary(
    store, stage_settings, tmp_path, monkeypatch, capsys
):
    weighted = FitModule._weighted

    def diverging(module, losses, labels):
        factor = 1.0 if module.current_epoch < 2 else float("nan")
        return weighted(module, losses, labels) * factor

    monkeypatch.setattr(FitModule, "_weighted", diverging)
    _fit(store, stage_settings("uniform", epochs=5), tmp_path)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["epochs"] == 3
    (warning,) = summary["warnings"]
    assert "the validation loss of epoch 2 is not finite" in warning
    assert f"the weights of epoch {summary['best_epoch']}" in warning
    assert f"tiny · uniform · seed 0 · warning: {warning}\n" in capsys.readouterr().out


def test_an_epoch_that_diverged_is_never_the_best():
    assert fit.best_epoch([2.0, 1.0, float("nan")]) == 1
    assert fit.best_epoch([float("inf"), 3.0]) == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_told():
    with pytest.raises(UserError, match=r"train\.device: cuda: no GPU was found"):
        device.device(Train(device="cuda"))


@pytest.mark.parametrize(
    ("losses", "ended"),
    [
        ([], False),
        ([3.0, 2.0, 1.0], False),
        ([1.0, 2.0, 3.0], True),
        ([2.0, 1.0, 1.0, 1.0], True),
        ([2.0, 1.0, 1.5], False),
        ([float("nan")], True),
        ([5.0, 4.0, 3.0, 2.0, 1.0], True),
    ],
)
def test_the_end_is_told_from_the_history(losses, ended):
    rows = [{"validation_loss": value} for value in losses]
    assert fit.stopped(rows, Train(patience=2, epochs=5)) is ended
