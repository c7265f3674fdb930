"""One subsampling layer at another phase: the activations that it would compute and throw away.

A layer with stride R keeps one of R² phases of the map that it would have with stride 1
(arXiv 2410.01083). At offset (dy,dx) it keeps the one that begins dy rows and dx columns later: its
input is padded as ever, extended at the far end with zeros, and read from there. Offset (0,0) is
the layer itself.

So what lies at a map's border changes with the phase: with a stride of 2 and an even size the layer
has only ever read one pixel more of padding at the near end than at the far one (with a kernel of 3
none there), and at the other phase it is the other way round. A network may lean on that: the
background of an exam is not zero, once it is normalised. With the border `kept` the map moves
instead, its edge continued, below a padding that stays: away from the border the activations are
the same.
"""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

import torch
from timm.layers.blur_pool import BlurPool2d
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.pool2d_same import AvgPool2dSame, MaxPool2dSame
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, pad

from keyslice.errors import UserError

Offset = tuple[int, int]
"""Rows and columns, each less than the stride."""
Border = Literal["zeros", "kept"]
"""What a layer at an offset meets at the border of its map; see the module."""

CONVOLUTIONS = (nn.Conv2d, BlurPool2d)
POOLS = (nn.MaxPool2d, nn.AvgPool2d)
_ONE_CHANNEL = (0, 0, 0, 0, 0, 1)
_WITHOUT_SAME = {
    Conv2dSame: nn.Conv2d,
    MaxPool2dSame: nn.MaxPool2d,
    AvgPool2dSame: nn.AvgPool2d,
}
"""What pads as TensorFlow does, whatever the size, and the same layer that pads as it is told."""


@dataclass(frozen=True)
class Axis:
    """A layer along rows or columns, in pixels.

    Args:
        reach: of its kernel, dilation included.
        stride: from one output to the next.
        padding: before the first pixel and after the last; None: as much as TensorFlow's `SAME`.
        ceil: whether a window that hangs over the end counts.
    """

    reach: int
    stride: int
    padding: int | None
    ceil: bool

    def outputs(self, size: int) -> int:
        """Of a map of `size` pixels."""
        if self.padding is None:
            return math.ceil(size / self.stride)
        left = size + 2 * self.padding - self.reach
        if not self.ceil:
            return left // self.stride + 1
        found = math.ceil(left / self.stride) + 1
        # As torch: the last window begins on the map or the padding before it.
        return found - ((found - 1) * self.stride >= size + self.padding)

    def span(self, outputs: int) -> int:
        """The pixels, padding included, that so many outputs read."""
        return (outputs - 1) * self.stride + self.reach

    def around(self, size: int) -> tuple[int, int]:
        """The layer's own padding of a map, before and after."""
        if self.padding is not None:
            return self.padding, self.padding
        total = max(self.span(self.outputs(size)) - size, 0)
        return total // 2, total - total // 2


class Phases:
    """The phases of one layer.

    Args:
        layer: a convolution or pooling layer, torch's or timm's; it is left as it is.
        border: what it meets there.

    Attributes:
        stride: of rows and columns.
    """

    def __init__(self, layer: nn.Module, border: Border = "zeros") -> None:
        assert may_shift(layer)
        self._border = border
        self._layer, self._bare, self._kernel = layer, _unpadded(layer), _kernel(layer)
        self.stride = _pair(layer.stride)
        same = type(layer) in _WITHOUT_SAME or getattr(layer, "same_pad", False)
        padding = (None, None) if same else _padding(layer)
        ceil = bool(getattr(layer, "ceil_mode", False))
        axes = zip(_reach(layer), self.stride, padding, strict=True)
        self._axes = [Axis(*axis, ceil) for axis in axes]
        self._mode = str(getattr(layer, "padding_mode", getattr(layer, "pad_mode", "zeros")))
        self._counts = _counts(layer)

    @property
    def offsets(self) -> list[Offset]:
        """All that there are, (0,0) first."""
        return [(row, column) for row in range(self.stride[0]) for column in range(self.stride[1])]

    def __call__(self, maps: Tensor, offsets: Sequence[Offset]) -> Tensor:
        """The layer's output.

        Args:
            maps: (N,C,H,W).
            offsets: one for each map; or fewer, each for as many maps, next to each other, as N is
                more (the heads or windows of an image).

        Returns:
            (N,C',H',W'), the size of the layer's own output; gradients flow through. At offset
            (0,0) it is that output.

        Raises:
            UserError: N is no multiple of their number.
        """
        each, over = divmod(len(maps), len(offsets))
        if over:
            raise UserError(
                f"{len(maps)} maps cannot be shared out among {len(offsets)} images",
                rule="a subsampling layer reads equally many maps of each image",
            )
        if not any(map(any, offsets)):
            return self._layer(maps)
        offsets = [offset for offset in offsets for _ in range(each)]
        if self._border == "kept":
            return self._layer(self._moved(maps, offsets))
        size = maps.shape[-2:]
        spans = [a.span(a.outputs(n)) for a, n in zip(self._axes, size, strict=True)]
        sides = [a.around(n) for a, n in zip(self._axes, size, strict=True)]
        if not self._counts:
            return self._bare(self._windows(maps, spans, sides, offsets))
        if self._layer.count_include_pad:
            maps, sides = pad(maps, (*sides[1], *sides[0])), [(0, 0)] * 2
        # A channel more, of ones, counts what each window holds.
        windows = self._windows(pad(maps, _ONE_CHANNEL, value=1.0), spans, sides, offsets)
        sums = avg_pool2d(windows, self._kernel, self.stride, divisor_override=1)
        return sums[:, :-1] / sums[:, -1:].clamp(min=1)

    def _moved(self, maps: Tensor, offsets: Sequence[Offset]) -> Tensor:
        """Each map moved up and left by its offset; its last row and column go on."""
        height, width = maps.shape[-2:]
        found = torch.empty_like(maps)
        begin = 0
        for (down, right), run in groupby(offsets):
            end = begin + len(list(run))
            here, there = maps[begin:end], found[begin:end]
            down, right = min(down, height - 1), min(right, width - 1)
            there[..., : height - down, : width - right] = here[..., down:, right:]
            there[..., height - down :, : width - right] = here[..., -1:, right:]
            there[..., width - right :] = there[..., width - right - 1 : width - right]
            begin = end
        return found

    def _windows(
        self,
        maps: Tensor,
        spans: Sequence[int],
        sides: Sequence[tuple[int, int]],
        offsets: Sequence[Offset],
    ) -> Tensor:
        """What each map's offset reads, padding included; `sides` are still to be padded."""
        if isinstance(self._layer, nn.MaxPool2d):
            # To a maximum the nearest pixel is as good as nothing, and a window that has left the
            # map gets a number.
            far = [s + a.stride for s, a in zip(spans, self._axes, strict=True)]
            maps = pad(maps, (sides[1][0], far[1], sides[0][0], far[0]), mode="replicate")
            sides = [(0, 0)] * 2
        elif self._mode != "zeros" and any(map(any, sides)):
            maps = pad(maps, (*sides[1], *sides[0]), mode=self._mode)
            sides = [(0, 0)] * 2
        found = _zeros(maps, spans)
        begin = 0
        for offset, run in groupby(offsets):
            end = begin + len(list(run))
            (here, there), (across, along) = (
                _overlap(o - before, n, span)
                for o, (before, _), n, span in zip(
                    offset, sides, maps.shape[-2:], spans, strict=True
                )
            )
            found[begin:end, :, there, along] = maps[begin:end, :, here, across]
            begin = end
        return found


def _overlap(start: int, size: int, span: int) -> tuple[slice, slice]:
    """Of a window that begins at pixel `start` of a map: its part of the map, and where it lies."""
    first = max(0, start)
    last = max(first, min(size, start + span))
    return slice(first, last), slice(first - start, last - start)


def _zeros(maps: Tensor, size: Sequence[int]) -> Tensor:
    """As many maps of this size, laid out in memory as these."""
    last = maps.shape[1] > 1 and maps.stride(1) == 1
    layout = torch.channels_last if last else torch.contiguous_format
    found = torch.empty(
        (*maps.shape[:2], *size), dtype=maps.dtype, device=maps.device, memory_format=layout
    )
    return found.zero_()


def may_shift(module: nn.Module) -> bool:
    """Whether a module subsamples, in a way that is known here."""
    if not isinstance(module, (*CONVOLUTIONS, *POOLS)) or max(_pair(module.stride)) == 1:
        return False
    # With gaps in its window a maximum might meet padding alone.
    return not isinstance(module, nn.MaxPool2d) or _pair(module.dilation) == (1, 1)


def _unpadded(layer: nn.Module) -> nn.Module:
    """The layer with the same parameters, which takes its input as it is."""
    bare = copy.copy(layer)
    bare.__class__ = _WITHOUT_SAME.get(type(layer), type(layer))
    for name, value in (("padding_mode", "zeros"), ("same_pad", False), ("ceil_mode", False)):
        if hasattr(layer, name):
            setattr(bare, name, value)
    bare.padding = [0] * 4 if isinstance(layer, BlurPool2d) else (0, 0)  # pyright: ignore
    return bare


def _counts(layer: nn.Module) -> bool:
    """Whether it is a mean that may be over less than its kernel."""
    return (
        isinstance(layer, nn.AvgPool2d)
        and not isinstance(layer, AvgPool2dSame)
        and layer.divisor_override is None
        and (layer.ceil_mode or not layer.count_include_pad)
    )


def _kernel(layer: nn.Module) -> tuple[int, int]:
    return _pair(layer.filt_size if isinstance(layer, BlurPool2d) else layer.kernel_size)


def _reach(layer: nn.Module) -> tuple[int, int]:
    kernel = _kernel(layer)
    dilation = _pair(getattr(layer, "dilation", 1))
    return dilation[0] * (kernel[0] - 1) + 1, dilation[1] * (kernel[1] - 1) + 1


def _padding(layer: nn.Module) -> tuple[int, int]:
    if isinstance(layer, BlurPool2d):
        return _pair(layer.padding[:2])
    return (0, 0) if layer.padding == "valid" else _pair(layer.padding)


def _pair(value: object) -> tuple[int, int]:
    if isinstance(value, int):
        return value, value
    first, second = value  # pyright: ignore[reportGeneralTypeIssues]
    return int(first), int(second)
