"""Figures that others published for the MedMNIST3D sets; kept beside ours, never mixed with them.

Source of `PAPER`: the paper on DAS, arXiv 2510.12376, table 1 (50 % of the slices kept, mean of
three runs; it calls its accuracy balanced, but the values sit at the majority class's share).
Source of `BENCHMARK`: Yang et al., MedMNIST v2, Scientific Data 2023, table on the 3D sets (28³).
"""

from typing import NamedTuple


class Published(NamedTuple):
    """One published result on the test split."""

    auc: float
    accuracy: float
    """Share of 1."""
    note: str = ""


SIZE = 28
"""Slices, and pixels of a side; MedMNIST v2 has no others."""
PAPER_SOURCE = "arXiv 2510.12376, table 1"
BENCHMARK_SOURCE = "MedMNIST v2, Scientific Data 2023, 28³"
PAPER_KEEP = 0.5
"""Share of the frames that the paper's subsampling methods keep."""

_PAPER_COLUMNS = ("full", "random", "uniform", "dps", "adps", "das_paper")
_PAPER_ROWS: dict[str, tuple[Published, ...]] = {
    "organmnist3d": (
        Published(0.943, 0.639),
        Published(0.916, 0.555),
        Published(0.927, 0.559),
        Published(0.912, 0.570),
        Published(0.928, 0.573),
        Published(0.931, 0.581),
    ),
    "nodulemnist3d": (
        Published(0.802, 0.806),
        Published(0.770, 0.729),
        Published(0.779, 0.741),
        Published(0.776, 0.745),
        Published(0.779, 0.782, note="printed as 0.782 among percentages; read as 78.2 %"),
        Published(0.799, 0.758),
    ),
    "adrenalmnist3d": (
        Published(0.671, 0.764),
        Published(0.543, 0.671),
        Published(0.569, 0.598),
        Published(0.590, 0.634),
        Published(0.591, 0.676),
        Published(0.597, 0.751),
    ),
    "fracturemnist3d": (
        Published(0.572, 0.400),
        Published(0.521, 0.346),
        Published(0.502, 0.349),
        Published(0.513, 0.341),
        Published(0.581, 0.421),
        Published(0.584, 0.421),
    ),
    "vesselmnist3d": (
        Published(0.788, 0.867),
        Published(0.724, 0.785),
        Published(0.714, 0.792),
        Published(0.636, 0.717),
        Published(0.739, 0.807),
        Published(0.752, 0.829),
    ),
    "synapsemnist3d": (
        Published(0.649, 0.710),
        Published(0.555, 0.588),
        Published(0.565, 0.639),
        Published(0.546, 0.605),
        Published(0.613, 0.647),
        Published(0.628, 0.707),
    ),
}
PAPER: dict[str, dict[str, Published]] = {
    flag: dict(zip(_PAPER_COLUMNS, row, strict=True)) for flag, row in _PAPER_ROWS.items()
}
"""By MedMNIST flag and sampler. The paper's DAS is `das_paper`; `das` is in no paper."""

_BENCHMARK_COLUMNS = ("ResNet-18 (2.5D)", "ResNet-18 (3D)", "ResNet-18 (ACS)")
_BENCHMARK_ROWS: dict[str, tuple[Published, ...]] = {
    "organmnist3d": (Published(0.977, 0.788), Published(0.996, 0.907), Published(0.994, 0.900)),
    "nodulemnist3d": (Published(0.838, 0.835), Published(0.863, 0.844), Published(0.873, 0.847)),
    "fracturemnist3d": (Published(0.587, 0.451), Published(0.712, 0.508), Published(0.714, 0.497)),
    "adrenalmnist3d": (Published(0.718, 0.772), Published(0.827, 0.721), Published(0.839, 0.754)),
    "vesselmnist3d": (Published(0.748, 0.846), Published(0.874, 0.877), Published(0.930, 0.928)),
    "synapsemnist3d": (Published(0.634, 0.696), Published(0.820, 0.745), Published(0.705, 0.722)),
}
BENCHMARK: dict[str, dict[str, Published]] = {
    flag: dict(zip(_BENCHMARK_COLUMNS, row, strict=True)) for flag, row in _BENCHMARK_ROWS.items()
}
"""By MedMNIST flag and network; all slices are seen."""


def paper(flag: str | None, sampler: str, keep: float) -> Published | None:
    """The paper's result for a sampler, where the share of kept frames is the paper's."""
    if sampler != "full" and keep != PAPER_KEEP:
        return None
    return PAPER.get(flag or "", {}).get(sampler)
