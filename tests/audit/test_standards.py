from collections import Counter
from collections.abc import Callable

import pytest

from keyslice.audit import standards
from keyslice.audit.content import content
from keyslice.audit.evidence import EVIDENCE
from keyslice.audit.page import numbers
from keyslice.audit.subject import Subject
from keyslice.config import Workspace

Audited = Callable[[Workspace], Subject]
LISTED = {one["name"]: one for one in standards.listed()}


def _numbers(name: str) -> list[str]:
    return [str(item["number"]) for item in LISTED[name]["items"]]


def test_claim_has_its_44_items() -> None:
    assert _numbers("claim") == [str(number) for number in range(1, 45)]


def test_tripod_ai_has_its_27_items_and_52_with_their_parts() -> None:
    found = _numbers("tripod-ai")
    assert [int(n) for n in dict.fromkeys(text.rstrip("abcdefg") for text in found)] == [
        *range(1, 28)
    ]
    assert len(set(found)) == len(found) == 52


def test_annex_iv_has_its_9_points() -> None:
    found = _numbers("eu-ai-act")
    assert found == [f"1({c})" for c in "abcdefgh"] + [f"2({c})" for c in "abcdefgh"] + [*"3456789"]


def test_the_change_control_plan_has_its_three_components() -> None:
    found = Counter(number.partition("-")[0] for number in _numbers("fda-pccp"))
    assert list(found) == ["DM", "MP", "IA"]


@pytest.mark.parametrize("standard", LISTED.values(), ids=LISTED)
def test_each_item_names_evidence_that_there_is_or_what_is_left(standard: dict) -> None:
    for item in standard["items"]:
        assert set(item) <= {"number", "title", "evidence", "rest"}
        assert set(item.get("evidence", [])) <= EVIDENCE.keys()
        assert item.get("evidence") or item.get("rest")


def test_every_piece_of_evidence_stands_in_a_part_of_the_page() -> None:
    assert {one.anchor for one in EVIDENCE.values()} <= numbers().keys()


def _item(told: dict, standard: str, number: str) -> dict:
    [found] = [one for one in told["standards"] if one["name"] == standard]
    [item] = [one for one in found["items"] if one["number"] == number]
    return item


def test_without_an_intended_use_the_item_is_not_provided(
    workspace: Workspace, audited: Audited, write_package: Callable[..., None]
) -> None:
    goal = _item(content(audited(workspace), None), "claim", "6")
    assert (goal["state"], goal["absent"]) == ("not provided", ["intended use"])
    write_package(intended_use="Second reading.")
    goal = _item(content(audited(workspace), None), "claim", "6")
    assert (goal["state"], goal["absent"]) == ("in part", [])


def test_an_item_whose_evidence_is_all_there_is_provided(
    workspace: Workspace, audited: Audited
) -> None:
    told = content(audited(workspace), None)
    assert _item(told, "claim", "29")["state"] == "provided"  # intervals
    assert _item(told, "tripod-ai", "23a")["state"] == "provided"
    assert _item(told, "claim", "44")["state"] == "not provided"  # funding
    assert _item(told, "eu-ai-act", "9")["absent"] == ["drift of new exams"]


def test_of_a_bare_registration_little_is_provided(bare: Workspace, audited: Audited) -> None:
    told = content(audited(bare), None)
    assert _item(told, "claim", "29")["state"] == "not provided"
    assert _item(told, "fda-pccp", "IA-1")["state"] == "not provided"
    assert _item(told, "claim", "9")["state"] == "provided"  # settings are in the ledger
