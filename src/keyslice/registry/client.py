"""The way to MLflow: a server where one is named, else a database in this workspace's state."""

import logging
import os
from typing import TYPE_CHECKING
from urllib.parse import urlparse

from filelock import FileLock

from keyslice.config import Workspace

if TYPE_CHECKING:
    from mlflow import MlflowClient


def tracking_uri(workspace: Workspace) -> str:
    """MLFLOW_TRACKING_URI, else sqlite in state/mlflow.db."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{workspace.state}/mlflow.db"


def exists(workspace: Workspace) -> bool:
    """Whether there is something to ask: asking alone is to create no database."""
    uri = urlparse(tracking_uri(workspace))
    return uri.scheme != "sqlite" or (workspace.root / uri.path.removeprefix("/")).is_file()


def connect(workspace: Workspace) -> "MlflowClient":
    """A client of this workspace's MLflow; nothing global is set, and nothing phones home.

    The database is created here, once: many processes on a fresh file would run its migrations
    against each other.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    for name in ("mlflow.store.db.utils", "alembic"):  # a line for each migration
        logging.getLogger(name).setLevel(logging.WARNING)
    from mlflow import MlflowClient  # seconds: not for those who only import this module

    uri = tracking_uri(workspace)
    guard = workspace.lock("mlflow")
    guard.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(guard):
        client = MlflowClient(uri, os.environ.get("MLFLOW_REGISTRY_URI") or uri)
        client.search_experiments(max_results=1)
    return client


def experiment(client: "MlflowClient", workspace: Workspace, dataset: str) -> str:
    """The id of the dataset's experiment, made if there is none yet."""
    known = client.get_experiment_by_name(dataset)
    if known is not None:
        return known.experiment_id
    embedded = "MLFLOW_TRACKING_URI" not in os.environ
    place = (workspace.state / "artifacts" / dataset).as_uri() if embedded else None
    return client.create_experiment(dataset, artifact_location=place)
