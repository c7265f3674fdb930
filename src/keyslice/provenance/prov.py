"""The ledger as W3C PROV: what was made of what, by which activity, on whose responsibility.

PROV-DM (https://www.w3.org/TR/prov-dm/), by the library `prov`. Each event is an activity that
keeps its hash, the hash before it and its payload as JSON, so the chain can be checked from the
document alone. Around them: versions of datasets and models, packages, run commits, plans, results
of gates, decisions and reigns of champions are entities; retrainings are activities; people and
keyslice are agents. What a withdrawal erased is invalidated.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import quote
from uuid import UUID

from prov.constants import PROV, PROV_LABEL, PROV_TYPE
from prov.identifier import Namespace, QualifiedName
from prov.model import ProvDocument

from keyslice.errors import RunError
from keyslice.provenance import canonical, descent, events
from keyslice.provenance.ledger import Event

FORMATS = ("json", "provn", "jsonld")
"""PROV-JSON, PROV-N, and PROV-O as JSON-LD."""
TERMS = Namespace("keyslice", "urn:keyslice:terms:")
"""Of our own attributes and types."""
_DECISIONS = {events.MODEL_APPROVED: "approved", events.MODEL_REJECTED: "rejected"}
_SAFE = "/@.-_"


def document(found: Sequence[Event]) -> ProvDocument:
    """The same events give the same document, record for record."""
    return _Writer(found).document


def write(made: ProvDocument, form: str) -> str:
    """The document in one of `FORMATS`, read back and compared before it is given.

    Raises:
        RunError: what was read back is not what was written.
    """
    buffer = io.StringIO()
    made.serialize(buffer, format=form)
    text = f"{buffer.getvalue().rstrip()}\n"
    if ProvDocument.deserialize(content=text, format=form) != made:
        raise RunError(f"the ledger does not survive the way through PROV as {form}")
    return text


class _Writer:
    """Adds one event after another; what an event names and none has told of is declared bare."""

    def __init__(self, found: Sequence[Event]) -> None:
        self.document = ProvDocument()
        self.document.add_namespace(TERMS)
        self._here = Namespace("here", f"{_installation(found)}#")
        self.document.add_namespace(self._here)
        self._known: set[QualifiedName] = set()
        self._named: dict[QualifiedName, str] = {}
        self._reigning: dict[str, QualifiedName] = {}
        self._ended: dict[str, datetime] = _ends(found)
        deciders = {event.actor for event in found if event.action in _DECISIONS}
        for event in found:
            self._agent(event.actor, person=event.actor in deciders)
            self._activity(event)
            add = _ADDED.get(event.action)
            if add is not None:
                add(self, event)
            elif "model" in event.payload and "version" in event.payload:
                self._use(event, self._model(event.payload["model"], event.payload["version"]))
        for name, kind in self._named.items():
            self._declare(name, kind, None, {})

    def dataset_versioned(self, event: Event) -> None:
        facts = event.payload
        name = self._name("dataset", f"{facts['dataset']}@{facts['version']}")
        counts = {key: facts[key] for key in ("exams", "patients", "manifest")}
        if not self._declare(name, "DatasetVersion", event.object, counts):
            return  # it is what it was once before
        self.document.wasGeneratedBy(name, self._event(event), event.time)
        if facts["previous"]:
            before = self._dataset(facts["dataset"], facts["previous"])
            revision = {PROV_TYPE: PROV["Revision"]}
            self.document.wasDerivedFrom(
                name, before, self._event(event), other_attributes=revision
            )

    def run_started(self, event: Event) -> None:
        facts = event.payload
        plan = self._plan(facts["plan_sha256"], event, facts["plan"])
        self.document.wasAssociatedWith(self._event(event), self._person(event.actor), plan)
        if not facts["run"]:
            return
        run = self._run(facts["run"], event.time)
        self.document.wasInformedBy(run, self._event(event))
        self.document.wasAssociatedWith(run, self._person(event.actor), plan)
        if facts["dataset_version"]:
            used = self._dataset(facts["dataset"], facts["dataset_version"])
            self.document.used(run, used, event.time)

    def model_registered(self, event: Event) -> None:
        facts = event.payload
        source = self._dataset(facts["model"], facts["dataset_version"])
        package = self._name("package", facts["package"])
        made_by = self._run(facts["run"], None) if facts["run"] else self._event(event)
        ancestor = descent.parent(event)
        before = None if ancestor is None else self._model(facts["model"], ancestor)
        if self._declare(package, "Package", None, {"sha256": facts["package"]}):
            self.document.wasGeneratedBy(package, made_by)
            self.document.wasDerivedFrom(package, source, made_by)
            if before is not None:
                self.document.wasDerivedFrom(package, before, made_by)
        if facts["run_commit"]:
            commit = self._name("commit", facts["run_commit"])
            self._declare(commit, "RunCommit", None, {})
            self.document.used(made_by, commit)
        version = self._name("model", event.object)
        keys = ("variant", "seed", "parameters", "weights", "requirements", "validation_auc")
        known = {key: facts[key] for key in keys}
        known["state_attention"] = facts.get("state_attention")  # None before there was a choice
        self._declare(version, "ModelVersion", event.object, known)
        self.document.wasGeneratedBy(version, self._event(event), event.time)
        self.document.wasDerivedFrom(version, package, self._event(event))
        self.document.wasDerivedFrom(version, source)
        if before is not None:  # its training started from that one's network
            self.document.used(made_by, before)
            self.document.wasDerivedFrom(version, before)
        self.document.wasAttributedTo(version, self._person(event.actor))
        self._software(event)

    def gate_evaluated(self, event: Event) -> None:
        facts = event.payload
        for number in dict.fromkeys((facts["version"], facts["champion"], facts["anchor"])):
            if number is not None:
                self._use(event, self._model(facts["model"], number))
        self._use(event, self._dataset(facts["model"], facts["dataset_version"]))
        plan = self._plan(facts["plan_sha256"], None, None)
        self.document.wasAssociatedWith(self._event(event), self._person(event.actor), plan)
        told = {key: facts[key] for key in ("outcome", "look", "looks", "test_exams")}
        self._result("gate", "GateResult", event, told)

    def decided(self, event: Event) -> None:
        facts = event.payload
        self._use(event, self._model(facts["model"], facts["version"]))
        if facts["gate"] is not None:
            self._use(event, self._name("gate", str(facts["gate"])))
        told = {"verdict": _DECISIONS[event.action], "reason": facts["reason"]}
        result = self._result("decision", "Decision", event, told)
        self.document.wasAttributedTo(result, self._person(event.actor))

    def champion_moved(self, event: Event) -> None:
        facts = event.payload
        self.document.wasInformedBy(self._event(event), self._name("event", str(facts["intent"])))
        if facts["decision"] is not None:
            decided = self._name("decision", str(facts["decision"]))
            if decided in self._known:  # an automatic promotion was decided by the gate
                self._use(event, decided)
            else:
                self._use(event, self._name("gate", str(facts["decision"])))
        before = self._reigning.pop(facts["model"], None)
        if before is not None:
            self.document.wasInvalidatedBy(before, self._event(event), event.time)
        if facts["to"] is not None:
            version = self._model(facts["model"], facts["to"])
            reign = self._result("champion", "Champion", event, {"because": facts["because"]})
            self.document.specializationOf(reign, version)
            self._reigning[facts["model"]] = reign

    def withdrawn(self, event: Event) -> None:
        facts = event.payload
        touched = [self._dataset(facts["dataset"], version) for version in facts["versions"]]
        touched += [self._model(facts["dataset"], number) for number in facts["models"]]
        for one in touched:
            self.document.wasInfluencedBy(one, self._event(event))
        for number, one in enumerate(facts["erased"]):
            # Numbered: the same bytes may have been erased by an earlier withdrawal in part.
            erased = self._name("erased", f"{event.number}/{number}")
            told = {key: one[key] for key in ("md5", "kind", "replaced_by") if one.get(key)}
            self._declare(erased, "Erased", None, told)
            self.document.wasInvalidatedBy(erased, self._event(event), event.time)

    def _activity(self, event: Event) -> None:
        name = self._event(event)
        told = {
            "action": event.action,
            "object": event.object,
            "sequence": event.number,
            "previous": event.previous,
            "hash": event.hash,
            "payload": canonical.dumps(event.payload),
        }
        attributes = {TERMS[key]: one for key, one in told.items()}
        kind = {PROV_TYPE: TERMS["Event"], PROV_LABEL: f"{event.action} {event.object}"}
        self.document.activity(name, event.time, event.time, kind | attributes)
        self._known.add(name)
        planned = event.action in (events.RUN_STARTED, events.GATE_EVALUATED)
        if not planned:  # these are associated with their plan
            self.document.wasAssociatedWith(name, self._person(event.actor))

    def _agent(self, actor: str, *, person: bool) -> None:
        name = self._person(actor)
        if name not in self._known:
            self._known.add(name)
            kind = {PROV_TYPE: PROV["Person"]} if person else {}
            self.document.agent(name, {PROV_LABEL: actor} | kind)

    def _software(self, event: Event) -> None:
        version = event.payload["keyslice"]
        name = self._name("software", f"keyslice-{version}")
        if name not in self._known:
            self._known.add(name)
            kind = {PROV_TYPE: PROV["SoftwareAgent"], PROV_LABEL: f"keyslice {version}"}
            self.document.agent(name, kind)
        self.document.wasAssociatedWith(self._event(event), name)
        self.document.actedOnBehalfOf(name, self._person(event.actor), self._event(event))

    def _run(self, run: str, since: datetime | None) -> QualifiedName:
        name = self._name("run", run)
        if name not in self._known:
            self._known.add(name)
            kind = {PROV_TYPE: TERMS["Retraining"]}
            self.document.activity(name, since, self._ended.get(run), kind)
        return name

    def _plan(
        self, sha256: str, event: Event | None, plan: Mapping[str, Any] | None
    ) -> QualifiedName:
        name = self._name("plan", sha256)
        content = {"content": canonical.dumps(plan)} if plan is not None else {}
        if self._declare(name, PROV["Plan"], None, content) and event is not None:
            self.document.wasGeneratedBy(name, self._event(event), event.time)
        return name

    def _dataset(self, dataset: str, version: str) -> QualifiedName:
        name = self._name("dataset", f"{dataset}@{version}")
        self._named[name] = "DatasetVersion"
        return name

    def _model(self, model: str, version: int) -> QualifiedName:
        name = self._name("model", events.named(model, version))
        self._named[name] = "ModelVersion"
        return name

    def _result(self, what: str, kind: str, event: Event, told: Mapping[str, Any]) -> QualifiedName:
        """What an event brought about, named by its number."""
        name = self._name(what, str(event.number))
        self._declare(name, kind, event.object, told)
        self.document.wasGeneratedBy(name, self._event(event), event.time)
        return name

    def _use(self, event: Event, used: QualifiedName) -> None:
        self.document.used(self._event(event), used, event.time)

    def _declare(
        self,
        name: QualifiedName,
        kind: str | QualifiedName,
        label: str | None,
        told: Mapping[str, Any],
    ) -> bool:
        """Add an entity, unless it is there; says whether it was added."""
        if name in self._known:
            return False
        self._known.add(name)
        attributes: dict[Any, Any] = {PROV_TYPE: TERMS[kind] if isinstance(kind, str) else kind}
        if label:
            attributes[PROV_LABEL] = label
        # What was not recorded is left out: PROV has no null.
        attributes |= {TERMS[key]: one for key, one in told.items() if one not in (None, "")}
        self.document.entity(name, attributes)
        return True

    def _event(self, event: Event) -> QualifiedName:
        return self._name("event", str(event.number))

    def _person(self, actor: str) -> QualifiedName:
        return self._name("agent", actor)

    def _name(self, kind: str, name: str) -> QualifiedName:
        return self._here[f"{kind}/{quote(name, safe=_SAFE)}"]


_ADDED: dict[str, Callable[[_Writer, Event], None]] = {
    events.DATASET_VERSIONED: _Writer.dataset_versioned,
    events.RUN_STARTED: _Writer.run_started,
    events.MODEL_REGISTERED: _Writer.model_registered,
    events.GATE_EVALUATED: _Writer.gate_evaluated,
    events.MODEL_APPROVED: _Writer.decided,
    events.MODEL_REJECTED: _Writer.decided,
    events.CHAMPION_MOVED: _Writer.champion_moved,
    events.WITHDRAWAL_COMPLETED: _Writer.withdrawn,
}


def _installation(found: Sequence[Event]) -> str:
    """As a URN; ids of one installation are never those of another."""
    opened = [event.object for event in found if event.action == events.LEDGER_OPENED]
    return UUID(opened[0]).urn if opened else "urn:keyslice:nowhere"


def _ends(found: Sequence[Event]) -> dict[str, datetime]:
    """When a run came to its end: when the version that it made was registered."""
    return {
        event.payload["run"]: event.time
        for event in reversed(found)
        if event.action == events.MODEL_REGISTERED
    }
