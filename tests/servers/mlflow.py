"""A real MLflow server, on any store; with passwords where one is given."""

import sys
from pathlib import Path

from keyslice.services.programs import GUNICORN
from tests.servers.process import Server, answers, free_port

USER, PASSWORD = "admin", "planted-secret-password"

AUTHENTICATION = """[mlflow]
default_permission = NO_PERMISSIONS
database_uri = {database}
admin_username = {user}
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
auth_cache_ttl_seconds = 60
"""
"""Without the last line each request takes a quarter of a second, to hash the password anew."""


class MLflow(Server):
    """Keeps its address and its store when it is stopped and started.

    Args:
        home: a new folder, for the log and the artifacts.
        store: where runs and models lie, as `postgresql://…`; by default sqlite in `home`.
        users: where accounts lie, as `sqlite:///FILE`; None: it lets everybody in.
    """

    def __init__(self, home: Path, store: str | None = None, users: str | None = None) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        # Not as an argument: whoever lists processes would read the password in it.
        variables = {
            "MLFLOW_BACKEND_STORE_URI": store or f"sqlite:///{home}/mlflow.db",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        }
        command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), *GUNICORN]
        command += ["--artifacts-destination", str(home / "artifacts")]
        if users:
            (home / "auth.ini").write_text(AUTHENTICATION.format(database=users, user=USER))
            command += ["--app-name", "basic-auth"]
            variables |= {
                "MLFLOW_AUTH_CONFIG_PATH": str(home / "auth.ini"),
                "MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORD,
                "MLFLOW_FLASK_SERVER_SECRET_KEY": "planted-secret-key",
            }
        super().__init__(
            command,
            lambda: answers(f"{self.url}/health"),
            home / "log",
            port=port,
            variables=variables,
        )

    def add_user(self, name: str, password: str) -> None:
        """An account that may do nothing but with what it makes itself."""
        import httpx

        account = {"username": name, "password": password}
        address = f"{self.url}/api/2.0/mlflow/users/create"
        httpx.post(address, json=account, auth=(USER, PASSWORD)).raise_for_status()
