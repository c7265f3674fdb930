"""A backbone's last maps, whatever their layout: (N,C,H,W), (N,H,W,C), or tokens (N,L,C)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from keyslice.models.backbone import Backbone
from keyslice.models.discarded.aggregation import aligned


class LastMaps(nn.Module):
    """Frames (N,3,H,W) to the last maps, before they are pooled."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.network = backbone.network

    def forward(self, frames: Tensor) -> Tensor:
        return self.network.forward_features(frames)  # pyright: ignore[reportCallIssue]

    def positions(self, maps: Tensor) -> Tensor:
        """The features at each position: (N,P,C)."""
        if maps.ndim == 3:
            return maps
        return maps.flatten(1, 2) if self._channels_last else maps.flatten(2).transpose(1, 2)

    def shaped(self, positions: Tensor, shape: torch.Size) -> Tensor:
        """Features (N,P,C) as maps of a shape."""
        if len(shape) == 3 or self._channels_last:
            return positions.reshape(shape)
        return positions.transpose(1, 2).reshape(shape)

    def moved_back(self, maps: Tensor, displaced: Sequence[tuple[float, float]]) -> Tensor:
        """Maps (S,N,…) of S states, each where the network's own lie; see `aligned`.

        Tokens that stand for no place (a class token) are left as they are, and so is a map of one
        pixel, which has nowhere to go.
        """
        size, each = self._size(maps), [one for one in displaced for _ in range(maps.shape[1])]
        if size in (None, (1, 1)) or not any(map(any, displaced)):
            return maps
        flat = maps.flatten(0, 1)
        if flat.ndim == 4:
            channels = (0, 3, 1, 2), (0, 2, 3, 1)
            planes = flat.permute(channels[0]) if self._channels_last else flat
            back = aligned(planes, each)
            return (back.permute(channels[1]) if self._channels_last else back).view_as(maps)
        of_no_place, places = flat.split([flat.shape[1] - size[0] * size[1], size[0] * size[1]], 1)
        planes = places.transpose(1, 2).unflatten(2, size)
        back = aligned(planes, each).flatten(2).transpose(1, 2)
        return torch.cat([of_no_place, back], 1).view_as(maps)

    @property
    def _channels_last(self) -> bool:
        return getattr(self.network, "output_fmt", "NCHW") == "NHWC"

    def _size(self, maps: Tensor) -> tuple[int, int] | None:
        """Rows and columns of maps (S,N,…); None: its tokens are in no known order."""
        if maps.ndim == 5:
            rows, columns = maps.shape[2:4] if self._channels_last else maps.shape[3:5]
            return rows, columns
        grid = getattr(getattr(self.network, "patch_embed", None), "grid_size", None)
        first = getattr(self.network, "num_prefix_tokens", 0)
        return grid if grid and first + grid[0] * grid[1] == maps.shape[2] else None
