"""What an installation runs: by which command, where it answers, and how its health is asked."""

import os
import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

from flows.environment import API, ASKED, SHOWN, environment
from keyslice import files
from keyslice.config import Params, Workspace
from keyslice.errors import without_credentials
from keyslice.loopback import loopback
from keyslice.registry import client, pages
from keyslice.registry.users import set_password
from keyslice.services.account import Account, account

PREFECT, MLFLOW, SERVING = "Prefect", "MLflow", "serving"
GUNICORN = ("--workers", "1", "--gunicorn-opts", "--threads 8 --no-control-socket")
"""How MLflow is served. By uvicorn, its default, it would come with an assistant, by which whoever
reaches it has commands run as the service."""
_ANY = {"0.0.0.0": "127.0.0.1"}  # noqa: S104 - asked about, not opened


@dataclass(frozen=True)
class Program:
    """One process of the installation, or a server that somebody else runs.

    Args:
        name: shown.
        command: None: it is somebody else's.
        variables: added to its environment.
        page: address for a browser; empty: it has none.
        health: address that answers 200 when it is well; empty: it is well while it runs.
        port: it opens; 0: none.
    """

    name: str
    command: tuple[str, ...] | None
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)
    page: str = ""
    health: str = ""
    port: int = 0


def programs(workspace: Workspace, params: Params) -> tuple[Program, ...]:
    """Servers first, the serving process last.

    Raises:
        UserError: servers are to be opened to the network, without an account.
    """
    who = account(workspace, params.service.host)
    named = outside(workspace)
    prefect = named.get(PREFECT) or _prefect(workspace, params, who)
    variables = environment(workspace) | {API: os.environ.get(API) or f"{prefect.page}/api"}
    if who is not None and prefect.command is not None:
        variables[SHOWN] = who.line
    mlflow = named.get(MLFLOW) or _mlflow(workspace, params, who)
    variables[pages.VARIABLE] = mlflow.page
    serving = Program(SERVING, (sys.executable, "-P", "-m", "keyslice.cli", "serve"), variables)
    return prefect, mlflow, serving


def outside(workspace: Workspace) -> dict[str, Program]:
    """Servers that somebody else runs, since variables name them; by their names here."""
    found, api = {}, os.environ.get(API, "").removesuffix("/")
    if api:
        page = without_credentials(api.removesuffix("/api"))
        found[PREFECT] = Program(PREFECT, None, page=page, health=f"{api}/health")
    if not client.embedded(workspace):
        uri = client.tracking_uri(workspace).removesuffix("/")
        page = without_credentials(uri)
        found[MLFLOW] = Program(MLFLOW, None, page=page, health=f"{uri}/health")
    return found


def _prefect(workspace: Workspace, params: Params, who: Account | None) -> Program:
    host, port = params.service.host, params.service.prefect_port
    page = f"http://{_ANY.get(host, host)}:{port}"
    variables = environment(workspace) | {
        # Relative: a browser on another machine asks the host by which it came.
        "PREFECT_SERVER_UI_API_URL": "/api",
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": page,  # no page but its own
    }
    if who is not None:
        variables[ASKED] = who.line
    server = ("flows.server", "--host", host, "--port", str(port))
    command = (sys.executable, "-P", "-m", *server)
    return Program(PREFECT, command, variables, page, f"{page}/api/health", port)


def _mlflow(workspace: Workspace, params: Params, who: Account | None) -> Program:
    host, port = params.service.host, params.service.mlflow_port
    page = f"http://{_ANY.get(host, host)}:{port}"
    command = [sys.executable, "-P", "-m", "mlflow", "server", "--host", host, "--port", str(port)]
    command += GUNICORN
    # Files are read where they lie: commands on this machine write them there without the server.
    artifacts = (workspace.state / "artifacts").as_uri()
    command += ["--no-serve-artifacts", "--default-artifact-root", artifacts]
    variables = {
        # By the environment: an address may hold a password, and every user sees a command line.
        "MLFLOW_BACKEND_STORE_URI": client.tracking_uri(workspace),
        "MLFLOW_REGISTRY_STORE_URI": client.registry_uri(workspace),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    if not loopback(host):
        variables["MLFLOW_SERVER_ALLOWED_HOSTS"] = "*"  # those who know the password
    if who is not None:
        command += ["--app-name", "basic-auth"]
        variables |= _basic_auth(workspace, who)
    return Program(MLFLOW, tuple(command), variables, page, f"{page}/health", port)


def _basic_auth(workspace: Workspace, who: Account) -> dict[str, str]:
    """What MLflow's own authentication is told; it keeps its users in state/mlflow-users.db."""
    folder = workspace.state / "service"
    settings, key = folder / "mlflow-auth.ini", folder / "mlflow-session-key"
    users = workspace.state / "mlflow-users.db"
    if users.is_file():
        set_password(users, who.user, who.password)
    # Whom the account's owner lets in may read, until told otherwise there.
    text = f"[mlflow]\ndefault_permission = READ\ndatabase_uri = sqlite:///{users}\n"
    # Else each request hashes the password anew: a retraining is recorded in 38 s instead of 5.
    text += "auth_cache_ttl_seconds = 60\n"
    files.write_text(settings, text, mode=0o600)
    if not key.is_file():
        files.write_text(key, secrets.token_hex(32), mode=0o600)
    return {
        "MLFLOW_AUTH_CONFIG_PATH": str(settings),
        "MLFLOW_AUTH_ADMIN_USERNAME": who.user,
        "MLFLOW_AUTH_ADMIN_PASSWORD": who.password,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": key.read_text(encoding="ascii"),
    }
