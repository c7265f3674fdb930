from pathlib import Path

import pytest

from keyslice.config import Params, PhantomDataset, Prepare, Variant, Workspace
from keyslice.errors import UserError
from keyslice.exams.ingestion import ingest
from keyslice.prepared import PreparedStore
from keyslice.stages import prepare as stage
from keyslice.stages.prepare import prepare

SPOTS = PhantomDataset(source="phantom", kind="volume", exams=12, classes=("healthy", "lesion"))
PARAMS = Params(
    datasets={"spots": SPOTS},
    variants={"full": Variant(sampler="full"), "uniform": Variant(sampler="uniform", keep=0.5)},
    prepare=Prepare(image_size=16),
)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    (tmp_path / "params.yaml").touch()
    return Workspace(tmp_path)


def test_what_was_ingested_is_prepared_by_the_datasets_settings(workspace):
    report = ingest(workspace, "spots", SPOTS)
    prepare(workspace, PARAMS, "spots")
    store = PreparedStore.open(workspace.prepared("spots"))
    assert len(store) == 12
    assert store.frames(0).shape[1:] == (1, 16, 16)
    assert store.manifest_sha256 == report.manifest_sha256


def test_a_dataset_that_is_not_ingested_says_how_to(workspace):
    with pytest.raises(UserError, match=r"not ingested.*keyslice ingest spots"):
        prepare(workspace, PARAMS, "spots")
    assert not workspace.prepared("spots").exists()


def test_a_manifest_that_moves_meanwhile_is_refused_and_leaves_no_complete_store(
    workspace, monkeypatch
):
    ingest(workspace, "spots", SPOTS)
    write = stage.write_store

    def disturbed(*arguments):
        write(*arguments)
        with workspace.manifest("spots").open("ab") as file:
            file.write(b"\0")

    monkeypatch.setattr(stage, "write_store", disturbed)
    with pytest.raises(UserError, match="changed while"):
        prepare(workspace, PARAMS, "spots")
    with pytest.raises(UserError, match="no prepared frames"):
        PreparedStore.open(workspace.prepared("spots"))
