"""Settings of Prefect, and of MLflow's client, for a workspace.

They count only if they are set before Prefect is imported.
"""

import os
import secrets

from keyslice.config import Workspace

API, DATABASE = "PREFECT_API_URL", "PREFECT_SERVER_DATABASE_CONNECTION_URL"
"""Where Prefect's server is, and where the one that is started here keeps what it knows."""
ASKED, SHOWN = "PREFECT_SERVER_API_AUTH_STRING", "PREFECT_API_AUTH_STRING"
"""The account, `user:password`, that a Prefect server asks for, and that those who call it show."""


def prepare(workspace: Workspace, *, verbose: bool = False) -> None:
    """Set them for this process and what it starts; what a person has set stays.

    A server that is started for the run has an account of its own, which nobody else knows: it has
    the database that `keyslice up` guards with one.
    """
    for name, value in environment(workspace, verbose=verbose).items():
        os.environ.setdefault(name, value)
    if not os.environ.get(API):
        given = os.environ.get(ASKED) or os.environ.get(SHOWN)
        account = given or f"keyslice:{secrets.token_urlsafe(32)}"
        for name in (ASKED, SHOWN):
            os.environ[name] = os.environ.get(name) or account


def environment(workspace: Workspace, *, verbose: bool = False) -> dict[str, str]:
    """What both are to find in the environment; what a person has set there comes first.

    Without PREFECT_API_URL a server is started for the run, on a database in state/prefect.
    """
    outside = any(os.environ.get(name) for name in (API, DATABASE))
    return {
        "PREFECT_HOME": str(workspace.state / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        # `flows.own_server` starts the one for a run, and ends it.
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
        # Failures are told in the end, in a line each; Prefect's log has their tracebacks.
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "INFO" if verbose else "CRITICAL",
        "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",  # to its log
        "PREFECT_CLI_PROMPT": "false",
        # After 2, 4, 8, … seconds: a run outlives a server that is away for 17 minutes.
        "PREFECT_CLIENT_MAX_RETRIES": "9",
        # So a server answers whose database is away. One whose database lies in the workspace
        # means a full disk, or a damaged file: there is no use in waiting then.
        "PREFECT_CLIENT_RETRY_EXTRA_CODES": "500" if outside else "",
        # After 0, 4, 8, … 64, 120 seconds, in each of the three attempts at a step
        # (`flows.tasks.RETRIES`): a run outlives an MLflow that is away for 12 minutes.
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "7",
    }
