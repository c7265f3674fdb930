"""Whether a variant's networks will be able to look at exams as often as they are to."""

import torch

from keyslice.config import StageSettings
from keyslice.errors import UserError
from keyslice.models import backbone, build
from keyslice.models.discarded import UnsuitedError
from keyslice.models.discarded.aggregation import StateAttention
from keyslice.models.test_time import TestTime


def look(settings: StageSettings) -> None:
    """Have an untrained network look at a black frame as often as `evaluate.test_time` says.

    Raises:
        UserError: it has no such layers or too few, cannot be traced, or its maps are too small.
    """
    own, size = settings.evaluate.test_time, settings.prepare.image_size
    if not own.active:
        return
    with torch.random.fork_rng():
        encoder = backbone.create(settings.backbone.name, size)
        model = build.assemble(settings, encoder).eval()
        attention = StateAttention(encoder.width, own.attention.width) if own.learned else None
    frame = torch.zeros(1, 1, 1, size, size, dtype=torch.uint8)
    where = f"evaluate.test_time for variant {settings.variant}"
    try:
        looking = TestTime(model, own, size, attention).eval()
        with torch.inference_mode():
            looking(frame, torch.tensor([1]), torch.Generator())
    except UnsuitedError as error:
        remedy = "views do without it, with a budget of 1; or choose another model"
        raise UserError(str(error), where=where, remedy=remedy) from None
    except UserError as error:
        raise UserError(str(error), where=where) from None
    except RuntimeError as error:
        raise UserError(
            f"{settings.backbone.name} cannot look more than once at frames of {size}x{size} "
            f"pixels ({str(error).splitlines()[0]})",
            where=where,
            remedy="name other layers, raise prepare.image_size, or choose another model",
        ) from None
