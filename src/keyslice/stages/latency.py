"""How long an exam takes, each variant as it is used, alone and in turn; no output of DVC."""

import json
import statistics
import time
from collections.abc import Callable, Mapping

import torch

from keyslice import files
from keyslice.config import Params, Workspace
from keyslice.models.classifier import FrameClassifier
from keyslice.models.seeding import per_exam
from keyslice.models.test_time import TestTime
from keyslice.prepared import PreparedStore
from keyslice.stages.evaluate import in_use
from keyslice.training.batches import Batch, Exams

ROUNDS = 5


def measure(
    workspace: Workspace, params: Params, dataset: str, models: Mapping[str, str | None]
) -> dict[str, dict[str, float]]:
    """Write state/timings/<dataset>/<variant>.json: milliseconds per exam, alone and in a batch.

    The variants take turns within one process, so that a machine whose speed drifts does not
    favour one of them; the median over the rounds is kept. Threads are those of stage evaluate.

    Args:
        workspace: holds the prepared exams and the trained models.
        params: the settings.
        dataset: a configured dataset whose variants were trained; where they learn to look more
            than once, evaluated too.
        models: a key of each variant's model, written beside its figures.

    Returns:
        The figures by variant.
    """
    store = PreparedStore.open(workspace.prepared(dataset))
    settings = {variant: params.stage(dataset, variant) for variant in params.variants}
    networks = {v: in_use(workspace, own, own.train.seeds[0]) for v, own in settings.items()}
    exams = Exams(store, "test", params.dataset(dataset).classes)
    many = next(exams.batches(params.section("evaluate", dataset).batch_size))
    one = next(exams.batches(1))
    times: dict[str, dict[str, list[float]]] = {v: {"one": [], "many": []} for v in networks}
    for round_ in range(ROUNDS + 1):
        for variant, network in networks.items():
            torch.set_num_threads(settings[variant].train.threads)
            for name, batch in (("one", one), ("many", many)):
                seconds = _seconds(lambda m=network, b=batch: _forward(m, b))
                if round_ > 0:  # the first is to warm up
                    times[variant][name].append(1000 * seconds / len(batch))
    figures = {
        variant: {
            "ms_per_exam": statistics.median(found["many"]),
            "ms_per_exam_alone": statistics.median(found["one"]),
            "batch_size": float(len(many)),
            "threads": float(settings[variant].train.threads),
        }
        for variant, found in times.items()
    }
    for variant, values in figures.items():
        text = json.dumps({"model": models[variant]} | values, indent=2) + "\n"
        files.write_text(workspace.timings(dataset, variant), text)
    return figures


@torch.inference_mode()
def _forward(network: FrameClassifier | TestTime, batch: Batch) -> None:
    network(batch.frames, batch.lengths, per_exam(0, batch.exam_ids))


def _seconds(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
