"""Stage prepare: a dataset's exams as frames of one size, ready to be read."""

from keyslice.config import Params, Workspace
from keyslice.errors import UserError
from keyslice.exams import manifest
from keyslice.exams.lock import dataset_lock
from keyslice.prepared import Progress, write_store
from keyslice.stages.running import only_process_of


def prepare(
    workspace: Workspace, params: Params, dataset: str, *, progress: Progress | None = None
) -> None:
    """Write data/prepared/<dataset>: shards, index.parquet and store.json.

    Raises:
        UserError: an unknown dataset, one that is not ingested or whose exams are not all here,
            or a manifest that changed meanwhile.
    """
    settings = params.prepare_settings(dataset)
    path = workspace.manifest(dataset)
    out = workspace.prepared(dataset)
    stage = f"prepare@{dataset}"
    with only_process_of(workspace, stage), dataset_lock(workspace, dataset, stage):
        if not path.is_file():
            raise UserError(
                f"dataset {dataset} is not ingested",
                rule="exams are ingested before they are prepared",
                remedy=f"keyslice ingest {dataset}",
            )
        version = manifest.version_hash(path)
        write_store(manifest.read(path), version, path.parent, out, settings, progress)
        if manifest.version_hash(path) != version:
            (out / "store.json").unlink()
            raise UserError(
                f"the manifest of {dataset} changed while its exams were being prepared",
                rule="what DVC records must be what was read",
                remedy="run it again",
            )
