"""A real PostgreSQL on loopback, with a password, and databases for the asking."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.servers.process import Server, free_port

MISSING = "PostgreSQL is not installed (Debian: postgresql)"
USER, PASSWORD = "keyslice", "planted-secret"
_NUMBERS = count()


def commands() -> Path | None:
    """The folder that holds `postgres` and `initdb`; Debian's is not on PATH."""
    found = shutil.which("postgres")
    folders = [Path(found).resolve().parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in folders if (folder / "initdb").is_file()), None)


class PostgreSQL(Server):
    """On new data.

    Args:
        home: a new folder, in one that `account` may reach.
        account: that it runs as; None: the tests' own. It refuses to run as root.
    """

    request = signal.SIGINT
    """It waits for its clients when it is asked by SIGTERM."""

    def __init__(self, home: Path, account: str | None) -> None:
        folder = commands()
        assert folder is not None
        self.home, self.port, self.data = home, free_port(), home / "data"
        become = _becoming(account) if account else {}
        secret = home / "password"
        secret.write_text(PASSWORD)
        for path in (home, secret):
            shutil.chown(path, account or os.getuid())
        initdb = [f"{folder}/initdb", "--no-sync", "--auth=scram-sha-256", f"--username={USER}"]
        initdb += [f"--pwfile={secret}", "--encoding=UTF8", "--locale=C", "--pgdata", self.data]
        subprocess.run(initdb, cwd=home, check=True, capture_output=True, **become)
        options = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": "",
            "fsync": "off",
            "max_connections": 200,
        }
        command = [f"{folder}/postgres", "-D", str(self.data)]
        command += [word for key, value in options.items() for word in ("-c", f"{key}={value}")]
        super().__init__(command, self._accepts, home / "log", port=self.port, **become)

    def url(self, database: str, driver: str = "postgresql", password: str = PASSWORD) -> str:
        """Of a database; `postgresql+asyncpg` is Prefect's driver."""
        return f"{driver}://{USER}:{password}@127.0.0.1:{self.port}/{database}"

    def new(self) -> str:
        """The name of a new, empty database."""
        name = f"test_{os.getpid()}_{next(_NUMBERS)}"
        self.tell("postgres", f"CREATE DATABASE {name}")
        return name

    def tell(self, database: str, statement: str) -> None:
        import psycopg2

        with closing(psycopg2.connect(self.url(database))) as connection:
            connection.autocommit = True
            connection.cursor().execute(statement)

    def _accepts(self) -> bool:
        import psycopg2

        try:
            psycopg2.connect(self.url("postgres"), connect_timeout=2).close()
        except psycopg2.OperationalError:
            return False
        return True


@contextmanager
def running() -> Iterator[PostgreSQL]:
    """A new one, on new data, for a block; may be stopped, killed and started in it."""
    # Not below pytest's own folder: no other account gets in there.
    home = Path(tempfile.mkdtemp(prefix="keyslice-postgresql-"))
    try:
        with PostgreSQL(home, _account()).started() as server:
            yield server
    finally:
        shutil.rmtree(home)


def _account() -> str | None:
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in ("postgres", "nobody") if name in known)


def _becoming(account: str) -> dict[str, Any]:
    """What `subprocess.Popen` is to be told."""
    return {"user": account, "group": pwd.getpwnam(account).pw_gid, "extra_groups": []}


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    """One for all tests that do not stop it."""
    if commands() is None:
        pytest.skip(MISSING)
    pytest.importorskip("psycopg2", reason="psycopg2 is not installed (keyslice[postgresql])")
    with running() as server:
        yield server
