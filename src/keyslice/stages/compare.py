"""Stage compare: all variants of a dataset side by side, and the candidate among them."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from keyslice import files
from keyslice.config import MedMNISTDataset, Params, Workspace
from keyslice.errors import UserError
from keyslice.evaluation import (
    candidate,
    comparison,
    predictions,
    presentation,
    published,
    report,
    runs,
)
from keyslice.evaluation.comparison import DifferentExamsError
from keyslice.evaluation.report import FramesOf
from keyslice.prepared import PreparedStore
from keyslice.stages.inputs import held_still
from keyslice.stages.running import only_process_of


def compare(
    workspace: Workspace,
    params: Params,
    dataset: str,
    *,
    version: str | None,
    frames_of: FramesOf | None = None,
) -> None:
    """Write data/comparisons/<dataset>: comparison.csv, .md, report.html, figures/, candidate.json.

    Only the configured variants are read, whatever else lies in the results. The same results
    give the same bytes.

    Args:
        workspace: where everything lies.
        params: the settings.
        dataset: a configured dataset whose variants were evaluated.
        version: of the dataset, for the report; None where its exams are not under DVC.
        frames_of: an exam's frames for the contact sheets; default: from the prepared store.

    Raises:
        UserError: unknown dataset, results or training curves that are missing, results of
            different exams.
    """
    configured = params.dataset(dataset)
    settings = params.compare_settings(dataset)
    evaluate = params.section("evaluate", dataset)
    flag = None
    if isinstance(configured, MedMNISTDataset) and configured.size == published.SIZE:
        flag = configured.flag
    inputs = [workspace.prepared(dataset) / "store.json"]
    inputs += [_predictions_file(workspace, dataset, variant) for variant in params.variants]
    with only_process_of(workspace, f"compare@{dataset}"), held_still(*inputs):
        results = _each(params, dataset, "evaluate", lambda v: _predictions(workspace, dataset, v))
        trained = _each(params, dataset, "train", lambda v: _runs(workspace, dataset, v, results))
        starts = _each(params, dataset, "train", lambda v: runs.start(workspace.models(dataset, v)))
        try:
            validation = comparison.assess_all(results, "validation", evaluate)
            test = comparison.assess_all(results, "test", evaluate)
        except DifferentExamsError as error:
            raise UserError(
                str(error),
                where=f"data/results/{dataset}",
                rule="variants are compared on the same exams",
                remedy=f"run `dvc repro evaluate@{dataset}-{error.other}`",
            ) from None
        once = {
            name: plain
            for name, one in results.items()
            if (plain := predictions.plain(one)) is not None
        }
        plain = comparison.assess_all(once, "test", evaluate) if once else {}
        table = comparison.compare(
            test, params.variants, settings.references, evaluate.confidence, flag, plain
        )
        within = settings.within_standard_errors
        chosen = candidate.choose(
            validation,
            params.candidates(dataset),
            within,
            comparison.assess_all(once, "validation", evaluate) if once else {},
            evaluate.confidence,
        )
        content = report.Content(
            dataset=dataset,
            version=version,
            classes=configured.classes,
            settings=evaluate,
            references=settings.references,
            flag=flag,
            table=table,
            candidate=chosen,
            results=results,
            runs=trained,
            starts=starts,
            contact_sheets=settings.contact_sheets,
            frames_of=frames_of or _stored_frames(workspace.prepared(dataset)),
        )
        figures = report.overview(content)
        page = report.render(content, figures)
        with files.folder_beside(workspace.comparison(dataset)) as folder:
            table.to_csv(folder / "comparison.csv", index=False, lineterminator="\n")
            text = presentation.markdown(table, settings.references)
            if caution := runs.unequal(starts):
                text += f"\n{caution}\n"
            files.write_text(folder / "comparison.md", text)
            files.write_text(folder / "report.html", page)
            for name, svg in figures.items():
                files.write_text(folder / "figures" / f"{name}.svg", svg)
            entry = {"dataset": dataset} | dataclasses.asdict(chosen)
            files.write_text(folder / "candidate.json", json.dumps(entry, indent=2) + "\n")


def _each(params: Params, dataset: str, stage: str, read: Callable[[str], Any]) -> dict[str, Any]:
    """What `read` finds for each configured variant; of a missing file, the stage that makes it."""
    found = {}
    for variant in params.variants:
        try:
            found[variant] = read(variant)
        except FileNotFoundError as error:
            raise UserError(
                f"no results ({Path(str(error.filename or error)).name})",
                where=f"variant {variant} on {dataset}",
                rule="every configured variant is compared",
                remedy=f"run `dvc repro {stage}@{dataset}-{variant}`, or drop it from params.yaml",
            ) from None
    return found


def _predictions(workspace: Workspace, dataset: str, variant: str) -> pd.DataFrame:
    return predictions.read(_predictions_file(workspace, dataset, variant))


def _predictions_file(workspace: Workspace, dataset: str, variant: str) -> Path:
    return workspace.results(dataset, variant) / "predictions.parquet"


def _runs(
    workspace: Workspace, dataset: str, variant: str, results: dict[str, pd.DataFrame]
) -> dict[int, runs.Run]:
    seeds = sorted(int(seed) for seed in results[variant]["seed"].unique())
    return runs.read(workspace.models(dataset, variant), seeds)


def _stored_frames(folder: Path) -> FramesOf:
    store = PreparedStore.open(folder)
    rows = {exam_id: row for row, exam_id in enumerate(store.table["exam_id"])}

    def frames_of(exam_id: str) -> np.ndarray:
        return store.frames(rows[exam_id])

    return frames_of
