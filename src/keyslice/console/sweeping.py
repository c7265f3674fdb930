"""`keyslice experiment --test-time`: what it gains to look at exams more than once."""

import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from multiprocessing import active_children, get_context
from pathlib import Path

import pandas as pd

from flows.engine import cores
from keyslice import files, versioning
from keyslice.config import Params, Workspace
from keyslice.console.output import bar, tell
from keyslice.evaluation import plots, sweep
from keyslice.evaluation.palette import svg
from keyslice.stages.running import only_retraining


def run(
    workspace: Workspace,
    params: Params,
    dataset: str,
    variants: Sequence[str],
    *,
    parallel: int | None = None,
) -> None:
    """Try every way of looking more than once on each trained network, where that is not done.

    Raises:
        InUseError: the dataset is being retrained.
        UserError: a variant has not been trained.
    """
    networks = [
        (variant, seed)
        for variant in dict.fromkeys(variants)
        for seed in params.stage(dataset, variant).train.seeds
    ]
    with only_retraining(workspace, [dataset], "keyslice experiment --test-time"):
        try:
            _run(workspace, params, dataset, networks, parallel or cores())
        finally:
            for variant, seed in networks:
                files.remove_hidden(workspace.sweep(dataset, variant) / f"seed-{seed}")


def _run(
    workspace: Workspace,
    params: Params,
    dataset: str,
    networks: Sequence[tuple[str, int]],
    parallel: int,
) -> None:
    start, waiting = time.monotonic(), {}
    with _processes(parallel) as pool, bar() as progress:
        for variant, seed in networks:
            job = pool.submit(_swept, workspace, params, dataset, variant, seed)
            waiting[job] = f"{variant}, seed {seed}"
        task = progress.add_task(f"looking more than once at {dataset}", total=len(waiting))
        for job in as_completed(waiting):
            job.result()
            progress.advance(task)
            minutes, seconds = divmod(round(time.monotonic() - start), 60)
            tell(f"✓ {dataset}: more looks with {waiting[job]}  {minutes}:{seconds:02}")


@contextmanager
def _processes(count: int) -> Iterator[ProcessPoolExecutor]:
    """That end at once where the block fails or is interrupted, whatever they are at."""
    others = set(active_children())
    # Not forked: torch has threads.
    with ProcessPoolExecutor(count, get_context("spawn"), _not_by_ctrl_c) as pool:
        try:
            yield pool
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            own = set(active_children()) - others
            for process in own:
                process.terminate()
            for process in own:
                process.join()
            raise


def _not_by_ctrl_c() -> None:
    """A process is ended by the one that has begun it, which hears that too."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _swept(workspace: Workspace, params: Params, dataset: str, variant: str, seed: int) -> None:
    from keyslice.stages.sweep import sweep

    for _ in sweep(workspace, params, dataset, variant, seed):
        pass


def tables(
    workspace: Workspace, params: Params, dataset: str, variants: Sequence[str]
) -> dict[str, pd.DataFrame]:
    """What looking more than once gains, by variant; see `keyslice.evaluation.sweep.gains`."""
    settings = params.section("evaluate", dataset)
    return {
        variant: sweep.gains(
            sweep.read(
                workspace.sweep(dataset, variant), params.stage(dataset, variant).train.seeds
            ),
            settings,
        )
        for variant in variants
    }


def section(
    workspace: Workspace,
    params: Params,
    dataset: str,
    found: Mapping[str, pd.DataFrame],
    page: Path,
) -> str:
    """`tables` for `page`; their picture is written beside that."""
    settings = params.section("evaluate", dataset)
    picture = page.parent / "figures" / f"{dataset}-test-time.svg"
    picture.parent.mkdir(parents=True, exist_ok=True)
    files.write_text(picture, svg(plots.gains(found), page="white"))
    options = " ".join(f"--test-time {name}" for name in found)
    parts = [
        f"### {dataset}, {name}\n\n{_networks(workspace, params, dataset, name)}\n"
        f"{sweep.markdown(table)}"
        for name, table in found.items()
    ]
    from keyslice.stages.sweep import WAYS

    tried = {name for table in found.values() for name in table["way"]}
    ways = [
        f"- `{one.name}`: {one.settings.states}"
        for one in WAYS
        if one.name in tried and one.settings.budget > 1
    ]
    return f"""
## {dataset}, looking more than once

`keyslice experiment {dataset} {options}` · dataset version
`{versioning.prepared_version(workspace, dataset)}`.

{sweep.counted(found.values())}

![gain in AUC against cost]({picture.relative_to(page.parent).as_posix()})

{chr(10).join(parts)}
Gains over one look, mean over seeds, with intervals ({settings.confidence:.0%}) by bootstrap over
patients, in pairs. Cost is multiply-accumulates, one look = 1. Views are flips, then shifts by a
pixel, `shifts` the latter alone; a search is held against as many views as cost nearest to the same
(1: the one look itself). What is learned was learned with the largest budget. Rows are alike where
searches find the same states: with strides of 2 any criterion begins with the same five.

{chr(10).join(ways)}
"""


def _networks(workspace: Workspace, params: Params, dataset: str, variant: str) -> str:
    """Which these are, seed by seed."""
    folder = workspace.models(dataset, variant)
    hashes = [
        f"`{files.sha256(folder / f'seed-{seed}' / 'model.safetensors')[:12]}`"
        for seed in params.stage(dataset, variant).train.seeds
    ]
    return f"Weights (sha256) of its seeds: {', '.join(hashes)}."
