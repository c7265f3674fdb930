"""A dataset of tiny volumes that a network can tell apart, and how tests run commands on it."""

import csv
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import yaml

ROOT = Path(__file__).parents[1]
PARAMS = {
    "datasets": {
        "scans": {
            "source": "folder",
            "identifiers": "public",
            "classes": ["dark", "bright"],
            "split": {"train": 0.5, "validation": 0.25, "test": 0.25},
        }
    },
    "variants": {
        "full": {"sampler": "full"},
        "das": {"sampler": "das", "keep": 0.5},
    },
    "prepare": {"image_size": 32},
    "backbone": {"name": "test_resnet", "weights": "none"},
    "train": {
        "seeds": [0, 1],
        "epochs": 2,
        "batch_size": 8,
        "learning_rate": 0.003,
        "device": "cpu",
    },
    "model": {},
    "evaluate": {"resamples": 50},
    "compare": {"references": ["full"], "contact_sheets": 1},
}
"""Settings of a workspace that is retrained in seconds."""


def write_exams(folder: Path, numbers: range) -> None:
    """Exams of these numbers, every second one bright, and their lines in labels.csv."""
    rng = np.random.default_rng(numbers.start)
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for i in numbers:
        level = 60 + 120 * (i % 2)
        frames = rng.normal(level, 9, (24, 20, int(rng.integers(5, 9)))).clip(0, 255)
        image = nib.Nifti1Image(frames.astype(np.uint8), np.diag([1.0, 1.0, 4.0, 1.0]))
        nib.save(image, folder / f"Roe_Ann_{i:02}.nii.gz")
        rows.append((f"Roe_Ann_{i:02}.nii.gz", f"MRN-{i:05}", ("dark", "bright")[i % 2]))
    enter(folder, ("file", "patient_id", "label"), rows)


def enter(inbox: Path, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Lines of the table of labels, which has these columns, below those that it has."""
    inbox.mkdir(parents=True, exist_ok=True)
    table = inbox / "labels.csv"
    new = not table.is_file()
    with table.open("a", newline="") as file:
        csv.writer(file).writerows([*([columns] if new else []), *rows])


def clone(root: Path, params: dict[str, Any]) -> None:
    """The code, no datasets, and these settings in a folder that is empty."""
    for name in ("src", "dvc.yaml", ".dvcignore", ".gitignore", "requirements.lock"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, root / name)
    (root / "data").mkdir()
    (root / "data" / "datasets.yaml").write_text("ingested: []\n")
    (root / "params.yaml").write_text(yaml.safe_dump(params))


def run(root: Path, command: list[str], **given: str) -> subprocess.CompletedProcess[str]:
    """A command in a workspace, with `given` variables."""
    return subprocess.run(
        command, cwd=root, env=environment() | given, text=True, capture_output=True, check=False
    )


def keyslice(root: Path, *arguments: str, **given: str) -> subprocess.CompletedProcess[str]:
    """`keyslice status`, as these sources have it, with `given` variables."""
    return run(root, [sys.executable, "-P", "-m", "keyslice.cli", *arguments], **given)


def environment() -> dict[str, str]:
    """The tests' own, without what it says of servers."""
    own = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "PREFECT_"))}
    return own | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "COLUMNS": "80",
        "OMP_NUM_THREADS": "1",
    }
