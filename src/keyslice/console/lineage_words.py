"""Lineage on the terminal: within 80 columns, what is longer folded below its own heading."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from keyslice.console.output import out, say
from keyslice.provenance import events
from keyslice.provenance.ledger import Event
from keyslice.provenance.lineage import DatasetLineage, History, Made, ModelLineage, Trace
from keyslice.provenance.membership import DatasetVersion, Row, Size
from keyslice.provenance.standing import Reign
from keyslice.provenance.wording import counted, looks, sized, value

if TYPE_CHECKING:
    from keyslice.provenance.differences import Difference  # imports what talks to git and DVC

TIME = "%Y-%m-%d %H:%M"
SPLIT_MEANS = {
    "train": "the models learned from it",
    "validation": "it decided which model was taken",
    "test": "figures were measured on it",
}


class Page:
    """A heading, and lines of a name and what it stands for."""

    def __init__(self, heading: str) -> None:
        say(out, Text(heading, "bold"))
        self._table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
        self._table.add_column(style="dim", no_wrap=True)
        self._table.add_column(overflow="fold")

    def line(self, name: str, *told: str) -> None:
        """One line for each of `told`, the name before the first."""
        for number, one in enumerate(told):
            # Text: what people write is no markup.
            self._table.add_row(Text("" if number else name), Text(one))

    def end(self) -> None:
        out.print(self._table)


def model(told: ModelLineage, list_exams: bool) -> None:
    """Print where a version of a model came from, and what became of it."""
    event = told.registered
    facts = event.payload
    now = any(reign.until is None for reign in told.reigns)
    page = Page(f"{facts['model']} version {facts['version']}{', the champion' if now else ''}")
    page.line("registered", f"{event.time:{TIME}} UTC by {event.actor}{_event(event)}")
    page.line("data", *_source(told.source), *_splits(told.splits))
    page.line("withdrawn", *map(_withdrawal, told.withdrawals))
    page.line("variant", f"{facts['variant']}, seed {facts['seed']}")
    page.line("started from", *_started(told))
    page.line("classes", ", ".join(facts["classes"]))
    for section, some in facts["settings"].items():
        if isinstance(some, dict) and some:
            told_apart = {key: one for key, one in some.items() if key != "test_time"}
            page.line(section, ", ".join(f"{key} {value(one)}" for key, one in told_apart.items()))
    page.line("looks", looks(facts["settings"]))
    page.line("figures", *_figures(facts))
    page.line("code", facts["run_commit"] or "no run commit was recorded")
    page.line("environment", f"keyslice {facts['keyslice']}")
    page.line("hashes", "sha256, of:")
    hashes = ("requirements", "manifest", "parameters", "weights", "package", "identity")
    for name in hashes:
        page.line(name, facts[name] or "not recorded")
    if learned := facts.get("state_attention"):
        page.line("attention", learned)
    page.line("runs", f"retraining {facts['run']}", f"training {facts['training_run']}")
    page.line("gate", *(map(_gate, told.gates) if told.gates else ["not been through it"]))
    page.line("decisions", *(map(_decision, told.decisions) if told.decisions else ["none"]))
    page.line("champion", *(map(_reign, told.reigns) if told.reigns else ["never"]))
    page.line("reproduced", *map(_reproduction, told.reproductions))
    page.end()
    if list_exams:
        _exams(told.rows)


def dataset(told: DatasetLineage, list_exams: bool) -> None:
    """Print what a version of a dataset holds, and what was made from it."""
    page = Page(told.version.name)
    page.line("recorded", _when(told.version))
    page.line("previous", told.previous or "none is known")
    page.line("exams", *_splits(told.splits))
    page.line("withdrawn", *map(_withdrawal, told.withdrawals))
    page.end()
    _models(told.models, told.inherited)
    if list_exams:
        _exams(told.rows)


def history(told: History) -> None:
    """Print all versions of a dataset, and the models made from each."""
    table = Table(box=None, pad_edge=False)
    table.add_column("dataset version", style="bold")
    table.add_column("recorded (UTC)")
    table.add_column("exams", justify="right")
    table.add_column("models", overflow="fold")
    for version in told.versions:
        made = [m.version for m in told.models if m.dataset_version == version.version]
        exams = f"{version.event.payload['exams']:,}" if version.event else ""
        time = f"{version.time:{TIME}}" if version.time else "before the ledger"
        short = f"{told.dataset}@{version.version[:12]}"
        table.add_row(Text(short), time, exams, spans(made))
    out.print(table)
    _models(told.models)


def patient(some: Sequence[Trace], asked: Sequence[str], list_exams: bool) -> None:
    """Print where a patient's exams have been; `asked` names the datasets looked through."""
    if some:
        traces("patient", some, list_exams=list_exams)
        return
    names = ", ".join(asked) or "none"
    say(out, Text(f"No exam of this patient is in any version. Datasets looked through: {names}."))


def traces(kind: str, some: Sequence[Trace], *, list_exams: bool) -> None:
    """Print in which dataset versions an exam or a patient is, and what was made from them."""
    for number, trace in enumerate(some):
        if number:
            out.print()
        _trace(kind, trace)
        if list_exams:
            _exams({row.exam: row for held in trace.held for row in held.rows}.values())


def difference(told: "Difference", words: Iterable[tuple[str, Sequence[str]]]) -> None:
    """Print what is different between two versions of a model, which `words` tells."""
    then, now = (one.registered.payload for one in (told.before, told.after))
    page = Page(f"{now['model']}: from version {then['version']} to version {now['version']}")
    for name, lines in words:
        page.line(name, *lines)
    for one in (told.before, told.after):
        name = f"champion: {one.registered.payload['version']}"
        page.line(name, *(map(_reign, one.reigns) if one.reigns else ["never"]))
    page.end()


def spans(numbers: Iterable[int]) -> str:
    """`1-3, 7`."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ", ".join(f"{p[0]}-{p[-1]}" if len(p) > 1 else str(p[0]) for p in parts)


def _started(told: ModelLineage) -> list[str]:
    """Nothing of versions from before there was a choice."""
    lines = []
    if told.started_from:
        first, *others = told.started_from
        line = "".join(f", which started from version {one}" for one in others)
        lines.append(f"version {first}{line}")
    elif "started_from" in told.registered.payload:
        lines.append("scratch")
    if told.descendants:
        lines.append(f"it was started from by version {spans(told.descendants)}")
    return lines


def _trace(kind: str, trace: Trace) -> None:
    page = Page(f"{kind} {trace.id} in dataset {trace.dataset}")
    rows = [row for held in trace.held for row in held.rows]
    if kind == "exam" and rows:
        page.line("patient", rows[-1].patient)
    elif rows:
        page.line("exams", f"{len({row.exam for row in rows})}, in all versions together")
    if rows:
        page.line("label", " → ".join(dict.fromkeys(row.label for row in rows)))
        for split in dict.fromkeys(row.split for row in rows):
            page.line("split", f"{split}: {SPLIT_MEANS[split]}")
        count = f"in {len(trace.held)} of {counted(trace.asked, 'version')}"
        first, last = trace.held[0].version, trace.held[-1].version
        page.line("versions", count, f"first {_short(first)}", f"last  {_short(last)}")
    if trace.unkept:
        page.line("not known", f"{counted(len(trace.unkept), 'version')} without a kept manifest")
    if trace.withdrawn:
        page.line("withdrawn", *_withdrawn(kind, trace))
    page.end()
    if rows or trace.models:
        _models(trace.models, trace.inherited)


def _withdrawn(kind: str, trace: Trace) -> list[str]:
    whose = "this patient has" if kind == "patient" else "its patient has"
    if not trace.withdrawals:
        return [f"{whose} withdrawn; the ledger does not tell of it"]
    one = len(trace.withdrawals) == 1
    which = "" if one else f", in one of {len(trace.withdrawals)} withdrawals: the ledger keeps "
    told = [f"{whose} withdrawn{which}{'' if one else 'that they happened, not who'}"]
    for event in trace.withdrawals:
        touched = event.payload
        models = spans(touched["models"])
        told.append(_withdrawal(event))
        told.append(
            f"touched: {counted(len(touched['versions']), 'dataset version')}, "
            + (f"model versions {models}" if models else "no model")
            + (", the champion among them" if touched["champion"] else "")
        )
    return told


def _models(made: Sequence[Made], inherited: Sequence[Made] = ()) -> None:
    out.print()
    if not made:
        say(out, "No model was made from it.")
        return
    say(out, Text(f"model versions made from it: {spans(one.version for one in made)}"))
    if inherited:
        others = spans(one.version for one in inherited)
        say(out, Text(f"model versions that started from one of these: {others}"))
    reigned = [(one, reign) for one in (*made, *inherited) for reign in one.reigns]
    if not reigned:
        say(out, "None of them was ever champion.")
        return
    table = Table(box=None, pad_edge=False)
    table.add_column("champion", style="bold")
    for name in ("from (UTC)", "until (UTC)", "because", "by"):
        table.add_column(name, overflow="fold")
    for one, reign in sorted(reigned, key=lambda pair: pair[1].since):
        end = f"{reign.until:{TIME}}" if reign.until else "now"
        because = (reign.moved.payload["because"], reign.moved.actor)
        cells = (f"version {one.version}", f"{reign.since:{TIME}}", end, *because)
        table.add_row(*map(Text, cells), style="" if reign.until else "green")
    out.print(table)


def _exams(rows: Iterable[Row]) -> None:
    lines = (f"{row.exam}  {row.patient:32}  {row.split} {row.label}" for row in rows)
    out.print()
    say(out, Text(f"{'exam':32}  patient", "bold"))
    out.print(Text("\n".join(lines)), soft_wrap=True)  # at once: there may be many thousands


def _source(version: DatasetVersion) -> list[str]:
    return [version.name, f"recorded {_when(version)}"]


def _when(version: DatasetVersion) -> str:
    if version.event is None:
        return "before the ledger"
    return f"{version.time:{TIME}} UTC by {version.event.actor}{_event(version.event)}"


def _short(version: DatasetVersion) -> str:
    time = f"{version.time:{TIME}} UTC" if version.time else "before the ledger"
    return f"{version.version[:12]}, {time}"


def _splits(splits: dict[str, Size] | None) -> list[str]:
    if splits is None:
        return ["which exams is not known: no manifest of it is kept"]
    return [f"{split}: {sized(size)}" for split, size in splits.items()]


def _figures(payload: Mapping[str, Any]) -> list[str]:
    told = [f"validation AUC {value(payload['validation_auc'])}"]
    for split, some in payload["figures"].items():
        if isinstance(some, dict):
            told.append(f"{split}: " + ", ".join(f"{k} {value(v)}" for k, v in some.items()))
    return told


def _gate(event: Event) -> str:
    facts = event.payload
    failed = [one["name"] for one in facts["criteria"] if one["blocks"]]
    against = [
        f"{role} {facts[role]}" for role in ("champion", "anchor") if facts[role] is not None
    ]
    return (
        f"{event.time:{TIME}} {facts['outcome']}"
        + (f" by {', '.join(failed)}" if failed else "")
        + f"; look {facts['look']} of {facts['looks']} at the test set"
        + (f", against {' and '.join(against)}" if against else ", no champion yet")
        + _event(event)
    )


def _decision(event: Event) -> str:
    facts = event.payload
    verdict = "approved" if event.action == events.MODEL_APPROVED else "rejected"
    signature = facts["signature"]
    signed = f", signed as {signature['principal'] or 'whoever holds the key'}" if signature else ""
    override = facts.get("override")
    over = f", over the failed {', '.join(override)}" if override else ""
    told = f"{event.time:{TIME}} {verdict} by {event.actor}{signed}{over}"
    return f"{told}: {facts['reason']}{_event(event)}"


def _reign(reign: Reign) -> str:
    until = f"{reign.until:{TIME}}" if reign.until else "now"
    moved = reign.moved
    because = moved.payload["because"]
    return f"{reign.since:{TIME}} until {until}, {because} by {moved.actor}{_event(moved)}"


def _withdrawal(event: Event) -> str:
    facts = event.payload
    end = " begun, not completed" if event.action == events.WITHDRAWAL_BEGUN else ""
    exams = counted(facts["exams"], "exam")
    return f"{event.time:{TIME}}{end} {exams}: {facts['reason']}{_event(event)}"


def _reproduction(event: Event) -> str:
    return f"{event.time:{TIME}} {event.payload['outcome']} by {event.actor}{_event(event)}"


def _event(event: Event) -> str:
    return f" (event {event.number})"
