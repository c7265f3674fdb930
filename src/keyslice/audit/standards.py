"""What regulations and reporting guidelines ask for, and what of it an audit answers.

One file each in standards/:

    name, title: for the page.
    source: where the items come from.
    scope: what the index covers, and what it leaves out.
    by: who has to provide what Keyslice does not.
    items: number (as the source has it), title (in our words), evidence (names in
        `keyslice.audit.evidence`), rest (what the evidence leaves to be provided; may be left out).
"""

from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

import yaml

from keyslice.audit.evidence import EVIDENCE

FILES = ("eu_ai_act", "fda_pccp", "claim_2024", "tripod_ai")
"""In the order of the page."""
STATES = ("provided", "in part", "not provided")


@cache
def listed() -> tuple[dict[str, Any], ...]:
    """The standards as their files have them."""
    folder = resources.files("keyslice.audit") / "standards"
    texts = ((folder / f"{name}.yaml").read_text(encoding="utf-8") for name in FILES)
    return tuple(yaml.safe_load(text) for text in texts)


def answered(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each standard with the state of its items in this audit, for JSON."""
    there = {name: bool(one.there(content)) for name, one in EVIDENCE.items()}
    return [
        {name: one[name] for name in ("name", "title", "source", "scope", "by")}
        | {"items": [_item(item, there) for item in one["items"]]}
        for one in listed()
    ]


def _item(item: dict[str, Any], there: Mapping[str, bool]) -> dict[str, Any]:
    asked, rest = item.get("evidence", []), item.get("rest", "")
    found = [name for name in asked if there[name]]
    absent = [name for name in asked if not there[name]]
    whole = bool(found) and not absent and not rest
    return {
        "number": str(item["number"]),
        "title": item["title"],
        "state": STATES[0] if whole else STATES[1] if found else STATES[2],
        "evidence": [{"name": EVIDENCE[n].name, "anchor": EVIDENCE[n].anchor} for n in found],
        "absent": [EVIDENCE[name].name for name in absent],
        "rest": rest,
    }
