"""What a search over states costs against as many forward passes from the image."""

from collections.abc import Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from benchmarks.timing import Ratio, alternate
from keyslice.models.backbone import Backbone, create
from keyslice.models.discarded import Subsampled, entropy, search
from keyslice.models.last_maps import LastMaps

BACKBONE, EXAMS, FRAMES, ROUNDS = "mobilenetv3_small_100", 8, 14, 15
SIZES, BUDGETS = (28, 64, 224), (8, 15)


@torch.inference_mode()
def measure() -> Iterator[list[str]]:
    """Rows of the table."""
    for size in SIZES:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            backbone = create(BACKBONE, size).eval().to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
            exams = [
                torch.randn(FRAMES, 3, size, size).contiguous(memory_format=torch.channels_last)
                for _ in range(EXAMS)
            ]
            head = torch.nn.Linear(backbone.width, 2)
        maps = LastMaps(backbone)
        network = Subsampled(maps, exams[0][:1])
        criteria = {"entropy": partial(_certain, backbone, head), "random": _any}
        for budget in BUDGETS:
            sides = {
                name: partial(search, network, exams, criterion, budget)
                for name, criterion in criteria.items()
            }
            independent = partial(_passes, maps, torch.cat(exams), budget)
            times = alternate(sides | {"independent": independent}, ROUNDS)
            for name in criteria:
                ratio = Ratio.of(times[name], times["independent"])
                yield [
                    f"{size} × {size}",
                    name,
                    str(budget),
                    f"{ratio.median:.2f} ({ratio.low:.2f}–{ratio.high:.2f})",
                    f"{1000 * ratio.seconds / EXAMS:.1f}",
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
