"""Settings of Prefect, and of MLflow's client, for a workspace.

They count only if they are set before Prefect is imported.
"""

from keyslice.config import Workspace


def environment(workspace: Workspace, *, verbose: bool = False) -> dict[str, str]:
    """What both are to find in the environment; what a person has set there comes first.

    Without PREFECT_API_URL a server is started for the run, on a database in state/prefect.
    """
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
        # After 0, 4, 8, … 64, 120 seconds, in each of the three attempts at a step
        # (`flows.tasks.RETRIES`): a run outlives an MLflow that is away for 12 minutes.
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "7",
    }
