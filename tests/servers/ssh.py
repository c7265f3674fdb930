"""A real ssh server with SFTP, which lets one key in and shows one folder.

`python -m tests.servers.ssh HOME PORT` serves HOME/files until it is ended.
"""

import asyncio
import os
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.servers.process import ROOT, Server, accepts, free_port

USER = "keyslice"


class SSH(Server):
    """Serves `files`, to who has `key`.

    Args:
        home: a new folder, for the keys, the log and the files.
    """

    def __init__(self, home: Path) -> None:
        self.home, self.port = home, free_port()
        self.key, self.files = home / "client", home / "files"
        self.files.mkdir()
        new_key(self.key)
        new_key(home / "host")
        command = [sys.executable, "-m", "tests.servers.ssh", str(home), str(self.port)]
        super().__init__(
            command, lambda: accepts(self.port), home / "log", port=self.port, cwd=ROOT
        )

    def settings(self, folder: str) -> dict[str, str]:
        """Of DVC's remote that is this folder of `files`; DVC makes it when it first pushes."""
        url = f"ssh://{USER}@127.0.0.1:{self.port}/{folder}"
        return {"url": url, "keyfile": str(self.key)}


def new_key(path: Path) -> None:
    """A private key, and its public half beside it."""
    import asyncssh

    key = asyncssh.generate_private_key("ssh-ed25519")
    key.write_private_key(path)
    key.write_public_key(path.with_suffix(".pub"))


@pytest.fixture(scope="session")
def ssh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SSH]:
    """One for all tests that do not stop it."""
    pytest.importorskip("asyncssh", reason="asyncssh is not installed (keyslice[ssh])")
    with SSH(tmp_path_factory.mktemp("ssh")).started() as server:
        yield server


async def _serve(home: Path, port: int) -> None:
    import asyncssh

    await asyncssh.listen(
        "127.0.0.1",
        port,
        server_host_keys=[home / "host"],
        authorized_client_keys=str(home / "client.pub"),
        sftp_factory=partial(asyncssh.SFTPServer, chroot=os.fsencode(home / "files")),
    )
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1]), int(sys.argv[2])))
