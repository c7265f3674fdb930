"""The 3-D sets of MedMNIST: official files, checked by the package's MD5, official splits."""

import ast
import os
import urllib.error
import urllib.request
import zipfile
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from keyslice import files
from keyslice.config import MedMNISTDataset, Workspace
from keyslice.errors import UserError
from keyslice.exams.exam import Exam
from keyslice.exams.source import Listing, stamp

ROOT_VARIABLE = "MEDMNIST_ROOT"
SPLITS = {"train": "train", "val": "validation", "test": "test"}
MODALITIES = {
    "organmnist3d": "CT",
    "nodulemnist3d": "CT",
    "adrenalmnist3d": "shape from CT",
    "fracturemnist3d": "CT",
    "vesselmnist3d": "shape from MRA",
    "synapsemnist3d": "electron microscopy",
}
TIMEOUT_SECONDS = 60


@cache
def info() -> dict[str, Any]:
    """`medmnist.INFO`, read from the package's source.

    Importing the package would pull in torch and torchvision and make a folder in the user's home.
    """
    package = find_spec("medmnist")
    if package is None or package.origin is None:
        raise ModuleNotFoundError("medmnist")
    source = Path(package.origin).with_name("info.py").read_text(encoding="utf-8")
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "INFO":
            return ast.literal_eval(node.value)
    raise LookupError("medmnist/info.py holds no INFO")


def listings(workspace: Workspace, dataset: MedMNISTDataset, name: str) -> list[Listing]:
    """All exams of the set; frames run along the first axis.

    Raises:
        UserError: another number of classes than the set's, no file and no way to fetch it, or
            a file that is not the official one.
    """
    facts = info()[dataset.flag]
    labels = facts["label"]
    if len(dataset.classes) != len(labels):
        raise UserError(
            f"{len(dataset.classes)} classes are named",
            where=f"datasets.{name}.classes",
            rule=f"{dataset.flag} has {len(labels)}, in this order: {', '.join(labels.values())}",
            remedy="name as many, in that order; the names are free",
        )
    variant = "" if dataset.size == 28 else f"_{dataset.size}"
    md5 = facts[f"MD5{variant}"]
    path = locate(
        f"{dataset.flag}{variant}.npz", facts[f"url{variant}"], md5, workspace.state / "medmnist"
    )
    return read_listings(path, md5, dataset)


def read_listings(path: Path, md5: str, dataset: MedMNISTDataset) -> list[Listing]:
    """The exams in an official file, whose MD5 is checked first.

    Raises:
        UserError: truncated, altered, or not such a file.
    """
    if files.md5(path) != md5:
        raise UserError(
            "is truncated or not the official file",
            where=str(path),
            rule=f"its MD5 must be {md5}",
            remedy="delete it and fetch it again",
        )
    try:
        with np.load(path, allow_pickle=False) as arrays:
            content = {s: (arrays[f"{s}_images"], arrays[f"{s}_labels"]) for s in SPLITS}
    except (KeyError, ValueError, OSError, zipfile.BadZipFile) as error:
        raise UserError(f"is no MedMNIST file ({error})", where=str(path)) from None
    return [
        Listing(
            name=f"{path.name}:{split}:{number}",
            stamp=stamp(md5, split, number),
            patient=None,
            label=dataset.classes[int(label[0])],
            read=partial(Exam, images[number]),
            source_format="medmnist",
            label_source=f"medmnist:{dataset.flag}",
            split=SPLITS[split],
            modality=MODALITIES[dataset.flag],
        )
        for split, (images, labels) in content.items()
        for number, label in enumerate(labels)
    ]


def locate(file: str, url: str, md5: str, downloads: Path) -> Path:
    """The file in the folder MEDMNIST_ROOT where that is set, else in `downloads`, fetched once.

    Raises:
        UserError: not in MEDMNIST_ROOT, or it cannot be fetched.
    """
    if root := os.environ.get(ROOT_VARIABLE):
        path = Path(root).expanduser() / file
        if path.is_file():
            return path
        raise UserError(
            f"no {file} in {root}",
            where=ROOT_VARIABLE,
            rule="the folder holds the official files",
            remedy=f"put it there ({url}), or unset {ROOT_VARIABLE} to have it fetched",
        )
    path = downloads / file
    if not path.is_file():
        download(url, md5, path)
    return path


def download(url: str, md5: str, target: Path) -> None:
    """Fetch `url` into `target`, which appears only once its MD5 is right.

    Raises:
        UserError: unreachable, or what came is not the official file.
    """
    request = urllib.request.Request(url, headers={"User-Agent": "keyslice"})  # noqa: S310
    way_out = f"fetch it by other means, put it into a folder and set {ROOT_VARIABLE} to that"
    try:
        # The addresses are those of medmnist.INFO, all https.
        with (
            urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer,  # noqa: S310
            files.beside(target) as part,
        ):
            with part.open("wb") as file:
                while block := answer.read(1 << 20):
                    file.write(block)
            if files.md5(part) != md5:
                raise UserError(
                    f"what came from {url} is not the official file",
                    rule=f"its MD5 must be {md5}",
                    remedy=f"try again, or {way_out}",
                )
    except (urllib.error.URLError, OSError) as error:
        reason = getattr(error, "reason", error)
        raise UserError(
            f"cannot fetch {url} ({reason})", rule="the set is not here yet", remedy=way_out
        ) from None
