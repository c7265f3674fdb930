"""Drift of a dataset's new exams against those that a registered model knows.

Both manifests are the kept ones of their versions, so that the exams themselves need not be here,
and an ingestion meanwhile changes nothing. What was found lies in state/drift, and in MLflow with
the retraining's run.
"""

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from keyslice import files, versioning
from keyslice.config import Workspace
from keyslice.errors import UserError
from keyslice.evaluation import drift_page
from keyslice.exams import manifest
from keyslice.exams.drift import Drift, compare, split_new
from keyslice.provenance.installation import installation
from keyslice.registry import tags
from keyslice.registry.client import connect, exists
from keyslice.registry.owner import CHAMPION, is_own

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

FOLDER = "drift"
"""In state/, and of a run's artifacts."""


@dataclass(frozen=True)
class Reference:
    """A registered model's version, and the dataset version that it was trained on."""

    model: int
    alias: str
    """`champion`, or empty."""
    version: str
    """Of the dataset."""

    @property
    def words(self) -> str:
        """`model version 3 (@champion), dataset version 0123456789ab`."""
        alias = f" (@{self.alias})" if self.alias else ""
        return f"model version {self.model}{alias}, dataset version {self.version[:12]}"


@dataclass(frozen=True)
class Found:
    """Drift, and what it was found between."""

    dataset: str
    version: str
    """Of the dataset, that holds the new exams."""
    reference: Reference
    drift: Drift

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "dataset": self.dataset,
            "version": self.version,
            "reference": {
                "model_version": self.reference.model,
                "alias": self.reference.alias,
                "version": self.reference.version,
            },
            **self.drift.as_dict(),
        }

    @property
    def page(self) -> str:
        """In Markdown."""
        words = self.reference.words
        return drift_page.markdown(self.drift, self.dataset, self.version, words)


def find(
    workspace: Workspace, dataset: str, version: str | None = None, against: str | None = None
) -> Found | None:
    """Compare the exams of a dataset's version with those that a model knows.

    Args:
        workspace: that keeps the manifests.
        dataset: its name.
        version: of the dataset; default: the one of now.
        against: number or @alias of the model's version; default: see `reference`.

    Returns:
        None where no model is registered that could be the reference.

    Raises:
        UserError: the dataset is not ingested, no model `against`, or a manifest is not kept here.
    """
    version = version or versioning.version(workspace, dataset)
    if version is None:
        raise UserError(
            f"dataset {dataset} is not ingested",
            rule="drift is that of new exams against those of a model",
            remedy=f"keyslice ingest {dataset}",
        )
    chosen = reference(workspace, dataset, version, against)
    if chosen is None:
        return None
    known, now = (_manifest(workspace, dataset, one) for one in (chosen.version, version))
    return Found(dataset, version, chosen, compare(known, split_new(now, known)))


def reference(
    workspace: Workspace, dataset: str, version: str, against: str | None = None
) -> Reference | None:
    """What a dataset version's new exams are compared with.

    The champion; where there is none, the newest model of this installation that was trained on
    another version of the dataset; None where there is none either.

    Raises:
        UserError: `against` is no registered version.
    """
    found = _find(workspace, dataset, version, against)
    if found is None and against is not None:
        raise UserError(
            f"no model {dataset!r} with version or alias {against!r} is registered",
            where="--against",
            rule="it is a version that Keyslice registered: a number or an @alias",
            remedy="keyslice status shows which there are",
        )
    return found


def keep(workspace: Workspace, found: Found) -> Path:
    """Write state/drift/<dataset>/<version>.md and, beside it, .json; returns the page's path.

    One that is there is replaced: the reference may be another one now.
    """
    page = _file(workspace, found.dataset, found.version, ".md")
    files.write_text(page, found.page)
    told = json.dumps(found.as_dict(), indent=2, ensure_ascii=False, allow_nan=False)
    files.write_text(_file(workspace, found.dataset, found.version, ".json"), told + "\n")
    return page


def kept(workspace: Workspace, dataset: str, version: str) -> dict[str, Any] | None:
    """What `keep` wrote of a dataset's version: `Found.as_dict`; None: nothing. Asks no MLflow."""
    file = _file(workspace, dataset, version, ".json")
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None


def log(workspace: Workspace, run_id: str, found: Found) -> None:
    """Show in a run of MLflow what was found: artifacts drift/…, metrics `drift/<quantity>/…`.

    Done twice, it is there once.
    """
    from mlflow.entities import Metric

    client = connect(workspace)
    figures = {"drift/shifted": float(len(found.drift.shifted))}
    for shift in found.drift.shifts:
        if shift.effect is not None and shift.corrected is not None:
            figures[f"drift/{shift.name}/effect"] = shift.effect
            figures[f"drift/{shift.name}/p_corrected"] = shift.corrected
    # The time is the run's, so that the same figure again is the same row.
    time = client.get_run(run_id).info.start_time
    client.log_batch(run_id, metrics=[Metric(k, v, time, 0) for k, v in figures.items()])
    with tempfile.TemporaryDirectory(prefix="keyslice-") as folder:
        place = Path(folder)
        told = json.dumps(found.as_dict(), indent=2, ensure_ascii=False, allow_nan=False)
        files.write_text(place / "drift.json", told + "\n")
        files.write_text(place / "drift.md", found.page)
        rows = drift_page.table(found.drift)
        files.write_text(place / "drift.csv", rows.to_csv(index=False, lineterminator="\n"))
        client.log_artifacts(run_id, folder, FOLDER)


def _file(workspace: Workspace, dataset: str, version: str, ending: str) -> Path:
    return workspace.state / FOLDER / dataset / f"{version}{ending}"


def _manifest(workspace: Workspace, dataset: str, version: str) -> pd.DataFrame:
    path = workspace.kept_manifest(dataset, version)
    if not path.is_file():
        raise UserError(
            f"the manifest of version {version[:12]} of {dataset} is not kept here",
            where=str(path.relative_to(workspace.root)),
            rule="every version's manifest stays in state/",
            remedy="restore state/manifests from its backup",
        )
    return manifest.read(path)


def _find(
    workspace: Workspace, dataset: str, version: str, against: str | None
) -> Reference | None:
    if not exists(workspace):
        return None
    client = connect(workspace)
    registered = client.search_registered_models(f"name = '{dataset}'")
    if not registered:
        return None
    aliases: dict[str, int] = {a: int(n) for a, n in registered[0].aliases.items()}
    own = _own(client, workspace, dataset)
    if against is not None:
        name = against.removeprefix("@")
        number = int(name) if name.isdecimal() else aliases.get(name)
        chosen = [one for one in own if int(one.version) == number]
    else:
        champion = aliases.get(CHAMPION)
        chosen = [one for one in own if int(one.version) == champion]
        chosen = chosen or [one for one in own if one.tags[tags.VERSION] != version]
    if not chosen:
        return None
    newest = chosen[0]
    number = int(newest.version)
    alias = CHAMPION if aliases.get(CHAMPION) == number else ""
    return Reference(number, alias, newest.tags[tags.VERSION])


def _own(client: "MlflowClient", workspace: Workspace, dataset: str) -> "list[ModelVersion]":
    """Versions that this installation registered and that name their dataset's, newest first."""
    here = installation(workspace)
    found = client.search_model_versions(f"name = '{dataset}'")
    own = [one for one in found if is_own(one, here) and one.tags.get(tags.VERSION)]
    return sorted(own, key=lambda one: -int(one.version))
