"""Sampler, backbone, attention and head as one network: an exam in, class scores out."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from keyslice.config import Model as ModelSettings
from keyslice.models.attention import TemporalAttention
from keyslice.models.backbone import Backbone
from keyslice.samplers import Sampler, Selection
from keyslice.samplers.noise import Generators
from keyslice.samplers.straight_through import Normalisation, normalised


@dataclass(frozen=True)
class Output:
    """What a batch of exams yields.

    Attributes:
        logits: (B,classes).
        selection: which frames were kept.
        attention: (B,k), weight of each kept frame; 0 where the mask is False.
        prefix_logits: (B,k,classes) after each choice in the order of choosing, or None.
        prefix_mask: (B,k), which of those exist, or None.
    """

    logits: Tensor
    selection: Selection
    attention: Tensor
    prefix_logits: Tensor | None = None
    prefix_mask: Tensor | None = None


class FrameClassifier(nn.Module):
    """Looks at the frames that its sampler keeps and at no other.

    Args:
        sampler: chooses the frames.
        backbone: encodes each kept frame.
        classes: number of outputs.
        settings: section `model`.
        normalisation: of the backbone's input.
        prefixes: in training, also score the exam after each choice (A-DPS's loss).
        chunk: frames encoded at a time at inference; None: all of a batch at once. Chunks that
            stay in the processor's cache are the faster (see `chunk_frames`).
    """

    def __init__(
        self,
        sampler: Sampler,
        backbone: Backbone,
        *,
        classes: int,
        settings: ModelSettings,
        normalisation: Normalisation,
        prefixes: bool = False,
        chunk: int | None = None,
    ) -> None:
        super().__init__()
        self.sampler = sampler
        self.backbone = backbone
        self.attention = TemporalAttention(backbone.width, settings.attention_width)
        self.head = nn.Sequential(
            nn.Linear(backbone.width, settings.hidden_width),
            nn.ReLU(),
            nn.Dropout(settings.dropout),
            nn.Linear(settings.hidden_width, classes),
        )
        self.normalisation = normalisation
        self.prefixes = prefixes
        self.chunk = chunk

    def forward(
        self, frames: Tensor, lengths: Tensor, generator: Generators | None = None
    ) -> Output:
        """Classify exams.

        Args:
            frames: (B,T,C,H,W), uint8, C 1 or 3; frames from `lengths` on are padding.
            lengths: (B,), each exam's own number of frames.
            generator: one for the batch, or one per exam.
        """
        selection = self.select(frames, lengths, generator)
        features = selection.features
        if features is None:
            features = self._encode_kept(selection.gather(frames, self.normalisation), selection)
        return self.classify(features, selection)

    def select(
        self, frames: Tensor, lengths: Tensor, generator: Generators | None = None
    ) -> Selection:
        """Which frames are kept of each exam; see `forward`."""
        return self.sampler(frames, lengths, encode=self._encode_for_choice, generator=generator)

    def scores(self, features: Tensor, mask: Tensor) -> Tensor:
        """Logits (B,classes) for features (B,k,D) of the frames that the mask (B,k) names."""
        aggregate, _ = self.attention(features, mask)
        return self.head(aggregate)

    def classify(self, features: Tensor, selection: Selection) -> Output:
        """The output for the kept frames' features (B,k,D)."""
        aggregate, weights = self.attention(features, selection.mask, selection.gate)
        logits = self.head(aggregate)
        if not (self.training and self.prefixes):
            return Output(logits, selection, weights)
        chosen = selection.order.argsort(1)
        ordered = features.take_along_dim(chosen.unsqueeze(-1), 1)
        mask = selection.mask.take_along_dim(chosen, 1)
        return Output(
            logits, selection, weights, self.head(self.attention.prefixes(ordered, mask)), mask
        )

    def encode(self, frames: Tensor) -> Tensor:
        """Normalised frames (N,3,H,W) to features (N,D), in chunks at inference."""
        frames = frames.contiguous(memory_format=torch.channels_last)
        if self.chunk is None or self.training or len(frames) <= self.chunk:
            return self.backbone(frames)
        return torch.cat([self.backbone(part) for part in frames.split(self.chunk)])

    def _encode_kept(self, kept: Tensor, selection: Selection) -> Tensor:
        """Kept frames (B,k,3,H,W) to features (B,k,D); places without a frame cost nothing."""
        mask = selection.mask
        if bool(mask.all()):
            return self.encode(kept.flatten(0, 1)).unflatten(0, mask.shape)
        encoded = self.encode(kept[mask])
        features = encoded.new_zeros(*mask.shape, encoded.shape[-1])
        return features.masked_scatter(mask.unsqueeze(-1), encoded)

    def _encode_for_choice(self, frames: Tensor) -> Tensor:
        """Stored frames (N,C,H,W) to features (N,D) for a sampler that looks at what it kept.

        BatchNorm runs in evaluation mode, since a step's few frames have other statistics than a
        batch of exams; no gradient, the encodings are what the sampler observes.
        """
        training = self.backbone.training
        self.backbone.eval()
        dtype = torch.get_default_dtype()
        affine = self.normalisation.affine(frames, dtype)
        try:
            with torch.no_grad():
                return self.encode(normalised(frames.to(dtype), affine))
        finally:
            self.backbone.train(training)


def chunk_frames(image_size: int, *, pixels: int = 2**20) -> int:
    """Frames to encode at a time on a CPU so that the feature maps stay in its cache."""
    return max(1, pixels // image_size**2)
