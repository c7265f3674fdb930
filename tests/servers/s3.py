"""A server that speaks the S3 protocol: moto's, in memory."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers.process import Server, accepts, free_port

BUCKET = "exams"
CREDENTIALS = {"access_key_id": "planted", "secret_access_key": "planted-secret"}


class S3(Server):
    """Forgets everything when it is stopped.

    Args:
        home: a new folder, for the log.
    """

    def __init__(self, home: Path) -> None:
        self.port = free_port()
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
        super().__init__(command, lambda: accepts(self.port), home / "log", port=self.port)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        super().start()
        self.client().create_bucket(Bucket=BUCKET)

    def client(self) -> Any:
        """boto3's."""
        import boto3

        names = {f"aws_{name}": value for name, value in CREDENTIALS.items()}
        return boto3.client("s3", endpoint_url=self.endpoint, region_name="us-east-1", **names)

    def fetch(self, folder: str, place: Path) -> None:
        """Copy all that lies in a folder of the bucket to `place`."""
        client = self.client()
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=folder):
            for entry in page.get("Contents", []):
                (place / entry["Key"]).parent.mkdir(parents=True, exist_ok=True)
                client.download_file(BUCKET, entry["Key"], str(place / entry["Key"]))

    def settings(self, folder: str, bucket: str = BUCKET) -> dict[str, str]:
        """Of DVC's remote that is this folder of a bucket."""
        place = {"url": f"s3://{bucket}/{folder}", "endpointurl": self.endpoint}
        return place | {"region": "us-east-1"} | CREDENTIALS


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """One for all tests that do not stop it."""
    for module in ("moto.server", "flask_cors"):
        pytest.importorskip(module, reason="moto is not installed (moto[server])")
    with S3(tmp_path_factory.mktemp("s3")).started() as server:
        yield server
