"""Who hears of a retraining: a webhook, and Prefect's notification blocks.

The webhook gets a POST of JSON:

- `text`: what happened, for people; the field that Slack, Mattermost and their like show.
- `keyslice`: the same for scripts, an object of
  - `format`: 1. It grows when a field is taken away or changes its meaning, not when one is added.
  - `id`: of this message, 32 hex digits; one that comes twice was sent twice.
  - `occasion`: `candidate`, `gate`, `approval`, `failure`, or `test`.
  - `time`: UTC, as in `2030-01-31T02:00:00Z`.
  - `workspace`: name of its folder, without the path.
  - `dataset`: its name, which is that of its registered model; null: of none.
  - `model_version`: its number; null: of none.
  - `sentence`: what happened, in one line.
  - `links`: addresses of pages, by `prefect` and `mlflow`; only those that are known.
  - `event`: number of the event of the ledger that tells more; null: there is none.
  - `from`: `keyslice` and its version.

Where KEYSLICE_WEBHOOK_SECRET_FILE is set, the header X-Keyslice-Signature holds `sha256=` and the
hex digits of HMAC-SHA256 over the body as it was sent, keyed with the text in that file.

Messages leave the house: they hold names from params.yaml, numbers, and words of our own; no words
of an error, which may name a file, a patient or a setting (`failure`).
"""

import asyncio
import contextvars
import inspect
import json
import logging
import os
import re
import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

import httpx

from flows import webhook
from flows.progress import step
from keyslice import __version__
from keyslice.config import Notify, Occasion, Workspace
from keyslice.errors import UserError, without_credentials
from keyslice.space import NoSpaceError
from keyslice.versioning import StageFailed

FORMAT = 1
LONGEST = 1000
"""Characters of a sentence."""
BLOCK_SECONDS = 60.0
"""That a block has for a message."""
_BLOCK = re.compile(r"[a-z0-9-]+/[a-z0-9-]+")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Happening:
    """What there is to tell."""

    occasion: Occasion | Literal["test"]
    sentence: str
    """One line; no file's name, patient or pseudonym, no value of a setting."""
    dataset: str | None = None
    model_version: int | None = None
    prefect: str | None = None
    """Address of the flow run's page."""
    mlflow: str | None = None
    """Address of the page of the run or the model's version."""
    event: int | None = None
    """Of the ledger: its number."""
    time: datetime = field(default_factory=lambda: datetime.now(UTC))
    """UTC."""

    @property
    def links(self) -> dict[str, str]:
        """Pages that a browser opens, by who shows them; without a password."""
        pages = {"prefect": self.prefect, "mlflow": self.mlflow}
        return {
            name: without_credentials(page)
            for name, page in pages.items()
            if page and page.startswith(("https://", "http://"))
        }


@dataclass(frozen=True)
class Delivery:
    """What became of a message to one receiver."""

    target: str
    """`webhook`, or a block as in params.yaml."""
    fault: str
    """Why it has not arrived, without an address; empty: it has."""


def check(workspace: Workspace, settings: Notify) -> None:
    """Find before work begins that a receiver could never be told.

    Whether Prefect has the blocks is not asked: only its server knows.

    Raises:
        UserError: KEYSLICE_WEBHOOK, KEYSLICE_WEBHOOK_SECRET_FILE or notify.blocks breaks a rule.
    """
    webhook.configured(workspace)
    for name in settings.blocks:
        if not _BLOCK.fullmatch(name):
            raise UserError(
                f"{name!r} is no name of a block",
                where="notify.blocks",
                rule="it is the type and the name of one, as in slack-webhook/hospital",
                remedy="Prefect's page lists both under Blocks, as does `prefect block ls`",
            )


def targets(settings: Notify) -> tuple[str, ...]:
    """Who is told of anything."""
    named = bool(os.environ.get(webhook.ADDRESS_VARIABLE))
    return (("webhook",) if named else ()) + settings.blocks


def send(workspace: Workspace, settings: Notify, happening: Happening) -> None:
    """Tell every receiver, if the occasion is in `notify.occasions`.

    One that cannot be told is a line in the log and on the terminal, and nothing else: no
    retraining fails because of it. A receiver that does not answer takes up to a minute.
    """
    if happening.occasion not in settings.occasions or not targets(settings):
        return
    about = happening.occasion + (f", {happening.dataset}" if happening.dataset else "")
    with step(f"tell of {about}") as shown:
        done = deliver(workspace, settings, happening)
        failed = [f"{one.target}: {one.fault}" for one in done if one.fault]
        shown.outcome = "failed" if failed else "told"
        shown.detail = "; ".join(failed)
    for line in failed:
        _log.warning("a notification (%s) did not arrive at %s", about, line)


def deliver(workspace: Workspace, settings: Notify, happening: Happening) -> tuple[Delivery, ...]:
    """Tell every receiver, whatever the occasion; raises nothing."""
    return tuple(_deliver(workspace, target, happening) for target in targets(settings))


def failure(failures: Mapping[str, BaseException]) -> str:
    """What failed, in a sentence: the parts and the kind of each error, none of its words.

    Args:
        failures: by part, as in `flows.chain.RetrainFailed`.
    """
    parts = "; ".join(f"{name}: {_kind(error)}" for name, error in failures.items())
    return f"Retraining failed. {parts}. Prefect's page, or `keyslice retrain`, tells the rest."


def _kind(error: BaseException) -> str:
    if isinstance(error, UserError):
        return "a mistake in settings or input"
    if isinstance(error, NoSpaceError):
        return "no space left on device"
    if isinstance(error, StageFailed):
        return f"stage {error.stage} ended with exit code {error.code}"
    number = getattr(error, "errno", None)
    if isinstance(error, OSError) and isinstance(number, int):
        return os.strerror(number)
    return type(error).__name__


def text(workspace: Workspace, happening: Happening) -> tuple[str, str]:
    """The message for people: its headline, and its lines."""
    about = (workspace.root.name, happening.dataset, _WORDS[happening.occasion])
    headline = f"Keyslice: {' · '.join(filter(None, about))}"
    links = [f"{_PAGES[name]}: {address}" for name, address in happening.links.items()]
    event = [f"Event {happening.event} of the ledger"] if happening.event is not None else []
    return headline, "\n".join([_line(happening.sentence), *event, *links])


def payload(workspace: Workspace, happening: Happening) -> dict[str, Any]:
    """The webhook's JSON; see above."""
    return {
        "text": "\n".join(text(workspace, happening)),
        "keyslice": {
            "format": FORMAT,
            "id": secrets.token_hex(16),
            "occasion": happening.occasion,
            "time": f"{happening.time.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
            "workspace": workspace.root.name,
            "dataset": happening.dataset,
            "model_version": happening.model_version,
            "sentence": _line(happening.sentence),
            "links": happening.links,
            "event": happening.event,
            "from": f"keyslice {__version__}",
        },
    }


_WORDS = {
    "candidate": "a candidate",
    "gate": "the gate",
    "approval": "approval is needed",
    "failure": "failed",
    "test": "a test",
}
_PAGES = {"prefect": "Prefect", "mlflow": "MLflow"}


def _line(sentence: str) -> str:
    return " ".join(sentence.split())[:LONGEST]


def _deliver(workspace: Workspace, target: str, happening: Happening) -> Delivery:
    try:
        if target == "webhook":
            found = webhook.configured(workspace)
            if found is not None:
                webhook.post(found, json.dumps(payload(workspace, happening)).encode())
        else:
            _notify(target, *text(workspace, happening))
    except (UserError, webhook.NotDelivered) as error:
        return Delivery(target, str(error))
    except Exception as error:  # whatever it is, its words may hold an address
        return Delivery(target, type(error).__name__)
    return Delivery(target, "")


def _within(seconds: float, work: Callable[[], None]) -> None:
    """Raise what `work` raises, or NotDelivered where it has not ended in time; it may go on.

    Blocks have time limits of their own, or none, as one that sends mail.
    """
    raised: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:  # told by the thread that waits
            raised.append(error)

    context = contextvars.copy_context()  # as `webhook.unlogged` says
    thread = threading.Thread(target=context.run, args=(run,), name="tell", daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise webhook.NotDelivered(f"its service has not answered within {seconds:g} s")
    for error in raised:
        raise error


def _notify(name: str, headline: str, lines: str) -> None:
    """Through a block that Prefect's server keeps; tried once, as blocks have their own ways.

    Raises:
        webhook.NotDelivered: there is no such block, or it is of another kind.
    """
    from prefect.blocks.abstract import NotificationBlock, NotificationError
    from prefect.blocks.core import Block

    with webhook.unlogged():
        try:
            block: Any = Block.load(name)
        except ValueError:
            raise webhook.NotDelivered(
                "Prefect has no such block; it is made on Prefect's page, under Blocks"
            ) from None
        except Exception as error:
            kind = type(error).__name__
            raise webhook.NotDelivered(f"Prefect could not load it ({kind})") from None
        if not isinstance(block, NotificationBlock):
            raise webhook.NotDelivered(
                "it is no notification block, or the package of its type is not installed here"
            )

        def tell() -> None:
            with block.raise_on_failure():
                told: Any = block.notify(body=lines, subject=headline)
                if inspect.iscoroutine(told):  # of a type that has no other way
                    asyncio.run(told)

        try:
            _within(BLOCK_SECONDS, tell)
        except NotificationError:
            raise webhook.NotDelivered("its service did not take the message") from None
        except httpx.HTTPStatusError as error:
            raise webhook.NotDelivered(f"it answered {error.response.status_code}") from None
        except httpx.TransportError as error:
            raise webhook.NotDelivered(webhook.why(error)) from None
