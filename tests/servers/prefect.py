"""A real Prefect server, on any database; with a password where one is given."""

import sys
from pathlib import Path

from tests.servers.process import Server, answers, free_port

AUTHENTICATION = "admin:planted-secret"


class Prefect(Server):
    """Keeps its address and its database when it is stopped and started.

    Args:
        home: a new folder, for the log and what Prefect keeps beside its database.
        database: `postgresql+asyncpg://…`; by default sqlite in `home`.
        authentication: `USER:PASSWORD` that each caller must know; None: it lets everybody in.
        variables: further settings of Prefect.
    """

    def __init__(
        self,
        home: Path,
        database: str | None = None,
        authentication: str | None = None,
        **variables: str,
    ) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}/api"
        settings = {
            "PREFECT_HOME": str(home),
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": database
            or f"sqlite+aiosqlite:///{home}/prefect.db",
            "PREFECT_SERVER_UI_ENABLED": "false",
            "PREFECT_CLI_PROMPT": "false",
        }
        self.variables = {"PREFECT_API_URL": self.url}
        """For whoever is to use it."""
        if authentication:
            settings["PREFECT_SERVER_API_AUTH_STRING"] = authentication
            self.variables["PREFECT_API_AUTH_STRING"] = authentication
        command = [sys.executable, "-m", "prefect", "server", "start"]
        command += ["--host", "127.0.0.1", "--port", str(port)]
        super().__init__(
            command,
            lambda: answers(f"{self.url}/health"),
            home / "log",
            port=port,
            variables=settings | variables,
        )
