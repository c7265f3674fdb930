"""One ingestion as a person or a flow asks for it: exams read under the lock, then a version."""

from dataclasses import dataclass

from keyslice import versioning
from keyslice.config import Params, Workspace
from keyslice.exams.ingestion import IngestReport, Progress, ingest
from keyslice.exams.lock import dataset_lock
from keyslice.provenance import versions


@dataclass(frozen=True)
class Ingested:
    """What became of the source's files, and the dataset's version now."""

    report: IngestReport
    version: str
    previous: str | None


def ingest_dataset(
    workspace: Workspace,
    params: Params,
    name: str,
    *,
    progress: Progress | None = None,
    retry: bool = False,
) -> Ingested:
    """Make or extend a dataset and give it a version.

    Args:
        workspace: that holds it.
        params: its settings.
        name: under `datasets`.
        progress: told of each exam, for a progress bar.
        retry: read files again that could not be read before.

    Raises:
        UserError: the dataset is not configured, its source breaks a rule, or the list of who has
            withdrawn is not as the ledger tells.
    """
    dataset = params.dataset(name)
    with dataset_lock(workspace, name, "ingest"):
        versions.check_barred(workspace, name)
        previous = versioning.version(workspace, name)
        version = ""

        def make_version() -> None:
            nonlocal version
            version = versions.record(workspace, params, name, previous)

        report = ingest(
            workspace, name, dataset, progress=progress, make_version=make_version, retry=retry
        )
    return Ingested(report, version, previous)
