"""`python -m benchmarks`: measure, print and write docs/benchmarks.md."""

import os
import platform
from pathlib import Path

import torch

from benchmarks import inference, ingestion, training
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
    "Training step": (
        "The pipeline's step (Lightning, deterministic algorithms, monitors) against the same "
        "arithmetic in a bare torch loop, one thread, batches of 16 exams of 28 × 28×28.",
        ["variant", "time / bare", "ms per step", "bare"],
        training.measure,
    ),
    "Ingestion": (
        "Reading exams, checking, hashing and storing them, in as many processes as there are "
        "cores, against bare decoding by the library of the format: in as many processes, and in "
        "one. 8 exams of 32 × 256×256 to a format.",
        ["source", "time / bare", "time / bare in one process", "stored / source"],
        ingestion.measure,
    ),
}


def main() -> None:
    lines = [
        "# Benchmarks",
        "",
        f"Written by `make bench`: {platform.machine()}, {os.cpu_count()} cores, "
        f"{torch.get_num_threads()} threads, torch {torch.__version__.split('+')[0]}. "
        "Ratios hold across machines; milliseconds are for orientation.",
    ]
    for title, (text, header, measure) in TABLES.items():
        lines += ["", f"## {title}", "", text, "", _row(header), _row(["---"] * len(header))]
        print("\n".join(lines[-3:]))
        for cells in measure():
            lines.append(_row(cells))
            print(lines[-1], flush=True)
    write_text(Path(__file__).parent.parent / "docs" / "benchmarks.md", "\n".join(lines) + "\n")


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
