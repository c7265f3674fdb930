import http.server
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from keyslice.health import WELL, health


class _Handler(http.server.BaseHTTPRequestHandler):
    """As a server, and as a proxy of any."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path.endswith("/well") else 503)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def server() -> Iterator[http.server.HTTPServer]:
    with http.server.HTTPServer(("127.0.0.1", 0), _Handler) as found:
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield found
        found.shutdown()


def test_it_is_what_the_server_answers(server: http.server.HTTPServer) -> None:
    base = f"http://127.0.0.1:{server.server_port}"
    assert health(f"{base}/well", own=True) == WELL
    assert health(f"{base}/ill", own=True) == "answers 503"
    assert health("http://127.0.0.1:9/well", own=True) == "does not answer"


def test_somebody_elses_server_is_asked_through_the_proxy_and_ones_own_is_not(
    server: http.server.HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{server.server_port}")
    assert health("http://prefect.example.invalid/well", own=False) == WELL
    assert health("http://prefect.example.invalid/well", own=True) == "does not answer"
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    assert health(f"http://127.0.0.1:{server.server_port}/well", own=False) == WELL


@pytest.mark.parametrize("own", [True, False])
def test_an_authority_of_ones_own_is_trusted_where_it_is_named(
    tmp_path: Path, server: http.server.HTTPServer, monkeypatch: pytest.MonkeyPatch, own: bool
) -> None:
    file = _certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    address = f"https://localhost:{server.server_port}/well"
    assert health(address, own=own) == "does not answer"
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    assert health(address, own=own) == WELL
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none"))
    assert health(address, own=own) == "does not answer"


def _certificate(folder: Path) -> Path:
    """One for localhost, with its key, that nobody has signed but itself."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.NameAttribute
    subject = x509.Name([name(NameOID.COMMON_NAME, "localhost")])
    begun = datetime.now(UTC) - timedelta(days=1)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begun)
        .not_valid_after(begun + timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    file = folder / "certificate.pem"
    file.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return file
