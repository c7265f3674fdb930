"""Settings of Prefect, and of MLflow's client, for a workspace.

They count only if they are set before Prefect is imported.
"""

import os

from keyslice.config import Workspace

API, DATABASE = "PREFECT_API_URL", "PREFECT_SERVER_DATABASE_CONNECTION_URL"
"""Where Prefect's server is, and where the one that is started here keeps what it knows."""


def environment(workspace: Workspace, *, verbose: bool = False) -> dict[str, str]:
    """What both are to find in the environment; what a person has set there comes first.

    Without PREFECT_API_URL a server is started for the run, on a database in state/prefect.
    """
    outside = any(os.environ.get(name) for name in (API, DATABASE))
    return {
        "PREFECT_HOME": str(workspace.state / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true",
        # It takes 10–20 s, and longer where other processes want the cores.
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
        # Failures are told in the end, in a line each; Prefect's log has their tracebacks.
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "INFO" if verbose else "CRITICAL",
        "PREFECT_SERVER_LOGGING_LEVEL": "WARNING" if verbose else "CRITICAL",
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
