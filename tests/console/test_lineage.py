import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from keyslice.config import Workspace
from keyslice.console import lineage
from keyslice.errors import UserError
from keyslice.exams import barred
from keyslice.exams.pseudonym import PUBLISHED_KEY, pseudonym
from tests.provenance.story import Story, digits, row

EXAMS = [digits("exam", number) for number in range(4)]
WHO = pseudonym(PUBLISHED_KEY, "St. Anna", "P 7")
DATASET = {
    "source": "folder",
    "classes": ["no", "yes"],
    "identifiers": "public",
    "issuer": "St. Anna",
}
Ask = Callable[..., str]


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    settings = {
        "datasets": {"scans": DATASET},
        "variants": {"full": {"sampler": "full"}, "das": {"sampler": "das", "keep": 0.5}},
        **{section: {} for section in ("prepare", "backbone", "model", "train", "evaluate")},
        "compare": {"references": ["full"]},
    }
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(settings))
    return Workspace(tmp_path)


@pytest.fixture
def story(workspace: Workspace) -> Story:
    """Two dataset versions and a model of each; the first was champion, the second is."""
    story = Story(workspace)
    story.version([row(EXAMS[0], WHO), row(EXAMS[1], digits("ben"), "[red]yes[/red]")])
    story.registered(1)
    story.promoted(1)
    story.version([row(EXAMS[0], WHO), row(EXAMS[2], digits("cora"), split="test")])
    story.registered(2)
    gate = story.gate(2, ["auc", "site [b]"])
    story.moved(2, story.decided(2, gate, "[red]urgent", override=["auc"], by="[bold]Bea"))
    return story


@pytest.fixture
def ask(
    workspace: Workspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Ask:
    monkeypatch.setenv("COLUMNS", "80")

    def run(what: str | None = None, version: str | None = None, **options: Any) -> str:
        names = ("against", "patient", "issuer", "pseudonym")
        whole = dict.fromkeys(names) | {"list_exams": False, "as_json": False} | options
        lineage.run(workspace, what, version, **whole)
        return capsys.readouterr().out

    return run


def words(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("words_", [("scans/2",), ("scans", "2"), ("scans@champion",)])
def test_a_model_version_is_named_in_three_ways(story, ask, words_):
    told = words(ask(*words_))
    assert told.startswith("scans version 2, the champion")
    assert f"data scans@{story.last}" in told
    assert "train: 1 exam of 1 patient validation: 0 exams test: 1 exam of 1 patient" in told
    looked = "look 1 of 30 at the test set"
    assert f"failed by auc, site [b]; {looked}, against champion 1 and anchor 1" in told
    assert "approved by [bold]Bea, over the failed auc: [red]urgent" in told
    assert digits("weights", 2) in told


OFTEN = {"budget": 8, "criterion": "learned", "views": ["flip_horizontal"], "variants": {}}


def test_how_often_a_model_looks_is_told_and_what_it_learned_for_that(story, ask):
    assert "looks once" in words(ask("scans/2"))
    assert "attention" not in ask("scans/2")
    learned = digits("learned") + digits("more", "learned")
    settings = {"evaluate": {"batch_size": 4, "test_time": OFTEN}}
    for number, before in ((3, learned), (4, "0" * 64)):
        same = {"weights": "9" * 64, "settings": settings, "state_attention": before}
        story.registered(number, **same)
    told = ask("scans/3")
    assert max(map(len, told.splitlines())) <= 80
    assert (
        "looks at 8 states of the first 2 levels of subsampling layers, the best by learned "
        "attention first, their mean; the mean of 2 views: as it is, flip horizontal"
    ) in words(told)
    assert "evaluate batch_size 4 looks" in words(told)
    assert any(learned in line for line in told.splitlines())
    changed = words(ask("scans/4", against="3"))
    assert "the same weights; what it learned to look more than once is another" in changed
    more = words(ask("scans/3", against="2"))
    assert "evaluate.test_time.budget: none → 8" in more


def test_every_line_fits_a_terminal_and_hashes_stay_whole(story, ask):
    for what in ("scans/2", "scans", story.last, EXAMS[0], EXAMS[0][:6]):
        lines = ask(what).splitlines()
        assert max(map(len, lines)) <= 80, what
    weights = digits("weights", 2) + digits("more", "weights", 2)
    assert any(weights in line for line in ask("scans/2").splitlines())


def test_exams_and_pseudonyms_are_listed_when_asked_for(story, ask):
    assert EXAMS[2] not in ask("scans/2")
    told = ask("scans/2", list_exams=True)
    assert f"{EXAMS[2]}  {digits('cora')}  test no" in told
    assert "[red]yes[/red]" in ask("scans/1", list_exams=True)


def test_a_dataset_version_is_found_by_its_first_digits_with_or_without_its_name(story, ask):
    short = story.last[:7]
    told = words(ask(short))
    assert told == words(ask(f"scans@{short}"))
    assert told.startswith(f"scans@{story.last}")
    assert "model versions made from it: 2" in told
    assert "version 2" in told


def test_digits_after_an_at_sign_are_a_dataset_version_also_without_letters(workspace, story, ask):
    version = "123456" + story.last[6:]
    kept = workspace.kept_manifest("scans", version)
    workspace.kept_manifest("scans", story.last).rename(kept)
    assert words(ask("scans@123456")).startswith(f"scans@{version} recorded before the ledger")


def test_an_exam_is_told_with_its_patient_and_who_was_champion(story, ask):
    told = words(ask(EXAMS[1][:8]))
    assert f"exam {EXAMS[1]} in dataset scans patient {digits('ben')}" in told
    assert "label [red]yes[/red]" in told
    assert "in 1 of 2 versions" in told
    assert "model versions made from it: 1" in told
    assert "now" not in told
    assert "now" in ask(EXAMS[0])


def test_an_exam_of_no_champion_says_so(workspace, ask):
    story = Story(workspace)
    story.version([row(EXAMS[0], WHO)])
    assert "No model was made from it." in ask(EXAMS[0])
    story.registered(1)
    assert "None of them was ever champion." in ask(EXAMS[0])


def test_a_patient_is_found_by_the_real_id_which_is_not_repeated(story, ask):
    told = ask(patient="P 7")
    assert f"patient {WHO} in dataset scans" in told
    assert "P 7" not in told
    assert told == ask(patient="P 7", issuer="St. Anna") == ask(pseudonym=WHO[:9])


def test_a_patient_of_another_issuer_is_nobody_known(story, ask):
    told = words(ask(patient="P 7", issuer="St. Bernard"))
    assert told == ("No exam of this patient is in any version. Datasets looked through: scans.")


def test_a_withdrawn_patient_is_told_with_when_and_what_was_touched(workspace, story, ask):
    barred.add(workspace, "scans", barred.Barred(frozenset([WHO]), frozenset([EXAMS[0]])))
    event = story.withdrawn([story.last], [1, 2])
    told = words(ask(patient="P 7"))
    assert "this patient has withdrawn" in told
    assert f"2 exams: asked for it (event {event.number})" in told
    assert "touched: 1 dataset version, model versions 1-2, the champion among them" in told
    story.withdrawn([story.last], [], done=False)
    told = words(ask(EXAMS[0]))
    assert "in one of 2 withdrawals: the ledger keeps that they happened, not who" in told
    assert "begun, not completed" in told


def test_the_difference_of_two_versions_is_told_in_words(story, ask):
    told = words(ask("scans/2", against="1"))
    assert told.startswith("scans: from version 1 to version 2")
    assert "1 exam added (test 1); 1 patient new" in told
    assert told == words(ask("scans", against="scans/1"))


def test_a_name_alone_lists_all_versions_and_all_champions(story, ask):
    told = words(ask("scans"))
    assert f"scans@{story.last[:12]}" in told
    assert "version 1" in told
    assert "version 2" in told


def test_json_holds_the_events_as_the_ledger_has_them(story, ask):
    told = json.loads(ask("scans/2", as_json=True))
    assert told["registered"]["payload"]["weights"].startswith(digits("weights", 2))
    assert told["decisions"][0]["actor"] == "[bold]Bea"
    assert told["splits"]["train"] == {"exams": 1, "patients": 1}
    assert "rows" not in told
    whole = json.loads(ask("scans/2", as_json=True, list_exams=True))
    assert {one["exam"] for one in whole["rows"]} == {EXAMS[0], EXAMS[2]}
    (trace,) = json.loads(ask(patient="P 7", as_json=True))["datasets"]
    assert [held["rows"][0]["split"] for held in trace["held"]] == ["train", "train"]
    assert trace["models"][1]["reigns"][0]["until"] is None
    for asked in (("scans",), (story.last,), (EXAMS[0],)):
        assert json.loads(ask(*asked, as_json=True))
    assert json.loads(ask("scans/2", against="1", as_json=True))["data"]["patients_added"] == 1


@pytest.mark.parametrize("what", ["scans/2", "scans", EXAMS[0]])
def test_nothing_is_imported_that_takes_its_time(workspace, story, what):
    code = f"""
import sys
from pathlib import Path
from keyslice.config import Workspace
from keyslice.console import lineage
rest = dict.fromkeys(("against", "patient", "issuer", "pseudonym"))
workspace = Workspace(Path({str(workspace.root)!r}))
lineage.run(workspace, {what!r}, None, **rest, list_exams=False, as_json=True)
slow = ("torch", "mlflow", "pandas", "pandera", "prefect", "scipy", "prov", "psutil")
assert not sys.modules.keys() & set(slow), sys.modules.keys() & set(slow)
"""
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize(
    ("asked", "fault"),
    [
        ({}, "asks for one thing"),
        ({"what": "scans", "patient": "P 7"}, "asks for one thing"),
        ({"what": "scan"}, "did you mean 'scans'"),
        ({"what": "scans/9"}, "no version of it is '9'"),
        ({"what": "scans/2", "version": "1"}, "no model 'scans/2'"),
        ({"what": "scans@ffffff"}, "no version of scans begins with ffffff"),
        ({"what": "ffffff"}, "no version of a dataset has an exam"),
        ({"pseudonym": "P 7"}, "--pseudonym"),
        ({"pseudonym": WHO, "issuer": "St. Anna"}, "--issuer"),
    ],
)
def test_what_cannot_be_answered_says_what_would_have_been_right(story, ask, asked, fault):
    with pytest.raises(UserError, match=fault):
        ask(**asked)
