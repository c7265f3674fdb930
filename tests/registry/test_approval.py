"""Decisions, and the alias that follows them, in a real MLflow."""

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from keyslice.config import Workspace
from keyslice.errors import UserError
from keyslice.provenance import chain, events, heads, ledger, standing
from keyslice.provenance.ledger import Event
from keyslice.registry import champion, marks
from keyslice.registry.approval import decide
from keyslice.registry.client import connect
from keyslice.registry.models import download
from keyslice.registry.rollback import restore, rollback

MODEL = "tiny"
KILLS = 100 if os.environ.get("KEYSLICE_CHAOS") else 10


def registered(
    workspace: Workspace, client: MlflowClient, *, by: str = "anna", **plan: bool
) -> int:
    """One more version, as a retraining that `by` started by `plan` would have registered it."""
    with suppress(MlflowException):  # there already
        client.create_registered_model(MODEL)
    made = client.create_model_version(MODEL, source=f"file://{workspace.state}/nothing")
    number = int(made.version)
    client.set_registered_model_alias(MODEL, "challenger", made.version)
    run = f"run-{number}"
    started = {"dataset": MODEL, "run": run, "plan": plan, "plan_sha256": "", "trained": []}
    ledger.append(workspace, events.RUN_STARTED, MODEL, started, by=by)
    payload = {
        "model": MODEL,
        "version": number,
        "run": run,
        "package": f"{number:064}",
        "dataset_version": "a.dir",
        "trained": f"training {number}",
    }
    about = events.named(MODEL, number)
    ledger.append(workspace, events.MODEL_REGISTERED, about, payload, by=by)
    return number


def gated(
    workspace: Workspace,
    version: int,
    champion: int | None,
    *,
    outcome: str = "passed",
    approval: str = "required",
) -> Event:
    """The version has been through the gate."""
    criteria: list[dict[str, Any]] = [{"name": "auc", "blocks": outcome == "failed"}]
    payload = {
        "model": MODEL,
        "version": version,
        "outcome": outcome,
        "champion": champion,
        "approval": approval,
        "criteria": criteria,
    }
    return ledger.append(workspace, events.GATE_EVALUATED, events.named(MODEL, version), payload)


@pytest.fixture(autouse=True)
def _a_person(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEYSLICE_ACTOR", "bert")
    for name in ("KEYSLICE_SIGNING_KEY", "KEYSLICE_SIGNERS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def client(workspace: Workspace) -> MlflowClient:
    return connect(workspace)


def _promoted(workspace: Workspace, client: MlflowClient) -> int:
    version = registered(workspace, client)
    gated(workspace, version, standing.champion(ledger.read(workspace), MODEL))
    decide(workspace, MODEL, version, "approved", "fine")
    return version


def _champions(workspace: Workspace, client: MlflowClient) -> tuple[int | None, int | None]:
    """By the ledger and by MLflow."""
    told = standing.champion(ledger.read(workspace), MODEL)
    return told, champion.alias(client, MODEL)


def test_an_approval_moves_the_alias_and_says_who_and_why(
    workspace: Workspace, client: MlflowClient
) -> None:
    version = registered(workspace, client)
    gate = gated(workspace, version, None)
    moved = decide(workspace, MODEL, version, "approved", "looked at 20 exams")
    assert moved
    assert (moved.before, moved.after) == (None, version)
    assert _champions(workspace, client) == (version, version)
    decided = standing.decision(ledger.read(workspace), MODEL, version)
    assert decided
    assert (decided.actor, decided.payload["reason"]) == ("bert", "looked at 20 exams")
    assert (decided.payload["gate"], decided.payload["override"]) == (gate.number, [])
    tags = client.get_model_version(MODEL, str(version)).tags
    assert tags[marks.GATE] == f"passed (event {gate.number})"
    assert tags[marks.DECISION] == f"approved by bert (event {decided.number})"


def test_a_rejection_leaves_the_champion(workspace: Workspace, client: MlflowClient) -> None:
    first = _promoted(workspace, client)
    second = registered(workspace, client)
    gated(workspace, second, first)
    assert decide(workspace, MODEL, second, "rejected", "worse on children") is None
    assert _champions(workspace, client) == (first, first)
    assert client.get_model_version(MODEL, str(second)).tags[marks.DECISION].startswith("rejected")


def test_the_champion_is_not_rejected_but_rolled_back(
    workspace: Workspace, client: MlflowClient
) -> None:
    version = _promoted(workspace, client)
    with pytest.raises(UserError, match=f"is the champion.*keyslice rollback {MODEL}"):
        decide(workspace, MODEL, version, "rejected", "worse on children")
    assert _champions(workspace, client) == (version, version)


def test_what_has_not_been_through_the_gate_cannot_be_decided(
    workspace: Workspace, client: MlflowClient
) -> None:
    version = registered(workspace, client)
    with pytest.raises(UserError, match=f"has not been through the gate.*keyslice gate {MODEL}"):
        decide(workspace, MODEL, version, "approved", "fine")


def test_a_failed_gate_takes_an_override_that_stays_visible(
    workspace: Workspace, client: MlflowClient
) -> None:
    version = registered(workspace, client)
    gated(workspace, version, None, outcome="failed")
    with pytest.raises(UserError, match=r"the gate failed: auc.*--override"):
        decide(workspace, MODEL, version, "approved", "fine")
    assert _champions(workspace, client) == (None, None)
    decide(workspace, MODEL, version, "approved", "only one that runs", override=True)
    assert _champions(workspace, client) == (version, version)
    decided = standing.decision(ledger.read(workspace), MODEL, version)
    assert decided
    assert decided.payload["override"] == ["auc"]
    shown = client.get_model_version(MODEL, str(version)).tags[marks.DECISION]
    assert "overriding the gate" in shown


def test_a_gate_against_a_former_champion_does_not_count(
    workspace: Workspace, client: MlflowClient
) -> None:
    late = registered(workspace, client)
    gated(workspace, late, None)
    now = _promoted(workspace, client)
    with pytest.raises(
        UserError,
        match=rf"against no version, and version {now} is the champion now.*keyslice gate",
    ):
        decide(workspace, MODEL, late, "approved", "fine")


def test_who_started_the_run_does_not_approve_where_a_second_person_is_demanded(
    workspace: Workspace,
    client: MlflowClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    version = registered(workspace, client, by="anna", second_person=True)
    gated(workspace, version, None)
    monkeypatch.setenv("KEYSLICE_ACTOR", "anna")
    with pytest.raises(UserError, match="anna started the run"):
        decide(workspace, MODEL, version, "approved", "fine")
    monkeypatch.setenv("KEYSLICE_ACTOR", "bert")
    assert decide(workspace, MODEL, version, "approved", "fine")


@pytest.fixture
def make_key(tmp_path: Path) -> Callable[[str], Path]:
    def make(name: str) -> Path:
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / name)]
        subprocess.run(command, check=True)
        return tmp_path / name

    return make


def test_a_demanded_signature_is_that_of_someone_who_may(
    workspace: Workspace,
    client: MlflowClient,
    make_key: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    version = registered(workspace, client, signed=True)
    gated(workspace, version, None)
    with pytest.raises(UserError, match="KEYSLICE_SIGNING_KEY is not set"):
        decide(workspace, MODEL, version, "approved", "fine")
    key, other = make_key("bert"), make_key("mallory")
    signers = key.with_name("signers")
    signers.write_text(f"bert@hospital {key.with_suffix('.pub').read_text()}")
    monkeypatch.setenv("KEYSLICE_SIGNERS", str(signers))
    monkeypatch.setenv("KEYSLICE_SIGNING_KEY", str(other))
    with pytest.raises(UserError, match="not one of those who may sign"):
        decide(workspace, MODEL, version, "approved", "fine")
    assert _champions(workspace, client) == (None, None)
    monkeypatch.setenv("KEYSLICE_SIGNING_KEY", str(key))
    decide(workspace, MODEL, version, "approved", "fine")
    decided = standing.decision(ledger.read(workspace), MODEL, version)
    assert decided
    assert decided.payload["signature"]["principal"] == "bert@hospital"


def test_a_second_person_has_another_key_whatever_name_is_given(
    workspace: Workspace,
    client: MlflowClient,
    make_key: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    keys = {name: make_key(name) for name in ("anna", "bert")}
    lines = [f"{name} {key.with_suffix('.pub').read_text()}" for name, key in keys.items()]
    signers = keys["anna"].with_name("signers")
    signers.write_text("".join(lines))
    monkeypatch.setenv("KEYSLICE_SIGNERS", str(signers))
    monkeypatch.setenv("KEYSLICE_SIGNING_KEY", str(keys["anna"]))
    version = registered(workspace, client, signed=True, second_person=True)
    heads.note(workspace)
    gated(workspace, version, None)
    heads.note(workspace)
    with pytest.raises(UserError, match="anna started the run"):
        decide(workspace, MODEL, version, "approved", "fine")
    monkeypatch.setenv("KEYSLICE_SIGNING_KEY", str(keys["bert"]))
    assert decide(workspace, MODEL, version, "approved", "fine")


def test_a_rollback_goes_to_the_champion_before_and_back_again(
    workspace: Workspace, client: MlflowClient
) -> None:
    first, second, third = (_promoted(workspace, client) for _ in range(3))
    assert rollback(workspace, MODEL, "third is slow").after == second
    assert _champions(workspace, client) == (second, second)
    assert rollback(workspace, MODEL, "so is second", to=first).after == first
    assert rollback(workspace, MODEL, "mended", to=third).after == third
    assert _champions(workspace, client) == (third, third)
    past = [r.version for r in standing.reigns(ledger.read(workspace), MODEL)]
    assert past == [first, second, third, second, first, third]
    never = registered(workspace, client)
    with pytest.raises(UserError, match=f"version {never} never was champion"):
        rollback(workspace, MODEL, "try", to=never)


def test_the_champion_of_any_moment_is_known(workspace: Workspace, client: MlflowClient) -> None:
    first = _promoted(workspace, client)
    second = _promoted(workspace, client)
    found = ledger.read(workspace)
    one, two = standing.reigns(found, MODEL)
    assert (one.version, one.until) == (first, two.since)
    assert (two.version, two.until) == (second, None)
    at = standing.champion_at
    assert at(found, MODEL, found[0].time) is None
    assert at(found, MODEL, one.since) == one
    assert at(found, MODEL, two.since) == two


def test_the_anchor_is_the_last_that_a_person_approved(
    workspace: Workspace, client: MlflowClient
) -> None:
    first = _promoted(workspace, client)
    second = registered(workspace, client)
    gated(workspace, second, first, approval="automatic")
    champion.settle(workspace, client, MODEL)
    found = ledger.read(workspace)
    assert standing.champion(found, MODEL) == second
    assert standing.anchor(found, MODEL) == first
    rollback(workspace, MODEL, "better", to=first)
    rollback(workspace, MODEL, "no", to=second)
    assert standing.anchor(ledger.read(workspace), MODEL) == second


def test_a_champion_that_learned_from_who_has_withdrawn_is_warned_of(
    workspace: Workspace, client: MlflowClient, caplog: pytest.LogCaptureFixture
) -> None:
    first, _ = (_promoted(workspace, client) for _ in range(2))
    erased = {"withdrawal": "w", "dataset": MODEL, "versions": {"a.dir": 2}, "erased": []}
    ledger.append(workspace, events.WITHDRAWAL_BEGUN, MODEL, erased)
    assert "withdrawn" not in caplog.text
    rollback(workspace, MODEL, "slow")
    assert f"version {first} was made from 2 exams that were withdrawn since" in caplog.text


def test_an_alias_that_was_moved_behind_the_ledgers_back_stops_everything_until_it_is_put_back(
    workspace: Workspace, client: MlflowClient
) -> None:
    first, second = (_promoted(workspace, client) for _ in range(2))
    client.set_registered_model_alias(MODEL, "champion", str(first))
    told = rf"on version {first}, by the ledger it is version {second}"
    with pytest.raises(UserError, match=told):
        rollback(workspace, MODEL, "try")
    with pytest.raises(UserError, match=told):
        download(workspace, MODEL, "@champion")
    moved = restore(workspace, MODEL, "moved by hand")
    assert moved
    assert _champions(workspace, client) == (second, second)
    assert restore(workspace, MODEL, "again") is None
    past = [r.version for r in standing.reigns(ledger.read(workspace), MODEL)]
    assert past == [first, second]


@pytest.mark.parametrize("approval", ["required", "automatic"])
@pytest.mark.parametrize("cut", range(4))
def test_a_decision_that_was_cut_off_is_carried_out_by_the_next_command(
    workspace: Workspace,
    client: MlflowClient,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    approval: str,
    cut: int,
) -> None:
    """After the decision, after the intent, after the alias moved: at each write to the disk."""
    first = _promoted(workspace, client)
    second = registered(workspace, client)
    gated(workspace, second, first, approval=approval)
    steps = {"left": cut}

    def counting(name: str, real: Callable[..., object]) -> Callable[..., object]:
        def step(*arguments: object, **named: object) -> object:
            if steps["left"] == 0:
                raise KeyboardInterrupt(name)
            steps["left"] -= 1
            return real(*arguments, **named)

        return step

    with monkeypatch.context() as patched:
        patched.setattr(ledger, "append", counting("append", ledger.append))
        moving = counting("alias", MlflowClient.set_registered_model_alias)
        patched.setattr(MlflowClient, "set_registered_model_alias", moving)
        with suppress(KeyboardInterrupt):
            if approval == "required":
                decide(workspace, MODEL, second, "approved", "fine")
            else:
                champion.settle(workspace, client, MODEL)
    found = ledger.read(workspace)
    begun = approval == "automatic" or standing.decision(found, MODEL, second) is not None
    ended = standing.champion(found, MODEL) == second
    settled = champion.take_up(workspace, client, MODEL)
    expected = second if begun else first
    assert (settled is not None) == (begun and not ended)
    said = f"had been cut off; it is on version {second} now"
    assert (said in caplog.text) == (begun and not ended)
    assert _champions(workspace, client) == (expected, expected)
    assert champion.settle(workspace, client, MODEL) is None


def test_kills_at_random_moments_leave_alias_and_ledger_in_agreement_after_the_next_command(
    workspace: Workspace, client: MlflowClient
) -> None:
    """Of rollbacks and promotions in turn; what was begun is carried out, what was not is not."""
    first, second = (_promoted(workspace, client) for _ in range(2))
    rng = random.Random(0)
    took = cut_off = moved = settled = 0.0
    for number in range(-1, KILLS):  # the first is left alone, to see how long one takes
        before = standing.champion(ledger.read(workspace), MODEL)
        to = first if before == second else second
        if number % 2:
            gated(workspace, to, before)
        known = len(ledger.read(workspace))
        start = time.monotonic()
        child = os.fork()
        if child == 0:
            try:
                if number % 2:
                    decide(workspace, MODEL, to, "approved", "fine")
                else:
                    rollback(workspace, MODEL, "back", to=to)
            finally:
                os._exit(0)
        if number >= 0:
            time.sleep(rng.uniform(0, took))
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        took = took or time.monotonic() - start
        cut_off += os.WIFSIGNALED(status)
        begun = len(ledger.read(workspace)) > known
        settled += champion.settle(workspace, connect(workspace), MODEL) is not None
        told, seen = _champions(workspace, connect(workspace))
        assert told == seen == (to if begun else before)
        assert standing.unfinished(ledger.read(workspace), MODEL) is None
        assert chain.check(workspace).faults == ()
        moved += begun
    assert cut_off
    assert moved
    assert settled or KILLS < 100  # some were cut off half-way


def test_the_log_of_events_tells_a_promotion_in_order(
    workspace: Workspace, client: MlflowClient
) -> None:
    _promoted(workspace, client)
    actions = [event.action for event in ledger.read(workspace)]
    assert actions[-3:] == [events.MODEL_APPROVED, events.CHAMPION_MOVING, events.CHAMPION_MOVED]
