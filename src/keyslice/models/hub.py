"""ImageNet weights from timm's hub: the safetensors file alone; its pickled twin is never asked."""

import logging
import os
from pathlib import Path
from typing import Any, cast

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import (
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RemoteEntryNotFoundError,
)

from keyslice.errors import UserError

FOLDER = "KEYSLICE_WEIGHTS"
"""Names a folder of weights, which is looked through before the hub is asked."""
OWN_FILE = f"give a safetensors file, name a folder of them in {FOLDER}"

FILE = "model.safetensors"
WHERE = "backbone.weights: imagenet"


def fetched(name: str, record: Any) -> Path:
    """The weights of a timm model as a file in the hub's cache; fetched if they are not there yet.

    Args:
        name: of the model, as the settings have it.
        record: what timm has on record for it (`timm.get_pretrained_cfg`); None: nothing.

    Raises:
        UserError: timm has no weights for the model, none as safetensors, or the hub cannot be
            reached.
    """
    if record is None or not record.has_weights:
        raise UserError(
            f"timm has no weights for {name}",
            where=WHERE,
            rule="they are those that timm names for the model",
            remedy=f"{OWN_FILE}, set backbone.weights to none, or choose another model",
        )
    if not record.hf_hub_id:
        raise _pickled(name)
    try:
        return _file(*record.hf_hub_id.partition("@")[::2])
    except RemoteEntryNotFoundError:
        raise _pickled(name) from None
    except (HfHubHTTPError, OSError) as error:
        folder = os.environ.get(FOLDER)
        looked = f", and {FOLDER} ({folder}) holds none" if folder else ""
        raise UserError(
            f"the ImageNet weights of {name} could not be fetched ({type(error).__name__}){looked}",
            where=WHERE,
            rule="timm's hub must be reachable",
            remedy=f"{OWN_FILE}, or set backbone.weights to none",
        ) from error


def _file(repository: str, revision: str) -> Path:
    """Raises RemoteEntryNotFoundError where the hub has none; else HfHubHTTPError or OSError."""
    wanted = {"repo_id": repository, "filename": FILE, "revision": revision or None}
    try:  # what is here needs no question to the hub
        return Path(cast("str", hf_hub_download(**wanted, local_files_only=True)))
    except LocalEntryNotFoundError:
        # One line at the end says what each attempt would.
        logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
        return Path(cast("str", hf_hub_download(**wanted)))


def _pickled(name: str) -> UserError:
    return UserError(
        f"timm's hub has no safetensors file of {name}",
        where=WHERE,
        rule="no pickled weights are loaded",
        remedy=f"{OWN_FILE}, or choose another model",
    )
