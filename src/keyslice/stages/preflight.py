"""What stages train and evaluate would refuse, found before exams are prepared; without
Lightning's seconds.
"""

from collections.abc import Iterable

from keyslice.config import Params
from keyslice.models import backbone
from keyslice.models.looks import look
from keyslice.training.device import device


def preflight(params: Params, dataset: str, variants: Iterable[str]) -> None:
    """Find before any exam is prepared what a stage would refuse after all of them are.

    Each backbone is built once, its weights are looked up as for the training itself. Loads torch;
    to be called where there is something to train.

    Raises:
        UserError: unknown names, an unknown backbone or one that cannot encode frames of this
            size, weights that cannot be had or do not fit, a GPU that is not there, a network that
            cannot look at exams as often as `evaluate.test_time` says.
    """
    settings = [params.stage(dataset, variant) for variant in variants]
    for one in settings:
        device(one.train)
    for encoder, size in dict.fromkeys((one.backbone, one.prepare.image_size) for one in settings):
        backbone.build(encoder, size)
    known = set[str]()
    for one in settings:
        wanted = f"{one.backbone} {one.prepare} {one.evaluate.test_time}"
        if wanted not in known:
            look(one)
        known.add(wanted)
