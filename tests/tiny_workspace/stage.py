"""The stages' contract without their work: `python stage.py STAGE DATASET [VARIANT]`.

STAGE_FAILS names a variant whose training ends as a user's mistake does; STAGE_CRASHES one whose
training crashes; STAGE_HANGS one whose training never ends and starts a child that does not either.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pyarrow
import pyarrow.parquet
import yaml

from keyslice.config import load

EXAMS = [(split, label) for split in ("validation", "test") for label in (0, 1)]
HISTORY = "epoch,train_loss,validation_loss,validation_auc,entropy\n"


def prepare(dataset: str) -> None:
    folder = Path("data/prepared") / dataset
    folder.mkdir(parents=True, exist_ok=True)
    exams = Path("data/exams") / dataset
    manifest = hashlib.sha256((exams / "manifest.parquet").read_bytes()).hexdigest()
    about = {"manifest_sha256": manifest, "exams": sorted(p.name for p in exams.iterdir())}
    (folder / "store.json").write_text(json.dumps(about))


def train(dataset: str, variant: str) -> None:
    if os.environ.get("STAGE_FAILS") == variant:
        sys.stderr.write("error: train.learning_rate: 100 is too high; lower it\n")
        sys.exit(2)
    if os.environ.get("STAGE_CRASHES") == variant:
        raise RuntimeError("no memory left")
    if os.environ.get("STAGE_HANGS") == variant:
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        Path("state/hanging").write_text(f"{os.getpid()} {child.pid}")
        sys.stdout.write("hanging\n")
        sys.stdout.flush()
        time.sleep(600)
    settings = load(Path("params.yaml")).stage(dataset, variant)
    home = Path("state/checkpoints") / dataset / variant
    outputs = Path("data/models") / dataset / variant
    for seed in settings.train.seeds:
        growing = home / "inputs" / f"seed-{seed}"
        growing.mkdir(parents=True, exist_ok=True)
        text = HISTORY
        for epoch in range(settings.train.epochs):
            text += f"{epoch},{1 / (epoch + 1)},{0.9 / (epoch + 1)},0.{5 + epoch}{seed},\n"
            (growing / "part").write_text(text)
            (growing / "part").replace(growing / "history.csv")
            time.sleep(float(os.environ.get("STAGE_EPOCH_SECONDS", "0")))
        (outputs / f"seed-{seed}").mkdir(parents=True)
        (outputs / f"seed-{seed}" / "history.csv").write_text(text)
        (outputs / f"seed-{seed}" / "summary.json").write_text('{"best_epoch": 1}')
        (outputs / f"seed-{seed}" / "model.safetensors").write_text(f"{variant} {seed}")
    written = settings.model_dump(mode="json") | {"weights": {"source": "", "sha256": ""}}
    (outputs / "settings.json").write_text(json.dumps(written))
    shutil.rmtree(home)


def prediction(split: str, label: int, seed: int) -> dict[str, object]:
    """A row of predictions.parquet: a healthy exam at 0.2, one with a lesion at 0.8."""
    return {
        "exam_id": f"{split}-{label}",
        "patient": f"{split}-{label}",
        "split": split,
        "label": label,
        "seed": seed,
        "probabilities": [[0.8, 0.2], [0.2, 0.8]][label],
        "frames": 4,
        "kept": [0, 1],
        "attention": [0.5, 0.5],
        "macs": 1.0,
        "informative": None,
    }


def evaluate(dataset: str, variant: str) -> None:
    folder = Path("data/results") / dataset / variant
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "confusion.json").write_text("{}")
    seeds = load(Path("params.yaml")).stage(dataset, variant).train.seeds
    rows = [prediction(split, label, seed) for seed in seeds for split, label in EXAMS]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), folder / "predictions.parquet")
    looks = folder / "test_time"
    looks.mkdir(exist_ok=True)
    test_time = load(Path("params.yaml")).stage(dataset, variant).evaluate.test_time
    own = test_time.model_dump(mode="json", exclude={"variants"})
    told = {"settings": own, "validation_loss": {str(seed): [0.7, 0.6] for seed in seeds}}
    (looks / "test_time.json").write_text(json.dumps(told))
    for seed in [*seeds] * test_time.learned:
        (looks / f"seed-{seed}.safetensors").write_text(f"attention of {variant} {seed}")
    metrics = {
        "test": {"auc": {"mean": 0.8, "sd": 0.1, "low": 0.7, "high": 0.9}},
        "seeds": {str(seed): {"test": {"auc": 0.8 + seed / 100}} for seed in seeds},
    }
    (folder / "metrics.json").write_text(json.dumps(metrics))


def compare(dataset: str) -> None:
    folder = Path("data/comparisons") / dataset
    folder.mkdir(parents=True, exist_ok=True)
    variants = sorted(yaml.safe_load(Path("params.yaml").read_text())["variants"])
    (folder / "comparison.csv").write_text("variant\n" + "\n".join(variants) + "\n")
    (folder / "comparison.md").write_text("| variant |\n|---|\n| das |\n")
    (folder / "report.html").write_text("<img src='an exam'>")
    candidate = {
        "dataset": dataset,
        "variant": "das",
        "seed": 1,
        "validation_auc": 0.71,
        "macs": 1.0e6,
        "reason": "the cheapest within one standard error",
        "warning": "",
    }
    (folder / "candidate.json").write_text(json.dumps(candidate))


if __name__ == "__main__":
    {"prepare": prepare, "train": train, "evaluate": evaluate, "compare": compare}[sys.argv[1]](
        *sys.argv[2:]
    )
