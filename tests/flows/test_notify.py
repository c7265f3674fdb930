"""What a webhook's receiver gets, and what nobody gets to see: its address."""

import hashlib
import hmac
import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import httpx
import pytest
from rich.console import Console

from flows import notify, webhook
from flows.notify import Happening, check, deliver, failure, send
from flows.progress import Display
from keyslice.config import Notify, Params, Workspace, load
from keyslice.console import notifying
from keyslice.errors import RunError, UserError
from keyslice.versioning import StageFailed
from tests.servers.receiver import Receiver

SECRET = "0123456789abcdef" * 4
WORDS_OF_ADDRESS = ("127.0.0.1", "/services", "xSecretx", "ySecrety", "token")
NIGHT = datetime(2030, 1, 31, 2, 0, tzinfo=UTC)
CANDIDATE = Happening(
    "candidate",
    "Version 3 is registered as a candidate.",
    dataset="scans",
    model_version=3,
    prefect="http://someone:password@prefect.ward:4200/runs/flow-run/1",
    mlflow="sqlite:////hospital/state/mlflow.db",
    event=41,
    time=NIGHT,
)


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    with Receiver() as receiver:
        monkeypatch.setenv(webhook.ADDRESS_VARIABLE, receiver.address)
        monkeypatch.delenv(webhook.SECRET_VARIABLE, raising=False)
        yield receiver


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that were waited for between attempts, had they been."""
    found: list[float] = []
    monkeypatch.setattr(webhook, "sleep", found.append)
    return found


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    root = tmp_path / "ward_7"
    root.mkdir()
    return Workspace(root)


@pytest.fixture
def params(tmp_path: Path, folder_params) -> Params:
    folder_params("scans")
    return load(tmp_path / "params.yaml")


@pytest.fixture
def nobody_sees(caplog, capsys) -> Iterator[pytest.LogCaptureFixture]:
    """Of all that is logged, at whatever level, and shown meanwhile: nothing is of an address."""
    caplog.set_level(logging.DEBUG)
    for name in webhook._TELLING:
        caplog.set_level(logging.DEBUG, name)
    yield caplog
    shown = capsys.readouterr()
    for word in WORDS_OF_ADDRESS:
        assert word not in caplog.text + shown.out + shown.err


def told(receiver: Receiver) -> dict:
    [received] = receiver.received
    return json.loads(received.body)


def fault(workspace: Workspace, params: Params) -> str:
    [one] = deliver(workspace, params.notify, CANDIDATE)
    assert one.target == "webhook"
    return one.fault


def test_a_message_can_be_read_by_people_and_by_scripts(workspace, params, receiver) -> None:
    send(workspace, params.notify, CANDIDATE)
    message = told(receiver)
    assert message["text"].splitlines() == [
        "Keyslice: ward_7 · scans · a candidate",
        "Version 3 is registered as a candidate.",
        "Event 41 of the ledger",
        "Prefect: http://prefect.ward:4200/runs/flow-run/1",
    ]
    assert len(message["keyslice"].pop("id")) == 32
    assert message["keyslice"].pop("from").startswith("keyslice ")
    assert message["keyslice"] == {
        "format": 1,
        "occasion": "candidate",
        "time": "2030-01-31T02:00:00Z",
        "workspace": "ward_7",
        "dataset": "scans",
        "model_version": 3,
        "sentence": "Version 3 is registered as a candidate.",
        "links": {"prefect": "http://prefect.ward:4200/runs/flow-run/1"},
        "event": 41,
    }
    assert str(workspace.root.parent) not in receiver.received[0].body.decode()
    assert receiver.received[0].method == "POST"
    assert receiver.received[0].headers["Content-Type"] == "application/json"
    assert webhook.SIGNATURE_HEADER not in receiver.received[0].headers


def test_every_field_is_documented(workspace) -> None:
    fields = notify.payload(workspace, CANDIDATE)["keyslice"]
    assert notify.__doc__ is not None
    for name in fields:
        assert f"`{name}`" in notify.__doc__


def test_a_sentence_is_one_line(workspace) -> None:
    long = Happening("gate", "passed\n\nand " + "on " * notify.LONGEST)
    assert len(notify.payload(workspace, long)["keyslice"]["sentence"]) == notify.LONGEST
    assert "passed and on" in notify.payload(workspace, long)["text"]


@pytest.mark.parametrize("on", [("candidate",), ("gate", "failure"), ()])
def test_only_occasions_of_the_settings_are_told(workspace, params, receiver, on) -> None:
    params = params.model_copy(update={"notify": Notify(occasions=on)})
    for occasion in ("candidate", "gate", "approval", "failure"):
        send(workspace, params.notify, Happening(occasion, "It happened."))
    assert [json.loads(one.body)["keyslice"]["occasion"] for one in receiver.received] == list(on)


def test_without_receivers_nothing_is_done(workspace, params, monkeypatch) -> None:
    monkeypatch.delenv(webhook.ADDRESS_VARIABLE, raising=False)
    check(workspace, params.notify)
    send(workspace, params.notify, CANDIDATE)
    assert deliver(workspace, params.notify, CANDIDATE) == ()


@pytest.mark.parametrize("first", [(503, {}), (500, {}), (429, {}), None])
def test_what_may_go_away_is_tried_again_with_the_same_message(
    workspace, params, receiver, waits, nobody_sees, first
) -> None:
    receiver.answers = [first, (204, {})]
    assert fault(workspace, params) == ""
    one, other = (received.body for received in receiver.received)
    assert one == other
    assert waits == [webhook.FIRST_WAIT_SECONDS]


@pytest.mark.parametrize("code", [429, 503])
def test_a_receiver_says_how_long_to_wait(workspace, params, receiver, waits, code) -> None:
    receiver.answers = [(code, {"Retry-After": "7"}), (200, {})]
    assert fault(workspace, params) == ""
    assert waits == [7]


def test_a_receiver_may_say_until_when_to_wait(workspace, params, receiver, waits) -> None:
    until = format_datetime(datetime.now(UTC) + timedelta(seconds=40), usegmt=True)
    receiver.answers = [(429, {"Retry-After": until}), (200, {})]
    assert fault(workspace, params) == ""
    [wait] = waits
    assert webhook.FIRST_WAIT_SECONDS < wait <= 40


def test_nobody_waits_for_long(workspace, params, receiver, waits, nobody_sees) -> None:
    receiver.answers = [(429, {"Retry-After": "3600"})]
    assert fault(workspace, params).startswith("it answered 429, and asks to wait for 3600 s")
    assert (len(receiver.received), waits) == (1, [])


@pytest.mark.parametrize("asked", ["soon", "", "-1", "1e9", "١٠", "Mon, 99 Foo 2030"])
def test_a_wait_that_is_none_is_passed_over(workspace, params, receiver, waits, asked) -> None:
    assert webhook._seconds(asked) == 0


def test_in_the_end_it_gives_up_and_raises_nothing(
    workspace, params, receiver, waits, nobody_sees
) -> None:
    receiver.answers = [(503, {})] * 9
    send(workspace, params.notify, CANDIDATE)
    assert len(receiver.received) == webhook.ATTEMPTS
    assert waits == [1, 2, 4]
    [line] = [r.getMessage() for r in nobody_sees.records if r.levelno >= logging.WARNING]
    assert line == (
        "a notification (candidate, scans) did not arrive at webhook: "
        "it answered 503 (attempt 4 of 4)"
    )


def test_on_the_terminal_a_failure_is_a_line(workspace, params, receiver, nobody_sees) -> None:
    receiver.answers = [(404, {})]
    console = Console(record=True, width=200, force_terminal=False)
    with Display(console):
        send(workspace, params.notify, CANDIDATE)
    first, second = console.export_text().splitlines()
    assert first.startswith("✗ tell of candidate, scans")
    assert second == "  webhook: it answered 404"


@pytest.mark.parametrize("code", [301, 302, 307, 308])
def test_a_redirection_is_not_followed(workspace, params, receiver, nobody_sees, code) -> None:
    with Receiver() as other:
        receiver.answers = [(code, {"Location": other.address})]
        assert "a redirection is not followed" in fault(workspace, params)
        assert (len(receiver.received), other.received) == (1, [])


def test_where_nobody_listens_the_fault_says_so(
    workspace, params, waits, monkeypatch, nobody_sees
) -> None:
    with socket.socket() as taken:  # bound, and not listening
        taken.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{taken.getsockname()[1]}/services/xSecretx"
        monkeypatch.setenv(webhook.ADDRESS_VARIABLE, address)
        assert fault(workspace, params) == "Connection refused (attempt 4 of 4)"
    assert waits == [1, 2, 4]


def test_a_receiver_that_never_answers_is_left(
    workspace, params, waits, monkeypatch, nobody_sees
) -> None:
    monkeypatch.setattr(webhook, "TIMEOUT_SECONDS", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/services/xSecretx"
        monkeypatch.setenv(webhook.ADDRESS_VARIABLE, address)
        assert fault(workspace, params).startswith("no answer within")


def test_a_receiver_that_lets_bytes_drip_is_left(
    workspace, params, waits, monkeypatch, nobody_sees
) -> None:
    monkeypatch.setattr(webhook, "TIMEOUT_SECONDS", 0.3)
    monkeypatch.setattr(webhook, "ATTEMPTS", 1)
    dripped: list[int] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip() -> None:
            connection, _ = server.accept()
            with connection, suppress(OSError):  # until we are left
                connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
                for _ in range(300):
                    dripped.append(connection.send(b"."))
                    time.sleep(0.05)
                connection.sendall(b"\r\n\r\n")

        thread = threading.Thread(target=drip)
        thread.start()
        address = f"http://127.0.0.1:{server.getsockname()[1]}/services/xSecretx"
        monkeypatch.setenv(webhook.ADDRESS_VARIABLE, address)
        assert fault(workspace, params).startswith("no answer within")
        thread.join(30)
    assert 1 < len(dripped) < 300


def test_http_to_this_machine_goes_through_no_proxy(
    workspace, params, receiver, monkeypatch
) -> None:
    with Receiver() as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        assert fault(workspace, params) == ""
        assert (len(receiver.received), proxy.received) == (1, [])


@pytest.mark.parametrize(
    ("name", "value"), [("SSL_CERT_FILE", "/nowhere"), ("HTTPS_PROXY", "gopher://proxy.ward")]
)
def test_a_variable_that_names_nothing_usable_is_told(
    workspace, params, monkeypatch, name, value
) -> None:
    monkeypatch.setenv(webhook.ADDRESS_VARIABLE, "https://hooks.ward/xSecretx")
    monkeypatch.delenv("https_proxy", raising=False)
    monkeypatch.setenv(name, value)
    assert fault(workspace, params).startswith("what SSL_CERT_FILE, SSL_CERT_DIR or a proxy's")


@pytest.mark.parametrize("given", ["https://hooks.ward/x", "http://localhost:1/x", "http://[::1]/"])
def test_an_address_is_https_or_this_machine(workspace, params, monkeypatch, given) -> None:
    monkeypatch.setenv(webhook.ADDRESS_VARIABLE, given)
    check(workspace, params.notify)


@pytest.mark.parametrize(
    "given",
    [
        "http://hooks.ward/xSecretx",
        "http://10.0.0.1/xSecretx",
        "http://localhost.ward/xSecretx",
        "http://127.0.0.1@hooks.ward/xSecretx",
        "ftp://127.0.0.1/xSecretx",
        "https:///xSecretx",
        "hooks.ward/xSecretx",
        "https://hooks.ward:99999/xSecretx",
        "https://hooks.ward/\nxSecretx",
        " ",
    ],
)
def test_any_other_address_is_refused_without_its_words(
    workspace, params, monkeypatch, nobody_sees, given
) -> None:
    monkeypatch.setenv(webhook.ADDRESS_VARIABLE, given)
    with pytest.raises(UserError, match=r"^KEYSLICE_WEBHOOK: ") as caught:
        check(workspace, params.notify)
    assert "xSecretx" not in str(caught.value)
    assert "ward" not in str(caught.value)
    assert caught.value.__suppress_context__
    assert fault(workspace, params) == str(caught.value)  # told, not raised, once work is done


def test_libraries_that_log_addresses_do_so_elsewhere(receiver, caplog) -> None:
    """What is silenced would have been heard; and it is silenced nowhere else."""
    caplog.set_level(logging.DEBUG)
    with webhook.unlogged():
        httpx.post(receiver.address)
    assert caplog.text == ""
    httpx.post(receiver.address)
    assert "ySecrety" in caplog.text


@pytest.fixture
def secret(tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "webhook-secret"
    file.write_text(SECRET + "\n")
    file.chmod(0o600)
    monkeypatch.setenv(webhook.SECRET_VARIABLE, str(file))
    return file


def test_a_receiver_can_tell_that_a_message_is_ours(workspace, params, receiver, secret) -> None:
    assert fault(workspace, params) == ""
    [received] = receiver.received
    # By the definition of HMAC (RFC 2104), not by the function under test.
    key = SECRET.encode().ljust(64, b"\0")
    inner = hashlib.sha256(bytes(b ^ 0x36 for b in key) + received.body).digest()
    outer = hashlib.sha256(bytes(b ^ 0x5C for b in key) + inner).hexdigest()
    assert received.headers["X-Keyslice-Signature"] == f"sha256={outer}"
    forged = hmac.new(SECRET.encode(), received.body + b" ", "sha256").hexdigest()
    assert outer != forged


@pytest.mark.parametrize("what", ["short", "open", "gone", "inside"])
def test_a_secret_that_is_none_is_refused(workspace, params, secret, monkeypatch, what) -> None:
    if what == "short":
        secret.write_text(SECRET[:31])
    elif what == "open":
        secret.chmod(0o640)
    elif what == "gone":
        secret.unlink()
    else:
        secret = secret.rename(workspace.root / "secret")
        monkeypatch.setenv(webhook.SECRET_VARIABLE, str(secret))
    with pytest.raises(UserError, match=r"^KEYSLICE_WEBHOOK_SECRET_FILE: ") as caught:
        check(workspace, params.notify)
    assert SECRET[:8] not in str(caught.value)


@pytest.mark.parametrize("name", ["hospital", "Slack/hospital", "slack-webhook/", "a/b/c", "a/b c"])
def test_a_name_that_no_block_can_have_is_refused(workspace, params, name) -> None:
    params = params.model_copy(update={"notify": Notify(blocks=("slack-webhook/ward", name))})
    with pytest.raises(UserError, match=r"^notify\.blocks: '.*' is no name of a block"):
        check(workspace, params.notify)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (UserError("Doe_John.nii is no volume"), "a mistake in settings or input"),
        (
            StageFailed("train@scans-das", 1, "Doe_John"),
            "stage train@scans-das ended with exit code 1",
        ),
        (RunError("Doe_John.nii"), "RunError"),
        (OSError(28, "No space left", "/inbox/Doe_John.nii"), "No space left on device"),
        (OSError("Doe_John"), "OSError"),
        (KeyError("Doe_John"), "KeyError"),
    ],
)
def test_a_failure_is_told_by_its_part_and_kind_alone(error, kind) -> None:
    words = failure({"scans, das": error})
    assert words.startswith(f"Retraining failed. scans, das: {kind}. ")
    assert "Doe" not in words


def test_a_test_message_is_shown_with_what_became_of_it(
    workspace, params, receiver, capsys, monkeypatch
) -> None:
    assert notifying.run(workspace, params, as_json=True)
    shown = json.loads(capsys.readouterr().out)
    assert shown == [{"target": "webhook", "arrived": True, "fault": None}]
    assert told(receiver)["keyslice"]["occasion"] == "test"
    receiver.answers = [(403, {})]
    assert not notifying.run(workspace, params, as_json=False)
    assert capsys.readouterr().out.splitlines() == [
        "✗ webhook  not sent: it answered 403",
        "told of: candidate, gate, approval, failure",
    ]


def test_where_nobody_is_told_a_test_is_a_mistake(workspace, params, monkeypatch) -> None:
    monkeypatch.delenv(webhook.ADDRESS_VARIABLE, raising=False)
    with pytest.raises(UserError, match="nobody is to be told"):
        notifying.run(workspace, params, as_json=False)
