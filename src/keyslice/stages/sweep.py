"""What ways of looking more than once come to, on a variant's trained networks.

Not one of DVC's stages: `keyslice experiment --test-time` asks for it. A search with a budget is
the beginning of one with a larger budget, so one search tells of all budgets and aggregations.
"""

import ast
import hashlib
import shutil
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import timm
import torch
from torch.utils.flop_counter import FlopCounterMode

import keyslice
from keyslice import files
from keyslice.config import Aggregation, Params, StageSettings, TestTime, View, Workspace
from keyslice.evaluation import predictions
from keyslice.evaluation.sweep import SHIFTS, VIEWS, Looks
from keyslice.models import test_time as seen
from keyslice.models.classifier import FrameClassifier, Output
from keyslice.models.inference import by_exam
from keyslice.models.seeding import per_exam
from keyslice.prepared import PreparedStore
from keyslice.stages.evaluate import looking_more, row, trained, unseen
from keyslice.stages.inputs import held_still
from keyslice.stages.running import only_process_of
from keyslice.training.device import device, repeatable

BUDGETS = (4, 8, 15)
"""Besides 1, the network as it was trained."""
CODE = (
    "models",
    "prepared.py",
    "samplers",
    "training",
    "stages/evaluate.py",
    "stages/sweep.py",
)
"""What figures depend on, in the package; on its comments they do not."""


@dataclass(frozen=True)
class Way:
    """A search, and what its states come to.

    Attributes:
        name: of its figures.
        settings: with the largest budget. What is learned is learned at that one, for all.
        aggregations: that are tried.
    """

    name: str
    settings: TestTime
    aggregations: tuple[Aggregation, ...]


_SHIFTED = tuple[View, ...](view for view in seen.VIEWS if view.startswith("shift"))
_DEEPEST = TestTime(budget=BUDGETS[-1], layers=3, border="zeros")
"""As the method was published, where it costs least."""


def _way(name: str, *aggregations: Aggregation, **settings: Any) -> Way:
    return Way(name, _DEEPEST.model_copy(update=settings), aggregations)


WAYS = (
    # Their budget is how many, the frames as they are among them.
    Way(VIEWS, TestTime(views=(*seen.VIEWS,)), ("mean",)),
    Way(SHIFTS, TestTime(views=_SHIFTED), ("mean",)),
    _way("entropy", "mean", "entropy", "learned", aggregation="learned"),
    _way("learned", "mean", "learned", criterion="learned", aggregation="learned"),
    _way("random", "mean", criterion="random"),
    _way("all-levels", "mean", layers="all"),
    _way("kept-border", "mean", border="kept"),
    _way("first-levels", "mean", "entropy", layers="first 2", border="kept"),
)

Tried = dict[Looks, list[dict[str, Any]]]
"""Rows of predictions."""


def sweep(
    workspace: Workspace, params: Params, dataset: str, variant: str, seed: int
) -> Iterator[str]:
    """Write the predictions of every way for a network, where they are not there.

    Yields:
        The name of each way, when its files are there; at once where they were.

    Raises:
        UserError: a variant that has not been trained, or is trained anew meanwhile.
    """
    settings = params.stage(dataset, variant)
    folder = workspace.sweep(dataset, variant) / f"seed-{seed}"
    store = workspace.prepared(dataset) / "store.json"
    network = workspace.models(dataset, variant) / f"seed-{seed}" / "model.safetensors"
    inputs = store, network
    stage = f"sweep@{dataset}-{variant}-{seed}"
    with only_process_of(workspace, stage), held_still(*inputs) as check, repeatable():
        torch.set_num_threads(settings.train.threads)
        names = [f"{way.name}-{_digest(way, settings, *inputs)}" for way in WAYS]
        model: FrameClassifier = trained(workspace, settings, seed).to(device(settings.train))
        opened = PreparedStore.open(store.parent)
        files.remove_hidden(folder)
        for way, name in zip(WAYS, names, strict=True):
            target = folder / name
            if not target.is_dir():
                with files.folder_beside(target) as part:
                    for looks, rows in _tried(way, model, opened, settings, seed, folder).items():
                        predictions.write(pd.DataFrame(rows), part / looks.file)
                    check()
            for other in folder.glob(f"{way.name}-*"):
                if other != target:
                    shutil.rmtree(other)
            yield way.name


def _tried(
    way: Way,
    model: FrameClassifier,
    store: PreparedStore,
    settings: StageSettings,
    seed: int,
    folder: Path,
) -> Tried:
    own = settings.evaluate.model_copy(update={"test_time": way.settings})
    settings = settings.model_copy(update={"evaluate": own})
    if way.settings.budget == 1:
        once = seen.TestTime(model, TestTime(), settings.prepare.image_size).eval()
        return _viewed(way, once, store, settings, seed)
    looking, _ = looking_more(model, store, settings, seed, files.hidden(folder / "states"))
    assert looking is not None  # its budget is above 1
    return _searched(way, looking, store, settings, seed)


@torch.inference_mode()
def _searched(
    way: Way, looking: seen.TestTime, store: PreparedStore, settings: StageSettings, seed: int
) -> Tried:
    found: Tried = defaultdict(list)
    for batch, known in unseen(store, settings):
        on_device, draws = batch.to(device(settings.train)), per_exam(seed, batch.exam_ids)
        with FlopCounterMode(display=False) as counter:
            selection, kept = looking.taken(on_device.frames, on_device.lengths, draws)
            spent = _Spent(counter)
            looked = list(looking.looked(kept, selection, draws, spent))
            for aggregation in way.aggregations:
                for budget in BUDGETS:
                    begun = counter.get_total_flops()
                    states = [one[:budget] for one in looked]
                    output = looking.classified(states, selection, aggregation)
                    macs = (spent.up_to(budget) + counter.get_total_flops() - begun) / 2
                    found[Looks(way.name, aggregation, budget)] += _rows(known, seed, output, macs)
    return found


@torch.inference_mode()
def _viewed(
    way: Way, looking: seen.TestTime, store: PreparedStore, settings: StageSettings, seed: int
) -> Tried:
    found: Tried = defaultdict(list)
    views: tuple[View | None, ...] = (None, *way.settings.views)
    for batch, known in unseen(store, settings):
        on_device, draws = batch.to(device(settings.train)), per_exam(seed, batch.exam_ids)
        with FlopCounterMode(display=False) as counter:
            selection, kept = looking.taken(on_device.frames, on_device.lengths, draws)
            total = torch.zeros((), device=kept.device)
            for number, view in enumerate(views, 1):
                looked = looking.looked(seen.seen_from(view, kept), selection, draws)
                own = looking.classified(looked, selection, "mean")
                total = total + own.logits.softmax(1)
                output = Output((total / number).log(), selection, own.attention)
                macs = counter.get_total_flops() / 2
                if number > 1 or way.name == VIEWS:  # one look is told once
                    found[Looks(way.name, "mean", number)] += _rows(known, seed, output, macs)
    return found


class _Spent:
    """Notes what each pass of a search has cost, with what came before the first."""

    def __init__(self, counter: FlopCounterMode) -> None:
        self._counter, self._seen = counter, 0
        self._passes: dict[int, int] = defaultdict(int)

    def __call__(self, number: int) -> None:
        now = self._counter.get_total_flops()
        self._passes[number] += now - self._seen
        self._seen = now

    def up_to(self, budget: int) -> int:
        """Floating-point operations of so many passes."""
        return sum(flops for number, flops in self._passes.items() if number < budget)


def _rows(
    known: Sequence[dict[str, Any]], seed: int, output: Output, macs: float
) -> Iterator[dict[str, Any]]:
    """Of a batch; what it cost is shared out by the frames that were kept."""
    exams = by_exam(output)
    each = macs / sum(len(exam.kept) for exam in exams)
    for facts, exam in zip(known, exams, strict=True):
        yield row(facts, seed, exam, each * len(exam.kept))


def _digest(way: Way, settings: StageSettings, *inputs: Path) -> str:
    """Of all that a way's figures depend on: settings, data, network, code, torch and timm."""
    versions = torch.__version__, timm.__version__
    digest = hashlib.sha256(repr((way, BUDGETS, *versions)).encode())
    digest.update(settings.model_dump_json(exclude={"evaluate"}).encode())
    for file in inputs:
        digest.update(files.sha256(file).encode())
    digest.update(_code())
    return digest.hexdigest()[:12]


@cache
def _code() -> bytes:
    """A hash of what `CODE` names, without comments."""
    package, digest = Path(keyslice.__file__).parent, hashlib.sha256()
    for one in CODE:
        for file in sorted((package / one).rglob("*.py")) or [package / one]:
            digest.update(ast.unparse(ast.parse(file.read_text(encoding="utf-8"))).encode())
    return digest.digest()
