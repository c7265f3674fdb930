"""From the maps of several states to one: mean, weighted by entropy, or by learned attention.

A state's maps lie a little off those of the network itself: by its offsets, counted in pixels of
the last map. They are moved back before positions are compared.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import grid_sample

from keyslice.models.discarded.network import State, Subsampled


def displacement(network: Subsampled, state: State) -> tuple[float, float]:
    """Rows and columns, in pixels of the last map, by which it begins later than the network's own.

    Layers that are left out of the search scale all the same.
    """
    rows, columns = (
        sum(o[axis] * level.scale[axis] for o, level in zip(state, network.levels, strict=True))
        for axis in (0, 1)
    )
    return rows / network.scale[0], columns / network.scale[1]


def aligned(maps: Tensor, displaced: Sequence[tuple[float, float]]) -> Tensor:
    """Maps (S,C,H,W) of as many states, each moved back, with values between pixels interpolated.

    Beyond its border a map is as at it.
    """
    height, width = maps.shape[-2:]
    moves = maps.new_tensor(displaced)
    y, x = (
        # grid_sample's pixels have their centres at (2 i + 1) / n - 1.
        (2 * (torch.arange(n, device=maps.device) - moves[:, axis, None]) + 1) / n - 1
        for axis, n in enumerate((height, width))
    )
    size = len(moves), height, width
    grid = torch.stack((x[:, None].expand(size), y[:, :, None].expand(size)), -1)
    return grid_sample(maps, grid, padding_mode="border", align_corners=False)


def by_entropy(entropies: Tensor) -> Tensor:
    """Weights of states from the entropies (…,S) of their predictions, in nats: softmax of -H."""
    return (-entropies).softmax(-1)


class StateAttention(nn.Module):
    """Weights of states at each position, by how their features answer to the network's own.

    The score of a state is qᵀk / √d, with q of the state without offsets and k of its own map. The
    last layer of q begins at zero: then all states count the same, and the result is their mean.

    Args:
        width: C, of the maps.
        hidden: d.
    """

    def __init__(self, width: int, hidden: int = 64) -> None:
        super().__init__()
        self.query = nn.Linear(width, hidden, bias=False)
        self.key = nn.Linear(width, hidden, bias=False)
        nn.init.zeros_(self.query.weight)

    def scores(self, maps: Tensor, own: Tensor) -> Tensor:
        """Of maps (…,P,C), P positions, against those of the state without offsets: (…,P)."""
        query, key = self.query(own), self.key(maps)
        return (query * key).sum(-1) / key.shape[-1] ** 0.5

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (S,N,P,C) of S states, the one without offsets first, to (N,P,C)."""
        weights = self.scores(maps, maps[0]).softmax(0)
        return (weights.unsqueeze(-1) * maps).sum(0)
