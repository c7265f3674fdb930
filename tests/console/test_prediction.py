from pathlib import Path

from keyslice.console.output import out
from keyslice.console.prediction import table
from keyslice.models.predictor import Prediction


def test_paths_and_classes_are_shown_as_they_were_given(capsys) -> None:
    found = Prediction({"[no]": 0.25, "yes": 0.75}, kept=[0, 1], attention=[0.5, 0.5])
    files = [Path("in/scan[left].nii.gz"), Path("in/a[/b].nii")]
    out.print(table("ward @x[1]", ["[no]", "yes"], [(file, found) for file in files]))
    shown = capsys.readouterr().out
    for words in (*map(str, files), "[no]", "ward @x[1]", "0.250", "0-1"):
        assert words in shown
