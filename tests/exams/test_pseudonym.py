import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyslice.errors import UserError
from keyslice.exams.pseudonym import KEY_VARIABLE, create_key, pseudonym, secret_key

KEY = bytes(range(32))
pairs = st.tuples(st.text(), st.text())


@given(pairs, pairs)
def test_two_pairs_share_a_pseudonym_only_if_they_are_the_same(one, other):
    assert (pseudonym(KEY, *one) == pseudonym(KEY, *other)) == (one == other)


def test_moving_a_character_from_issuer_to_id_changes_the_pseudonym():
    assert pseudonym(KEY, "a1", "1") != pseudonym(KEY, "a", "11")
    assert pseudonym(KEY, "1:a", "") != pseudonym(KEY, "", "1:a")


def test_another_key_gives_another_pseudonym():
    assert pseudonym(KEY, "a", "1") != pseudonym(KEY[::-1], "a", "1")


def test_a_new_key_is_random_private_and_accepted(workspace, tmp_path, monkeypatch):
    create_key(tmp_path / "a.key")
    create_key(tmp_path / "b.key")
    assert (tmp_path / "a.key").stat().st_mode & 0o777 == 0o600
    monkeypatch.setenv(KEY_VARIABLE, str(tmp_path / "a.key"))
    assert secret_key(workspace) == (tmp_path / "a.key").read_bytes()
    assert secret_key(workspace) != (tmp_path / "b.key").read_bytes()


def test_a_key_is_never_overwritten(tmp_path):
    create_key(tmp_path / "a.key")
    with pytest.raises(UserError, match="never overwritten"):
        create_key(tmp_path / "a.key")


def test_a_key_is_not_made_inside_a_workspace(workspace):
    with pytest.raises(UserError, match="inside a workspace"):
        create_key(workspace.root / "a.key")


def test_a_key_in_a_folder_that_is_not_there_is_told(tmp_path):
    with pytest.raises(UserError, match="No such file"):
        create_key(tmp_path / "gone" / "a.key")


def test_an_unset_key_says_how_to_make_one(workspace, monkeypatch):
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    with pytest.raises(UserError, match="keyslice key new"):
        secret_key(workspace)


@pytest.mark.parametrize(
    ("inside", "content", "mode", "fault"),
    [
        (True, KEY, 0o600, "inside the workspace"),
        (False, KEY[:31], 0o600, "holds 31 bytes"),
        (False, KEY, 0o640, "read by others"),
        (False, KEY, 0o604, "read by others"),
        (False, None, 0o600, "cannot read"),
    ],
)
def test_an_unfit_key_file_is_refused(
    workspace, tmp_path, monkeypatch, inside, content, mode, fault
):
    path = (workspace.root if inside else tmp_path) / "the.key"
    if content is not None:
        path.write_bytes(content)
        path.chmod(mode)
    monkeypatch.setenv(KEY_VARIABLE, str(path))
    with pytest.raises(UserError, match=fault):
        secret_key(workspace)
