"""What was decided and not carried out, by the events alone."""

from typing import Any

import pytest

from keyslice.config import Workspace
from keyslice.provenance import events, ledger, standing
from keyslice.provenance.ledger import Event
from tests.provenance.story import Story


@pytest.fixture
def story(workspace: Workspace) -> Story:
    """Version 1 is champion, 2 and 3 are registered."""
    told = Story(workspace)
    for number in (1, 2, 3):
        told.registered(number, "a.dir")
    told.promoted(1)
    return told


def _unfinished(story: Story) -> Event | None:
    return standing.unfinished(ledger.read(story.workspace), story.dataset)


def _intent(story: Story, to: int, decision: Event | None = None) -> Event:
    """As a process leaves it that is killed before the alias is on its new version."""
    payload: dict[str, Any] = {"model": story.dataset, "from": 1, "to": to, "reason": ""}
    payload |= {"because": "promotion", "decision": decision and decision.number}
    return story.tell(events.CHAMPION_MOVING, story.dataset, payload, "bert")


def test_an_automatic_gate_that_was_passed_against_the_champion_is_carried_out(
    story: Story,
) -> None:
    gate = story.gate(2, approval="automatic")
    assert _unfinished(story) == gate


def test_an_automatic_gate_against_a_former_champion_moves_nothing(story: Story) -> None:
    story.moved(3)
    story.gate(2, champion=1, approval="automatic")
    assert _unfinished(story) is None


@pytest.mark.parametrize(
    ("failed", "approval"), [(["auc"], "automatic"), ([], "required"), (["auc"], "required")]
)
def test_a_gate_that_decides_nothing_by_itself_leaves_nothing_to_do(
    story: Story, failed: list[str], approval: str
) -> None:
    story.gate(2, failed, approval=approval)
    assert _unfinished(story) is None


def test_an_approval_without_an_intent_is_carried_out(story: Story) -> None:
    approved = story.decided(2, story.gate(2))
    assert _unfinished(story) == approved


def test_a_rejection_leaves_nothing_to_do(story: Story) -> None:
    story.decided(2, story.gate(2), approved=False)
    assert _unfinished(story) is None


def test_an_intent_without_an_end_is_carried_out(story: Story) -> None:
    intent = _intent(story, 2, story.decided(2, story.gate(2)))
    assert _unfinished(story) == intent


def test_a_move_that_was_made_is_not_made_again(story: Story) -> None:
    story.promoted(2)
    assert _unfinished(story) is None


def test_a_move_that_could_not_be_made_is_not_tried_again(story: Story) -> None:
    intent = _intent(story, 2, story.decided(2, story.gate(2)))
    stayed = {"model": story.dataset, "intent": intent.number, "reason": "gone"}
    story.tell(events.CHAMPION_STAYED, story.dataset, stayed, "bert")
    assert _unfinished(story) is None
    assert standing.champion(ledger.read(story.workspace), story.dataset) == 1


def test_what_is_left_of_one_model_is_nothing_to_another(story: Story) -> None:
    gate = story.gate(2, approval="automatic")
    Story(story.workspace, "others").gate(1, ["auc"])
    assert _unfinished(story) == gate
    assert standing.unfinished(ledger.read(story.workspace), "others") is None
