"""What a sampler returns: the frames it kept of each exam, and how it came to keep them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from keyslice.samplers.straight_through import (
    Normalisation,
    OneHotRows,
    TakeFrames,
    one_hot,
    take_frames,
)


@dataclass(frozen=True)
class Selection:
    """The kept frames of B exams; exam i keeps k_i of its own frames, k = max k_i.

    Rows are in frame order. Where `mask` is False an exam has no further frame: its index is 0 and
    means nothing, its matrix row is zero, and it gathers to zeros.
    """

    indices: Tensor
    """(B,k) int64, the frame number of each row."""
    mask: Tensor
    """(B,k) bool, True where the row is a kept frame."""
    order: Tensor
    """(B,k) int64, the place at which each row's frame was chosen: 0 came first."""
    lengths: Tensor
    """(B,) int64, the exams' frames before padding."""
    valid: Tensor
    """(B,T) bool, the frames that could be chosen."""
    soft: Tensor | None = None
    """(B,k,T) relaxed rows that carry the gradient; None where nothing is learned or recorded."""
    features: Tensor | None = None
    """(B,k,D) encodings of the kept frames, where the sampler had to make them at inference."""
    gate: Tensor | None = None
    """(B,k) zero in value: lets the gradient of the temporal attention's scores through to the
    sampler's own. None where nothing is learned that way, or no gradient recorded."""
    diagnostics: Mapping[str, Tensor] = field(default_factory=dict)
    """Detached figures, one for each exam (B,): `temperature`, `head_similarity`."""

    @classmethod
    def from_choices(
        cls,
        chosen: Tensor,
        rows: Tensor,
        lengths: Tensor,
        valid: Tensor,
        *,
        soft: Tensor | None = None,
        features: Tensor | None = None,
        gate: Tensor | None = None,
        diagnostics: Mapping[str, Tensor] | None = None,
    ) -> "Selection":
        """Bring choices into frame order, everything that belongs to a row along with them.

        Args:
            chosen: (B,k) frame numbers in the order in which they were chosen.
            rows: (B,k) bool, True for the first k_i rows of exam i.
            lengths: (B,) frames before padding.
            valid: (B,T) bool, the frames that could be chosen.
            soft: (B,k,T) relaxed rows, in the order of `chosen`.
            features: (B,k,D) encodings, in the order of `chosen`.
            gate: (B,k) zeros that carry gradient, in the order of `chosen`.
            diagnostics: figures for each exam.
        """
        absent = ~rows
        in_order, order = chosen.masked_fill(absent, valid.shape[1]).sort(dim=1, stable=True)
        return cls(
            indices=in_order.masked_fill(absent, 0),
            mask=rows,  # rows without a frame came last and still do
            order=order,
            lengths=lengths,
            valid=valid,
            soft=None if soft is None else _permute_rows(soft, order),
            features=None if features is None else _permute_rows(features, order),
            gate=None if gate is None else gate.gather(1, order),
            diagnostics=diagnostics or {},
        )

    @cached_property
    def matrix(self) -> Tensor:
        """The sampling matrix P (B,k,T): one-hot rows forward, the gradient of `soft` backward."""
        if self.soft is None:
            frames, dtype = self.valid.shape[1], torch.get_default_dtype()
            return one_hot(self.indices, self.mask, frames, dtype)
        return OneHotRows.apply(self.soft, self.indices, self.mask)

    @property
    def kept(self) -> Tensor:
        """(B,) int64, k_i: the frames that the rest of the network sees."""
        return self.mask.sum(1)

    @property
    def distinct(self) -> Tensor:
        """(B,) int64, how many different frames were kept; less than `kept` if some came twice."""
        repeated = (self.indices[:, 1:] == self.indices[:, :-1]) & self.mask[:, 1:]
        return self.kept - repeated.sum(1)

    def gather(self, frames: Tensor, normalisation: Normalisation | None = None) -> Tensor:
        """The kept frames (B,k,C',H,W) in floating point; the others are not read.

        Equals P·N(X) in value and in the gradient with respect to P; see `straight_through`.

        Args:
            frames: (B,T,C,H,W), uint8 or floating point.
            normalisation: None leaves the samples as they are, with C' = C.
        """
        carries_gradient = (
            self.soft is not None and self.soft.requires_grad and torch.is_grad_enabled()
        )
        if frames.is_floating_point():
            dtype = frames.dtype
        else:
            dtype = torch.get_default_dtype() if self.soft is None else self.soft.dtype
        affine = None if normalisation is None else normalisation.affine(frames, dtype)
        if carries_gradient:
            return TakeFrames.apply(
                self.matrix, frames, self.indices, self.mask, self.valid, affine
            )
        return take_frames(frames, self.indices, self.mask, dtype, affine)


def _permute_rows(values: Tensor, order: Tensor) -> Tensor:
    """(B,k,n) with row m taken from row `order[b,m]`."""
    return values.gather(1, order[..., None].expand_as(values))
