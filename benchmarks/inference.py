"""What das saves against full: multiply-accumulates and wall time; the sampler's own share."""

import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch

from benchmarks.timing import Ratio, alternate, seconds
from benchmarks.variants import exams, network
from keyslice.models.classifier import FrameClassifier
from keyslice.models.inference import multiply_accumulates

CHUNKS = (16, 32, 64, 128, 256, 512, None)


@dataclass(frozen=True)
class Setting:
    """Frames of `size`×`size` pixels, `length` to an exam, `batch` exams at a time."""

    length: int
    size: int
    batch: int
    rounds: int

    def __str__(self) -> str:
        return f"{self.length} × {self.size}×{self.size}, batch {self.batch}"


SETTINGS = (
    Setting(28, 28, 32, 25),
    Setting(28, 28, 1, 60),
    Setting(64, 112, 4, 9),
    Setting(64, 112, 1, 15),
)


@torch.inference_mode()
def measure() -> Iterator[list[str]]:
    """Rows of the table."""
    for setting in SETTINGS:
        frames, lengths = exams(setting.batch, setting.length, setting.size)
        models = {
            "full": network("full", 1.0, setting.size),
            "das, keep 0.5": network("das", 0.5, setting.size),
            "das, keep 0.25": network("das", 0.25, setting.size),
        }
        for model in models.values():
            model.chunk = _fastest_chunk(model, frames, lengths)
        sides = {name: partial(model, frames, lengths) for name, model in models.items()}
        choosing = {
            f"{name}, sampler": partial(model.sampler, frames, lengths)
            for name, model in models.items()
            if name != "full"
        }
        times = alternate(sides | choosing, setting.rounds)
        full_cost = multiply_accumulates(models["full"], frames[:1])
        for name in choosing:
            name = name.removesuffix(", sampler")
            ratio = Ratio.of(times[name], times["full"])
            share = statistics.median(times[f"{name}, sampler"]) / ratio.seconds
            cost = multiply_accumulates(models[name], frames[:1]) / full_cost
            yield [
                str(setting),
                name,
                f"{cost:.3f}",
                f"{ratio.median:.3f} ({ratio.low:.3f}–{ratio.high:.3f})",
                f"{share:.1%}",
                f"{1000 * ratio.seconds / setting.batch:.2f}",
                f"{1000 * ratio.reference_seconds / setting.batch:.2f}",
            ]


def _fastest_chunk(
    model: FrameClassifier, frames: torch.Tensor, lengths: torch.Tensor
) -> int | None:
    """The chunk with which this side is fastest, so that no side is handicapped."""
    best: dict[int | None, float] = {}
    for chunk in CHUNKS:
        model.chunk = chunk
        best[chunk] = min(seconds(lambda: model(frames, lengths)) for _ in range(4))
    return min(best, key=lambda chunk: best[chunk])
