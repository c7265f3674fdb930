import pytest

from keyslice.config import PhantomDataset, Workspace
from keyslice.console.overview import counts
from keyslice.errors import UserError
from keyslice.exams.ingestion import ingest


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    (tmp_path / "params.yaml").touch()
    dataset = PhantomDataset(
        source="phantom", kind="volume", exams=12, classes=("healthy", "lesion")
    )
    ingest(Workspace(tmp_path), "spots", dataset)
    return Workspace(tmp_path)


def test_an_empty_quarantine_list_counts_nobody(workspace):
    workspace.quarantine("spots").parent.mkdir()
    workspace.quarantine("spots").touch()
    assert counts(workspace, "spots") == {"exams": 12, "patients": 6, "quarantined": 0}


def test_a_damaged_manifest_is_a_users_error(workspace):
    workspace.manifest("spots").write_bytes(b"PAR1")
    with pytest.raises(UserError, match="cannot be read as a manifest"):
        counts(workspace, "spots")
