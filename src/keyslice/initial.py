"""What the next training of each variant starts from: nothing, or the network of a champion.

data/initial/DATASET.json, which git holds, says so for each variant, and stage train of a variant
depends on its entry there. The networks that it names lie in data/initial/DATASET under their
SHA-256, and DVC holds them. A stage never asks who is champion: that would change without a file
changing.

An entry changes only when its training is to be done again for another reason (`chosen`): were it
to follow the champion, each approval would have the next retraining train everything anew.
"""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keyslice import files
from keyslice.config import Params, StageSettings, Workspace
from keyslice.errors import UserError

SCRATCH = "scratch"
SUFFIX = ".safetensors"


@dataclass(frozen=True)
class Ancestor:
    """A registered version of a model, whose network a training starts from."""

    model: str
    version: int
    dataset_version: str
    """That it was trained on."""
    package: str
    """sha256 of its package."""
    weights: str
    """sha256 of its network's file."""
    classes: tuple[str, ...]
    sampler: str
    backbone: str
    """timm's name of it."""
    backbone_weights: str
    """Those that the first model of this line started from: the encoder's constants go by them."""
    backbone_sha256: str | None
    """Over their tensors; None where there were none."""

    @property
    def name(self) -> str:
        """As `liver/3`."""
        return f"{self.model}/{self.version}"

    def dumped(self) -> dict[str, Any]:
        """For JSON."""
        return vars(self) | {"classes": list(self.classes)}


Entries = Mapping[str, Ancestor | None]
"""By variant; None: from scratch."""


def entry(value: Any) -> Ancestor | None:
    """From what `plain` gave.

    Raises:
        ValueError: it is no such thing.
    """
    if value == SCRATCH:
        return None
    try:
        return Ancestor(**value | {"classes": tuple(value["classes"])})
    except (TypeError, LookupError) as error:
        raise ValueError("names no version of a model") from error


def plain(ancestor: Ancestor | None) -> Any:
    """For JSON: `scratch`, or an object."""
    return SCRATCH if ancestor is None else ancestor.dumped()


def read(workspace: Workspace, dataset: str) -> dict[str, Ancestor | None]:
    """What each variant's training starts from; empty where nothing has been said yet.

    Raises:
        UserError: the file is damaged.
    """
    try:
        text = workspace.initial(dataset).read_text(encoding="utf-8")
        return {variant: entry(value) for variant, value in json.loads(text).items()}
    except FileNotFoundError:
        return {}
    except (ValueError, AttributeError):
        name = f"data/initial/{dataset}.json"
        raise UserError(
            "is not as Keyslice wrote it",
            where=name,
            rule="it says what trainings start from",
            remedy=f"git checkout {name}, or remove it: then all of them start from scratch",
        ) from None


def write(workspace: Workspace, dataset: str, entries: Entries) -> None:
    """Replace what is said of all variants; equal entries give equal bytes."""
    values = {variant: plain(ancestor) for variant, ancestor in sorted(entries.items())}
    text = json.dumps(values, indent=2, ensure_ascii=False)
    files.write_text(workspace.initial(dataset), text + "\n")


def bring_in_line(workspace: Workspace, dataset: str, variants: Iterable[str]) -> None:
    """Have an entry for each variant: DVC misses one that is not there.

    That of a variant which has left the settings stays, as its results do.
    """
    known = read(workspace, dataset)
    if new := [variant for variant in variants if variant not in known]:
        write(workspace, dataset, known | dict.fromkeys(new))


def network(workspace: Workspace, dataset: str, weights: str) -> Path:
    """Where the network with this SHA-256 lies."""
    return workspace.networks(dataset) / f"{weights}{SUFFIX}"


def unfit(settings: StageSettings, ancestor: Ancestor) -> str:
    """Why a variant cannot start from a version; empty: by its settings it can.

    Whether their tensors are of one shape is not asked: that takes torch, and stage train asks it.
    """
    for what, own, its in (
        ("classes", settings.classes, ancestor.classes),
        ("sampler", (settings.sampler,), (ancestor.sampler,)),
        ("backbone", (settings.backbone.name,), (ancestor.backbone,)),
    ):
        if own != its:
            return f"its {what}: {', '.join(own)}; of {ancestor.name}: {', '.join(its)}"
    return ""


def beginning(stale: Collection[str], dataset: str, variants: Iterable[str]) -> list[str]:
    """The variants that will be trained anew, whatever they start from.

    Args:
        stale: names of the stages that are not up to date. With stage prepare, all trainings are:
            it will give them other frames.
        dataset: its name.
        variants: those of the settings.
    """
    everything = f"prepare@{dataset}" in stale
    return [v for v in variants if everything or f"train@{dataset}-{v}" in stale]


def chosen(
    known: Entries,
    settings: Mapping[str, StageSettings],
    begins: Collection[str],
    champion: Ancestor | None,
) -> dict[str, Ancestor | None]:
    """What is to be said of each variant from now on.

    Args:
        known: what has been said so far.
        settings: of each variant.
        begins: those that will be trained anew for another reason; the others' entries stay.
        champion: to start from; None: there is none, or none that may be started from.
    """
    found = dict(known)
    for variant, one in settings.items():
        if variant in begins:
            fits = champion is not None and not unfit(one, champion)
            found[variant] = champion if one.train.start == "champion" and fits else None
        else:
            found.setdefault(variant, None)
    return found


def concerns(workspace: Workspace, params: Params, dataset: str) -> bool:
    """Whether any training of a dataset starts, or is to start, from a champion.

    Or whether networks are left that nothing names any more: of a kill before they were removed.
    """
    asked = (params.stage(dataset, variant).train.start for variant in params.variants)
    if "champion" in asked or any(read(workspace, dataset).values()):
        return True
    return workspace.networks_pointer(dataset).exists()
