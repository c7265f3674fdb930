"""Stage evaluate: the validation and test exams through every seed's network, and the figures."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from keyslice import files
from keyslice.config import Params, StageSettings, Workspace
from keyslice.errors import UserError
from keyslice.evaluation import predictions
from keyslice.evaluation.summary import confusions, summarise
from keyslice.models import build
from keyslice.models.classifier import FrameClassifier
from keyslice.models.discarded.aggregation import StateAttention
from keyslice.models.inference import ExamOutput, Meter
from keyslice.models.seeding import derive
from keyslice.models.test_time import TestTime, looking
from keyslice.prepared import PreparedStore
from keyslice.stages.inputs import held_still
from keyslice.stages.running import only_process_of
from keyslice.training.batches import Batch, Exams
from keyslice.training.device import device, repeatable
from keyslice.training.states import fit

TEST_TIME = "test_time"
"""Folder of what networks learn in order to look more often: by seed, with test_time.json, the
settings, and the validation loss of the plain mean and after each epoch."""


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
        folder, rows = workspace.results(dataset, variant), list[dict[str, Any]]()
        shown = workspace.states(dataset, variant)
        shutil.rmtree(shown, ignore_errors=True)  # what a kill left
        with files.folder_beside(folder / TEST_TIME) as looks:
            losses: dict[int, list[float]] = {}
            for seed in settings.train.seeds:
                model: FrameClassifier = trained(workspace, settings, seed).to(place)
                often, losses[seed] = looking_more(model, store, settings, seed, shown)
                rows += _predict(model, often, store, settings, seed)
                if often is not None and often.attention is not None:
                    save_file(often.attention.state_dict(), looks / f"seed-{seed}.safetensors")
            told = {"settings": _told(settings), "validation_loss": losses}
            files.write_text(looks / "test_time.json", json.dumps(told, indent=2) + "\n")
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


def in_use(workspace: Workspace, settings: StageSettings, seed: int) -> FrameClassifier | TestTime:
    """The network that stage train left for a seed, looking at exams as it is to be used.

    Raises:
        UserError: see `trained`; or what it is to learn for that has not been learned.
    """
    model, own = trained(workspace, settings, seed), settings.evaluate.test_time
    learned = workspace.results(settings.dataset, settings.variant) / TEST_TIME
    try:
        if own.learned:
            told = json.loads((learned / "test_time.json").read_text(encoding="utf-8"))
            if told["settings"] != _told(settings):
                raise _not_evaluated(settings)
        file = learned / f"seed-{seed}.safetensors"
        return looking(model, own, settings.prepare.image_size, file)
    except (FileNotFoundError, SafetensorError):
        raise _not_evaluated(settings) from None


def _not_evaluated(settings: StageSettings) -> UserError:
    return UserError(
        f"variant {settings.variant} of {settings.dataset} has not been evaluated with these "
        "settings",
        rule="what a network needs to look more than once is learned then",
        remedy=f"dvc repro evaluate@{settings.dataset}-{settings.variant}",
    )


def _told(settings: StageSettings) -> dict[str, Any]:
    """How often the variant looks, for test_time.json."""
    return settings.evaluate.test_time.model_dump(mode="json", exclude={"variants"})


def _predict(
    model: FrameClassifier,
    more: TestTime | None,
    store: PreparedStore,
    settings: StageSettings,
    seed: int,
) -> Iterator[dict[str, Any]]:
    """A row of predictions.parquet for each exam that the network did not learn from."""
    once, often = Meter(model, seed), more and Meter(more, seed)
    for batch, known in unseen(store, settings):
        plain = once(batch.frames, batch.lengths, batch.exam_ids)
        found = often(batch.frames, batch.lengths, batch.exam_ids) if often else plain
        for facts, (output, macs), (first, first_macs) in zip(known, found, plain, strict=True):
            yield row(facts, seed, output, macs) | {
                "plain_probabilities": first.probabilities if often else None,
                "plain_macs": first_macs if often else np.nan,
            }


def unseen(
    store: PreparedStore, settings: StageSettings
) -> Iterator[tuple[Batch, list[dict[str, Any]]]]:
    """Batches of the exams that no network learns from, and what predictions tell of each."""
    for split in ("validation", "test"):
        exams = Exams(store, split, settings.classes)
        facts = store.table.iloc[exams.rows].set_index("exam_id").to_dict("index")
        for batch in exams.batches(settings.evaluate.batch_size):
            yield (
                batch,
                [
                    {
                        "exam_id": exam_id,
                        "patient": facts[exam_id]["patient"],
                        "split": split,
                        "label": int(label),
                        "frames": int(length),
                        "informative": facts[exam_id]["informative"],
                    }
                    for exam_id, label, length in zip(
                        batch.exam_ids, batch.labels, batch.lengths, strict=True
                    )
                ],
            )


def row(facts: dict[str, Any], seed: int, output: ExamOutput, macs: float) -> dict[str, Any]:
    """Of predictions.parquet, for a network that looks once."""
    return facts | {
        "seed": seed,
        "probabilities": output.probabilities,
        "kept": output.kept,
        "attention": output.attention,
        "macs": macs,
        "plain_probabilities": None,
        "plain_macs": np.nan,
    }


def looking_more(
    model: FrameClassifier, store: PreparedStore, settings: StageSettings, seed: int, shown: Path
) -> tuple[TestTime | None, list[float]]:
    """The network as it is to be used, and the losses of what it learned for that, in `shown`.

    None: it looks once.
    """
    own, attention, losses = settings.evaluate.test_time, None, list[float]()
    if not own.active:
        return None, losses
    if own.learned:
        with torch.random.fork_rng():
            torch.manual_seed(derive("states", seed))
            attention = StateAttention(model.backbone.width, own.attention.width)
            attention.to(next(model.parameters()).device)
    often = TestTime(model, own, settings.prepare.image_size, attention).eval()
    if attention is not None:
        train, validation = (
            Exams(store, split, settings.classes) for split in ("train", "validation")
        )
        losses = fit(often, train, validation, settings, seed, shown)
    return often, losses
