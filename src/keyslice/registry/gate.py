"""The gate: a version against the champion on today's test exams, judged by the plan."""

import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keyslice.config import Params, Workspace
from keyslice.errors import RunError, UserError
from keyslice.evaluation.criteria import Contender, assess
from keyslice.evaluation.criterion import Outcome, markdown
from keyslice.evaluation.subgroups import Exams
from keyslice.exams import manifest_columns
from keyslice.exams.lock import dataset_lock
from keyslice.provenance import canonical, chain, descent, events, heads, ledger, standing
from keyslice.provenance.ledger import Event
from keyslice.registry import champion, chronicle, marks, soundness, trial
from keyslice.registry.client import existing
from keyslice.registry.trial import TestSet

if TYPE_CHECKING:
    from mlflow import MlflowClient

SAME_TEST = 0.5
"""Share of today's test exams from which an earlier test set counts as the same: exams that come in
every night would else make every look the first one."""


def run(workspace: Workspace, params: Params, model: str, version: int | None = None) -> Event:
    """Put a version through the gate; where it has been, for the same reasons, that event again.

    Args:
        workspace: whose registry and exams.
        params: `promote` is the plan.
        model: its name, and its dataset's.
        version: its number; None: the challenger.

    Returns:
        The event. Where the plan asks for nobody's approval, a version that passed is the champion.

    Raises:
        UserError: there is no such version, or it is the champion; or the alias was moved behind
            the ledger's back; or a package, a manifest or an exam is missing or altered; or an
            event is signed by nobody, where signatures are in use.
    """
    chain.check_signed(workspace)
    with dataset_lock(workspace, model, "keyslice gate"):
        return _run(workspace, params, model, version)


def _run(workspace: Workspace, params: Params, model: str, version: int | None) -> Event:
    client = existing(workspace)
    champion.take_up(workspace, client, model)
    found = ledger.read(workspace)
    champion.check_alias(client, found, model)
    registered = _challenger(found, model, version)
    version = int(registered.payload["version"])
    now, anchor = standing.champion(found, model), standing.anchor(found, model)
    test = trial.todays_test(workspace, params, model)
    plan = chronicle.plan_of(params, model)
    identity = {
        "version": version,
        "champion": now,
        "anchor": anchor,
        "test": test.sha256,
        "plan_sha256": canonical.sha256(plan),
    }
    for event in reversed(standing.of_model(found, model)):
        if event.action == events.GATE_EVALUATED and identity.items() <= event.payload.items():
            return event
    look = _look(workspace, found, test, plan) if now is not None else 0
    outcome = _judged(workspace, params, found, registered, test, look)
    payload = identity | {
        "model": model,
        "outcome": "passed" if outcome.passed else "failed",
        "dataset_version": test.version,
        "test_exams": len(test.exams),
        "look": look,
        "looks": plan["looks"],
        "approval": plan["approval"],
        **{key: value for key, value in outcome.as_dict().items() if key != "passed"},
    }
    with ledger.exclusive(workspace):
        _undisturbed(workspace, found, model)
        event = ledger.append(
            workspace, events.GATE_EVALUATED, events.named(model, version), payload
        )
    _show(client, workspace, registered, event)
    heads.note(workspace)
    champion.settle(workspace, client, model)  # where nobody has to approve
    return event


def _undisturbed(workspace: Workspace, before: Sequence[Event], model: str) -> None:
    """Raises RunError: another gate was run, or the champion moved, while this one was judged."""
    actions = (
        events.GATE_EVALUATED,
        events.MODEL_APPROVED,
        events.CHAMPION_MOVING,
        events.CHAMPION_MOVED,
    )
    for event in ledger.read(workspace)[len(before) :]:
        if event.action in actions and event.payload["model"] == model:
            raise RunError(
                f"the gate of {model} was overtaken by event {event.number} ({event.action}); "
                f"keyslice gate {model} asks again"
            )


def _challenger(found: Sequence[Event], model: str, version: int | None) -> Event:
    number = standing.challenger(found, model) if version is None else version
    registered = None if number is None else standing.registered(found, model, number)
    if registered is None:
        raise UserError(
            f"the ledger knows no {'version' if version is None else f'version {version}'}",
            where=f"model {model}",
            rule="a version is registered by a retraining",
            remedy=f"keyslice retrain {model}; keyslice status shows which there are",
        )
    if number == standing.champion(found, model):
        raise UserError(
            f"version {number} is the champion",
            where=f"model {model}",
            rule="the gate holds another version against it",
            remedy="keyslice status shows which there are",
        )
    return registered


def _judged(
    workspace: Workspace,
    params: Params,
    found: Sequence[Event],
    registered: Event,
    test: TestSet,
    look: int,
) -> Outcome:
    model = test.dataset
    plan = params.promote_settings(model)
    now, anchor = standing.champion(found, model), standing.anchor(found, model)
    champions = {n: e for n in (now, anchor) if n and (e := standing.registered(found, model, n))}
    tried = {
        event.number: trial.run(workspace, test, event)
        for event in (registered, *champions.values())
    }

    def contender(event: Event | None) -> Contender | None:
        if event is None:
            return None
        one = tried[event.number]
        return Contender(one.probabilities, float(one.macs.mean()))

    challenger = contender(registered)
    assert challenger is not None
    outcome = assess(
        plan,
        Exams(
            labels=test.labels,
            units=test.units,
            site=test.known("site"),
            modality=test.known("modality"),
            classes=params.dataset(model).classes,
        ),
        challenger,
        contender(champions.get(now or 0)),
        contender(champions.get(anchor or 0)) if anchor != now else None,
        look=look,
    )
    return outcome.joined_by(
        [
            soundness.plan(found, registered, chronicle.plan_of(params, model)),
            soundness.load(workspace, test, registered, tried[registered.number]),
            soundness.leakage(workspace, test, _learned(found, [registered, *champions.values()])),
            soundness.drift(workspace, test, registered, plan.drift_effect),
        ]
    )


def _learned(found: Sequence[Event], versions: Sequence[Event]) -> list[Event]:
    """These versions, each followed by those that it started from: it learned from their exams."""
    learned: list[Event] = []
    for event in versions:
        model, number = event.payload["model"], int(event.payload["version"])
        line = (number, *descent.ancestors(found, model, number))
        learned += [one for n in line if (one := standing.registered(found, model, n))]
    return list({event.number: event for event in learned}.values())


def _look(
    workspace: Workspace, found: Sequence[Event], test: TestSet, plan: Mapping[str, Any]
) -> int:
    """Which look at this test set today's is, by the error rate that earlier ones have spent.

    A test set counts as this one as long as SAME_TEST of today's exams were in it. A plan with
    other levels buys no more looks: what was spent is spent.
    """
    today = set(test.exams)
    shared: dict[str, bool] = {}
    spent = 0.0
    for event in standing.of_model(found, test.dataset):
        if event.action != events.GATE_EVALUATED or event.payload["alpha"] is None:
            continue
        version = event.payload["dataset_version"]
        if version not in shared:
            kept = workspace.kept_manifest(test.dataset, version)
            before = manifest_columns.read_split(kept, "test") if kept.is_file() else today
            shared[version] = len(today & before) >= SAME_TEST * len(today)
        spent += shared[version] * event.payload["alpha"]
    return 1 + math.ceil(spent / (plan["alpha"] / plan["looks"]) - 1e-9)


def _show(client: "MlflowClient", workspace: Workspace, registered: Event, event: Event) -> None:
    """The outcome in MLflow: on the version, and as a page with its retraining's run."""
    told: Any = registered.payload
    marks.put(client, ledger.read(workspace), told["model"], told["version"])
    with tempfile.TemporaryDirectory(prefix="keyslice-") as folder:
        page = Path(folder) / f"version-{told['version']}-event-{event.number}.md"
        page.write_text(markdown(event.payload), encoding="utf-8")
        client.log_artifact(told["run"], str(page), "gate")
