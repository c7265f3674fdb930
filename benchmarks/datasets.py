"""`make datasets`: what DVC asks for each dataset of a workspace, by how many it has.

Each dataset has the repository's own stages and eight variants, and files of a few bytes: what is
measured is DVC's own work, which comes before and beside any exam's.
"""

import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import yaml

from keyslice import versioning
from keyslice.config import Workspace, load
from keyslice.files import write_text
from keyslice.versioning import lock

ROOT = Path(__file__).parent.parent
COUNTS = (1, 10, 50, 100)
GROUPS = (10, 50, 100)
ALL = 1000
ROUNDS = 3
DVC = (sys.executable, "-m", "dvc")
FIRST = "d0000"
FILES = ("src", "dvc.yaml", ".dvc/config", ".dvcignore", ".gitignore", "requirements.lock")


def main() -> None:
    """Measure, print, and write docs/datasets.md."""
    with tempfile.TemporaryDirectory() as place:
        workspace = Workspace(Path(place))
        _begin(workspace)
        rows = {count: _measure(workspace, count) for count in COUNTS}
    table = [
        f"| {count} | {count * 18:,} | "
        + " | ".join(f"{value:.1f} s" for value in row.values())
        + " |"
        for count, row in rows.items()
    ]
    nights = [
        f"| {ALL // group} of {group} | {ALL * rows[group]['asked'] / 3600:.1f} h | "
        f"{ALL * (3 * rows[group]['asked'] + 18 * rows[group]['stage']) / 3600:.1f} h |"
        for group in GROUPS
    ]
    lines = [
        "# Many datasets",
        "",
        f"Written by `make datasets`: CPU time of DVC on one of {os.cpu_count()} cores, the median "
        f"of {ROUNDS}, for datasets with eight variants (18 stages) and files of a few bytes.",
        "",
        "| datasets of a workspace | stages | one dataset: anything to do? | one stage, nothing to "
        "do | `dvc status` of all | params.yaml and dvc.lock read |",
        "| --: | --: | --: | --: | --: | --: |",
        *table,
        "",
        f"{ALL:,} datasets, by how they are shared out among workspaces. The first figure is what "
        "a night costs in which each is looked at once and nothing is new; the second what "
        "the stages of a retraining of each cost beside their own work (18 of them, and three such "
        "looks).",
        "",
        "| workspaces | a night with nothing new | a night in which all are retrained |",
        "| --- | --: | --: |",
        *nights,
    ]
    write_text(ROOT / "docs" / "datasets.md", "\n".join(lines) + "\n")


def _begin(workspace: Workspace) -> None:
    """A workspace with the code and one dataset, whose stages DVC takes for done."""
    root = workspace.root
    for name in FILES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        copy(ROOT / name, root / name)
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    _datasets(workspace, [FIRST])
    subprocess.run([*DVC, "add", "-q", f"data/exams/{FIRST}"], cwd=root, check=True)
    subprocess.run([*DVC, "commit", "-q", "--force"], cwd=root, check=True)
    assert versioning.stale(workspace, [FIRST]) == []


def _datasets(workspace: Workspace, names: list[str]) -> None:
    """Settings for the datasets, and files for those that have none."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    one = {"source": "folder", "classes": ["healthy", "lesion"]}
    params["datasets"] = dict.fromkeys(names, one)
    write_text(workspace.params, yaml.safe_dump(params))
    write_text(workspace.ingested, yaml.safe_dump({"ingested": names}))
    for name in names:
        if workspace.exams(name).exists():
            continue
        written = [
            workspace.manifest(name),
            workspace.prepared(name) / "store.json",
            workspace.comparison(name) / "candidate.json",
        ]
        for variant in params["variants"]:
            results = workspace.results(name, variant)
            written += [workspace.models(name, variant) / "settings.json"]
            written += [
                results / file
                for file in ("predictions.parquet", "confusion.json", "curves.csv", "metrics.json")
            ]
        for file in written:
            write_text(file, json.dumps({"epoch": 0}))


def _measure(workspace: Workspace, count: int) -> dict[str, float]:
    """Seconds of CPU time, with `count` datasets."""
    names = [f"d{number:04d}" for number in range(count)]
    _datasets(workspace, names)
    known = yaml.safe_load((workspace.root / "dvc.lock").read_text())
    first = {
        stage: e
        for stage, e in known["stages"].items()
        if stage.partition("@")[2].startswith(FIRST)
    }
    text = yaml.safe_dump(first, sort_keys=False)
    stages = "".join(text.replace(FIRST, name) for name in names)
    write_text(workspace.root / "dvc.lock", f"schema: '2.0'\nstages:\n{_indented(stages)}")
    pointer = workspace.pointer(FIRST).read_text()
    for name in names[1:]:
        write_text(workspace.pointer(name), pointer.replace(FIRST, name))
    time.sleep(1)  # a young dvc.lock is read twice
    last, status = names[-1], [*DVC, "status"]

    def all_is_done() -> None:
        subprocess.run(status, cwd=workspace.root, check=True, stdout=subprocess.DEVNULL)

    def asked() -> None:
        assert versioning.stale(workspace, [last]) == []

    def stage() -> None:
        assert versioning.reproduce(workspace, f"train@{last}-das") == "unchanged"

    def read() -> None:
        load(workspace.params)
        lock.entries(workspace)

    all_is_done()  # hashes are noted
    row = {"asked": _cpu(asked), "stage": _cpu(stage), "all": _cpu(all_is_done), "read": _cpu(read)}
    print(count, row, flush=True)
    return row


def _indented(text: str) -> str:
    return "".join(f"  {line}\n" for line in text.splitlines())


def _cpu(work: Callable[[], None]) -> float:
    """Median over ROUNDS of this process's and its children's time on a processor."""
    found = []
    for _ in range(ROUNDS):
        before = _spent()
        work()
        found.append(_spent() - before)
    return statistics.median(found)


def _spent() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


if __name__ == "__main__":
    main()
