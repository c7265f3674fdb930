"""`python -m benchmarks`: measure, print and write docs/benchmarks.md."""

import os
import platform
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks import discarded, inference, ingestion, orchestration, training
from benchmarks.variants import BACKBONE
from keyslice.files import write_text

TABLES = {
    "Inference on the CPU": (
        "Each side, `full` too, encodes in the chunks that are fastest for it. Times are medians; "
        "ratios are taken pair by pair, with quartiles.",
        [
            "frames",
            "variant",
            "MACs / full",
            "time / full",
            "sampler's share",
            "ms per exam",
            "full",
        ],
        inference.measure,
    ),
    "Search over states": (
        "A best-first search over the phases of subsampling layers against as many passes of the "
        "unmodified network from the image, both in the parts in which stage evaluate has them, "
        f"one thread: {BACKBONE.name}. States of the first two levels have hardly anything to "
        "resume from. Times are medians; ratios are taken pair by pair, with quartiles.",
        [
            "exams × frames",
            "levels",
            "criterion",
            "budget",
            "time / independent passes",
            "ms per exam",
        ],
        discarded.measure,
    ),
    "Training step": (
        "The pipeline's step (Lightning, deterministic algorithms, monitors) against the same "
        "arithmetic in a bare torch loop, one thread, batches of 16 exams of 28 × 28×28.",
        ["variant", "time / bare", "ms per step", "bare"],
        training.measure,
    ),
    "Ingestion": (
        "Reading exams, checking, hashing and storing them, in as many processes as there are "
        "cores, against bare decoding by the library of the format: in as many processes, and in "
        f"one. {ingestion.EXAMS} exams of {ingestion.SLICES} × {ingestion.SIDE}×{ingestion.SIDE} "
        "to a format.",
        ["source", "time / bare", "time / bare in one process", "stored / source"],
        ingestion.measure,
    ),
    "Orchestration": (
        "A whole `keyslice retrain` of phantoms that are there already: how long none of its "
        "stages ran (Prefect, DVC, git, MLflow, ingestion, registration, gate), of its wall time. "
        f"{orchestration.EXAMS} exams, variants side by side.",
        [
            "variants",
            "minutes of training",
            "of retraining",
            "seconds without a stage",
            "share",
        ],
        orchestration.measure,
    ),
}


def main(chosen: Sequence[str]) -> None:
    """Measure the chosen parts, or all, and write them into docs/benchmarks.md."""
    if unknown := set(chosen) - set(TABLES):
        sys.exit(f"no part {', '.join(unknown)}; known: {', '.join(TABLES)}")
    page = Path(__file__).parent.parent / "docs" / "benchmarks.md"
    known = page.read_text() if page.is_file() else ""
    parts = dict(re.findall(r"^## (.*)\n\n((?:(?!## ).*\n?)*)", known, re.MULTILINE))
    for title in chosen or TABLES:
        text, header, measure = TABLES[title]
        lines = [text, "", _row(header), _row(["---"] * len(header))]
        print("\n".join([f"## {title}", "", *lines]))
        for cells in measure():
            lines.append(_row(cells))
            print(lines[-1], flush=True)
        parts[title] = "\n".join(lines) + "\n\n"
    head = (
        f"# Benchmarks\n\nWritten by `make bench`: {platform.machine()}, {os.cpu_count()} cores, "
        f"{torch.get_num_threads()} threads, torch {torch.__version__.split('+')[0]}. "
        "Ratios hold across machines; milliseconds are for orientation.\n"
    )
    told = [f"\n## {title}\n\n{parts[title].strip()}\n" for title in TABLES if title in parts]
    write_text(page, head + "".join(told))


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main(sys.argv[1:])
