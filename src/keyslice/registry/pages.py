"""Addresses of MLflow's pages, for those who read what Prefect or a message tells."""

import os

from keyslice.config import Workspace
from keyslice.errors import without_credentials
from keyslice.registry.client import embedded, tracking_uri

VARIABLE = "KEYSLICE_MLFLOW_PAGE"
"""Set by `keyslice up` for what it starts: where its own server shows the database in state/."""


def version(workspace: Workspace, model: str, number: int) -> str | None:
    """Of a version of a registered model; None: no server is known that would show it."""
    base = os.environ.get(VARIABLE, "") if embedded(workspace) else tracking_uri(workspace)
    if not base.startswith(("http://", "https://")):
        return None
    return f"{without_credentials(base).rstrip('/')}/#/models/{model}/versions/{number}"
