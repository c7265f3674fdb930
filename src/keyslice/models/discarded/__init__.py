"""Activations that subsampling layers throw away, brought back at test time (arXiv 2410.01083).

Usable alone, on any network that torch.fx can follow:

    def certain(exams, states, outputs):
        return [-entropy(output.softmax(1)).mean().item() for output in outputs]

    network = Subsampled(model.eval(), frames[:1])
    [looked] = search(network, [frames], certain, budget=8)
"""

from keyslice.models.discarded.graph import UnsuitedError
from keyslice.models.discarded.network import Level, State, Subsampled
from keyslice.models.discarded.phase import Border, Offset, Phases
from keyslice.models.discarded.search import Criterion, Looked, entropy, search

__all__ = [
    "Border",
    "Criterion",
    "Level",
    "Looked",
    "Offset",
    "Phases",
    "State",
    "Subsampled",
    "UnsuitedError",
    "entropy",
    "search",
]
