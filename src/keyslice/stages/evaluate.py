"""Stage evaluate: the validation and test exams through every seed's network, and the figures."""

import json
from collections.abc import Iterator
from typing import Any

import pandas as pd
import torch

from keyslice import files
from keyslice.config import Params, StageSettings, Workspace
from keyslice.errors import UserError
from keyslice.evaluation import predictions
from keyslice.evaluation.summary import confusions, summarise
from keyslice.models import build
from keyslice.models.classifier import FrameClassifier
from keyslice.models.inference import infer, multiply_accumulates
from keyslice.prepared import PreparedStore
from keyslice.stages.inputs import held_still
from keyslice.stages.running import only_process_of
from keyslice.training.batches import Exams
from keyslice.training.device import device, repeatable


def evaluate(workspace: Workspace, params: Params, dataset: str, variant: str) -> None:
    """Write data/results/<dataset>/<variant>: predictions, metrics, confusions and curves.

    Raises:
        UserError: unknown names, a variant that has not been trained.
    """
    settings = params.stage(dataset, variant)
    prepared = workspace.prepared(dataset)
    inputs = (prepared / "store.json", workspace.models(dataset, variant) / "settings.json")
    stage = f"evaluate@{dataset}-{variant}"
    with only_process_of(workspace, stage), held_still(*inputs), repeatable():
        torch.set_num_threads(settings.train.threads)
        place = device(settings.train)
        store = PreparedStore.open(prepared)
        rows = [
            row
            for seed in settings.train.seeds
            for row in _predict(trained(workspace, settings, seed).to(place), store, settings, seed)
        ]
        folder = workspace.results(dataset, variant)
        predictions.write(pd.DataFrame(rows), folder / "predictions.parquet")
        # What the file holds, since stage compare computes the same figures from it.
        table = predictions.read(folder / "predictions.parquet")
        figures = summarise(table, settings.classes, settings.evaluate)
        files.write_text(folder / "metrics.json", json.dumps(figures, indent=2) + "\n")
        matrices = confusions(table, settings.classes)
        files.write_text(folder / "confusion.json", json.dumps(matrices, indent=2) + "\n")
        curves = _curves(workspace, settings)
        files.write_text(folder / "curves.csv", curves.to_csv(index=False, lineterminator="\n"))


def _curves(workspace: Workspace, settings: StageSettings) -> pd.DataFrame:
    """A row per epoch, the mean over the seeds that reached it; what `dvc plots show` draws."""
    folder = workspace.models(settings.dataset, settings.variant)
    columns = ["epoch", "train_loss", "validation_loss", "validation_auc"]
    histories = [
        pd.read_csv(folder / f"seed-{seed}" / "history.csv", usecols=columns)
        for seed in settings.train.seeds
    ]
    return pd.concat(histories).groupby("epoch", as_index=False).mean()[columns]


def trained(workspace: Workspace, settings: StageSettings, seed: int) -> FrameClassifier:
    """The network that stage train left for a seed, in evaluation mode.

    Raises:
        UserError: the variant has not been trained, or with other settings or seeds.
    """
    folder = workspace.models(settings.dataset, settings.variant)
    try:
        description = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"variant {settings.variant} of {settings.dataset} has not been trained",
            remedy=f"dvc repro train@{settings.dataset}-{settings.variant}",
        ) from None
    wanted = settings.model_dump(mode="json", exclude={"evaluate"})
    if other := [name for name, value in wanted.items() if description.get(name) != value]:
        raise UserError(
            f"variant {settings.variant} of {settings.dataset} was trained with other settings "
            f"({', '.join(other)})",
            rule="a network is used with the settings that it was trained with",
            remedy=f"dvc repro train@{settings.dataset}-{settings.variant}",
        )
    file = folder / f"seed-{seed}" / "model.safetensors"
    return build.load(settings, file, weights_file=description["weights"]["source"])


def _predict(
    model: FrameClassifier, store: PreparedStore, settings: StageSettings, seed: int
) -> Iterator[dict[str, Any]]:
    """A row of predictions.parquet for each exam that the network did not learn from."""
    costs: dict[tuple[int, ...], int] = {}
    for split in ("validation", "test"):
        exams = Exams(store, split, settings.classes)
        facts = store.table.iloc[exams.rows].set_index("exam_id").to_dict("index")
        for batch in exams.batches(settings.evaluate.batch_size):
            outputs = infer(model, batch.frames, batch.lengths, batch.exam_ids, seed)
            for b, (exam_id, output) in enumerate(zip(batch.exam_ids, outputs, strict=True)):
                exam = batch.frames[b : b + 1, : int(batch.lengths[b])]
                shape = tuple(exam.shape)
                if shape not in costs:
                    costs[shape] = multiply_accumulates(model, exam)
                yield {
                    "exam_id": exam_id,
                    "patient": facts[exam_id]["patient"],
                    "split": split,
                    "label": int(batch.labels[b]),
                    "seed": seed,
                    "probabilities": output.probabilities,
                    "frames": exam.shape[1],
                    "kept": output.kept,
                    "attention": output.attention,
                    "macs": float(costs[shape]),
                    "informative": facts[exam_id]["informative"],
                }
