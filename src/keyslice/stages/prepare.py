"""Stage prepare: a dataset's exams as frames of one size, ready to be read."""

import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import PIL
import pyarrow
import pyarrow.parquet as pq
from numpy.lib import format as npy

from keyslice import files, prepared
from keyslice.config import Params, Prepare, Workspace
from keyslice.errors import UserError
from keyslice.exams import container, manifest
from keyslice.exams.exam import exam_path
from keyslice.exams.lock import dataset_lock
from keyslice.prepared import (
    COPIED,
    EMPTY,
    FORMAT,
    TYPES,
    check_eight_bit,
    prepare_frames,
    thinned,
)
from keyslice.stages.inputs import held_still
from keyslice.stages.running import only_process_of

Progress = Callable[[int, int], None]
"""Called with the number of exams written so far, and of all that are to be."""


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
        try:
            with held_still(path):
                version = manifest.version_hash(path)
                write_store(manifest.read(path), version, path.parent, out, settings, progress)
        except UserError:
            (out / "store.json").unlink(missing_ok=True)
            raise


def write_store(
    manifest: pd.DataFrame,
    manifest_sha256: str,
    exams: Path,
    out: Path,
    settings: Prepare,
    progress: Progress | None = None,
) -> None:
    """Bring a store up to date with a manifest.

    New, changed and damaged batches are written, stale ones dropped.

    Args:
        manifest: its rows, by batch.
        manifest_sha256: of its file; kept in the store.
        exams: folder of the exams.
        out: folder of the store.
        settings: image size, intensity, most frames.
        progress: told of each exam.

    Raises:
        UserError: an exam is missing or is not the one that was ingested; or some have 8 bits, and
            the settings do not say what becomes of them.
    """
    for dtype in manifest["dtype"].unique():  # before any work
        check_eight_bit(dtype, settings.intensity)
    out.mkdir(parents=True, exist_ok=True)
    (out / "store.json").unlink(missing_ok=True)
    batches = {
        _shard_name(str(batch), rows, settings): rows
        for batch, rows in manifest.groupby("batch", sort=False)
    }
    missing = {n: rows for n, rows in batches.items() if not _is_whole(out, n)}
    total = sum(map(len, missing.values()))
    done = 0

    def one_more() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total)

    for name, rows in missing.items():
        _write_shard(out, name, rows, exams, settings, one_more)
    _write_index(out, batches, settings)
    kept = {out / "index.parquet", *(out / n for n in batches), *(_record(out, n) for n in batches)}
    for path in set(out.iterdir()) - kept:
        path.unlink()
    about = {
        "format": FORMAT,
        "settings": settings.model_dump(mode="json"),
        "empty": EMPTY,
        "manifest_sha256": manifest_sha256,
        # Their names hold a hash of what they were made from, code included: what is keyed by this
        # file is keyed by the pixels.
        "shards": sorted(batches),
    }
    files.write_text(out / "store.json", json.dumps(about, indent=2) + "\n")


def _shard_name(batch: str, rows: pd.DataFrame, settings: Prepare) -> str:
    # Also the code that makes the pixels and lays them out: DVC keeps the folder when it changes.
    sources = [Path(source).read_bytes() for source in (prepared.__file__, __file__)]
    code = [*(hashlib.sha256(source).hexdigest() for source in sources), PIL.__version__]
    content = [FORMAT, code, batch, rows["sha256"].tolist(), settings.model_dump(mode="json")]
    return f"{batch}-{hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]}.npy"


def _record(out: Path, shard: str) -> Path:
    """Beside a shard: where each exam lies in it, and its scaling; written after it."""
    return (out / shard).with_suffix(".json")


def _is_whole(out: Path, shard: str) -> bool:
    """Whether a shard and its record are there, and neither is cut short."""
    try:
        json.loads(_record(out, shard).read_text(encoding="utf-8"))
        np.load(out / shard, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError):
        return False
    return True


def _write_shard(
    out: Path,
    name: str,
    rows: pd.DataFrame,
    exams: Path,
    settings: Prepare,
    one_more: Callable[[], None],
) -> None:
    """Write the exams of one batch, one at a time: memory holds no more than one."""
    counts = [len(thinned(count, settings.max_frames)) for count in rows["frames"]]
    sizes = np.array(counts) * rows["channels"].to_numpy() * settings.image_size**2
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    places: dict[str, dict[str, Any]] = {}
    # Not through a memory map: its pages would count as this process's memory.
    with files.beside(out / name) as part, part.open("wb") as shard:
        shape = (int(offsets[-1]),)
        npy.write_array_header_1_0(shard, {"descr": "|u1", "fortran_order": False, "shape": shape})
        for row, offset, size in zip(rows.to_dict("records"), offsets, sizes, strict=False):
            pixels, scaling = prepare_frames(_load(exams, row["exam_id"], row["sha256"]), settings)
            if pixels.ndim == 4:
                pixels = np.moveaxis(pixels, 3, 1)
            assert pixels.size == size
            shard.write(np.ascontiguousarray(pixels).data)
            places[row["exam_id"]] = {"offset": int(offset), **scaling._asdict()}
            one_more()
    files.write_text(_record(out, name), json.dumps(places, indent=0) + "\n")


def _load(folder: Path, exam_id: str, sha256: str) -> np.ndarray:
    try:
        content = exam_path(folder, exam_id).read_bytes()
        if hashlib.sha256(content).hexdigest() == sha256:
            return container.load(io.BytesIO(content)).frames
        fault = "is not the exam that was ingested"
        if content == container.TOMBSTONE:
            fault = "was erased, because its patient has withdrawn"
    except FileNotFoundError:
        fault = "is not there"
    raise UserError(
        f"exam {exam_id} {fault}",
        where=str(folder),
        rule="the manifest names every exam with its hash",
        remedy=f"keyslice ingest {folder.name} stores it again, or says what else helps",
    )


def _write_index(out: Path, batches: dict[str, pd.DataFrame], settings: Prepare) -> None:
    tables = []
    for name, exams in batches.items():
        places = json.loads(_record(out, name).read_text(encoding="utf-8"))
        kept = {count: thinned(count, settings.max_frames) for count in exams["frames"].unique()}
        # Empty: there are some, and thinning dropped them all.
        informative = [
            np.flatnonzero(np.isin(kept[count], known)).tolist() if known else None
            for count, known in zip(exams["frames"], exams["informative"], strict=True)
        ]
        copied = exams[[*COPIED, "channels"]].assign(
            shard=name,
            frames=[len(kept[count]) for count in exams["frames"]],
            source_frames=exams["frames"],
            informative=pd.Series(informative, exams.index, dtype=object),
        )
        found = pd.DataFrame([places[exam] for exam in exams["exam_id"]], index=exams.index)
        tables.append(copied.join(found))
    table = pyarrow.Table.from_pandas(pd.concat(tables), TYPES, preserve_index=False)
    with files.beside(out / "index.parquet") as part:
        pq.write_table(table.replace_schema_metadata(), part, compression="zstd")
