"""A retraining that starts from the champion, as a user sees it: whole, with real networks."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import scans

pytestmark = pytest.mark.skipif(
    "KEYSLICE_CHAOS" not in os.environ, reason="takes minutes; make chaos runs it"
)
PARAMS = scans.PARAMS | {
    "datasets": {"scans": scans.PARAMS["datasets"]["scans"] | {"train": {"start": "champion"}}},
    "variants": scans.PARAMS["variants"]
    | {"fresh": {"sampler": "das", "keep": 0.5, "train": {"start": "scratch"}}},
    "train": scans.PARAMS["train"] | {"seeds": [0]},
    "compare": scans.PARAMS["compare"] | {"candidates": ["das"]},
}
Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def keyslice(clone: Callable[..., Path]) -> Command:
    """`keyslice("status")`: in a clone with 24 exams, retrained on and approved."""
    root = clone(PARAMS)

    def run(*arguments: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
        program = "dvc" if arguments[0] == "dvc" else "keyslice.cli"
        rest = arguments[1:] if program == "dvc" else arguments
        done = scans.run(root, [sys.executable, "-P", "-m", program, *rest])
        assert not check or done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done

    run.root = root
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    run("dvc", "init", "-q")
    scans.write_exams(root / "data/inbox/scans", range(24))
    run("retrain", "scans")
    run("approve", "scans", "1", "--reason", "the first")
    return run


@pytest.fixture(scope="module")
def second(keyslice: Command) -> Command:
    """Retrained once more, with new exams."""
    # The approval alone is no reason to train.
    assert "Nothing new" in keyslice("retrain", "scans").stdout
    scans.write_exams(keyslice.root / "data/inbox/scans", range(24, 32))
    keyslice("retrain", "scans")
    return keyslice


def _initial(root: Path, variant: str) -> dict[str, object] | str:
    written = (root / "data/models/scans" / variant / "settings.json").read_text()
    return json.loads(written)["initial"]


def test_the_variant_of_the_champions_sampler_starts_from_it_and_the_others_do_not(
    second: Command,
) -> None:
    told = _initial(second.root, "das")
    assert isinstance(told, dict)
    assert (told["model"], told["version"]) == ("scans", 1)
    assert _initial(second.root, "full") == _initial(second.root, "fresh") == "scratch"
    said = {
        name: (second.root / "state/logs" / f"train@scans-{name}.log").read_text()
        for name in PARAMS["variants"]
    }
    assert "weights of scans/1, device cpu" in said["das"]
    assert "from scratch (no champion that it could start from" in said["full"]
    assert "weights none, device" in said["fresh"]


def test_nothing_is_due_after_it_and_dvc_agrees(second: Command) -> None:
    assert "Nothing new" in second("retrain", "scans").stdout
    assert json.loads(second("dvc", "status", "--json").stdout) == {}


def test_its_provenance_is_sound_and_names_the_version_it_started_from(second: Command) -> None:
    told = json.loads(second("verify", "scans/2", "--json").stdout)
    assert {item["state"] for item in told["items"]} == {"sound"}
    start = {item["what"]: item["detail"] for item in told["items"] if item["part"] == "start"}
    assert start["what the training noted"] == "scans/1"
    assert "the network of scans/1" in start
    assert json.loads(second("lineage", "scans/2", "--json").stdout)["started_from"] == [1]
    assert json.loads(second("lineage", "scans/1", "--json").stdout)["descendants"] == [2]


def test_it_is_rebuilt_bit_for_bit(second: Command) -> None:
    told = json.loads(second("reproduce", "scans", "2", "--json").stdout)
    assert told["outcome"] == "identical", told


def test_after_a_withdrawal_from_the_champion_trainings_start_from_scratch(
    second: Command,
) -> None:
    """Of a patient whom version 1 learned from; version 2 learned from them, too."""
    manifest = json.loads(second("lineage", "scans/1", "--json", "--exams").stdout)["rows"]
    learned = next(row["patient"] for row in manifest if row["split"] == "train")
    reason = ("--reason", "asked for it", "--yes", "--json")
    done = json.loads(second("withdraw", "--pseudonym", learned, *reason).stdout)
    [part] = [one for one in done["datasets"] if one["dataset"] == "scans"]
    assert part["models"] == [1, 2]
    assert not (second.root / "data/initial/scans").exists()
    second("retrain", "scans")
    assert _initial(second.root, "das") == "scratch"
    told = json.loads(second("lineage", "scans/3", "--json").stdout)
    assert told["started_from"] == []
