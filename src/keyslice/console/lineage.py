"""`keyslice lineage`: from a model to its data and who decided, from an exam to models."""

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime
from typing import Any

from keyslice.config import Workspace
from keyslice.console import lineage_words
from keyslice.console.output import print_json
from keyslice.errors import UserError, did_you_mean
from keyslice.provenance import ledger, lineage, naming, standing
from keyslice.provenance.ledger import Event
from keyslice.provenance.lineage import DatasetLineage, ModelLineage
from keyslice.provenance.membership import Row, datasets

_NAMED = 4


def run(
    workspace: Workspace,
    what: str | None,
    version: str | None,
    *,
    against: str | None,
    patient: str | None,
    issuer: str | None,
    pseudonym: str | None,
    list_exams: bool,
    as_json: bool,
) -> None:
    """Answer for a model, a dataset version, an exam or a patient.

    Args:
        workspace: that is asked.
        what: a model or dataset, a version of one, or an exam's id; None: a patient is asked for.
        version: of the model, where `what` names no version: a number or an @alias.
        against: another version of the model; the difference is told.
        patient: a real id.
        issuer: who gave it out, where it is not the one in the settings.
        pseudonym: of a patient, or its beginning.
        list_exams: tell the ids of exams and the pseudonyms of patients, too.
        as_json: for scripts.

    Raises:
        UserError: nothing is called so; or not one thing is asked for; or what is kept is damaged.
    """
    if sum(one is not None for one in (what, patient, pseudonym)) != 1:
        raise UserError(
            "asks for one thing",
            where="keyslice lineage",
            rule="WHAT, --patient or --pseudonym",
            remedy="keyslice lineage --help shows how each is written",
        )
    if issuer is not None and patient is None:
        raise UserError("is of an id", where="--issuer", rule="--patient ID goes with it")
    found = ledger.read(workspace)
    if what is None:
        _patient(workspace, found, patient, issuer, pseudonym, list_exams, as_json)
        return
    name, mark, rest = (what, "/", version) if version is not None else _parts(what)
    known = {*naming.models(found), *datasets(workspace, found)}
    if against is not None or mark == "/" or rest in naming.ALIASES:
        # Where none is named, as everywhere: the champion, else the challenger.
        reigning = standing.champion(found, name) is not None
        asked = rest or ("@champion" if reigning else "@challenger")
        _model(workspace, found, name, asked, against, list_exams, as_json)
    elif what in known:
        told = lineage.history(workspace, found, what)
        _show(told, as_json, lambda: lineage_words.history(told))
    elif naming.is_digits(rest or what):
        _digits(workspace, found, name if rest else None, rest or what, list_exams, as_json)
    else:
        raise UserError(
            f"nothing is called {what!r}",
            rule="WHAT is MODEL, MODEL/3, MODEL@champion, a dataset's version or an exam's id, or "
            f"{naming.FEWEST_DIGITS} or more of its first digits",
            remedy=did_you_mean(name, known),
        )


def _parts(what: str) -> tuple[str, str, str]:
    """A name, / or @, and what follows it; both empty of a name alone."""
    return what.partition("/" if "/" in what else "@")


def _model(
    workspace: Workspace,
    found: list[Event],
    name: str,
    version: str,
    against: str | None,
    list_exams: bool,
    as_json: bool,
) -> None:
    registered = naming.model_version(found, name, version)
    if against is None:
        told = lineage.model(workspace, found, registered)
        _show(told, as_json, lambda: lineage_words.model(told, list_exams), list_exams)
        return
    from keyslice.provenance import differences  # imports what talks to git and DVC

    other = against.removeprefix(name).removeprefix("/")
    before = naming.model_version(found, name, other)
    between = differences.between(workspace, found, before, registered)
    _show(between, as_json, lambda: lineage_words.difference(between, differences.words(between)))


def _digits(
    workspace: Workspace,
    found: list[Event],
    dataset: str | None,
    beginning: str,
    list_exams: bool,
    as_json: bool,
) -> None:
    versions = naming.dataset_versions(workspace, found, dataset, beginning)
    if len(versions) > 1:
        some = ", ".join(one.name for one in versions[:_NAMED])
        raise UserError(
            f"{len(versions)} dataset versions begin with {beginning}",
            rule=f"one is asked for: {some}" + (", …" if len(versions) > _NAMED else ""),
            remedy="give more digits, or name the dataset: DATASET@DIGITS",
        )
    if versions:
        told = lineage.dataset(workspace, found, versions[0])
        _show(told, as_json, lambda: lineage_words.dataset(told, list_exams), list_exams)
        return
    if dataset is not None:
        raise UserError(
            f"no version of {dataset} begins with {beginning}",
            rule="versions are told of by the ledger, or a manifest of them is kept",
            remedy=f"keyslice lineage {dataset} lists them",
        )
    traces = lineage.exam(workspace, found, beginning)
    _show(
        {"exam": traces[0].id, "datasets": traces},
        as_json,
        lambda: lineage_words.traces("exam", traces, list_exams=False),
    )


def _patient(
    workspace: Workspace,
    found: list[Event],
    patient: str | None,
    issuer: str | None,
    pseudonym: str | None,
    list_exams: bool,
    as_json: bool,
) -> None:
    if pseudonym is not None:
        if not naming.is_digits(pseudonym):
            raise UserError(
                "is no pseudonym",
                where="--pseudonym",
                rule="it has 32 hex digits, of which the first "
                f"{naming.FEWEST_DIGITS} or more are given",
                remedy="for an id of the hospital use --patient",
            )
        names, others = dict.fromkeys(datasets(workspace, found), pseudonym), {}
    else:
        from keyslice.config import load
        from keyslice.provenance import patients

        params = load(workspace.params)
        person = patients.person(workspace, params, patient=patient, issuer=issuer)
        names, others = person.patients, person.others
    traces = lineage.patient(workspace, found, names)
    for name, more in others.items():
        for one in sorted(more):
            traces += lineage.patient(workspace, found, {name: one})
    _show(
        {"datasets_asked": [*names], "datasets": traces},
        as_json,
        lambda: lineage_words.patient(traces, [*names], list_exams),
        list_exams,
    )


def _show(told: object, as_json: bool, words: Callable[[], None], list_exams: bool = False) -> None:
    if as_json:
        print_json(plain(told, rows=list_exams))
    else:
        words()


def plain(value: object, *, rows: bool) -> Any:
    """As JSON; an event as the ledger has it.

    Args:
        value: of `keyslice.provenance.lineage` or `differences`.
        rows: with all exams of a model or a dataset version.
    """
    if isinstance(value, Event):
        return plain(vars(value), rows=rows)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {key: plain(one, rows=rows) for key, one in value.items()}
    if isinstance(value, Row):  # a tuple, too
        return value._asdict()
    if isinstance(value, list | tuple):
        return [plain(one, rows=rows) for one in value]
    if is_dataclass(value):
        whole = rows or not isinstance(value, DatasetLineage | ModelLineage)
        names = [field.name for field in fields(value) if whole or field.name != "rows"]
        return {name: plain(getattr(value, name), rows=rows) for name in names}
    return value
