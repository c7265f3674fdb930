"""How much of a retraining is spent on anything but its stages."""

import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import psutil

from tests import scans

EXAMS = 200
EPOCHS = 400
"""Enough for ten minutes of training on two cores, which is what the limit of 5 % is for."""
POLL_SECONDS = 0.25
PARAMS = {
    "datasets": {
        "lesions": {
            "source": "phantom",
            "kind": "volume",
            "exams": EXAMS,
            "classes": ["healthy", "lesion"],
        }
    },
    "variants": {"full": {"sampler": "full"}, "das": {"sampler": "das", "keep": 0.5}},
    "backbone": {"weights": "none"},
    "train": {"seeds": [0], "epochs": EPOCHS, "patience": EPOCHS, "device": "cpu"},
    "compare": {"references": ["full"]},
    **{section: {} for section in ("prepare", "model", "evaluate")},
}


class _Stages:
    """Counts, in a thread, the time in which a stage's process of a retraining runs."""

    def __init__(self, retraining: int) -> None:
        self.seconds = self.training = 0.0
        self._retraining, self._over = psutil.Process(retraining), threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        before = time.perf_counter()
        while not self._over.wait(POLL_SECONDS):
            found = set(self._running())
            now = time.perf_counter()
            self.seconds += (now - before) * bool(found)
            self.training += (now - before) * ("train" in found)
            before = now

    def _running(self) -> Iterator[str]:
        """Which: prepare, train, latency, …"""
        try:
            children = self._retraining.children(recursive=True)
        except psutil.NoSuchProcess:
            return
        for child in children:
            try:
                words = " ".join(child.cmdline())
            except psutil.Error:
                continue
            if match := re.search(r"keyslice(?:\.cli)? stage (\w+)", words):
                yield match[1]


def measure() -> Iterator[list[str]]:
    """Retrain once, with all that comes with it."""
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        scans.clone(root, PARAMS)
        keyslice = [sys.executable, "-P", "-m", "keyslice.cli"]
        dvc = [sys.executable, "-m", "dvc"]
        for command in (
            ["git", "init", "-q"],
            [*dvc, "init", "-q"],
            [*keyslice, "ingest", "lesions"],
        ):
            done = scans.run(root, command)
            if done.returncode:
                sys.exit(done.stderr)
        start = time.perf_counter()
        with (root / "retrain.log").open("w") as log:
            retraining = subprocess.Popen(
                [*keyslice, "retrain"], cwd=root, env=scans.environment(), stdout=log, stderr=log
            )
        with _Stages(retraining.pid) as stages:
            code = retraining.wait()
        wall = time.perf_counter() - start
        if code:
            sys.exit((root / "retrain.log").read_text())
        yield [
            ", ".join(PARAMS["variants"]),
            f"{stages.training / 60:.1f}",
            f"{wall / 60:.1f}",
            f"{wall - stages.seconds:.0f}",
            f"{1 - stages.seconds / wall:.1%}",
        ]
