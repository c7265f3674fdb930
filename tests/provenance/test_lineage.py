import subprocess
from pathlib import Path

import pytest

from keyslice.config import Workspace
from keyslice.errors import UserError
from keyslice.exams import barred, manifest
from keyslice.provenance import differences, ledger, lineage, membership, naming
from keyslice.provenance.lineage import ModelLineage, Trace
from tests.provenance.story import Story, digits, row

EXAMS = [digits("exam", number) for number in range(6)]
ANNA, BEN, CORA = (digits("patient", number) for number in range(3))
FIRST = [
    row(EXAMS[0], ANNA),
    row(EXAMS[1], ANNA),
    row(EXAMS[2], BEN, split="test"),
]
SECOND = [*FIRST, row(EXAMS[3], ANNA), row(EXAMS[4], CORA, "yes", "validation")]


@pytest.fixture
def story(workspace: Workspace) -> Story:
    return Story(workspace)


def of_exam(workspace: Workspace, exam: str) -> Trace:
    (trace,) = lineage.exam(workspace, ledger.read(workspace), exam)
    return trace


def of_patient(workspace: Workspace, pseudonym: str) -> Trace:
    (trace,) = lineage.patient(workspace, ledger.read(workspace), {"scans": pseudonym})
    return trace


def of_model(workspace: Workspace, version: str) -> ModelLineage:
    found = ledger.read(workspace)
    return lineage.model(workspace, found, naming.model_version(found, "scans", version))


def sayings(workspace: Workspace, before: int, after: int) -> dict[str, list[str]]:
    found = ledger.read(workspace)
    ends = [naming.model_version(found, "scans", str(number)) for number in (before, after)]
    return dict(differences.words(differences.between(workspace, found, *ends)))


def test_an_exam_leads_to_the_versions_that_hold_it_and_the_models_made_from_those(
    workspace, story
):
    first = story.version(FIRST)
    story.registered(1)
    second = story.version(SECOND)
    story.registered(2)
    story.registered(3, first)
    late = of_exam(workspace, EXAMS[3][:8])
    assert late.id == EXAMS[3]
    assert [held.version.version for held in late.held] == [second]
    assert [made.version for made in late.models] == [2]
    early = of_exam(workspace, EXAMS[0])
    assert [held.version.version for held in early.held] == [first, second]
    assert [made.version for made in early.models] == [1, 2, 3]
    assert early.held[0].rows == (membership.Row(EXAMS[0], ANNA, "no", "train"),)


def test_a_patient_leads_to_all_their_exams(workspace, story):
    story.version(FIRST)
    story.version(SECOND)
    trace = of_patient(workspace, ANNA)
    assert [{r.exam for r in held.rows} for held in trace.held] == [
        {EXAMS[0], EXAMS[1]},
        {EXAMS[0], EXAMS[1], EXAMS[3]},
    ]
    assert trace.asked == 2
    assert not lineage.patient(workspace, ledger.read(workspace), {"scans": digits("no one")})


def test_when_a_model_of_an_exam_was_champion_is_told_and_whether_it_is(workspace, story):
    story.version(FIRST)
    story.registered(1)
    begin = story.promoted(1)
    story.version(SECOND)
    story.registered(2)
    end = story.promoted(2)
    back = story.moved(1)
    first, second = of_exam(workspace, EXAMS[0]).models
    assert [(r.since, r.until) for r in first.reigns] == [
        (begin.time, end.time),
        (back.time, None),
    ]
    assert [(r.since, r.until) for r in second.reigns] == [(end.time, back.time)]
    assert [m.version for m in of_exam(workspace, EXAMS[4]).models] == [2]


def test_versions_come_in_the_ledgers_order_and_those_before_it_first(workspace, story):
    story.keep(manifest.frame(FIRST[:1]), "f" * 32)
    told = [story.version(SECOND), story.version(FIRST)]
    story.version(SECOND)  # as it was before: one version
    known = membership.versions(workspace, ledger.read(workspace), "scans")
    assert [version.version for version in known] == ["f" * 32, *told]
    assert known[0].time is None
    assert known[1].time is not None
    assert len(of_exam(workspace, EXAMS[0]).held) == 3


def test_a_version_whose_manifest_is_not_kept_is_told_as_unknown(workspace, story):
    gone = story.version(FIRST, kept=False)
    story.registered(1)
    story.version(SECOND)
    trace = of_exam(workspace, EXAMS[0])
    assert [version.version for version in trace.unkept] == [gone]
    assert trace.asked == 1
    assert of_model(workspace, "1").splits is None


def test_the_beginning_of_several_ids_is_refused_and_so_is_an_unknown_one(workspace, story):
    alike = ["abcdef" + "0" * 25 + end for end in "12"]
    story.version([row(exam, ANNA) for exam in alike])
    found = ledger.read(workspace)
    with pytest.raises(UserError, match=f"2 exams begin with abcdef.*{alike[0]}"):
        lineage.exam(workspace, found, "abcdef")
    with pytest.raises(UserError, match="no version of a dataset has an exam"):
        lineage.exam(workspace, found, "abcde0")


def test_a_damaged_manifest_is_named_and_nothing_is_answered_without_it(workspace, story):
    version = story.version(FIRST)
    workspace.kept_manifest("scans", version).write_bytes(b"PAR1 no more")
    with pytest.raises(UserError, match=f"state/manifests/scans/{version}.parquet"):
        lineage.exam(workspace, ledger.read(workspace), EXAMS[0])


def test_a_patient_who_withdrew_is_told_with_what_was_touched(workspace, story):
    first = story.version(FIRST)
    story.registered(1)
    story.promoted(1)
    story.keep(manifest.frame(FIRST[2:]), first)  # as a withdrawal leaves it
    barred.add(workspace, "scans", barred.Barred(frozenset([ANNA]), frozenset(EXAMS[:2])))
    event = story.withdrawn([first], [1])
    for trace in (of_patient(workspace, ANNA), of_exam(workspace, EXAMS[1][:6])):
        assert trace.withdrawn
        assert trace.withdrawals == (event,)
        assert trace.held == ()
    assert not of_patient(workspace, BEN).withdrawn
    assert of_model(workspace, "1").withdrawals == (event,)
    found = ledger.read(workspace)
    (version,) = naming.dataset_versions(workspace, found, "scans", first[:6])
    assert lineage.dataset(workspace, found, version).withdrawals == (event,)


def test_a_withdrawal_that_was_cut_off_is_told_by_its_beginning(workspace, story):
    first = story.version(FIRST)
    barred.add(workspace, "scans", barred.Barred(frozenset([ANNA])))
    begun = story.withdrawn([first], [], done=False)
    trace = of_patient(workspace, ANNA)
    assert trace.withdrawals == (begun,)
    assert trace.held  # its rows are still there


def test_a_model_leads_to_its_exams_gates_decisions_and_time_as_champion(workspace, story):
    second = story.version(SECOND)
    event = story.registered(1)
    failed = story.gate(1, ["auc"])
    rejected = story.decided(1, failed, approved=False)
    passed = story.gate(1)
    approved = story.decided(1, passed)
    moved = story.moved(1, approved)
    told = of_model(workspace, "@champion")
    assert told.registered == event
    assert told.source.version == second
    assert told.splits == {
        "train": membership.Size(3, 1),
        "validation": membership.Size(1, 1),
        "test": membership.Size(1, 1),
    }
    assert told.gates == (failed, passed)
    assert told.decisions == (rejected, approved)
    assert [reign.moved for reign in told.reigns] == [moved]


def test_patients_that_a_public_set_does_not_name_are_not_counted(workspace, story):
    story.version([row(EXAMS[0], "unknown"), row(EXAMS[1], "unknown")])
    story.registered(1)
    splits = of_model(workspace, "1").splits
    assert splits is not None
    assert splits["train"] == membership.Size(2, 0)


def test_an_alias_is_where_the_ledger_says_and_an_unknown_version_is_refused(workspace, story):
    story.version(FIRST)
    story.registered(1)
    story.registered(2)
    found = ledger.read(workspace)
    assert naming.model_version(found, "scans", "@challenger").payload["version"] == 2
    for version in ("@champion", "3", "first"):
        with pytest.raises(UserError, match="known: 1 to 2"):
            naming.model_version(found, "scans", version)
    with pytest.raises(UserError, match="did you mean 'scans'"):
        naming.model_version(found, "scan", "1")


def test_the_difference_of_the_data_is_counted_by_exam_and_patient(workspace, story):
    story.version(FIRST)
    story.registered(1)
    story.version([row(EXAMS[0], ANNA, "yes"), *SECOND[3:]])
    story.registered(2)
    told = sayings(workspace, 1, 2)["data"]
    assert told[1:] == [
        "2 exams added (train 1, validation 1); 1 patient new",
        "2 exams removed (test 1, train 1); 1 patient gone",
        "1 exam with another label (no → yes 1)",
    ]
    back = sayings(workspace, 2, 1)["data"]
    assert back[1].startswith("2 exams added (test 1, train 1); 1 patient new")


def test_models_of_the_same_data_and_settings_are_told_to_be_so(workspace, story):
    story.version(FIRST)
    story.registered(1)
    story.registered(2, seed=1)
    told = sayings(workspace, 1, 2)
    assert told["data"] == [f"the same dataset version, scans@{story.last}"]
    assert told["settings"] == ["the same of all"]
    assert told["made with"] == ["seed: 0 → 1"]
    assert told["packages"] == ["the same, by the hash of requirements.lock"]
    assert "not known" in told["code"][0]


def test_settings_and_figures_that_changed_are_told_with_both_values(workspace, story):
    story.version(FIRST)
    story.registered(1)
    settings = {"keep": 0.5, "train": {"epochs": 9, "seeds": [0]}, "new": None}
    story.registered(2, settings=settings, validation_auc=0.91)
    told = sayings(workspace, 1, 2)
    assert told["settings"] == ["train.epochs: 8 → 9", "train.seeds: [0, 1] → [0]"]
    assert told["figures"] == ["validation_auc: 0.9 → 0.91"]


def test_code_and_packages_are_compared_between_the_run_commits(workspace, story):
    def git(*words: str) -> str:
        command = ["git", "-c", "user.name=x", "-c", "user.email=x", *words]
        return subprocess.check_output(command, cwd=workspace.root, text=True).strip()

    def commit(code: str, lock: str) -> str:
        write(workspace.root / "src" / "a name.py", code)
        write(workspace.root / "params.yaml", code)  # no code: told as settings
        write(workspace.root / "requirements.lock", lock)
        git("add", "--all", "--force", "src", "params.yaml", "requirements.lock")
        git("commit", "--quiet", "--message", "run")
        return git("rev-parse", "HEAD")

    story.version(FIRST)
    lock = "numpy==2.3 \\\n    --hash=sha256:0\ntorch==2.14\n"
    before = commit("a = 1\n", lock)
    after = commit("a = 2\nb = 3\n", lock.replace("2.14", "2.15") + "timm==1.0 ; python\n")
    story.registered(1, run_commit=before)
    story.registered(2, run_commit=after, requirements=digits("others"))
    told = sayings(workspace, 1, 2)
    assert told["code"] == ["src/a name.py: +2 −1 lines"]
    assert told["packages"] == ["torch: 2.14 → 2.15", "timm: none → 1.0"]
    story.registered(3, run_commit="f" * 40)
    assert "ffffffffffff is not here" in sayings(workspace, 1, 3)["code"][0]


def write(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
