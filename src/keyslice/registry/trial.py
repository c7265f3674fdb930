"""Today's test exams of a dataset, and what registered packages predict on them."""

import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from keyslice import versioning
from keyslice.config import Params, Workspace
from keyslice.errors import UserError
from keyslice.exams import container, manifest
from keyslice.exams.exam import exam_path
from keyslice.exams.source import UNKNOWN
from keyslice.provenance import canonical, versions
from keyslice.provenance.ledger import Event
from keyslice.registry import models
from keyslice.registry.package import digest

AT_ONCE = 16
"""Exams in memory."""


@dataclass(frozen=True)
class TestSet:
    """The test exams of a dataset's version, N of them, by ascending id."""

    dataset: str
    version: str
    rows: pd.DataFrame
    """Of the manifest."""
    labels: NDArray[np.int64]
    """(N,) indices into the dataset's classes."""

    @property
    def exams(self) -> list[str]:
        """Their ids."""
        return self.rows["exam_id"].to_list()

    @property
    def units(self) -> np.ndarray:
        """(N,) what is resampled: the patient, or the exam where nobody knows whose it is."""
        patients = self.rows["patient"].to_numpy(dtype=object)
        return np.where(patients == UNKNOWN, self.rows["exam_id"].to_numpy(dtype=object), patients)

    def known(self, column: str) -> np.ndarray:
        """(N,) values of a column of the manifest, empty where unknown."""
        return self.rows[column].replace(UNKNOWN, "").to_numpy(dtype=object)

    @property
    def sha256(self) -> str:
        """Of ids and labels: equal for the same exams with the same labels."""
        pairs = zip(self.exams, self.labels.tolist(), strict=True)
        return canonical.sha256([list(pair) for pair in pairs])


@dataclass(frozen=True)
class Trial:
    """What a version's package does on a test set."""

    probabilities: NDArray[np.float64]
    """(N,C)"""
    macs: NDArray[np.float64]
    """(N,) multiply-accumulates of each exam."""
    plain: NDArray[np.float64]
    """(N,C) by one look, where it looks more than once; else the same."""


def todays_test(workspace: Workspace, params: Params, dataset: str) -> TestSet:
    """The test exams of the dataset's version of now.

    Raises:
        UserError: it is not ingested, has no test exams, or is not as the ledger tells.
    """
    version = versioning.version(workspace, dataset)
    if version is None:
        raise UserError(
            f"dataset {dataset} is not ingested",
            rule="versions are held against each other on its test exams",
            remedy=f"keyslice retrain {dataset}",
        )
    versions.check_told(workspace, dataset)
    table = manifest.read(workspace.kept_manifest(dataset, version))
    rows = table[table["split"] == "test"].sort_values("exam_id", ignore_index=True)
    if rows.empty:
        raise UserError(f"dataset {dataset} has no test exams", remedy="keyslice check tells more")
    classes = params.dataset(dataset).classes
    labels = np.array([classes.index(label) for label in rows["label"]], np.int64)
    return TestSet(dataset, version, rows, labels)


def run(workspace: Workspace, test: TestSet, registered: Event) -> Trial:
    """Predict the test exams through a version's package.

    Args:
        workspace: that holds exams and registry.
        test: the exams.
        registered: the event of the version's registration.

    Raises:
        UserError: the package is not the one that the ledger knows, or cannot be loaded; or an exam
            is missing or altered.
    """
    model, version = registered.payload["model"], registered.payload["version"]
    package = registered.payload["package"]
    folder = models.download(workspace, model, str(version))
    if (found := digest(folder)) != package:
        raise UserError(
            f"its package is {found[:12]}, by the ledger it is {package[:12]}",
            where=f"model {model} version {version}",
            rule="what is judged is what was registered",
            remedy=f"keyslice verify {model}/{version}; restore the artifacts from a backup",
        )
    from keyslice.models.trial import outcomes  # torch and timm: seconds

    probabilities, macs, plain = (
        np.array(values, np.float64)
        for values in zip(*outcomes(folder, _batches(workspace, test)), strict=True)
    )
    return Trial(probabilities, macs, plain)


def _batches(workspace: Workspace, test: TestSet) -> Iterator[list[np.ndarray]]:
    exams = list(zip(test.exams, test.rows["sha256"], strict=True))
    for start in range(0, len(exams), AT_ONCE):
        yield [_frames(workspace, test.dataset, *one) for one in exams[start : start + AT_ONCE]]


def _frames(workspace: Workspace, dataset: str, exam: str, sha256: str) -> np.ndarray:
    path = exam_path(workspace.exams(dataset), exam)
    content = path.read_bytes() if path.is_file() else b""
    if hashlib.sha256(content).hexdigest() != sha256:
        raise UserError(
            f"exam {exam} is {'not the one that was ingested' if content else 'not there'}",
            where=f"data/exams/{dataset}",
            rule="versions are held against each other on the exams of the dataset's version",
            remedy=f"dvc checkout --force data/exams/{dataset}.dvc",
        )
    return container.load(io.BytesIO(content)).frames
