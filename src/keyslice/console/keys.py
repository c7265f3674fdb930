"""`keyslice key status`: which keys are set, and which ones the datasets' pseudonyms need."""

import os

from rich.text import Text

from keyslice.config import Params, Workspace
from keyslice.console.output import out, print_json, say
from keyslice.exams import barred, keyring
from keyslice.exams.pseudonym import (
    FORMER_VARIABLE,
    KEY_VARIABLE,
    SHOWN,
    former_keys,
    mark,
    secret_key,
)
from keyslice.provenance import patients


def status(workspace: Workspace, params: Params, *, as_json: bool) -> bool:
    """Print it, keys told by their marks; returns whether none is missing.

    As JSON: the marks `now` (or null) and `former`, and for each dataset with secret ids the marks
    that it needs (`keys`) and those of them that are not set (`missing`).

    Raises:
        UserError: a key cannot be used, or a manifest or a list of who has withdrawn is damaged.
    """
    now = mark(secret_key(workspace)) if os.environ.get(KEY_VARIABLE) else None
    former = [mark(key) for key in former_keys(workspace)]
    needed = {
        name: keyring.needed(workspace, name, barred.read(workspace, name))
        for name in patients.secret_datasets(workspace, params)
    }
    here = {now, *former}
    missing = {name: [one for one in keys if one not in here] for name, keys in needed.items()}
    if as_json:
        told = {n: {"keys": keys, "missing": missing[n]} for n, keys in needed.items()}
        print_json({"now": now, "former": former, "datasets": told})
    else:
        _show(now, former, needed, missing)
    return not any(missing.values())


def _show(
    now: str | None,
    former: list[str],
    needed: dict[str, list[str]],
    missing: dict[str, list[str]],
) -> None:
    say(out, Text(f"key of now: {now[:SHOWN] if now else 'none'} ({KEY_VARIABLE})"))
    for one in former:
        unused = not any(one in keys for keys in needed.values())
        why = ", which no dataset of this workspace needs" if unused else ""
        say(out, Text(f"former key: {one[:SHOWN]} ({FORMER_VARIABLE}){why}"))
    for name, keys in needed.items():
        line = f"pseudonyms of {_list(keys)}" if keys else "no pseudonym yet"
        if missing[name]:
            line += (
                f"; not set: {_list(missing[name])}. Nothing is taken in, and nobody found by a "
                "real id, until it is"
            )
        say(out, Text.assemble((name, "bold"), f": {line}"))
    if not needed:
        say(out, "No dataset here has secret patient ids.")


def _list(marks: list[str]) -> str:
    return ", ".join(one[:SHOWN] for one in marks)
