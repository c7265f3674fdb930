"""Before a training: the champion's network is laid down where `train.start` asks for it.

Stages do not ask MLflow or the ledger. What they start from is a file, which DVC and git hold, so
that a run can be repeated when another version is champion.
"""

import json
from collections.abc import Collection
from pathlib import Path

from keyslice import initial, versioning
from keyslice.config import Params, Workspace
from keyslice.errors import UserError
from keyslice.initial import Ancestor
from keyslice.provenance import ledger, standing, withdrawn
from keyslice.provenance.ledger import Event
from keyslice.registry import models, package
from keyslice.registry.owner import CHAMPION


def lay_down(
    workspace: Workspace, params: Params, dataset: str, stale: Collection[str]
) -> dict[str, str]:
    """Say what each training starts from that is to be done anew; the others' start stays.

    Args:
        workspace: whose champion is taken.
        params: settings.
        dataset: its name; the caller is the only one that retrains it.
        stale: names of its stages that are not up to date.

    Returns:
        In words, for each variant that will be trained; empty where all of them start from scratch
        and are to.

    Raises:
        UserError: the champion is to be started from, and its package is not the one that was
            registered, or its alias not where the ledger says.
        RunError: MLflow does not answer, or DVC cannot take the network.
    """
    begins = initial.beginning(stale, dataset, params.variants)
    if not begins or not initial.concerns(workspace, params, dataset):
        return {}
    settings = {variant: params.stage(dataset, variant) for variant in params.variants}
    asked = any(settings[variant].train.start == "champion" for variant in begins)
    champion, why = _champion(workspace, dataset) if asked else (None, "")
    known = initial.read(workspace, dataset)
    ancestor, network = champion or (None, None)
    entries = initial.chosen(known, settings, begins, ancestor)
    networks = {ancestor.weights: network} if ancestor and network else {}
    versioning.lay(workspace, dataset, entries, networks)
    words = {}
    for variant in begins:
        taken, one = entries[variant], settings[variant]
        unlike = initial.unfit(one, ancestor) if ancestor else why
        words[variant] = "from scratch"
        if taken is not None:
            words[variant] = f"from {taken.name}"
        elif one.train.start == "champion":
            words[variant] += f": {unlike}"
    return words


def _champion(workspace: Workspace, model: str) -> tuple[tuple[Ancestor, Path] | None, str]:
    """The champion and its network's file; else None, and why it cannot be started from."""
    found = ledger.read(workspace)
    number = standing.champion(found, model)
    registered = None if number is None else standing.registered(found, model, number)
    if number is None or registered is None:
        return None, "there is no champion yet"
    if withdrawn.models_affected(found).get((model, number)):
        return None, f"the champion, {model}/{number}, learned from exams withdrawn since"
    folder = models.download(workspace, model, f"@{CHAMPION}")
    return (_ancestor(registered, folder), folder / package.WEIGHTS), ""


def _ancestor(registered: Event, folder: Path) -> Ancestor:
    """Raises UserError: the package is not the one that the ledger tells of."""
    told = registered.payload
    model, version = told["model"], int(told["version"])
    if package.digest(folder) != told["package"]:
        raise UserError(
            "the stored package is not the one that the ledger tells of",
            where=f"model {model} version {version}",
            rule="a training starts from what was registered, or from nothing",
            remedy=f"keyslice verify {model}/{version} says what was altered",
        )
    description = json.loads((folder / package.DESCRIPTION).read_text(encoding="utf-8"))
    settings, began = description["settings"], description["training"]["started_from"]
    return Ancestor(
        model=model,
        version=version,
        dataset_version=told["dataset_version"],
        package=told["package"],
        weights=told["weights"],
        classes=tuple(settings["classes"]),
        sampler=settings["sampler"],
        backbone=settings["backbone"]["name"],
        backbone_weights=began["source"],
        backbone_sha256=began["sha256"],
    )
