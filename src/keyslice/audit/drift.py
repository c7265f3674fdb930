"""How the exams differ from those that a model knew: before the version, and since."""

from typing import Any

from keyslice import versioning
from keyslice.audit.subject import Subject
from keyslice.evaluation.presentation import NONE, decimals, signed
from keyslice.registry import drift as kept


def drift(one: Subject) -> dict[str, Any]:
    """What state/drift holds, for JSON; None: nothing was compared, or it is not kept.

    `before`: the new exams of the version's own data, against those of the model before it.
    `since`: the exams that came after, against those that this version knows.
    """
    own = one.told["dataset_version"]
    now = versioning.version(one.workspace, one.model)
    since = None
    if now is not None and now != own:
        since = kept.kept(one.workspace, one.model, now)
        if since is not None and since["reference"]["model_version"] != one.version:
            since = None
    before = kept.kept(one.workspace, one.model, own)
    return {"before": before and _told(before), "since": since and _told(since)}


def _told(found: dict[str, Any]) -> dict[str, Any]:
    names = (
        "version",
        "reference",
        "reference_exams",
        "reference_patients",
        "new_exams",
        "new_patients",
        "level",
    )
    rows = [_row(shift) for shift in found["shifts"] if shift["p"] is not None]
    rows.sort(key=lambda row: (not row["shifted"], -abs(row["effect"] or 0), row["name"]))
    return {name: found[name] for name in names} | {
        "sentence": _sentence(found["sentence"]),
        "tested": rows,
        "untested": [shift["name"] for shift in found["shifts"] if shift["p"] is None],
    }


def _row(shift: dict[str, Any]) -> dict[str, Any]:
    names = ("name", "kind", "before", "now", "effect", "magnitude", "corrected", "shifted")
    effect = shift["effect"]
    written = signed if shift["kind"] == "numeric" else decimals
    words = NONE if effect is None else written(effect)
    return {name: shift[name] for name in names} | {"effect_words": words}


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."
