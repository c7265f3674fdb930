"""What a person may call a version of a model or of a dataset."""

import re
from collections.abc import Sequence

from keyslice.config import Workspace
from keyslice.errors import UserError, did_you_mean
from keyslice.provenance import events, standing
from keyslice.provenance.ledger import Event
from keyslice.provenance.membership import DatasetVersion, datasets, versions

ALIASES = {"champion": standing.champion, "challenger": standing.challenger}
FEWEST_DIGITS = 6
_DIGITS = re.compile(rf"[0-9a-f]{{{FEWEST_DIGITS},32}}(\.dir)?")


def is_digits(text: str) -> bool:
    """Whether this may be a hash, or enough of its beginning."""
    return _DIGITS.fullmatch(text) is not None


def models(found: Sequence[Event]) -> list[str]:
    """Those that the ledger tells of a registered version of."""
    told = (e.payload["model"] for e in found if e.action == events.MODEL_REGISTERED)
    return sorted(set(told))


def check_model(found: Sequence[Event], model: str) -> None:
    """Raises UserError: the ledger tells of no model of this name."""
    if model not in (known := models(found)):
        raise UserError(
            f"the ledger tells of no model {model!r}",
            rule="a model's versions are told of as they are registered",
            remedy=did_you_mean(model, known),
        )


def model_version(found: Sequence[Event], model: str, version: str) -> Event:
    """The registration of a version.

    Args:
        found: all events.
        model: its name.
        version: a number, or an alias, with or without its @.

    Raises:
        UserError: the ledger knows no such model or version, or nothing has the alias.
    """
    known = [
        event.payload["version"]
        for event in standing.of_model(found, model)
        if event.action == events.MODEL_REGISTERED
    ]
    check_model(found, model)
    alias = version.removeprefix("@")
    number = ALIASES[alias](found, model) if alias in ALIASES else None
    if alias.isdecimal():
        number = int(alias)
    registered = None if number is None else standing.registered(found, model, number)
    if registered is None:
        raise UserError(
            f"no version of it is {version!r}",
            where=f"model {model}",
            rule=f"a version is a number or one of {', '.join(f'@{a}' for a in ALIASES)}",
            remedy=f"known: {min(known)} to {max(known)}",
        )
    return registered


def dataset_versions(
    workspace: Workspace, found: Sequence[Event], dataset: str | None, beginning: str
) -> list[DatasetVersion]:
    """The versions whose md5 begins so; of all datasets, unless one is named."""
    names = datasets(workspace, found) if dataset is None else [dataset]
    return [
        version
        for name in names
        for version in versions(workspace, found, name)
        if version.version.startswith(beginning)
    ]
