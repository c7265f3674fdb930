import hashlib
import json

import pytest
from prov.model import (
    ProvActivity,
    ProvAgent,
    ProvDocument,
    ProvElement,
    ProvEntity,
    ProvInvalidation,
    ProvRelation,
)

from keyslice.config import Workspace
from keyslice.errors import RunError
from keyslice.provenance import canonical, ledger, prov
from tests.provenance.story import PLAN, Story, digits, row

EXAMS = [digits("exam", number) for number in range(3)]


@pytest.fixture
def story(workspace: Workspace) -> Story:
    """Two versions of data and of a model, a rollback, a rejection and a withdrawal."""
    story = Story(workspace)
    first = story.version([row(EXAMS[0], digits("anna"))])
    story.started("run1")
    story.registered(1, run_commit="c" * 40)
    story.promoted(1)
    story.version([row(exam, digits("anna")) for exam in EXAMS])
    story.started("run2", by='Chris "C" Müller <c@ward> [b]')
    story.registered(2)
    story.moved(2, story.gate(2, approval="automatic"))
    story.moved(1)
    story.decided(2, story.gate(2, ["auc"]), 'worse\n"by far"\\', approved=False)
    story.withdrawn([first], [1, 2])
    story.tell("model.reproduced", "scans/1", {"model": "scans", "version": 1}, "anna")
    return story


@pytest.fixture
def made(story: Story) -> ProvDocument:
    return prov.document(ledger.read(story.workspace))


def names(document: ProvDocument, kind: type[ProvElement], beginning: str) -> set[str]:
    found = {str(one.identifier) for one in document.get_records(kind)}
    return {name for name in found if name.startswith(f"here:{beginning}")}


def related(document: ProvDocument, kind: str) -> set[tuple[str, ...]]:
    """The formal attributes of all relations of a kind that are names."""
    found = (one for one in document.get_records(ProvRelation) if type(one).__name__ == kind)
    return {
        tuple(str(v) for name, v in one.formal_attributes if v and "time" not in str(name))
        for one in found
    }


@pytest.mark.parametrize("form", prov.FORMATS)
def test_what_is_written_reads_back_as_the_same_document(story, made, form):
    text = prov.write(made, form)
    assert ProvDocument.deserialize(content=text, format=form) == made
    assert prov.write(prov.document(ledger.read(story.workspace)), form) == text


def test_what_does_not_read_back_is_not_given(made, monkeypatch):
    monkeypatch.setattr(ProvDocument, "deserialize", lambda **_: ProvDocument())
    with pytest.raises(RunError):
        prov.write(made, "json")


def test_the_chain_can_be_recomputed_from_the_document_alone(story, made):
    """Without the ledger: time, actor and payload of each activity give its hash."""
    agents = {one.identifier: one.label for one in made.get_records(ProvAgent)}
    actors = {
        str(relation.args[0]): agents[relation.args[1]]
        for relation in made.get_records(ProvRelation)
        if type(relation).__name__ == "ProvAssociation"
        and not str(relation.args[1]).startswith("here:software")
    }
    previous, count = ledger.FIRST, 0
    for one in made.get_records(ProvActivity):
        if not str(one.identifier).startswith("here:event/"):
            continue
        told = {name.localpart: value for name, value in one.extra_attributes}
        time = one.get_startTime()
        event = {
            "sequence": told["sequence"],
            "time": f"{time:%Y-%m-%dT%H:%M:%S.%f}Z",
            "actor": actors[str(one.identifier)],
            "action": told["action"],
            "object": told["object"],
            "payload": json.loads(told["payload"]),
            "previous": previous,
        }
        text = json.dumps(event, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        previous = hashlib.sha256(text.encode()).hexdigest()
        assert previous == told["hash"]
        count += 1
    assert previous == ledger.read(story.workspace)[-1].hash
    assert count == len(ledger.read(story.workspace))


def test_every_name_that_is_used_is_declared_once(made):
    declared = [one.identifier for one in made.get_records(ProvElement)]
    assert len(declared) == len(set(declared))
    for relation in made.get_records(ProvRelation):
        ends = {value for name, value in relation.formal_attributes if "time" not in str(name)}
        assert ends - {None} <= set(declared), relation


def test_a_model_leads_to_its_package_data_commit_plan_and_whoever_decided(story, made):
    first, second = (e.payload["version"] for e in events(story, "dataset.versioned"))
    assert ("here:dataset/scans@" + second, "here:dataset/scans@" + first) in {
        pair[:2] for pair in related(made, "ProvDerivation")
    }
    assert ("here:model/scans/1", "here:dataset/scans@" + first) in related(made, "ProvDerivation")
    package = f"here:package/{events(story, 'model.registered')[0].payload['package']}"
    assert (package, "here:run/run1") in related(made, "ProvGeneration")
    assert ("here:run/run1", "here:commit/" + "c" * 40) in related(made, "ProvUsage")
    plan = f"here:plan/{canonical.sha256(PLAN)}"
    assert ("here:run/run1", "here:agent/anna", plan) in related(made, "ProvAssociation")
    decision = events(story, "model.approved")[0].number
    assert (f"here:decision/{decision}", "here:agent/bert") in related(made, "ProvAttribution")
    assert names(made, ProvAgent, "software") == {"here:software/keyslice-0.1.0"}


def test_each_reign_begins_and_ends_as_the_ledger_says(story, made):
    moves = events(story, "champion.moved")
    reigns = [f"here:champion/{move.number}" for move in moves]
    assert names(made, ProvEntity, "champion") == set(reigns)
    assert related(made, "ProvSpecialization") == {
        (reigns[0], "here:model/scans/1"),
        (reigns[1], "here:model/scans/2"),
        (reigns[2], "here:model/scans/1"),
    }
    ended = {
        str(one.args[0]): one.args[2]
        for one in made.get_records(ProvInvalidation)
        if str(one.args[0]) in reigns
    }
    assert ended == {reigns[0]: moves[1].time, reigns[1]: moves[2].time}


def test_what_a_withdrawal_erased_is_invalidated_and_what_it_touched_is_named(story, made):
    (event,) = events(story, "withdrawal.completed")
    assert names(made, ProvEntity, "erased") == {f"here:erased/{event.number}/0"}
    touched = {pair[0] for pair in related(made, "ProvInfluence")}
    assert touched >= {"here:model/scans/1", "here:model/scans/2"}


def test_an_automatic_promotion_was_decided_by_the_gate(story, made):
    gate = events(story, "gate.evaluated")[1].number
    moved = events(story, "champion.moved")[1].number
    assert (f"here:event/{moved}", f"here:gate/{gate}") in related(made, "ProvUsage")


def test_a_ledger_without_events_is_a_document_without_records():
    assert not list(prov.document([]).get_records())


def events(story: Story, action: str) -> list[ledger.Event]:
    return [event for event in ledger.read(story.workspace) if event.action == action]
