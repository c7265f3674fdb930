import pytest

from keyslice.config import Workspace
from keyslice.errors import UserError


def test_the_workspace_is_found_from_a_folder_within(tmp_path):
    (tmp_path / "params.yaml").touch()
    inner = tmp_path / "data" / "inbox"
    inner.mkdir(parents=True)
    assert Workspace.find(inner) == Workspace(tmp_path)


def test_outside_a_workspace_the_way_in_is_told(tmp_path):
    with pytest.raises(UserError, match=r"no params\.yaml here or above.*cd into a clone"):
        Workspace.find(tmp_path)
