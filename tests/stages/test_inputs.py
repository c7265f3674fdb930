import pytest

from keyslice.errors import UserError
from keyslice.stages.inputs import held_still, unchanged


def test_inputs_that_hold_still_pass(tmp_path):
    (tmp_path / "store.json").write_text("{}")
    with held_still(tmp_path / "store.json", tmp_path / "absent"):
        pass


@pytest.mark.parametrize("change", ["rewritten", "removed", "new"])
def test_an_input_that_moved_ends_the_stage(tmp_path, change):
    file = tmp_path / "data" / "prepared" / "store.json"
    file.parent.mkdir(parents=True)
    if change != "new":
        file.write_text("{}")
    with (
        pytest.raises(UserError, match=r"data/prepared/store\.json: changed .* run it again"),
        held_still(file),
    ):
        file.unlink() if change == "removed" else file.write_text("[]")


def test_a_part_of_a_file_that_changed_ends_the_stage_and_other_parts_may():
    said = {"das": 1, "full": 1}
    with unchanged(lambda: said["das"], "initial.json: das"):
        said["full"] = 2
    with (
        pytest.raises(UserError, match=r"initial\.json: das: changed .* run it again"),
        unchanged(lambda: said["das"], "initial.json: das"),
    ):
        said["das"] = 2


def test_a_failure_of_the_stage_itself_is_what_is_told(tmp_path):
    def stage():
        with held_still(tmp_path / "store.json"):
            (tmp_path / "store.json").touch()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        stage()
