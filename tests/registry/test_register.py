import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

import keyslice
from keyslice import files, versioning
from keyslice.config import Params, Workspace, load
from keyslice.errors import UserError
from keyslice.evaluation import predictions
from keyslice.registry import loader, tags
from keyslice.registry.client import connect
from keyslice.registry.mirror import Mirror
from keyslice.registry.models import _registered, download, models
from keyslice.registry.publish import publish
from keyslice.registry.register import register
from keyslice.stages.running import only_retraining

pytestmark = pytest.mark.forked_dvc

VARIANTS = ("full", "uniform", "das")


@pytest.fixture
def parent(workspace: Workspace) -> str:
    mirror = Mirror(workspace, "tiny")
    return mirror.complete(mirror.begin(), VARIANTS, "c0ffee")


def test_the_candidate_becomes_the_challenger(
    workspace: Workspace, params: Params, parent: str
) -> None:
    made = register(workspace, params, "tiny", parent)
    [listed] = models(workspace)
    assert (listed.name, listed.version, listed.aliases) == ("tiny", 1, ("challenger",))
    assert (listed.variant, listed.seed, listed.auc) == ("das", 1, 0.71)
    assert made.tags[tags.COMMIT] == "c0ffee"
    assert made.tags["keyslice.weights"] == files.sha256(
        workspace.models("tiny", "das") / "seed-1/model.safetensors"
    )
    assert made.tags["keyslice.retraining_run"] == parent


def test_a_version_names_what_the_model_has_learned_to_look_more_than_once(
    workspace: Workspace, params: Params, parent: str
) -> None:
    learned = workspace.results("tiny", "das") / "test_time" / "seed-1.safetensors"
    made = register(workspace, params, "tiny", parent)
    about = json.loads((download(workspace, "tiny") / "package.json").read_text())
    assert made.tags["keyslice.state_attention"] == files.sha256(learned)
    assert about["state_attention"] == files.sha256(learned)
    assert about["settings"]["evaluate"]["test_time"]["budget"] == 4
    learned.write_text("another")
    other = register(workspace, params, "tiny", parent)
    assert [str(made.version), str(other.version)] == ["1", "2"]
    assert other.tags["keyslice.weights"] == made.tags["keyslice.weights"]


def test_the_same_candidate_is_registered_once(
    workspace: Workspace, params: Params, parent: str
) -> None:
    versions = {register(workspace, params, "tiny", parent).version for _ in range(2)}
    assert len(versions) == len(models(workspace)) == 1


def test_other_weights_are_another_version_and_take_the_alias(
    workspace: Workspace, params: Params, parent: str
) -> None:
    register(workspace, params, "tiny", parent)
    (workspace.models("tiny", "das") / "seed-1/model.safetensors").write_text("other")
    register(workspace, params, "tiny", parent)
    assert [one.aliases for one in models(workspace)] == [("challenger",), ()]


def test_a_version_names_what_was_trained_on_though_there_are_newer_exams(
    workspace: Workspace, params: Params, parent: str
) -> None:
    trained_on = versioning.version(workspace, "tiny")
    manifest = files.sha256(workspace.manifest("tiny"))
    workspace.manifest("tiny").write_text("another")
    versioning.record_version(workspace, "tiny")
    made = register(workspace, params, "tiny", parent)
    assert made.tags[tags.VERSION] == trained_on
    assert made.tags["keyslice.manifest"] == manifest


def test_results_that_are_no_longer_the_runs_are_not_registered(
    workspace: Workspace, params: Params, parent: str
) -> None:
    file = workspace.root / "dvc.lock"
    file.write_text(file.read_text().replace("epochs: 3", "epochs: 4"))
    with pytest.raises(UserError, match="have changed since run"):
        register(workspace, params, "tiny", parent)
    assert models(workspace) == []


def test_the_package_holds_no_code_and_no_pickle(
    workspace: Workspace, params: Params, parent: str
) -> None:
    register(workspace, params, "tiny", parent)
    root = download(workspace, "tiny", "@challenger").parents[1]
    assert {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()} == {
        "data/package/model.safetensors",
        "data/package/package.json",
        "data/package/state_attention.safetensors",
        "MLmodel",
        "conda.yaml",
        "python_env.yaml",
        "requirements.txt",
    }
    loading = yaml.safe_load((root / "MLmodel").read_text())["flavors"]["python_function"]
    assert (loading["loader_module"], loading["data"]) == (loader.__name__, "data/package")
    assert loading["code"] is None
    assert not {"python_model", "model_code_path"} & loading.keys()


def test_a_package_says_what_it_is_for_and_how_it_is_used(workspace: Workspace) -> None:
    values = yaml.safe_load(workspace.params.read_text())
    values["datasets"]["tiny"]["intended_use"] = "Triage of CTs; für Erwachsene"
    workspace.params.write_text(yaml.safe_dump(values, allow_unicode=True), encoding="utf-8")
    mirror = Mirror(workspace, "tiny")
    parent = mirror.complete(mirror.begin(), VARIANTS, "c0ffee")
    made = register(workspace, load(workspace.params), "tiny", parent)
    assert made.description is not None
    assert made.description.endswith("Intended use: Triage of CTs; für Erwachsene")
    text = (download(workspace, "tiny") / "package.json").read_text(encoding="utf-8")
    assert "für Erwachsene" in text
    about = json.loads(text)
    assert list(about) == [
        "format_version",
        "intended_use",
        "settings",
        "slice_axis",
        "thresholds",
        "training",
        "packaged_with",
        "state_attention",
        "provenance",
    ]
    assert about["settings"]["classes"] == ["healthy", "lesion"]
    assert (about["settings"]["sampler"], about["settings"]["keep"]) == ("das", 0.5)
    assert "image_size" in about["settings"]["prepare"]
    assert about["training"]["seed"] == 1
    assert about["packaged_with"]["keyslice"] == keyslice.__version__
    assert about["provenance"][tags.COMMIT] == "c0ffee"


def test_thresholds_are_chosen_on_the_validation_exams_of_the_seed(
    workspace: Workspace, params: Params, parent: str
) -> None:
    file = workspace.results("tiny", "das") / "predictions.parquet"
    rows = predictions.read(file)
    own = (rows["seed"] == 1) & (rows["split"] == "validation")
    # The others would all choose another threshold.
    rows.loc[own, "probabilities"] = pd.Series(
        [np.array([1 - p, p]) for p in (0.02, 0.04)], index=rows.index[own]
    )
    predictions.write(rows, file)
    register(workspace, params, "tiny", parent)
    about = json.loads((download(workspace, "tiny") / "package.json").read_text())
    assert about["thresholds"]["chosen_on"] == "validation"
    assert about["thresholds"]["classes"] == {
        "lesion": {
            "threshold": pytest.approx(0.03),
            "sensitivity": 1,
            "specificity": 1,
            "positives": 1,
            "negatives": 1,
        }
    }


@pytest.mark.parametrize("content", [None, b"", b"other seeds"])
def test_without_validation_predictions_of_the_seed_nothing_is_registered(
    workspace: Workspace, params: Params, parent: str, content: bytes | None
) -> None:
    file = workspace.results("tiny", "das") / "predictions.parquet"
    if content == b"other seeds":
        rows = predictions.read(file)
        predictions.write(rows[rows["seed"] != 1], file)
    elif content is None:
        file.unlink()
    else:
        file.write_bytes(content)
    with pytest.raises(UserError, match=r"no validation predictions.*dvc repro evaluate@tiny-das"):
        register(workspace, params, "tiny", parent)
    assert models(workspace) == []


def test_a_package_of_an_older_format_is_made_anew(
    workspace: Workspace, params: Params, parent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the error about its format gives as the way out."""
    with monkeypatch.context() as older:
        older.setattr("keyslice.registry.package.FORMAT_VERSION", 1)
        register(workspace, params, "tiny", parent)
    with pytest.raises(UserError, match=r"format_version is 1.* keyslice register"):
        download(workspace, "tiny")
    register(workspace, params, "tiny", parent)
    assert download(workspace, "tiny", "2") == download(workspace, "tiny")


def test_a_pickle_in_the_place_of_the_weights_is_not_opened(
    workspace: Workspace, params: Params, parent: str, tmp_path: Path
) -> None:
    mark, file = tmp_path / "unpickled", workspace.models("tiny", "das") / "seed-1"

    class Harmful:
        def __reduce__(self) -> tuple[object, tuple[str, ...]]:
            return os.mkdir, (str(mark),)

    (file / "model.safetensors").write_bytes(pickle.dumps(Harmful()))
    register(workspace, params, "tiny", parent)  # its hash is in order
    folder = download(workspace, "tiny")
    with pytest.raises(UserError, match="no safetensors file"):
        loader._load_pyfunc(str(folder))
    assert not mark.exists()
    pickle.loads((folder / "model.safetensors").read_bytes())
    assert mark.exists()  # it would have


def test_weights_that_the_package_does_not_name_are_refused_without_asking_the_registry(
    workspace: Workspace, params: Params, parent: str
) -> None:
    register(workspace, params, "tiny", parent)
    folder = download(workspace, "tiny")
    (folder / "model.safetensors").write_text("altered")
    with pytest.raises(UserError, match=r"is not the one that package\.json names"):
        loader._load_pyfunc(str(folder))
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"is not the one that package\.json names"):
        loader._load_pyfunc(str(folder))


def test_a_package_that_was_altered_in_any_file_is_refused(
    workspace: Workspace, params: Params, parent: str
) -> None:
    register(workspace, params, "tiny", parent)
    package = download(workspace, "tiny", "1")
    description = (package / "package.json").read_text()
    assert "lesion" in description
    for name, altered in (
        ("model.safetensors", "altered"),
        ("package.json", description.replace("lesion", "healthier")),
        ("added.json", "{}"),
    ):
        file = package / name
        before = file.read_bytes() if file.exists() else None
        file.write_text(altered)
        with pytest.raises(UserError, match="not the one that was registered"):
            download(workspace, "tiny", "1")
        file.unlink() if before is None else file.write_bytes(before)
    assert download(workspace, "tiny", "1") == package


def test_a_servers_package_is_fetched_once_and_again_where_it_was_altered(
    workspace: Workspace, params: Params, parent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(workspace, params, "tiny", parent)
    stored, fetched = download(workspace, "tiny"), []

    def fetch(uri: str, *, dst_path: str, **_: object) -> str:
        fetched.append(uri)
        return str(shutil.copytree(stored, Path(dst_path) / stored.name))

    monkeypatch.setattr("mlflow.artifacts.download_artifacts", fetch)
    monkeypatch.setattr(
        "mlflow.MlflowClient.get_model_version_download_uri", lambda *_: "mlflow-artifacts:/0/model"
    )
    first = download(workspace, "tiny")
    assert first.is_relative_to(workspace.state)
    assert download(workspace, "tiny") == first
    assert fetched == ["mlflow-artifacts:/0/model/data/package"]
    (first / "model.safetensors").write_text("altered")
    assert (download(workspace, "tiny") / "model.safetensors").read_text() != "altered"
    assert len(fetched) == 2


def test_models_of_others_are_neither_listed_nor_loaded(
    workspace: Workspace, params: Params, parent: str
) -> None:
    register(workspace, params, "tiny", parent)
    client = connect(workspace)
    client.create_registered_model("spam")
    client.create_model_version("spam", source=str(workspace.state))
    assert [one.name for one in models(workspace)] == ["tiny"]
    with pytest.raises(UserError, match="not one that Keyslice registered"):
        download(workspace, "spam", "1")


def test_a_dataset_that_is_being_retrained_is_not_registered(
    workspace: Workspace, params: Params
) -> None:
    mirror = Mirror(workspace, "tiny")
    with only_retraining(workspace, ["tiny"], "keyslice retrain"):
        running = mirror.begin()
        with pytest.raises(UserError, match="tiny is in use by `keyslice retrain`"):
            publish(workspace, params, "tiny")
    assert mirror.client.get_run(running).info.status == "RUNNING"


@pytest.mark.parametrize("version", ["challenger", "3"])
def test_asking_for_a_model_that_is_not_there_names_the_way_out(
    workspace: Workspace, version: str
) -> None:
    with pytest.raises(UserError, match="keyslice retrain tiny"):
        download(workspace, "tiny", version)


def test_an_empty_workspace_lists_no_models_and_stays_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert models(Workspace(tmp_path)) == []
    assert list(tmp_path.iterdir()) == []


def test_a_dataset_without_comparison_cannot_be_registered(
    workspace: Workspace, params: Params, parent: str
) -> None:
    (workspace.comparison("tiny") / "candidate.json").unlink()
    with pytest.raises(UserError, match="dvc repro compare@tiny"):
        register(workspace, params, "tiny", parent)


@pytest.fixture
def others(workspace: Workspace, params: Params, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """Another installation, which shares the MLflow and has registered a dataset of this name."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{workspace.state}/mlflow.db")
    copy = Workspace(Path(shutil.copytree(workspace.root, workspace.root.parent / "other")))
    mirror = Mirror(copy, "tiny")
    register(copy, params, "tiny", mirror.complete(mirror.begin(), VARIANTS, "c0ffee"))
    return copy


def test_a_model_of_another_installation_is_left_to_it_before_anything_is_trained(
    workspace: Workspace, params: Params, others: Workspace
) -> None:
    mirror = Mirror(workspace, "tiny")
    with pytest.raises(UserError, match=r"another installation registered.* rename the dataset"):
        mirror.begin()
    with pytest.raises(UserError, match="another installation registered"):
        register(workspace, params, "tiny", "any run")
    assert [(one.version, one.aliases) for one in models(workspace)] == [(1, ("challenger",))]


def test_equal_results_of_another_installation_are_registered_as_ones_own(
    workspace: Workspace, params: Params, others: Workspace
) -> None:
    mirror = Mirror(workspace, "tiny")
    mirror.client.delete_registered_model_alias("tiny", "challenger")
    own = mirror.complete(mirror.begin(), VARIANTS, "decaf")
    made = register(workspace, params, "tiny", own)
    assert int(made.version) == 2
    assert made.tags[tags.COMMIT] == "decaf"
    assert made.run_id == own
    assert own in download(workspace, "tiny", "2").parts  # below one's own run


def test_a_package_that_is_no_longer_where_it_was_is_told_with_its_place(
    workspace: Workspace, params: Params, parent: str
) -> None:
    register(workspace, params, "tiny", parent)
    moved = workspace.root.rename(workspace.root.with_name("moved"))
    with pytest.raises(UserError, match=r"model tiny version 1: its package is not at .*workspace"):
        download(Workspace(moved), "tiny")


def test_more_models_than_mlflow_gives_at_once_are_all_listed(workspace: Workspace) -> None:
    client = connect(workspace)
    names = [f"m{number:03d}" for number in range(102)]
    for name in names:
        client.create_registered_model(name)
    assert [one.name for one in _registered(client)] == names
