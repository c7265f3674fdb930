"""What MLflow stores, as files."""

from pathlib import Path
from urllib.parse import urlsplit

from keyslice.config import Workspace
from keyslice.registry.client import tracking_uri


def is_local(uri: str) -> bool:
    """Whether it lies in this machine's file system."""
    return urlsplit(uri).scheme in ("", "file")


def fetch(workspace: Workspace, uri: str, target: Path) -> Path | None:
    """A file or folder that MLflow stores, fetched into the folder `target`; None: it is not there.

    What lies in this file system is not copied: then the place where it lies is returned.
    """
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    place = None if is_local(uri) else str(target)
    try:
        return Path(download_artifacts(uri, dst_path=place, tracking_uri=tracking_uri(workspace)))
    except (MlflowException, OSError):
        return None
