"""The last retraining of each dataset, as its run in MLflow tells of it."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from keyslice.config import Workspace
from keyslice.provenance.installation import installation
from keyslice.registry import tags
from keyslice.registry.client import connect, exists


@dataclass(frozen=True)
class Retraining:
    """One of this installation's."""

    run_id: str
    dataset: str
    version: str
    """Of the dataset."""
    state: str
    """`finished`, `failed`, `killed`, or `running`: begun and not ended."""
    begun: datetime
    ended: datetime | None


def last_retrainings(workspace: Workspace, datasets: Iterable[str]) -> dict[str, Retraining]:
    """By dataset; one that was never retrained is left out.

    Raises:
        RunError: MLflow does not answer.
        UserError: it cannot be opened.
    """
    if not exists(workspace):
        return {}
    client = connect(workspace)
    own = tags.query({tags.KIND: "retraining", tags.INSTALLATION: installation(workspace)})
    found: dict[str, Retraining] = {}
    for dataset in datasets:
        experiment = client.get_experiment_by_name(dataset)
        if experiment is None or experiment.lifecycle_stage == "deleted":
            continue
        newest = ["attributes.start_time DESC"]
        for run in client.search_runs([experiment.experiment_id], own, 1, 1, newest):
            found[dataset] = Retraining(
                run_id=run.info.run_id,
                dataset=dataset,
                version=run.data.tags.get(tags.VERSION, ""),
                state=run.info.status.lower(),
                begun=_time(run.info.start_time),
                ended=_time(run.info.end_time) if run.info.end_time else None,
            )
    return found


def _time(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
