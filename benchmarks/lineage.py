"""`python -m benchmarks.lineage`: how long `keyslice lineage` takes over 200 dataset versions.

Each holds 10,000 exams of 5,000 patients, its manifest kept, and one model version was made from
each; every fifth was champion for a time. Times are those of the whole command, from its start to
its end; beside them that of `keyslice --version`, which a machine cannot be faster than.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import yaml

from keyslice.config import Workspace
from keyslice.exams import manifest
from keyslice.exams.pseudonym import PUBLISHED_KEY, pseudonym
from tests.provenance.story import Story, digits, row

VERSIONS = 200
EXAMS = 10_000
STEP = 50
"""Exams that a version has more than the one before, and as many that it lost."""
ROUNDS = 5
CHAMPIONS = 5
SPLITS = ("train", "train", "train", "validation", "test")
PARAMS = {
    "datasets": {
        "scans": {"source": "folder", "classes": ["no", "yes"], "identifiers": "public"},
    },
    "variants": {"full": {"sampler": "full"}, "das": {"sampler": "das", "keep": 0.5}},
    **{section: {} for section in ("prepare", "backbone", "model", "train", "evaluate")},
    "compare": {"references": ["full"]},
}


def main() -> None:
    """Make the workspace, measure, and print seconds: median, and the longest."""
    with tempfile.TemporaryDirectory() as place:
        workspace = Workspace(Path(place))
        subprocess.run(["git", "init", "-q"], cwd=place, check=True)
        workspace.params.write_text(yaml.safe_dump(PARAMS))
        versions = fill(workspace)
        middle = EXAMS + VERSIONS * STEP // 2
        exam = digits("exam", middle)
        person = str(middle // 2)
        asked = {
            "(keyslice --version)": ["--version"],
            "history": ["lineage", "scans"],
            "model": ["lineage", f"scans/{VERSIONS}"],
            "dataset version": ["lineage", versions[VERSIONS // 2][:12]],
            "exam": ["lineage", exam],
            "patient": ["lineage", "--patient", person],
            "pseudonym": ["lineage", "--pseudonym", _patient(middle)],
            "difference": ["lineage", f"scans/{VERSIONS}", "--against", "1"],
        }
        for name, words in asked.items():
            times = [_seconds(partial(_ask, place, words)) for _ in range(ROUNDS)]
            longest = max(times)
            print(f"{name:22} {statistics.median(times):6.2f} s, at most {longest:.2f} s")


def fill(workspace: Workspace) -> list[str]:
    """Tell the ledger of all versions and keep their manifests; returns the names."""
    pool = manifest.frame(
        [
            row(digits("exam", number), _patient(number), split=SPLITS[number // 2 % len(SPLITS)])
            | {"batch": f"{number // STEP + 1:04d}"}
            for number in range(EXAMS + VERSIONS * STEP)
        ]
    )
    story, names = Story(workspace), []
    for number in range(VERSIONS):
        table = pool.iloc[number * STEP : number * STEP + EXAMS].reset_index(drop=True)
        names.append(story.version(table))
        story.started(f"run{number + 1}")
        story.registered(number + 1)
        if number % CHAMPIONS == 0:
            story.promoted(number + 1)
    return names


def _patient(exam: int) -> str:
    return pseudonym(PUBLISHED_KEY, "", str(exam // 2))


def _ask(place: str, words: Sequence[str]) -> None:
    command = [sys.executable, "-m", "keyslice.cli", *words]
    subprocess.run(command, cwd=place, check=True, stdout=subprocess.DEVNULL)


def _seconds(work: partial[None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
