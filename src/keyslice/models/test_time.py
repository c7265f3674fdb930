"""A trained classifier that looks at each exam more than once: at other phases of its subsampling
layers, flipped, or shifted.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import pad

from keyslice.config import Aggregation, View
from keyslice.config import TestTime as TestTimeSettings
from keyslice.errors import UserError
from keyslice.models.classifier import FrameClassifier, Output
from keyslice.models.discarded import Criterion, Looked, State, Subsampled, entropy, search
from keyslice.models.discarded.aggregation import StateAttention, by_entropy, displacement
from keyslice.models.last_maps import LastMaps
from keyslice.samplers import Selection
from keyslice.samplers.noise import Generators


def _shifted(frames: Tensor, down: int, right: int) -> Tensor:
    """By so many pixels; what comes in is the border."""
    height, width = frames.shape[-2:]
    around = pad(frames, (abs(right),) * 2 + (abs(down),) * 2, mode="replicate")
    top, left = abs(down) - down, abs(right) - right
    return around[..., top : top + height, left : left + width]


VIEWS: Mapping[View, Callable[[Tensor], Tensor]] = {
    "flip_horizontal": partial(torch.flip, dims=(-1,)),
    "flip_vertical": partial(torch.flip, dims=(-2,)),
    "flip_both": partial(torch.flip, dims=(-2, -1)),
    "shift_left": partial(_shifted, down=0, right=-1),
    "shift_right": partial(_shifted, down=0, right=1),
    "shift_up": partial(_shifted, down=-1, right=0),
    "shift_down": partial(_shifted, down=1, right=0),
    "shift_up_left": partial(_shifted, down=-1, right=-1),
    "shift_up_right": partial(_shifted, down=-1, right=1),
    "shift_down_left": partial(_shifted, down=1, right=-1),
    "shift_down_right": partial(_shifted, down=1, right=1),
}
"""Of frames (N,3,H,W)."""


def seen_from(view: View | None, kept: Tensor) -> Tensor:
    """Kept frames (B,k,3,H,W) from a view; None: as they are."""
    return kept if view is None else VIEWS[view](kept.flatten(0, 1)).reshape(kept.shape)


TOGETHER = 4
"""Chunks whose exams are searched together. More of them share each pass through the deep layers,
and all have the values at their cuts in memory meanwhile."""


@dataclass(frozen=True)
class Stack:
    """What an exam's states show.

    Attributes:
        positions: (S,k,P,C) features at P positions of k frames, the network's own state first.
        shape: of the last maps, (k,…).
    """

    positions: Tensor
    shape: torch.Size


class TestTime(nn.Module):
    """Takes the place of its classifier, at several times the cost.

    The sampler chooses once, as ever. The kept frames of an exam are then looked at from each view,
    and in each at the states that a search finds, one for all frames; what the states' last maps
    come to is classified, and the probabilities of the views are averaged.

    Args:
        model: in evaluation mode; left as it is.
        settings: section `evaluate.test_time`.
        image_size: side of its frames, pixels.
        attention: where the criterion or the aggregation is learned.

    Raises:
        UserError: see `Subsampled`; or it has fewer states than the budget.
    """

    __test__ = False  # what its name begins with

    def __init__(
        self,
        model: FrameClassifier,
        settings: TestTimeSettings,
        image_size: int,
        attention: StateAttention | None = None,
    ) -> None:
        super().__init__()
        self.model, self.attention, self._settings = model, attention, settings
        self._maps = LastMaps(model.backbone).eval()
        # One state is the network as it is: that may be one which has no others.
        self._network: Subsampled | None = None
        if settings.budget > 1:
            place = next(model.parameters()).device
            example = torch.zeros(1, 3, image_size, image_size, device=place)
            self._network = Subsampled(
                model.backbone.network,
                example,
                settings.searched,
                border=settings.border,
                method="forward_features",
                chunk=model.chunk,
            )
            if settings.budget > self._network.states:
                raise UserError(
                    f"a budget of {settings.budget}, but there are {self._network.states} states",
                    remedy="lower budget, or have more layers searched",
                )

    def forward(
        self, frames: Tensor, lengths: Tensor, generator: Generators | None = None
    ) -> Output:
        """As `FrameClassifier.forward`; logits are the logarithms of the probabilities."""
        selection, kept = self.taken(frames, lengths, generator)
        found = [
            self.classified(
                self.looked(seen_from(view, kept), selection, generator),
                selection,
                self._settings.aggregation,
            )
            for view in (None, *self._settings.views)
        ]
        probabilities = torch.stack([one.logits.softmax(1) for one in found]).mean(0)
        return Output(probabilities.log(), selection, found[0].attention)

    def taken(
        self, frames: Tensor, lengths: Tensor, generator: Generators | None
    ) -> tuple[Selection, Tensor]:
        """What the sampler keeps, and these frames (B,k,3,H,W), as the backbone wants them."""
        selection = self.model.select(frames, lengths, generator)
        return selection, selection.gather(frames, self.model.normalisation)

    def looked(
        self,
        kept: Tensor,
        selection: Selection,
        generator: Generators | None,
        after: Callable[[int], None] | None = None,
    ) -> Iterator[list[Looked]]:
        """The states of each exam, for its kept frames (B,k,3,H,W), in the order of the search.

        `after` is called with the number of each pass of a search, from 0, when it is done.
        """
        mask = selection.mask
        own: dict[int, Tensor] = {}

        def by_entropy_of_each(
            exams: Sequence[int], _: Sequence[State], outputs: Sequence[Tensor]
        ) -> list[float]:
            return (-self.entropies(outputs, mask[list(exams)])).tolist()

        def learned(
            exams: Sequence[int], states: Sequence[State], outputs: Sequence[Tensor]
        ) -> list[float]:
            assert self.attention is not None
            scores = []
            for exam, state, output in zip(exams, states, outputs, strict=True):
                first = own.setdefault(exam, self._maps.positions(output))
                found = self._maps.positions(self._moved_back(output[None], [state])[0])
                scores.append(float(self.attention.scores(found, first).mean()))
            return scores

        def drawn(exams: Sequence[int], _: Sequence[State], __: Sequence[Tensor]) -> list[float]:
            each = generator if isinstance(generator, Sequence) else [generator] * len(mask)
            return [float(torch.rand((), generator=each[exam])) for exam in exams]

        criterion = {"entropy": by_entropy_of_each, "learned": learned, "random": drawn}

        def scoring(numbers: range) -> Criterion:
            passes = itertools.count()

            def scored(
                part: Sequence[int], states: Sequence[State], outputs: Sequence[Tensor]
            ) -> Sequence[float]:
                exams = [numbers[n] for n in part]
                scores = criterion[self._settings.criterion](exams, states, outputs)
                if after is not None:
                    after(next(passes))
                return scores

            return scored

        exams = [
            # In memory as the classifier has them.
            frames[one].contiguous(memory_format=torch.channels_last)
            for frames, one in zip(kept, mask, strict=True)
        ]
        chunk = self.model.chunk or kept.shape[:2].numel()
        if self._network is None:
            outputs = torch.cat([self._maps(part) for part in torch.cat(exams).split(chunk)])
            for output in outputs.split([len(one) for one in exams]):
                yield [Looked((), output, 0.0)]
            return
        together = TOGETHER * max(1, chunk // kept.shape[1])
        for start in range(0, len(exams), together):
            part = exams[start : start + together]
            numbers = range(start, start + len(part))
            yield from search(self._network, part, scoring(numbers), self._settings.budget)

    def entropies(self, outputs: Sequence[Tensor], mask: Tensor) -> Tensor:
        """Of the predictions from the last maps of n exams, in nats: (n,)."""
        return entropy(self.model.scores(self._features(outputs, mask), mask).softmax(1))

    @torch.no_grad()
    def stacks(
        self, frames: Tensor, lengths: Tensor, generator: Generators | None = None
    ) -> list[Stack]:
        """What the states of each exam show, from its frames as they are; see `forward`."""
        selection, kept = self.taken(frames, lengths, generator)
        return [self._stack(looked) for looked in self.looked(kept, selection, generator)]

    def _stack(self, looked: Sequence[Looked]) -> Stack:
        """What the states of an exam show, each moved back to where the network's own lies."""
        maps = torch.stack([one.output for one in looked])
        maps = self._moved_back(maps, [one.state for one in looked])
        positions = torch.stack([self._maps.positions(one) for one in maps])
        return Stack(positions, looked[0].output.shape)

    def _moved_back(self, maps: Tensor, states: Sequence[State]) -> Tensor:
        """Last maps (S,k,…) of states, each where the network's own lie."""
        if self._network is None:
            return maps
        return self._maps.moved_back(maps, [displacement(self._network, one) for one in states])

    def attended(self, stacks: Sequence[Stack], mask: Tensor) -> Tensor:
        """Logits (B,classes) of exams, their states weighted by the learned attention."""
        assert self.attention is not None
        maps = [self._maps.shaped(self.attention(one.positions), one.shape) for one in stacks]
        return self.model.scores(self._features(maps, mask), mask)

    def classified(
        self, looked: Iterable[Sequence[Looked]], selection: Selection, aggregation: Aggregation
    ) -> Output:
        """What the states of each exam come to."""
        maps = [
            self._combined(states, mask, aggregation)
            for states, mask in zip(looked, selection.mask, strict=True)
        ]
        return self.model.classify(self._features(maps, selection.mask), selection)

    def _combined(self, looked: Sequence[Looked], mask: Tensor, aggregation: Aggregation) -> Tensor:
        """What the last maps (k,…) of an exam's states come to; its row of the mask is (k,)."""
        found = self._stack(looked)
        if aggregation == "learned":
            assert self.attention is not None
            combined = self.attention(found.positions)
        else:
            weights = found.positions.new_full((len(looked),), 1 / len(looked))
            if aggregation == "entropy":
                rows = mask.expand(len(looked), *mask.shape)
                weights = by_entropy(self.entropies([one.output for one in looked], rows))
            combined = torch.einsum("s,s...->...", weights, found.positions)
        return self._maps.shaped(combined, found.shape)

    def _features(self, maps: Sequence[Tensor], mask: Tensor) -> Tensor:
        """Last maps of exams, each of its own frames, to features (n,k,D)."""
        pooled = self.model.backbone.pool(torch.cat(list(maps)))
        features = pooled.new_zeros(*mask.shape, pooled.shape[-1])
        return features.masked_scatter(mask.unsqueeze(-1), pooled)


def looking(
    model: FrameClassifier, settings: TestTimeSettings, image_size: int, attention: Path
) -> "FrameClassifier | TestTime":
    """The classifier as it is to be used: itself, where one look is all.

    Args:
        model: in evaluation mode.
        settings: section `evaluate.test_time`.
        image_size: side of its frames, pixels.
        attention: file of what was learned, where something is to be.

    Raises:
        FileNotFoundError, SafetensorError: it is not there, or no such file.
    """
    if not settings.active:
        return model
    learned = None
    if settings.learned:
        learned = StateAttention(model.backbone.width, settings.attention.width)
        learned.load_state_dict(load_file(attention))
    return TestTime(model, settings, image_size, learned).eval()
