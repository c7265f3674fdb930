import re
from collections import Counter
from collections.abc import Callable

import pytest

from keyslice.audit.content import content
from keyslice.audit.evidence import EVIDENCE
from keyslice.audit.figures import figures
from keyslice.audit.flow import diagram
from keyslice.audit.page import render
from keyslice.audit.subject import Subject
from keyslice.config import Workspace
from keyslice.provenance.evidence import Item

Audited = Callable[[Workspace], Subject]


def _page(one: Subject, verified: list[Item] | None = None) -> str:
    told = content(one, verified)
    return render(told, figures(one, told))


_WRITTEN: dict[str, str] = {}
"""Pages that tests only read: each is written once, which takes seconds."""


@pytest.fixture
def page(request: pytest.FixtureRequest, audited: Audited) -> str:
    """Of a version that everything is there of."""
    if "whole" not in _WRITTEN:
        one = audited(request.getfixturevalue("workspace"))
        items = [Item("ledger", "12 events", "sound", "unanchored")]
        _WRITTEN["whole"] = _page(one, items)
    return _WRITTEN["whole"]


@pytest.fixture
def bare_page(request: pytest.FixtureRequest, audited: Audited) -> str:
    """Of one of which the ledger alone is left."""
    if "bare" not in _WRITTEN:
        _WRITTEN["bare"] = _page(audited(request.getfixturevalue("bare")))
    return _WRITTEN["bare"]


def test_it_needs_nothing_else(page: str) -> None:
    assert "<script" not in page
    assert "<link" not in page
    assert "@import" not in page
    assert all(target.startswith("#") for target in re.findall(r'\bhref="([^"]*)"', page))
    assert not re.findall(r"""\bsrc=|url\((?!["']?#)""", page)


@pytest.mark.parametrize("kind", ["page", "bare_page"])
def test_every_link_leads_somewhere_and_every_place_has_one_name(
    kind: str, request: pytest.FixtureRequest
) -> None:
    text = request.getfixturevalue(kind)
    places = re.findall(r'<h\d id="([^"]+)"', text)
    assert max(Counter(places).values()) == 1
    links = re.findall(r'<a href="#([^"]*)"', text)
    assert set(links) <= set(places)
    assert {one.anchor for one in EVIDENCE.values()} <= set(places)


def test_neither_page_nor_json_holds_a_pseudonym_a_files_name_or_a_picture(
    workspace: Workspace, audited: Audited, page: str
) -> None:
    table = audited(workspace).manifest
    assert table is not None
    text = page + repr(content(audited(workspace), None))
    for known in (
        *table["patient"],
        *table["exam_id"],
        "roe_ann",
        "doe_jane",
        "data:image",
        "<img",
    ):
        assert known not in text
    assert "2024-03" not in text  # years alone


def test_an_overridden_gate_is_told_before_anything_else(page: str) -> None:
    top = page[page.index("<body>") : page.index('<dl class="glance"')]
    assert "A failed gate was overridden" in top
    assert "AUC floor" in top
    assert "anna" in top


def test_what_people_wrote_is_no_markup(page: str) -> None:
    assert "readers &lt;accept&gt; it" in page
    assert "South &lt;clinic&gt;" in page
    assert "South <clinic>" not in page


def test_a_first_model_was_held_against_no_champion(workspace: Workspace, audited: Audited) -> None:
    one = audited(workspace)
    told = content(one, None)
    told["gate"]["last"] |= {"champion": None, "alpha": None, "power": None, "look": 0}
    page = render(told, figures(one, told))
    assert "none: there was no champion to be held against" in page


def test_without_verification_it_says_so(workspace: Workspace, audited: Audited, page: str) -> None:
    words = "This audit was written without verification"
    assert words not in page
    assert words in _page(audited(workspace))


def test_where_results_are_gone_it_says_how_to_restore_them(bare_page: str) -> None:
    assert "git checkout c0ffeec0ffee" in bare_page
    assert bare_page.count("Not provided.") > 8


def test_each_drawing_has_a_name_for_who_cannot_see_it(page: str) -> None:
    drawings = re.findall(r"<svg[^>]*>", page)
    assert len(drawings) == 4
    assert all('role="img"' in one and "aria-label=" in one for one in drawings)


def test_the_flow_tells_all_counts_and_escapes_names() -> None:
    labels = {"a<b": 3, "a very long name of a class": 1}
    split = {"exams": 4, "patients": 2, "labels": labels}
    splits = dict.fromkeys(("train", "validation", "test"), split)
    counts = {"exams": 12, "patients": 6, "batches": 2, "splits": splits}
    kinds = {"two_patients": 2, "unreadable": 1}
    drawn = diagram({"counts": counts, "quarantine": kinds, "withdrawn_exams": 5})
    words = (
        "12 exams",
        "3 refused",
        "two patients: 2",
        "withdrawn since: 5",
        "a&lt;b",
        "a very lon…",
    )
    assert all(text in drawn for text in words)
