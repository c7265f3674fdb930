"""A version's way through the gate, in a real MLflow; only the networks are left out."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient

from keyslice import files, versioning
from keyslice.config import Params, Promote, StageSettings, TestTime, Workspace
from keyslice.errors import RunError, UserError
from keyslice.exams import container, manifest
from keyslice.exams.exam import Exam, exam_path
from keyslice.models import build
from keyslice.provenance import events, ledger, standing
from keyslice.provenance.ledger import Event
from keyslice.registry import champion, client, gate, marks, package, tags, trial
from tests.provenance.story import Story, digits, row

pytestmark = pytest.mark.forked_dvc

MODEL = "tiny"
CASES = 12
"""Test patients of each class."""


# Looks

PLAN = {"alpha": 0.05, "looks": 20}
SHARE = 0.05 / 20

TRY = trial.run
"""The real one; most tests put another in its place."""


@pytest.fixture
def story(tmp_path: Path) -> Story:
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    return Story(Workspace(tmp_path))


def _rows(numbers: Iterable[int]) -> list[dict[str, Any]]:
    """Test exams, and as many that are none."""
    return [
        row(digits("exam", n), digits("patient", n), split=split)
        for number in numbers
        for n, split in ((number, "test"), (number + 1000, "train"))
    ]


def _look(story: Story, tested: Iterable[int], plan: dict[str, Any] = PLAN) -> int:
    table = manifest.frame([one for one in _rows(tested) if one["split"] == "test"])
    today = trial.TestSet(story.dataset, "today.dir", table, np.zeros(len(table), np.int64))
    return gate._look(story.workspace, ledger.read(story.workspace), today, plan)


def _gates(story: Story, count: int, alpha: float | None = SHARE, **changes: Any) -> None:
    for _ in range(count):
        story.gate(1, alpha=alpha, **changes)


def test_each_model_that_was_held_against_a_champion_spends_a_look(story: Story) -> None:
    story.version(_rows(range(10)))
    assert _look(story, range(10)) == 1
    _gates(story, 2)
    assert _look(story, range(10)) == 3
    _gates(story, 18, outcome="failed")
    assert _look(story, range(10)) == 21


def test_the_first_model_spends_nothing(story: Story) -> None:
    story.version(_rows(range(10)))
    _gates(story, 3, alpha=None)
    assert _look(story, range(10)) == 1


def test_what_was_spent_counts_while_half_of_todays_exams_were_in_that_test_set(
    story: Story,
) -> None:
    story.version(_rows(range(10)))
    _gates(story, 2)
    assert _look(story, range(20)) == 3
    assert _look(story, range(21)) == 1
    assert _look(story, range(1000, 1010)) == 1, "exams that were trained on then"


def test_what_was_spent_on_a_larger_test_set_counts_on_a_part_of_it(story: Story) -> None:
    story.version(_rows(range(30)))
    _gates(story, 2)
    assert _look(story, range(5)) == 3


def test_a_test_set_of_which_nobody_knows_the_exams_counts(story: Story) -> None:
    story.version(_rows(range(10)), kept=False)
    _gates(story, 2)
    assert _look(story, range(50, 60)) == 3


@pytest.mark.parametrize("earlier", [1, 5, 20])
def test_a_plan_with_more_looks_buys_none(story: Story, earlier: int) -> None:
    """Their shares are smaller: what was spent is as many more of them."""
    story.version(_rows(range(10)))
    _gates(story, earlier)
    more = PLAN | {"looks": 40}
    assert _look(story, range(10), more) == 2 * earlier + 1
    assert (_look(story, range(10), more) > 40) == (earlier == 20)


def test_another_models_gates_spend_nothing(story: Story) -> None:
    story.version(_rows(range(10)))
    Story(story.workspace, "others").gate(1, dataset_version=story.last, alpha=SHARE)
    assert _look(story, range(10)) == 1


# The way through it


class Gate:
    """A registry with versions, and what each one predicts."""

    def __init__(self, workspace: Workspace, params: Params) -> None:
        self.workspace, self.params = workspace, params
        self.client: MlflowClient = client.connect(workspace)
        self.story = Story(workspace, MODEL)
        self.tried: list[int] = []
        self.meanwhile: Callable[[], object] = lambda: None
        version = versioning.version(workspace, MODEL)
        assert version
        rows = [self._row(n, split) for split in ("train", "test") for n in range(2 * CASES)]
        self.story.keep(manifest.frame(rows), version)
        self.story.last = version
        experiment = client.experiment(self.client, workspace, MODEL)
        self.run_id = self.client.create_run(experiment).info.run_id
        self.client.create_registered_model(MODEL)

    def _row(self, number: int, split: str) -> dict[str, Any]:
        label = ("healthy", "lesion")[number % 2]
        exam = digits("exam", split, number)
        frames = np.full((2, 4, 4), number, np.uint8)
        path = exam_path(self.workspace.exams(MODEL), exam)
        container.save(Exam(frames), path)
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        return row(exam, digits("patient", split, number), label, split) | {"sha256": sha256}

    def register(self, source: str = "file:///nowhere", **changes: Any) -> int:
        """One more version, trained after the plan was fixed."""
        plan = self.params.promote_settings(MODEL).model_dump(mode="json")
        self.story.started(self.run_id, plan)
        tag = {tags.PACKAGE: changes["package"]} if "package" in changes else {}
        made = self.client.create_model_version(MODEL, source, tags=tag)
        told = {"run": self.run_id, "stages": {"evaluate": ""}} | changes
        self.story.registered(int(made.version), **told)
        return int(made.version)

    def promote(self, version: int) -> None:
        """By decree, as a rollback would."""
        how: dict[str, Any] = {"because": "rollback", "decision": None, "reason": ""}
        champion.move(self.workspace, self.client, MODEL, version, **how)
        self.story.champion = version

    def predict(self, workspace: Workspace, test: trial.TestSet, registered: Event) -> trial.Trial:
        """As a version does that is right most times, each in its own way."""
        self.tried.append(registered.payload["version"])
        self.meanwhile()
        rng = np.random.default_rng(registered.payload["version"])
        sure = np.where(test.labels == 1, 0.9, 0.1) + rng.uniform(-0.05, 0.05, len(test.labels))
        probabilities = np.stack([1 - sure, sure], 1)
        return trial.Trial(probabilities, np.ones(len(test.labels)), probabilities)

    def __call__(self, version: int | None = None) -> Event:
        return gate.run(self.workspace, self.params, MODEL, version)

    def events(self) -> list[Event]:
        return ledger.read(self.workspace)

    def evaluated(self) -> list[Event]:
        return [e for e in self.events() if e.action == events.GATE_EVALUATED]

    def planned(self, **changes: Any) -> None:
        """Another plan from now on."""
        few = {"looks": 2, "alpha": 0.2, "resamples": 200, "margin": 0.4} | changes
        self.params = self.params.model_copy(update={"promote": Promote.model_validate(few)})


@pytest.fixture
def through(workspace: Workspace, params: Params, monkeypatch: pytest.MonkeyPatch) -> Gate:
    os.utime(workspace.pointer(MODEL), (0, 0))  # young ones would be waited for
    os.utime(workspace.root / "dvc.lock", (0, 0))
    made = Gate(workspace, params)
    made.planned()
    monkeypatch.setattr(trial, "run", made.predict)
    return made


def test_the_first_version_is_held_against_nothing_and_spends_no_look(through: Gate) -> None:
    version = through.register()
    event = through()
    assert event.object == f"{MODEL}/{version}"
    told = {key: event.payload[key] for key in ("outcome", "look", "alpha", "champion", "anchor")}
    nothing = {"look": 0, "alpha": None, "champion": None, "anchor": None}
    assert told == nothing | {"outcome": "passed"}
    shown = through.client.get_model_version(MODEL, str(version)).tags[marks.GATE]
    assert shown == f"passed (event {event.number})"
    assert through.events()[-1] == event, "a person has to approve"


def test_asked_again_for_the_same_reasons_it_gives_the_same_event_and_tries_nothing(
    through: Gate,
) -> None:
    through.promote(through.register())
    version = through.register()
    event = through(version)
    assert (event.payload["champion"], event.payload["look"]) == (1, 1)
    before, tried = through.events(), list(through.tried)
    assert through(version) == event
    assert (through.events(), through.tried) == (before, tried)


def test_another_plan_is_another_reason_and_a_version_trained_before_it_fails(
    through: Gate,
) -> None:
    through.promote(through.register())
    version = through.register()
    first = through(version)
    through.planned(margin=0.3)
    second = through(version)
    assert [first, second] == through.evaluated()
    assert (first.payload["outcome"], second.payload["outcome"]) == ("passed", "failed")
    blocking = [c["name"] for c in second.payload["criteria"] if c["blocks"]]
    assert blocking == ["plan"]
    assert second.payload["look"] == 2


def test_another_champion_is_another_reason(through: Gate) -> None:
    through.promote(through.register())
    version = through.register()
    first = through(version)
    through.promote(through.register())
    second = through(version)
    assert (first.payload["champion"], second.payload["champion"]) == (1, 3)


def test_the_champion_itself_is_refused(through: Gate) -> None:
    through.promote(through.register())
    for asked in (1, None):  # the challenger is the same version
        with pytest.raises(UserError, match="version 1 is the champion"):
            through(asked)
    assert through.evaluated() == []


def test_a_version_that_nobody_registered_is_refused(through: Gate) -> None:
    with pytest.raises(UserError, match="the ledger knows no version; "):
        through()
    through.register()
    with pytest.raises(UserError, match="the ledger knows no version 7"):
        through(7)


def _another_gate(through: Gate) -> None:
    through.story.gate(3)


def _a_move(through: Gate) -> None:
    through.story.moved(3)


def _a_move_cut_off(through: Gate) -> None:
    payload = {"model": MODEL, "from": 1, "to": 3, "because": "rollback", "decision": None}
    through.story.tell(events.CHAMPION_MOVING, MODEL, payload, "bert")


@pytest.mark.parametrize("what", [_another_gate, _a_move, _a_move_cut_off])
def test_a_gate_that_was_overtaken_is_not_told(through: Gate, what: Callable[[Gate], None]) -> None:
    """A killed process's intent, too: the next command carries it out."""
    through.promote(through.register())
    for _ in range(2):
        through.register()
    left: list[Callable[[Gate], None]] = [what]
    through.meanwhile = lambda: left.pop()(through) if left else None
    with pytest.raises(RunError, match=r"overtaken by event .*keyslice gate tiny asks again"):
        through(2)
    assert 2 not in [e.payload["version"] for e in through.evaluated()]


def test_an_approval_that_was_cut_off_while_a_gate_was_judged_is_not_lost(through: Gate) -> None:
    through.promote(through.register())
    for _ in range(2):
        through.register()
    approved = through.story.gate(3)
    left = [lambda: through.story.decided(3, approved)]
    through.meanwhile = lambda: left.pop()() if left else None
    with pytest.raises(RunError, match="overtaken by event"):
        through(2)
    champion.settle(through.workspace, through.client, MODEL)
    assert standing.champion(through.events(), MODEL) == 3


def test_another_models_gate_in_between_is_no_matter(through: Gate) -> None:
    through.register()
    through.meanwhile = lambda: Story(through.workspace, "others").gate(1)
    assert through().payload["outcome"] == "passed"


def test_where_nobody_has_to_approve_a_version_that_passed_is_the_champion(
    through: Gate,
) -> None:
    through.planned(approval="automatic")
    through.promote(through.register())
    version = through.register()
    event = through(version)
    assert event.action == events.GATE_EVALUATED
    assert standing.champion(through.events(), MODEL) == version
    assert champion.alias(through.client, MODEL) == version
    assert standing.anchor(through.events(), MODEL) == 1


# Moves that cannot be made


@pytest.mark.parametrize("decided", [False, True], ids=["asked for", "left over"])
def test_a_move_to_a_version_that_mlflow_has_lost_is_told_and_stops_no_later_command(
    through: Gate, decided: bool
) -> None:
    for _ in range(3):
        through.register()
    through.promote(1)
    through.client.delete_model_version(MODEL, "2")
    if decided:
        through.story.decided(2, through.story.gate(2))
        gone = partial(champion.settle, through.workspace, through.client, MODEL)
    else:
        gone = partial(through.promote, 2)
    with pytest.raises(UserError, match="version 2 is not in MLflow any more"):
        gone()
    intent, stayed = through.events()[-2:]
    assert (intent.action, stayed.action) == (events.CHAMPION_MOVING, events.CHAMPION_STAYED)
    assert stayed.payload["intent"] == intent.number
    assert standing.champion(through.events(), MODEL) == 1
    assert champion.settle(through.workspace, through.client, MODEL) is None
    champion.check_alias(through.client, through.events(), MODEL)
    assert through(3).payload["champion"] == 1
    through.promote(3)
    assert champion.alias(through.client, MODEL) == 3


# What is tried


@pytest.fixture
def stored(through: Gate, monkeypatch: pytest.MonkeyPatch) -> Callable[[], trial.Trial]:
    """`stored()`: the trial of a version whose package MLflow has; its network says what it saw."""
    monkeypatch.setattr(trial, "run", TRY)
    folder = through.workspace.state / "stored" / "data" / "package"
    folder.mkdir(parents=True)
    (folder / package.WEIGHTS).write_bytes(b"weights")
    weights = hashlib.sha256(b"weights").hexdigest()
    about = {
        "format_version": package.FORMAT_VERSION,
        "provenance": {tags.WEIGHTS: weights},
    }
    (folder / package.DESCRIPTION).write_text(json.dumps(about))
    source = (through.workspace.state / "stored").as_uri()
    through.register(source, package=package.digest(folder))
    network = ModuleType("keyslice.models.trial")

    def outcomes(
        place: Path, batches: Iterable[list[np.ndarray]]
    ) -> Iterable[tuple[list[float], float, list[float]]]:
        assert place == folder
        every = [float(frames[0, 0, 0]) for batch in batches for frames in batch]
        return [([1.0, 0.0], macs, [0.5, 0.5]) for macs in every]

    network.outcomes = outcomes  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, network.__name__, network)

    def run() -> trial.Trial:
        test = trial.todays_test(through.workspace, through.params, MODEL)
        registered = standing.registered(through.events(), MODEL, 1)
        assert registered
        return trial.run(through.workspace, test, registered)

    return run


Packed = Callable[..., int]


@pytest.fixture
def packed(
    through: Gate, monkeypatch: pytest.MonkeyPatch, stage_settings: Callable[..., StageSettings]
) -> Packed:
    """`packed(budget=8)`: registers a version whose network is real and looks so often."""
    monkeypatch.setattr(trial, "run", TRY)

    def make(**test_time: Any) -> int:
        settings = stage_settings("uniform", image_size=32)
        own = settings.evaluate.model_copy(update={"test_time": TestTime(**test_time)})
        settings = settings.model_copy(update={"evaluate": own, "classes": ("healthy", "lesion")})
        place = through.workspace.state / "stored" / str(len(through.events()))
        folder = place / "data" / "package"
        folder.mkdir(parents=True)
        build.save(build.fresh(settings, seed=0), folder / package.WEIGHTS)
        about = {
            "format_version": package.FORMAT_VERSION,
            "settings": settings.model_dump(mode="json"),
            "slice_axis": "auto",
            "thresholds": {"classes": {}},
            "training": {"seed": 0, "started_from": {"source": "none"}},
            "provenance": {tags.WEIGHTS: files.sha256(folder / package.WEIGHTS)},
        }
        (folder / package.DESCRIPTION).write_text(json.dumps(about))
        told = {"package": package.digest(folder), "settings": about["settings"]}
        return through.register(place.as_uri(), **told)

    return make


def _cost(event: Event) -> dict[str, Any]:
    [found] = [one for one in event.payload["criteria"] if one["group"] == "cost"]
    return found


OFTEN = {"budget": 8, "layers": 3, "views": ["flip_horizontal", "flip_vertical"]}


@pytest.mark.parametrize(("allowed", "outcome"), [(1.5, "fails"), (9.0, "holds")])
def test_a_challenger_that_looks_more_than_once_pays_for_it(
    through: Gate, packed: Packed, allowed: float, outcome: str
) -> None:
    through.planned(cost_ratio=allowed)
    through.promote(packed())
    found = _cost(through(packed(**OFTEN)))
    assert (found["outcome"], found["blocks"]) == (outcome, outcome == "fails")
    assert 2 < found["difference"] < 8


def test_a_champion_that_looks_more_than_once_is_held_against_as_it_is_used(
    through: Gate, packed: Packed
) -> None:
    through.promote(packed(**OFTEN))
    found = _cost(through(packed()))
    assert found["outcome"] == "holds"
    assert 1 / 8 < found["difference"] < 1 / 2
    same = _cost(through(packed(**OFTEN)))
    assert same["difference"] == pytest.approx(1)


def _test_exam(through: Gate, number: int) -> Path:
    return exam_path(through.workspace.exams(MODEL), digits("exam", "test", number))


def test_each_of_todays_exams_is_tried_in_the_order_of_its_id(
    stored: Callable[[], trial.Trial],
) -> None:
    names = {digits("exam", "test", number): number for number in range(2 * CASES)}
    assert stored().macs.tolist() == [names[name] for name in sorted(names)]


def test_labels_and_splits_that_were_not_ingested_judge_nothing(through: Gate) -> None:
    version = versioning.version(through.workspace, MODEL)
    assert version
    kept = through.workspace.kept_manifest(MODEL, version)
    told = {"dataset": MODEL, "version": version, "manifest": files.sha256(kept)}
    ledger.append(through.workspace, events.DATASET_VERSIONED, f"{MODEL}@{version}", told)
    assert trial.todays_test(through.workspace, through.params, MODEL).version == version
    flipped = manifest.read(kept)
    flipped["label"] = flipped["label"].map({"healthy": "lesion", "lesion": "healthy"})
    manifest.write(flipped, kept, {})
    with pytest.raises(UserError, match="not the manifest that the ledger tells of"):
        trial.todays_test(through.workspace, through.params, MODEL)
    ledger.append(through.workspace, events.DATASET_VERSIONED, "other", told | {"version": "b.dir"})
    with pytest.raises(UserError, match=r"by the ledger at b\.dir"):
        trial.todays_test(through.workspace, through.params, MODEL)


def test_an_altered_or_missing_exam_is_refused(
    through: Gate, stored: Callable[[], trial.Trial]
) -> None:
    exam = _test_exam(through, 5)
    container.save(Exam(np.full((2, 4, 4), 6, np.uint8)), exam)
    with pytest.raises(UserError, match=r"is not the one that was ingested.*dvc checkout"):
        stored()
    exam.unlink()
    with pytest.raises(UserError, match=r"is not there.*dvc checkout"):
        stored()


def test_a_package_that_is_sound_but_not_the_one_that_was_registered_is_refused(
    through: Gate, stored: Callable[[], trial.Trial]
) -> None:
    folder = through.workspace.state / "stored" / "data" / "package"
    (folder / "more").write_text("an addition")
    with pytest.raises(UserError, match="stored package is not the one that was registered"):
        stored()
    through.client.set_model_version_tag(MODEL, "1", tags.PACKAGE, package.digest(folder))
    with pytest.raises(UserError, match=r"its package is .*, by the ledger it is .*verify tiny/1"):
        stored()
