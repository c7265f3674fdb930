"""What a search over states costs against as many forward passes from the image."""

from collections.abc import Iterator
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from benchmarks.timing import Ratio, alternate
from benchmarks.variants import exams, network
from keyslice.config import TestTime as Settings
from keyslice.models.test_time import TestTime
from keyslice.samplers import Selection

FRAMES, ROUNDS = 14, 7
EXAMS = {28: 32, 64: 32, 224: 8}
"""As many at a time as stage evaluate takes; fewer of large frames: two searches' worth."""
SEARCHED = {
    "deepest 3": Settings(layers=3, border="zeros"),
    "all": Settings(layers="all", border="zeros"),
    "first 2, border kept": Settings(),
}
CRITERIA: tuple[Literal["entropy", "random"], ...] = ("entropy", "random")
BUDGETS = (8, 15)


@torch.inference_mode()
def measure() -> Iterator[list[str]]:
    """Rows of the table."""
    torch.set_num_threads(1)
    for size, count in EXAMS.items():
        model = network("full", 1.0, size)
        frames, lengths = exams(count, FRAMES, size)
        once = TestTime(model, Settings(), size).eval()
        selection, kept = once.taken(frames, lengths, None)
        independent = partial(_looked, once, kept, selection)
        for budget in BUDGETS:
            sides = {
                f"{levels} | {criterion}": partial(
                    _looked,
                    TestTime(
                        model,
                        settings.model_copy(update={"budget": budget, "criterion": criterion}),
                        size,
                    ).eval(),
                    kept,
                    selection,
                )
                for levels, settings in SEARCHED.items()
                for criterion in CRITERIA
            }
            times = alternate(sides | {"": partial(independent, times=budget)}, ROUNDS)
            for side in sides:
                ratio = Ratio.of(times[side], times[""])
                yield [
                    f"{count} × {FRAMES} × {size}×{size}",
                    *side.split(" | "),
                    str(budget),
                    f"{ratio.median:.2f} ({ratio.low:.2f}–{ratio.high:.2f})",
                    f"{1000 * ratio.seconds / count:.1f}",
                ]


def _looked(looking: TestTime, kept: Tensor, selection: Selection, times: int = 1) -> None:
    """Exams at all their states, as the pipeline has them; `times` over."""
    for _ in range(times):
        for _ in looking.looked(kept, selection, None):
            pass
