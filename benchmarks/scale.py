"""`make scale`: ingest and prepare 100,000 small exams, then one per cent more.

It takes some minutes and some gigabytes of disk. Not run as a module: workers would import what
that does.
"""

import csv
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from keyslice.config import Backbone, Compare, FolderDataset, Params, Variant, Workspace
from keyslice.exams import fingerprint
from keyslice.exams.ingestion import ingest
from keyslice.files import write_text
from keyslice.stages.prepare import prepare

NAME = "many"
SHAPE = (8, 32, 32)
MORE = 0.01
DATASET = FolderDataset(source="folder", classes=("no", "yes"), identifiers="public", settle=0)
PARAMS = Params(
    datasets={NAME: DATASET},
    variants={"uniform": Variant(sampler="uniform", keep=0.5)},
    backbone=Backbone(weights="none"),
    compare=Compare(references=()),
)
DVC = (sys.executable, "-m", "dvc")


def main(count: int) -> None:
    """Measure with `count` exams, print, and write docs/scale.md."""
    more = round(count * MORE)
    with tempfile.TemporaryDirectory() as place:
        workspace = Workspace(Path(place))
        workspace.params.touch()
        for command in (["git", "init", "-q"], [*DVC, "init", "-q"]):
            subprocess.run(command, cwd=place, check=True)
        rows = []
        for first, last in ((0, count), (count, count + more)):
            _write(workspace.inbox(NAME), range(first, last))
            calls: list[float] = []
            note = partial(_note, calls)
            taken = _seconds(partial(ingest, workspace, NAME, DATASET, progress=note))
            read = calls[-1] - calls[0]
            prepared = _seconds(lambda: prepare(workspace, PARAMS, NAME))
            asked = _seconds(lambda: fingerprint.source_state(workspace, NAME, DATASET))
            add = [*DVC, "add", "-q", str(workspace.exams(NAME).relative_to(place))]
            added = _seconds(lambda add=add: subprocess.run(add, cwd=place, check=True))
            size = _bytes(workspace.exams(NAME)) + _bytes(workspace.prepared(NAME))
            rows.append((last - first, read, prepared, taken - read, added, asked, size))
            print(rows[-1], flush=True)
    first, second = rows
    peak = max(
        resource.getrusage(who).ru_maxrss
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    shape = " × ".join(map(str, SHAPE))
    table = [
        f"| {n:,} | {' | '.join(f'{t:.1f} s' for t in times)} | {size / 2**20:,.0f} MiB |"
        for n, *times, size in rows
    ]
    (work, whole), (more_work, more_whole) = (
        (read + prepared, read + prepared + others) for _, read, prepared, others, *_ in rows
    )
    lines = [
        "# Many exams",
        "",
        f"Written by `make scale`: exams of {shape} samples on "
        f"{os.cpu_count()} cores. Most memory that any process took: {peak / 2**20:.2f} GiB.",
        "",
        "| exams | read and store | prepare | list, label, write the manifest | DVC's own "
        "| asking for news | stored and prepared |",
        "| --: | --: | --: | --: | --: | --: | --: |",
        *table,
        "",
        f"The {second[0]:,} later exams took {more_work / work:.1%} of the time of the first "
        f"{first[0]:,} in decoding, storing and preparing, and {second[6] / first[6] - 1:.1%} of "
        "the space. DVC's own apart, with what an ingestion does for every exam that lies there, "
        "new or not (list it, find its label, write its row), it is "
        f"{more_whole / whole:.1%} of the time.",
    ]
    write_text(Path(__file__).parent.parent / "docs" / "scale.md", "\n".join(lines) + "\n")


def _write(folder: Path, numbers: range) -> None:
    """Exams as .npy files, a thousand to a folder, and lines for them at the table's end."""
    folder.mkdir(parents=True, exist_ok=True)
    table = folder / "labels.csv"
    begun = table.exists()
    with table.open("a", newline="") as file:
        writer = csv.writer(file)
        if not begun:
            writer.writerow(("file", "patient_id", "label"))
        for number in numbers:
            name = f"{number // 1000:03d}/{number:06d}.npy"
            path = folder / name
            path.parent.mkdir(exist_ok=True)
            rng = np.random.default_rng(number)
            np.save(path, np.cumsum(rng.integers(-3, 4, SHAPE), axis=2).astype(np.int16))
            writer.writerow((name, f"{number // 2}", "no" if number // 2 % 2 else "yes"))


def _note(calls: list[float], done: int, total: int) -> None:
    """When the first and the last exam were done."""
    calls[1:] = [time.perf_counter()]


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
