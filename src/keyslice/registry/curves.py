"""Training curves: the rows of history.csv as metrics per epoch, also while they are written."""

import csv
import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow import MlflowClient

BATCH = 1000
"""Metrics that MLflow takes in one call."""

_log = logging.getLogger(__name__)

Row = dict[str, float]


def read(file: Path) -> list[Row]:
    """The epochs of a history.csv; an empty or non-finite value is left out of its row."""
    with file.open(encoding="utf-8", newline="") as lines:
        return [
            {name: float(text) for name, text in row.items() if text and math.isfinite(float(text))}
            for row in csv.DictReader(lines)
        ]


def log(client: "MlflowClient", run_id: str, rows: list[Row]) -> None:
    """Log the epochs that the run does not have yet; `epoch` itself marks those that it has."""
    from mlflow.entities import Metric

    known = {metric.step for metric in client.get_metric_history(run_id, "epoch")}
    rows = [row for row in rows if int(row["epoch"]) not in known]
    if not rows:
        return
    now = int(time.time() * 1000)
    metrics = [[Metric(n, v, now, int(row["epoch"])) for n, v in row.items()] for row in rows]
    # A row is never cut in two: a mark whose row is not there would hide the gap for ever.
    at_once = max(1, BATCH // max(len(row) for row in rows))
    for start in range(0, len(metrics), at_once):
        chunk = [metric for row in metrics[start : start + at_once] for metric in row]
        client.log_batch(run_id, metrics=chunk)


class Follower:
    """Logs the rows of growing histories.

    Args:
        client: of MLflow.
        folder: holds <hash of inputs>/seed-<s>/history.csv, one for each seed under training.
        open_run: makes the run of a seed, when its first row is there.
        since: histories last written before this time (seconds since the epoch) are passed over:
            another run left them.
    """

    def __init__(
        self, client: "MlflowClient", folder: Path, open_run: Callable[[int], str], since: float
    ) -> None:
        self.runs: dict[int, str] = {}
        self._client, self._folder, self._open_run, self._since = client, folder, open_run, since
        self._seen: dict[Path, int] = {}

    def poll(self) -> None:
        """Log what is new."""
        for file in sorted(self._folder.glob("*/seed-*/history.csv")):
            written = file.stat().st_mtime_ns
            if written < self._since * 1e9 or self._seen.get(file) == written:
                continue
            seed = int(file.parent.name.removeprefix("seed-"))
            if seed not in self.runs:
                self.runs[seed] = self._open_run(seed)
            log(self._client, self.runs[seed], read(file))
            self._seen[file] = written


@contextmanager
def following(follower: Follower, *, seconds: float = 2.0) -> Iterator[None]:
    """Poll in a thread for as long as the block runs.

    What cannot be logged now does not stop the training: mirroring from the finished files logs it.
    """
    done = threading.Event()

    def poll() -> None:
        while not done.wait(seconds):
            try:
                follower.poll()
            except Exception:  # as said above; a file may also vanish while it is read
                _log.info("curves could not be followed", exc_info=True)

    thread = threading.Thread(target=poll, name="curves", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
