"""What a search over states costs against as many forward passes from the image."""

from collections.abc import Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from benchmarks.timing import Ratio, alternate
from keyslice.config import TestTime
from keyslice.models.backbone import Backbone, create
from keyslice.models.discarded import Subsampled, entropy, search
from keyslice.models.last_maps import LastMaps

BACKBONE, FRAMES, ROUNDS = "mobilenetv3_small_100", 14, 7
EXAMS = {28: 32, 64: 32, 224: 4}
"""As many together as stage evaluate takes; less of large frames, for memory."""
LEVELS, BUDGETS = (TestTime().layers, "all"), (8, 15)


@torch.inference_mode()
def measure() -> Iterator[list[str]]:
    """Rows of the table."""
    torch.set_num_threads(1)
    for size, exams_together in EXAMS.items():
        with torch.random.fork_rng():
            torch.manual_seed(0)
            backbone = create(BACKBONE, size).eval().to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
            exams = [
                torch.randn(FRAMES, 3, size, size).contiguous(memory_format=torch.channels_last)
                for _ in range(exams_together)
            ]
            head = torch.nn.Linear(backbone.width, 2)
        maps = LastMaps(backbone)
        networks = {
            levels: Subsampled(maps, exams[0][:1], None if levels == "all" else levels)
            for levels in LEVELS
        }
        criteria = {"entropy": partial(_certain, backbone, head), "random": _any}
        for budget in BUDGETS:
            sides = {
                f"{levels} | {name}": partial(search, network, exams, criterion, budget)
                for levels, network in networks.items()
                for name, criterion in criteria.items()
            }
            independent = partial(_passes, maps, torch.cat(exams), budget)
            times = alternate(sides | {"independent": independent}, ROUNDS)
            for side in sides:
                ratio = Ratio.of(times[side], times["independent"])
                yield [
                    f"{exams_together} × {FRAMES} × {size}×{size}",
                    *side.split(" | "),
                    str(budget),
                    f"{ratio.median:.2f} ({ratio.low:.2f}–{ratio.high:.2f})",
                    f"{1000 * ratio.seconds / exams_together:.1f}",
                ]


def _passes(maps: LastMaps, frames: Tensor, budget: int) -> None:
    for _ in range(budget):
        maps(frames)


def _certain(
    backbone: Backbone, head: torch.nn.Linear, _: Sequence[int], outputs: Sequence[Tensor]
) -> list[float]:
    features = backbone.pool(torch.cat(list(outputs))).unflatten(0, (len(outputs), -1)).mean(1)
    return (-entropy(head(features).softmax(1))).tolist()


def _any(exams: Sequence[int], _: Sequence[Tensor]) -> list[float]:
    return torch.rand(len(exams)).tolist()
