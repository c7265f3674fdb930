"""`keyslice experiment`: all variants on real datasets, and their figures on the results page."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from keyslice import files, versioning
from keyslice.config import Params, Workspace
from keyslice.console import retraining, sweeping
from keyslice.console.output import out, say
from keyslice.evaluation import runs, sweep
from keyslice.evaluation.presentation import brief, markdown


def run(
    workspace: Workspace,
    params: Params,
    datasets: tuple[str, ...],
    page: Path,
    *,
    parallel: int | None = None,
    test_time: Sequence[str] = (),
) -> None:
    """Retrain `datasets` where there is anything new, and put their sections into `page`.

    The workspace's README gets their short tables where it has marks for them. Of the variants in
    `test_time` a section tells what it gains to look more than once.
    """
    retraining.run(workspace, params, datasets, parallel=parallel)
    text = page.read_text(encoding="utf-8") if page.is_file() else "# Results\n"
    for name in datasets:
        text = with_section(text, name, section(workspace, params, name))
        if test_time:
            sweeping.run(workspace, params, name, test_time, parallel=parallel)
            found = sweeping.tables(workspace, params, name, test_time)
            for variant, table in found.items():
                say(out, f"{name}, {variant}: {sweep.best(table)}")
            told = sweeping.section(workspace, params, name, found, page)
            text = with_section(text, f"{name}, test time", told)
    files.write_text(page, text)
    out.print(f"wrote {page}")
    readme = workspace.root / "README.md"
    if page.resolve() == readme.resolve():
        return
    before = readme.read_text(encoding="utf-8") if readme.is_file() else ""
    text = before
    for name in datasets:
        text = with_section(text, name, summary(workspace, params, name), add=False)
    if text != before:
        files.write_text(readme, text)
        out.print(f"wrote {readme}")


def with_section(text: str, name: str, content: str, *, add: bool = True) -> str:
    """`text` with the marked section `name` replaced, the rest as it was.

    Without such marks, they and the section come last, or, if not `add`, nothing changes.
    """
    begin, end = f"<!-- {name}: written by keyslice experiment -->", f"<!-- {name}: end -->"
    block = f"{begin}\n{content.strip()}\n{end}"
    known = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if known.search(text):
        return known.sub(lambda _: block, text)
    return f"{text.rstrip()}\n\n{block}\n" if add else text


def section(workspace: Workspace, params: Params, dataset: str) -> str:
    """The comparison of a dataset, and what is needed to repeat it."""
    folder = workspace.comparison(dataset)
    table = pd.read_csv(folder / "comparison.csv")
    candidate = json.loads((folder / "candidate.json").read_text(encoding="utf-8"))
    references = params.compare_settings(dataset).references
    confidence = params.section("evaluate", dataset).confidence
    # What was prepared and trained on: the dataset may have a newer version by now.
    version = versioning.prepared_version(workspace, dataset)
    exams = pd.read_parquet(workspace.prepared(dataset) / "index.parquet", columns=["split"])
    splits = exams["split"].value_counts()
    counted = ", ".join(f"{splits[name]} {name}" for name in ("train", "validation", "test"))
    return f"""
## {dataset}

`keyslice experiment {dataset}` · dataset version `{version}` ·
{counted} exams · {_setup(workspace, params, dataset)}.

{markdown(table, references)}
Mean ± sd over seeds; intervals ({confidence:.0%}) by bootstrap over patients, or
over exams where no patient is known (then too narrow), of the figure averaged over seeds. Cost is
multiply-accumulates relative to full.

Candidate: **{candidate["variant"]}**, seed {candidate["seed"]}: {candidate["reason"]}
"""


def summary(workspace: Workspace, params: Params, dataset: str) -> str:
    """The dataset's comparison in few columns."""
    table = pd.read_csv(workspace.comparison(dataset) / "comparison.csv")
    references = params.compare_settings(dataset).references
    return f"**{dataset}**\n\n{brief(table, references)}"


def _setup(workspace: Workspace, params: Params, dataset: str) -> str:
    """Backbone, weights, size and seeds; by variant where they are not the same for all."""
    shared: dict[str, list[str]] = {}
    for variant in params.variants:
        stage = params.stage(dataset, variant)
        weights = runs.start(workspace.models(dataset, variant)).weights
        size, seeds = stage.prepare.image_size, ", ".join(map(str, stage.train.seeds))
        words = f"{stage.backbone.name}, weights `{weights}` · {size} × {size} pixels"
        words += f" · seeds {seeds}"
        shared.setdefault(words, []).append(variant)
    if len(shared) == 1:
        return next(iter(shared))
    return "; ".join(f"{', '.join(variants)}: {words}" for words, variants in shared.items())
