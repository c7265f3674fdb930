import pytest

from keyslice.config import Workspace, load
from keyslice.console.selection import chosen
from keyslice.errors import UserError


@pytest.fixture
def workspace(tmp_path, folder_params) -> Workspace:
    folder_params("a", "b")
    return Workspace(tmp_path)


def test_without_a_list_of_datasets_nothing_has_been_ingested(workspace):
    with pytest.raises(UserError, match="no dataset has been ingested yet"):
        chosen(workspace, load(workspace.params), ())


def test_without_a_name_the_datasets_with_a_version_are_meant(workspace):
    workspace.pointer("b").parent.mkdir(parents=True)
    workspace.pointer("b").touch()
    assert chosen(workspace, load(workspace.params), ()) == ("b",)


def test_a_name_counts_before_its_ingestion(workspace):
    assert chosen(workspace, load(workspace.params), ("a", "a")) == ("a",)
