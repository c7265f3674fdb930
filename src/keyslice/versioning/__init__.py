"""git and DVC: dataset versions, the stage graph, and the commit that holds a run."""

from keyslice.versioning.branch import (
    NotCommitted,
    commit_retraining,
    retraining_message,
    uncommitted,
)
from keyslice.versioning.dvc import (
    DVCError,
    Outcome,
    StageFailed,
    dataset_of,
    record_networks,
    record_version,
    reproduce,
    stale,
)
from keyslice.versioning.git import check_repository, run_commit
from keyslice.versioning.laying import lay
from keyslice.versioning.lock import lock_hash, prepared_version, stage_hash, stage_names, version
from keyslice.versioning.processes import (
    ChildrenEndedError,
    TimeLimitError,
    check_children,
    children,
    children_ended,
    end_orphans,
    orphans,
    run,
)
from keyslice.versioning.push import check_remotes, push_dataset, unpushed
from keyslice.versioning.recovery import recover

__all__ = [
    "ChildrenEndedError",
    "DVCError",
    "NotCommitted",
    "Outcome",
    "StageFailed",
    "TimeLimitError",
    "check_children",
    "check_remotes",
    "check_repository",
    "children",
    "children_ended",
    "commit_retraining",
    "dataset_of",
    "end_orphans",
    "lay",
    "lock_hash",
    "orphans",
    "prepared_version",
    "push_dataset",
    "record_networks",
    "record_version",
    "recover",
    "reproduce",
    "retraining_message",
    "run",
    "run_commit",
    "stage_hash",
    "stage_names",
    "stale",
    "uncommitted",
    "unpushed",
    "version",
]
