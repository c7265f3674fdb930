"""The way to MLflow: a server where one is named, else a database in this workspace's state."""

import logging
import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from keyslice.config import Workspace
from keyslice.errors import RunError, UserError, without_credentials

if TYPE_CHECKING:
    from mlflow import MlflowClient

VARIABLE, REGISTRY_VARIABLE = "MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
"""That MLflow writes to itself, without a server."""
ATTEMPTS = 5
"""At a database that another machine is making the tables of."""
_OTHER_SCHEMA = "out-of-date database schema"
"""How MLflow says so, of an older and of a newer one."""
_NO_WAY_IN = ("authentication failed", "no password supplied", "does not exist", "translate host")
"""How a database says so that waiting will not help."""


def tracking_uri(workspace: Workspace) -> str:
    """MLFLOW_TRACKING_URI, else sqlite in state/mlflow.db."""
    named = os.environ.get(VARIABLE)
    return _in_workspace(workspace, named or f"sqlite:///{workspace.state}/mlflow.db")


def registry_uri(workspace: Workspace) -> str:
    """Where models are registered: MLFLOW_REGISTRY_URI, else where runs are."""
    named = os.environ.get(REGISTRY_VARIABLE)
    return _in_workspace(workspace, named) if named else tracking_uri(workspace)


def embedded(workspace: Workspace) -> bool:
    """Whether MLflow is a database, with no server that would say where artifacts go."""
    return _kind(tracking_uri(workspace)) in DATABASES


def exists(workspace: Workspace) -> bool:
    """Whether there is something to ask: asking alone is to create no database."""
    uri = tracking_uri(workspace)
    return _kind(uri) != "sqlite" or _file(uri).is_file()


def _kind(uri: str) -> str:
    """`sqlite`, `postgresql`, `http`, …; the driver in `postgresql+psycopg2` is left out."""
    return uri.partition(":")[0].partition("+")[0]


def _file(uri: str) -> Path:
    """Of sqlite:///FILE?OPTIONS."""
    return Path(uri.partition(":///")[2].partition("?")[0])


def _in_workspace(workspace: Workspace, uri: str) -> str:
    """The same address, a relative file of sqlite taken from the root, not the current folder."""
    scheme, _, file = uri.partition(":///")
    return f"{scheme}:///{workspace.root / file}" if _kind(uri) == "sqlite" and file else uri


def connect(workspace: Workspace) -> "MlflowClient":
    """A client of this workspace's MLflow; nothing global is set, and nothing phones home.

    The database is created here, once: many processes on a fresh file would run its migrations
    against each other.

    Raises:
        RunError: a server does not answer.
        UserError: what the variable names is none of MLflow's, or cannot be opened.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    # A person waits for a quarter of a minute; a retraining has more patience.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
    # Else a line with a run's address on standard output whenever one has ended.
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    # Else lines with each file that a server is asked for, in a service's log, too.
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    # A line for each migration; how long a version of a model is waited for.
    for name in ("alembic", "mlflow.store.model_registry.abstract_store"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Lines for each retry, and tracebacks of what is raised anyway.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # a line for each retry
    uri = tracking_uri(workspace)
    guard = workspace.lock("mlflow")
    guard.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(guard):
            _knock(uri)
            client = _opened(uri, registry_uri(workspace))
    except Exception as error:  # MLflow passes on whatever its stores and drivers raise
        raise _cannot(uri, error) from error
    return client


def _knock(uri: str) -> None:
    """Raise what a database that is not sqlite says to who has no way in.

    MLflow would ask it again for 100 seconds, which is right where it does not answer at all.
    """
    if _kind(uri) not in DATABASES or _kind(uri) == "sqlite":
        return
    # With mlflow, not with this module.
    from sqlalchemy import NullPool, create_engine
    from sqlalchemy.exc import OperationalError

    try:
        create_engine(uri, poolclass=NullPool).connect().close()
    except OperationalError as error:
        if any(words in str(error) for words in _NO_WAY_IN):
            raise


def _opened(uri: str, registry: str) -> "MlflowClient":
    """The lock holds on one machine only: two that meet an empty database both make its tables."""
    from mlflow import MlflowClient

    for attempt in range(1, ATTEMPTS + 1):
        try:
            client = MlflowClient(uri, registry)
            client.search_experiments(max_results=1)
        except Exception as error:
            if attempt == ATTEMPTS or "already exists" not in str(error):
                raise
            time.sleep(2)
        else:
            return client
    raise AssertionError


def existing(workspace: Workspace) -> "MlflowClient":
    """`connect`, where there is something to connect to.

    Raises:
        UserError: nothing has been registered here yet; or as `connect`.
    """
    if not exists(workspace):
        raise UserError(
            "no model is registered yet",
            rule="a model is registered at the end of a retraining",
            remedy="keyslice retrain",
        )
    return connect(workspace)


def experiment(client: "MlflowClient", workspace: Workspace, dataset: str) -> str:
    """The id of the dataset's experiment, made if there is none yet.

    Raises:
        UserError: it has been deleted in MLflow; what was deleted on purpose is not brought back.
    """
    known = client.get_experiment_by_name(dataset)
    if known is None:
        place = (workspace.state / "artifacts" / dataset).as_uri() if embedded(workspace) else None
        return client.create_experiment(dataset, artifact_location=place)
    if known.lifecycle_stage == "deleted":
        address = without_credentials(tracking_uri(workspace))
        raise UserError(
            f"experiment {dataset} has been deleted",
            where="MLflow",
            rule="a dataset's runs lie in the experiment of its name",
            remedy=f"{VARIABLE}={address} mlflow experiments restore "
            f"--experiment-id {known.experiment_id}",
        )
    return known.experiment_id


def _cannot(uri: str, error: Exception) -> Exception:
    named = VARIABLE if os.environ.get(VARIABLE) else "MLflow's database"
    address, reason = (without_credentials(text) for text in (uri, str(error)))
    if uri.startswith(("http://", "https://")):
        if re.search(r"error code 401\b", reason):
            return UserError(
                f"MLflow at {address} does not know the user or the password",
                where="MLFLOW_TRACKING_USERNAME, MLFLOW_TRACKING_PASSWORD",
                rule="they are those of an account of that server",
                remedy="set both in the environment",
            )
        return RunError(
            f"MLflow at {address} does not answer; {named} names it; {_first_sentence(reason)}"
        )
    if _is_away(uri, error):
        return RunError(
            f"the database at {address} does not answer; {named} names it; "
            f"{_first_sentence(reason)}"
        )
    if _OTHER_SCHEMA in reason:
        return UserError(
            f"{address!r} was written by another version of MLflow",
            where=named,
            rule="the database has the schema of the MLflow that is installed",
            remedy=f"back it up, then run MLFLOW_DISABLE_TELEMETRY=true mlflow db upgrade {address}"
            "; where a newer MLflow wrote it, install that one again instead",
        )
    return UserError(
        f"{address!r} cannot be opened ({_first_sentence(reason)})",
        where=named,
        rule="it is the address of an MLflow server, or sqlite:///FILE",
        remedy=f"mend it, or unset {VARIABLE} to use state/mlflow.db"
        if named == VARIABLE
        else "restore it from a backup of state/",
    )


def _is_away(uri: str, error: Exception) -> bool:
    """Whether a database that is a server is not there now; `_NO_WAY_IN` is another matter."""
    from sqlalchemy.exc import OperationalError

    server = _kind(uri) in DATABASES and _kind(uri) != "sqlite"
    refused = any(words in str(error) for words in _NO_WAY_IN)
    return server and isinstance(error, OperationalError) and not refused


def _first_sentence(text: str) -> str:
    """Of a library's message, which may go on for paragraphs."""
    return " ".join(text.split()).partition(". ")[0][:200]
