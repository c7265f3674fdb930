"""A person's decision about a version that has been through the gate."""

from typing import Any, Literal

from keyslice.config import Workspace
from keyslice.errors import UserError
from keyslice.provenance import events, heads, ledger, naming, signing, standing
from keyslice.provenance.ledger import Event
from keyslice.registry import champion, chronicle, marks
from keyslice.registry.champion import Moved
from keyslice.registry.client import existing

Verdict = Literal["approved", "rejected"]


def decide(
    workspace: Workspace,
    model: str,
    version: int,
    verdict: Verdict,
    reason: str,
    *,
    override: bool = False,
) -> Moved | None:
    """Approve a version, which makes it the champion, or reject it.

    What an approval needs is what the plan said before the version was trained.

    Args:
        workspace: whose registry.
        model: its name.
        version: that has been through the gate.
        verdict: of the person who runs this.
        reason: in their words; stays in the ledger.
        override: approve although the gate failed; stays visible with the version.

    Returns:
        The move of the alias; None for a rejection.

    Raises:
        UserError: there is no such version; it has not been through the gate, or failed it; the
            gate was held against another champion; the person may not approve; or a signature is
            wanted and no key is set.
    """
    client = existing(workspace)
    with ledger.exclusive(workspace):
        champion.take_up(workspace, client, model)
        found = ledger.read(workspace)
        where = f"model {model} version {version}"
        naming.model_version(found, model, str(version))
        gate = _gate(found, model, version, where)
        approving = verdict == "approved"
        failed = [c["name"] for c in gate.payload["criteria"] if c["blocks"]]
        if not approving and standing.champion(found, model) == version:
            raise UserError(
                "is the champion",
                where=where,
                rule="a rejection keeps a version from becoming it",
                remedy=f"keyslice rollback {model} makes the champion before it the champion again",
            )
        if approving:
            champion.check_alias(client, found, model)
            _may_be_promoted(found, model, gate, where)
            _second_person(workspace, found, model, version, where)
            if gate.payload["outcome"] != "passed" and not override:
                raise UserError(
                    f"the gate failed: {', '.join(failed)}",
                    where=where,
                    rule="a version that failed the gate is approved by an override, which stays "
                    "visible for ever",
                    remedy=f"keyslice gate {model} {version} shows the figures; --override, with "
                    "a reason, approves it none the less",
                )
        payload: dict[str, Any] = {
            "model": model,
            "version": version,
            "reason": reason,
            "gate": gate.number,
            "override": failed if approving and gate.payload["outcome"] != "passed" else [],
        }
        payload["signature"] = _signature(workspace, found, payload, gate, verdict)
        action = events.MODEL_APPROVED if approving else events.MODEL_REJECTED
        decided = ledger.append(workspace, action, events.named(model, version), payload)
        moved = None
        if approving:
            moved = champion.move(
                workspace,
                client,
                model,
                version,
                because="promotion",
                decision=decided.number,
                reason=reason,
            )
        marks.put(client, ledger.read(workspace), model, version)
        heads.note(workspace)
        return moved


def text(found: list[Event], payload: dict[str, Any], gate: Event, verdict: Verdict) -> str:
    """What a person signs: the decision, the package's hash, and the gate's event by its hash."""
    registered = standing.registered(found, payload["model"], payload["version"])
    package = registered.payload["package"] if registered else ""
    overridden = ", ".join(payload["override"]) or "nothing"
    return (
        f"keyslice: {payload['model']} version {payload['version']} {verdict}\n"
        f"package {package}\ngate {gate.hash}\noverridden {overridden}\n"
        f"reason {payload['reason']}\n"
    )


def demands(found: list[Event], model: str, version: int) -> dict[str, Any]:
    """The plan that was fixed before the version was trained; where none was, the last one."""
    registered = standing.registered(found, model, version)
    fixed = registered and chronicle.plan_before_training(found, registered)
    if fixed is None:
        runs = [e for e in found if e.action == events.RUN_STARTED and e.object == model]
        fixed = runs[-1] if runs else None
    return fixed.payload["plan"] if fixed else {}


def _gate(found: list[Event], model: str, version: int, where: str) -> Event:
    gate = standing.gate(found, model, version)
    if gate is None:
        raise UserError(
            "has not been through the gate",
            where=where,
            rule="a version is decided on by what the gate found",
            remedy=f"keyslice gate {model} {version}",
        )
    return gate


def _may_be_promoted(found: list[Event], model: str, gate: Event, where: str) -> None:
    now = standing.champion(found, model)
    if gate.payload["version"] == now:
        raise UserError("is the champion already", where=where)
    if gate.payload["champion"] != now:
        raise UserError(
            f"went through the gate against {champion.words(gate.payload['champion'])}, and "
            f"{champion.words(now)} is the champion now",
            where=where,
            rule="a version is held against the champion that it would replace",
            remedy=f"keyslice gate {model} {gate.payload['version']}",
        )


def _second_person(
    workspace: Workspace, found: list[Event], model: str, version: int, where: str
) -> None:
    registered = standing.registered(found, model, version)
    if registered is None or not demands(found, model, version).get("second_person"):
        return
    begun = [e for e in found if e.payload.get("run") == registered.payload["run"]] + [registered]
    if ledger.actor() in {event.actor for event in begun}:
        raise _same_person(ledger.actor(), where)
    # A name is easily given: where keys are listed, the key must be another, too.
    key, signers = signing.key(workspace), signing.signers(workspace)
    if key is None or signers is None:
        return
    signed = [one.head for one in heads.noted(workspace) if one.head.signature]
    for event in begun:
        covering = [head for head in signed if head.sequence >= event.number]
        head = min(covering, key=lambda head: head.sequence, default=None)
        starter = head and signing.signed_by(head.text, head.signature or "", signing.HEAD, signers)
        if starter and starter == signing.owner(key, signers):
            raise _same_person(starter, where)


def _same_person(who: str, where: str) -> UserError:
    return UserError(
        f"{who} started the run that made it",
        where=where,
        rule="promote.second_person: another person approves",
        remedy="let a colleague approve it, from an account and with a key of their own",
    )


def _signature(
    workspace: Workspace,
    found: list[Event],
    payload: dict[str, Any],
    gate: Event,
    verdict: Verdict,
) -> dict[str, str | None] | None:
    """Signed where a key is set; None without one, where none is demanded."""
    key = signing.key(workspace)
    if key is None:
        if demands(found, payload["model"], payload["version"]).get("signed"):
            raise UserError(
                f"{signing.KEY_VARIABLE} is not set",
                where="promote.signed",
                rule="decisions are signed with the ssh key of whoever decides",
                remedy=f"set {signing.KEY_VARIABLE} to your key",
            )
        return None
    signed = text(found, payload, gate, verdict)
    made = signing.sign(key, signed, signing.APPROVAL)
    signers = signing.signers(workspace)
    principal = signing.signed_by(signed, made, signing.APPROVAL, signers) if signers else None
    if signers and principal is None:
        raise UserError(
            "the key is not one of those who may sign",
            where=signing.KEY_VARIABLE,
            rule=f"{signing.SIGNERS_VARIABLE} lists who may",
            remedy="name a key that is listed",
        )
    return {"principal": principal, "text": made}
