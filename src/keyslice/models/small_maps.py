"""Convolutions on feature maps smaller than their kernels, without the part that meets padding.

Frames of 28 × 28 pixels leave a MobileNet maps of 2 × 2 and 1 × 1. There most of a 5 × 5 kernel
multiplies padding alone, and a convolution of a 1 × 1 map is a matrix product; the libraries take
several times as long for either as for what is left. Values and gradients are the same but for
rounding. It holds on a CPU alone, in training and `within`, where the hours are spent: what a
trained network itself gives stays what timm's gives.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn.functional import conv2d, linear

_within = ContextVar("within", default=False)


@contextmanager
def within() -> Iterator[None]:
    """Here convolutions of this kind are quick also in evaluation mode."""
    token = _within.set(True)
    try:
        yield
    finally:
        _within.reset(token)


class Reach(NamedTuple):
    """Along one axis: the part of a kernel that meets the map, and the padding that it needs."""

    start: int
    stop: int
    padding: int

    @classmethod
    def of(cls, size: int, kernel: int, stride: int, padding: int) -> "Reach":
        """Of a map of `size` pixels: output o meets pixel i with the weight i - o·stride + padding.

        i runs from 0 to size - 1 and o from 0 to the output's last.
        """
        last = (size + 2 * padding - kernel) // stride
        start = max(0, padding - last * stride)
        return cls(start, min(kernel, padding + size), padding - start)


class SmallMapConv2d(nn.Conv2d):
    """A convolution with its weights under the same names; see the module."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        quick = self.training or _within.get()
        if not quick or input.is_cuda or isinstance(self.padding, str):
            return super().forward(input)
        rows, columns = (
            Reach.of(size, *axis)
            for size, *axis in zip(
                input.shape[-2:], self.kernel_size, self.stride, self.padding, strict=True
            )
        )
        weight = self.weight[..., rows.start : rows.stop, columns.start : columns.stop]
        padding = rows.padding, columns.padding
        if input.shape[-2:] == weight.shape[-2:] == (1, 1) and padding == (0, 0):
            if self.groups == 1:
                return linear(input.flatten(1), weight.flatten(1), self.bias)[..., None, None]
            if self.groups == self.in_channels == self.out_channels:
                found = input * weight.flatten()[:, None, None]
                return found if self.bias is None else found + self.bias[:, None, None]
        return conv2d(input, weight, self.bias, self.stride, padding, self.dilation, self.groups)


def quicken(network: nn.Module) -> None:
    """Let the plain convolutions of `network` be of this kind; their parameters stay the same."""
    for module in network.modules():
        if type(module) is not nn.Conv2d or module.padding_mode != "zeros":
            continue
        if module.dilation == (1, 1):
            module.__class__ = SmallMapConv2d
