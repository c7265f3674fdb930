"""report.html: the comparison on one page that needs nothing else, for screen, phone and paper."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from keyslice.config import Evaluate
from keyslice.evaluation import contact_sheet, pages, palette, plots, presentation, published, where
from keyslice.evaluation.candidate import Candidate
from keyslice.evaluation.predictions import predicted
from keyslice.evaluation.runs import Run, Start, unequal
from keyslice.evaluation.summary import NAMES
from keyslice.exams.source import UNKNOWN

FramesOf = Callable[[str], np.ndarray]
"""From an exam's id to its frames (T,C,H,W), uint8."""


@dataclass(frozen=True)
class Content:
    """What the report tells. Mappings are by variant, in the order of the settings."""

    dataset: str
    version: str | None
    """DVC's md5 of the exams; None where the dataset is not versioned."""
    classes: tuple[str, ...]
    settings: Evaluate
    references: tuple[str, ...]
    flag: str | None
    """The MedMNIST set, where published figures are known."""
    table: pd.DataFrame
    """Of `keyslice.evaluation.comparison.compare`."""
    candidate: Candidate
    results: Mapping[str, pd.DataFrame]
    """Predictions."""
    runs: Mapping[str, Mapping[int, Run]]
    """Trainings, by variant and seed."""
    starts: Mapping[str, Start]
    contact_sheets: int
    """Test exams whose frames are shown."""
    frames_of: FramesOf


def overview(content: Content) -> dict[str, str]:
    """The figures over all variants as SVG, by name; none of them shows a pixel of an exam."""
    test, looks = _test(content)
    figures = {"positions": where.positions(test, looks), "exam_maps": where.exam_maps(test, looks)}
    if content.table["cost"].notna().all():
        figures |= {metric: plots.cost(content.table, metric, looks) for metric in NAMES}
        if content.table["auc_gain"].notna().any():
            figures["looks"] = plots.more_looks(content.table, "auc", looks)
    return {name: palette.svg(figure) for name, figure in figures.items()}


def render(content: Content, figures: Mapping[str, str]) -> str:
    """The page, with the figures of `overview`; equal content gives equal text."""
    environment = pages.environment("keyslice.evaluation")
    test, looks = _test(content)
    first = next(iter(content.results.values()))
    often = [row for _, row in content.table.iterrows() if row["auc_gain"] == row["auc_gain"]]
    return environment.get_template("report.html.j2").render(
        content=content,
        looks=looks,
        show=presentation,
        rows=[row for _, row in content.table.iterrows()],
        often=often,
        ways={row["variant"]: content.settings.test_time.of(row["variant"]).words for row in often},
        splits=_split_sizes(first),
        unknown_patients=(first["patient"] == UNKNOWN).any(),
        seeds=sorted({seed for rows in test.values() for seed in rows["seed"].unique()}),
        weights=list(dict.fromkeys(start.weights for start in content.starts.values())),
        unequal=unequal(content.starts),
        devices=list(dict.fromkeys(start.device for start in content.starts.values())),
        figures={name: _inline(svg) for name, svg in figures.items()},
        details=_details(content, test, looks),
        exams=_contact_sheets(content, test),
        benchmark=published.BENCHMARK.get(content.flag or "", {}),
        paper_notes=_paper_notes(content),
        published=published,
    )


def _split_sizes(rows: pd.DataFrame) -> dict[str, dict[str, int]]:
    """Exams and (known) patients of each split."""
    exams = rows.drop_duplicates("exam_id")
    return {
        str(split): {
            "exams": len(part),
            "patients": part.loc[part["patient"] != UNKNOWN, "patient"].nunique(),
        }
        for split, part in exams.groupby("split")
    }


def _test(content: Content) -> tuple[dict[str, pd.DataFrame], dict[str, palette.Look]]:
    """The test exams' predictions, and how each variant is drawn."""
    test = {name: rows[rows["split"] == "test"] for name, rows in content.results.items()}
    return test, palette.looks(test)


def _details(
    content: Content, test: Mapping[str, pd.DataFrame], looks: Mapping[str, palette.Look]
) -> dict[str, dict[str, Any]]:
    details = {}
    for variant, rows in test.items():
        found, runs, look = predicted(rows, "test"), content.runs[variant], looks[variant]
        details[variant] = {
            "training": _inline(palette.svg(plots.training(runs, look))),
            "reliability": _inline(
                palette.svg(plots.reliability(found, content.settings.calibration_bins, look))
            ),
            "confusion": _inline(palette.svg(plots.confusions(found, content.classes, look))),
            "warnings": [(seed, text) for seed, run in runs.items() for text in run.warnings],
        }
    return details


def _contact_sheets(content: Content, test: Mapping[str, pd.DataFrame]) -> list[dict[str, Any]]:
    """For each shown exam its strip and, by variant, the tiles of that variant's first seed."""
    first = {name: rows[rows["seed"] == rows["seed"].min()] for name, rows in test.items()}
    some = next(iter(first.values()))
    by_id = {name: rows.set_index("exam_id") for name, rows in first.items()}
    sheets = []
    for exam_id in contact_sheet.choose(some, content.contact_sheets):
        label = content.classes[some.loc[some["exam_id"] == exam_id, "label"].item()]
        exam = contact_sheet.exam(exam_id, label, content.frames_of(exam_id))
        variants = {}
        for name, rows in by_id.items():
            row = rows.loc[exam_id]
            given = int(row["probabilities"].argmax())
            variants[name] = {
                "tiles": contact_sheet.tiles(row, exam.shown),
                "given": content.classes[given],
                "probability": float(row["probabilities"][given]),
                "right": given == row["label"],
            }
        sheets.append({"exam": exam, "variants": variants})
    return sheets


def _paper_notes(content: Content) -> list[str]:
    known = published.PAPER.get(content.flag or "", {})
    samplers: Sequence[str] = content.table["sampler"].tolist()
    return [f"{name}: {one.note}" for name, one in known.items() if one.note and name in samplers]


def _inline(text: str) -> Markup:
    """A figure's <svg> in the page's own colours, so that it reads on light and dark."""
    for colour, name in ((palette.INK, "--ink"), (palette.FAINT, "--rule")):
        text = text.replace(colour, f"var({name})")
    return Markup(text)  # noqa: S704  made here; matplotlib escapes the labels
