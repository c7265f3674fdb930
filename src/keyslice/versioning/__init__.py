"""git and DVC: dataset versions, the stage graph, and the commit that holds a run."""

from keyslice.versioning.dvc import (
    DVCError,
    Outcome,
    StageFailed,
    dataset_of,
    record_version,
    reproduce,
    stale,
)
from keyslice.versioning.git import check_repository, run_commit
from keyslice.versioning.lock import lock_hash, prepared_version, stage_hash, stage_names, version
from keyslice.versioning.processes import ChildrenEndedError, children, end_orphans, run
from keyslice.versioning.recovery import recover

__all__ = [
    "ChildrenEndedError",
    "DVCError",
    "Outcome",
    "StageFailed",
    "check_repository",
    "children",
    "dataset_of",
    "end_orphans",
    "lock_hash",
    "prepared_version",
    "record_version",
    "recover",
    "reproduce",
    "run",
    "run_commit",
    "stage_hash",
    "stage_names",
    "stale",
    "version",
]
