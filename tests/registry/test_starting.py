"""Before a training the champion's network is laid down, as files that DVC and git hold."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from keyslice import files, initial, versioning
from keyslice.config import Params, Workspace, load
from keyslice.console import promotion
from keyslice.errors import UserError
from keyslice.provenance import ledger, purge, standing
from keyslice.registry import champion, starting
from keyslice.registry.client import connect
from keyslice.registry.publish import publish
from keyslice.versioning import lock

STALE = ["compare@tiny", "train@tiny-das", "train@tiny-uniform"]


@pytest.fixture(scope="module")
def approved(
    finished: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Workspace, Params]]:
    """Version 1, of das, is champion; trainings are to start from the champion, but uniform's."""
    place = tmp_path_factory.mktemp("approved") / "workspace"
    workspace = Workspace(Path(shutil.copytree(finished, place)))
    with pytest.MonkeyPatch.context() as environment:
        environment.delenv("MLFLOW_TRACKING_URI", raising=False)
        publish(workspace, load(workspace.params), "tiny")
        client = connect(workspace)
        champion.move(workspace, client, "tiny", 1, because="promotion", decision=None, reason="")
        settings = yaml.safe_load(workspace.params.read_text())
        settings["train"]["start"] = "champion"
        settings["variants"]["uniform"]["train"] = {"start": "scratch"}
        workspace.params.write_text(yaml.safe_dump(settings))
        yield workspace, load(workspace.params)


@pytest.fixture
def workspace(approved: tuple[Workspace, Params]) -> Workspace:
    """Where nothing has been laid down yet."""
    shutil.rmtree(approved[0].data / "initial", ignore_errors=True)
    return approved[0]


@pytest.fixture
def reigning(approved: tuple[Workspace, Params]) -> Params:
    return approved[1]


def _entries(workspace: Workspace) -> dict[str, str]:
    read = initial.read(workspace, "tiny")
    return {variant: one.name if one else "scratch" for variant, one in read.items()}


def test_the_champions_network_is_laid_down_for_what_is_due_and_asks_for_it(
    workspace: Workspace, reigning: Params
) -> None:
    words = starting.lay_down(workspace, reigning, "tiny", STALE)
    assert words == {"uniform": "from scratch", "das": "from tiny/1"}
    assert _entries(workspace) == {"full": "scratch", "uniform": "scratch", "das": "tiny/1"}
    told = standing.registered(ledger.read(workspace), "tiny", 1)
    one = initial.read(workspace, "tiny")["das"]
    assert told is not None
    assert one is not None
    assert (one.weights, one.package) == (told.payload["weights"], told.payload["package"])
    network = initial.network(workspace, "tiny", one.weights)
    assert files.sha256(network) == one.weights
    assert lock.version_in(workspace.networks_pointer("tiny").read_text())
    commit = versioning.run_commit(workspace, "r", "a run")
    listed = versioning.run(["git", "ls-tree", "-r", "--name-only", commit], cwd=workspace.root)
    held = {line for line in listed.lines if line.startswith("data/initial")}
    assert held == {"data/initial/tiny.json", "data/initial/tiny.dvc"}

    network.chmod(0o644)  # else it is DVC's own
    network.unlink()
    network.write_text("altered")
    starting.lay_down(workspace, reigning, "tiny", STALE)
    assert files.sha256(network) == one.weights
    before = workspace.initial("tiny").read_bytes()
    assert starting.lay_down(workspace, reigning, "tiny", ["compare@tiny"]) == {}
    everything = starting.lay_down(workspace, reigning, "tiny", ["prepare@tiny"])
    assert everything["full"] == "from scratch: its sampler: full; of tiny/1: das"
    assert workspace.initial("tiny").read_bytes() == before

    purge.initial_networks(workspace, "tiny", [2])  # as a withdrawal does
    assert _entries(workspace)["das"] == "tiny/1"
    purge.initial_networks(workspace, "tiny", [1])
    assert set(_entries(workspace).values()) == {"scratch"}
    assert not workspace.networks("tiny").exists()
    assert not workspace.networks_pointer("tiny").exists()


def test_a_champion_that_learned_from_who_has_withdrawn_is_not_started_from(
    workspace: Workspace, reigning: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(starting.withdrawn, "models_affected", lambda _: {("tiny", 1): 2})
    words = starting.lay_down(workspace, reigning, "tiny", STALE)
    said = "from scratch: the champion, tiny/1, learned from exams withdrawn since"
    assert words["das"] == said
    assert set(_entries(workspace).values()) == {"scratch"}


def test_before_there_is_a_champion_trainings_start_from_scratch_and_say_so(
    workspace: Workspace, reigning: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(starting.standing, "champion", lambda *_: None)
    words = starting.lay_down(workspace, reigning, "tiny", STALE)
    assert words["das"] == "from scratch: there is no champion yet"


def test_where_nobody_asks_for_it_nothing_is_done(workspace: Workspace, reigning: Params) -> None:
    train = reigning.train.model_copy(update={"start": "scratch"})
    params = reigning.model_copy(update={"train": train})
    assert starting.lay_down(workspace, params, "tiny", STALE) == {}
    assert not workspace.initial("tiny").exists()


def test_a_package_that_was_altered_is_not_started_from(
    workspace: Workspace, reigning: Params
) -> None:
    [stored] = (workspace.state / "artifacts").rglob("package/model.safetensors")
    content = stored.read_bytes()
    stored.write_text("other weights")
    with pytest.raises(UserError, match="stored package is not the one"):
        starting.lay_down(workspace, reigning, "tiny", STALE)
    stored.write_bytes(content)
    assert not workspace.initial("tiny").exists()


def test_who_runs_dvc_by_hand_has_it_laid_down_with_the_plan(
    workspace: Workspace, reigning: Params, capsys: pytest.CaptureFixture[str]
) -> None:
    promotion.plan(workspace, reigning, "tiny", as_json=True)
    told = json.loads(capsys.readouterr().out)
    # The settings have changed, and with them all trainings.
    assert told["starts"]["das"] == "from tiny/1"
    assert _entries(workspace)["das"] == "tiny/1"
