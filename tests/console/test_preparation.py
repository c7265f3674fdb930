import pytest

from keyslice.config import Workspace, load
from keyslice.console import preparation


@pytest.mark.parametrize(("total", "lines"), [(3, 3), (250, 100)])
def test_off_a_terminal_at_most_a_hundred_lines_say_how_far_it_is(
    tmp_path, folder_params, monkeypatch, capsys, total, lines
):
    folder_params("tiny")

    def prepare(*_, progress):
        for done in range(1, total + 1):
            progress(done, total)

    monkeypatch.setattr(preparation, "prepare", prepare)
    preparation.run(Workspace(tmp_path), load(tmp_path / "params.yaml"), "tiny")
    told = capsys.readouterr().out.splitlines()
    assert len(told) == lines
    assert told[-1] == f"tiny · {total} of {total} exams"
