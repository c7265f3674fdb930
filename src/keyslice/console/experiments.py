"""`keyslice experiment`: all variants on real datasets, and their figures on the results page."""

import json
import re
from pathlib import Path

import pandas as pd

from keyslice import files, versioning
from keyslice.config import Params, Workspace
from keyslice.console import retraining
from keyslice.console.output import out
from keyslice.evaluation.presentation import markdown


def run(
    workspace: Workspace,
    params: Params,
    datasets: tuple[str, ...],
    page: Path,
    *,
    parallel: int | None = None,
) -> None:
    """Retrain `datasets` where there is anything new, and put their sections into `page`."""
    retraining.run(workspace, params, datasets, parallel=parallel)
    text = page.read_text(encoding="utf-8") if page.is_file() else "# Results\n"
    for name in datasets:
        text = with_section(text, name, section(workspace, params, name))
    files.write_text(page, text)
    out.print(f"wrote {page}")


def with_section(text: str, name: str, content: str) -> str:
    """`text` with the marked section `name` replaced, or added at its end; the rest stays."""
    begin, end = f"<!-- {name}: written by keyslice experiment -->", f"<!-- {name}: end -->"
    block = f"{begin}\n{content.strip()}\n{end}"
    known = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if known.search(text):
        return known.sub(lambda _: block, text)
    return f"{text.rstrip()}\n\n{block}\n"


def section(workspace: Workspace, params: Params, dataset: str) -> str:
    """The comparison of a dataset, and what is needed to repeat it."""
    folder = workspace.comparison(dataset)
    table = pd.read_csv(folder / "comparison.csv")
    candidate = json.loads((folder / "candidate.json").read_text(encoding="utf-8"))
    references = params.compare_settings(dataset).references
    stage = params.stage(dataset, next(iter(params.variants)))
    weights = json.loads(
        (workspace.models(dataset, stage.variant) / "settings.json").read_text(encoding="utf-8")
    )["weights"]
    manifest = pd.read_parquet(workspace.manifest(dataset), columns=["split"])
    splits = manifest["split"].value_counts()
    counted = ", ".join(f"{splits[name]} {name}" for name in ("train", "validation", "test"))
    size = stage.prepare.image_size
    seeds = ", ".join(map(str, stage.train.seeds))
    return f"""
## {dataset}

`keyslice experiment {dataset}` · dataset version `{versioning.version(workspace, dataset)}` ·
{counted} exams · {stage.backbone.name}, weights `{weights["source"]}` · {size} × {size} pixels ·
seeds {seeds}.

{markdown(table, references)}
Mean ± sd over seeds; intervals ({stage.evaluate.confidence:.0%}) by bootstrap over patients, or
over exams where no patient is known (then too narrow), of the figure averaged over seeds. Cost is
multiply-accumulates relative to full.

Candidate: **{candidate["variant"]}**, seed {candidate["seed"]}: {candidate["reason"]}
"""
