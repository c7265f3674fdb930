import pytest

from keyslice.errors import UserError
from keyslice.stages.inputs import held_still


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


def test_a_failure_of_the_stage_itself_is_what_is_told(tmp_path):
    def stage():
        with held_still(tmp_path / "store.json"):
            (tmp_path / "store.json").touch()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        stage()
