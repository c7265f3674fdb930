"""How long an exam takes, each variant measured alone and in turn; never an output of DVC."""

import json
import statistics
import time
from collections.abc import Callable

import torch

from keyslice import files
from keyslice.config import Params, Workspace
from keyslice.models.classifier import FrameClassifier
from keyslice.models.seeding import per_exam
from keyslice.prepared import PreparedStore
from keyslice.stages.evaluate import trained
from keyslice.training.batches import Batch, Exams

ROUNDS = 5


def measure(workspace: Workspace, params: Params, dataset: str) -> dict[str, dict[str, float]]:
    """Write state/timings/<dataset>/<variant>.json: milliseconds per exam, alone and in a batch.

    The variants take turns within one process, so that a machine whose speed drifts does not
    favour one of them; the median over the rounds is kept.

    Returns:
        The figures by variant.
    """
    store = PreparedStore.open(workspace.prepared(dataset))
    models: dict[str, FrameClassifier] = {}
    for variant in params.variants:
        settings = params.stage(dataset, variant)
        models[variant] = trained(workspace, settings, settings.train.seeds[0])
    evaluate = params.stage(dataset, next(iter(models))).evaluate
    exams = Exams(store, "test", params.dataset(dataset).classes)
    many = next(exams.batches(evaluate.batch_size))
    one = next(exams.batches(1))
    times: dict[str, dict[str, list[float]]] = {v: {"one": [], "many": []} for v in models}
    for round_ in range(ROUNDS + 1):
        for variant, model in models.items():
            for name, batch in (("one", one), ("many", many)):
                seconds = _seconds(lambda m=model, b=batch: _forward(m, b))
                if round_ > 0:  # the first is to warm up
                    times[variant][name].append(1000 * seconds / len(batch))
    figures = {
        variant: {
            "ms_per_exam": statistics.median(found["many"]),
            "ms_per_exam_alone": statistics.median(found["one"]),
            "batch_size": float(len(many)),
            "threads": float(torch.get_num_threads()),
        }
        for variant, found in times.items()
    }
    for variant, values in figures.items():
        text = json.dumps(values, indent=2) + "\n"
        files.write_text(workspace.timings(dataset, variant), text)
    return figures


@torch.inference_mode()
def _forward(model: FrameClassifier, batch: Batch) -> None:
    model(batch.frames, batch.lengths, per_exam(0, batch.exam_ids))


def _seconds(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
