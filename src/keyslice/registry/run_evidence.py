"""Whether the runs in MLflow that a version names say what the files say they were made from."""

import json
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from keyslice import files
from keyslice.config import Workspace
from keyslice.errors import UserError
from keyslice.provenance import withdrawn
from keyslice.provenance.code_evidence import LOCK
from keyslice.provenance.data_evidence import compared, listing
from keyslice.provenance.evidence import Item
from keyslice.provenance.ledger import Event
from keyslice.registry import artifacts, curves, runs, tags
from keyslice.registry.mirror import described
from keyslice.versioning import commits, lock
from keyslice.versioning.objects import Store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run


def look(
    client: "MlflowClient",
    workspace: Workspace,
    registered: Event,
    found: Sequence[Event],
    cache: Store,
) -> Iterator[Item]:
    """Hold a version's description, and its two runs, against what DVC's cache has.

    Of the runs: parameters, figures, curves, tags and files.

    What people add in MLflow (to descriptions, tags of other names) and what nothing can repeat
    (times, latencies) is not looked at.

    Args:
        client: of MLflow.
        workspace: whose results.
        registered: the event of the version's registration.
        found: all events: a file that a withdrawal has replaced is not the run's any more.
        cache: of DVC.
    """
    told: Any = registered.payload
    try:
        text = commits.contents(workspace, told["run_commit"], LOCK)[LOCK]
        noted = lock.entries_in(text or "")
    except (UserError, ValueError):
        return  # told of with the code
    left = _Left(workspace, told, noted, cache, frozenset(withdrawn.replacements(found)))
    for kind, key, expected in (
        ("training", "training_run", left.training),
        ("retraining", "run", left.retraining),
    ):
        try:
            claims = expected()
        except (OSError, ValueError, LookupError):
            detail = "what it was made from is not in DVC's cache; dvc pull"
            yield Item("registry", f"{kind}'s run", "unseen", detail)
            continue
        yield from _run(client, workspace, told[key], kind, claims)
    yield from _description(client, told, left)


@dataclass(frozen=True)
class _Claims:
    """What a run must say."""

    tags: Mapping[str, str]
    parameters: Mapping[str, str]
    figures: Mapping[str, float]
    curves: Sequence[curves.Row]
    files: Mapping[str, str]
    """MD5 by place."""


@dataclass(frozen=True)
class _Left:
    """What the stages of a version left, by its commit's dvc.lock."""

    workspace: Workspace
    told: Mapping[str, Any]
    noted: Mapping[str, Any]
    cache: Store
    replaced: frozenset[str]

    def training(self) -> _Claims:
        """Of the run of one variant and seed."""
        variant, seed = self.told["variant"], self.told["seed"]
        models = self.workspace.models(self._dataset, variant)
        results = self.workspace.results(self._dataset, variant)
        trained = models / f"seed-{seed}"
        stages = [f"{kind}@{self._dataset}-{variant}" for kind in ("train", "evaluate")]
        copied = [trained / "summary.json", trained / "history.csv", results / "confusion.json"]
        looks = results / runs.TEST_TIME
        looked = self._name(looks) in self._md5s  # not of an earlier release
        copied += [looks] * looked
        return _Claims(
            tags={
                tags.KIND: "training",
                tags.VARIANT: variant,
                tags.SEED: str(seed),
                tags.VERSION: self.told["dataset_version"],
                tags.STAGES: lock.hash_of(self.noted, *stages) or "",
            },
            parameters=runs.parameters(
                self._json(models / "settings.json"), seed, self._json(looks) if looked else None
            ),
            figures=runs.figures(self._json(results / "metrics.json"), seed),
            curves=curves.read(self._object(trained / "history.csv")),
            files=self._copied({path.name: path for path in copied}),
        )

    def retraining(self) -> _Claims:
        """Of the run of all variants."""
        folder = self.workspace.comparison(self._dataset)
        figures: dict[str, float] = {}
        for variant in self._variants:
            results = self.workspace.results(self._dataset, variant)
            figures |= runs.over_seeds(self._json(results / "metrics.json"), variant)
        names = lock.stage_names(self._dataset, self._variants)
        candidate = self.candidate
        copied = {name: folder / name for name in runs.COMPARISON_FILES}
        drawn = [PurePosixPath(p) for p in self._md5s if p.startswith(f"{self._name(folder)}/fig")]
        copied |= {
            f"figures/{path.name}": self.workspace.root / path
            for path in drawn
            if path.name != runs.EXAM_MAPS
        }
        return _Claims(
            tags={
                tags.KIND: "retraining",
                tags.VERSION: self.told["dataset_version"],
                tags.LOCK: lock.hash_of(self.noted, *names) or "",
                tags.COMMIT: self.told["run_commit"],
                tags.CANDIDATE: f"{candidate['variant']}/{candidate['seed']}",
                tags.run_tag(self.told["variant"], self.told["seed"]): self.told["training_run"],
            },
            parameters={},
            figures=figures,
            curves=(),
            files=self._copied(copied),
        )

    @property
    def candidate(self) -> dict[str, Any]:
        """candidate.json of the comparison."""
        return self._json(self.workspace.comparison(self._dataset) / "candidate.json")

    @property
    def _dataset(self) -> str:
        return self.told["model"]

    @cached_property
    def _variants(self) -> list[str]:
        return compared(self.workspace, self._dataset, self.noted, self.cache)

    @cached_property
    def _md5s(self) -> dict[str, str]:
        """Of every file that the stages left, by path."""
        stages = lock.stage_names(self._dataset, self._variants)
        listed = (listing(self.noted, stage, self.cache) for stage in stages)
        return {path: md5 for stage in listed for path, md5 in stage.items()}

    def _copied(self, places: Mapping[str, Path]) -> dict[str, str]:
        known = {name: self._md5s[self._name(path)] for name, path in places.items()}
        return {name: md5 for name, md5 in known.items() if md5 not in self.replaced}

    def _json(self, path: Path) -> dict[str, Any]:
        return json.loads(self._object(path).read_bytes())

    def _object(self, path: Path) -> Path:
        return self.cache.find(self._md5s[self._name(path)])[0]

    def _name(self, path: Path) -> str:
        return path.relative_to(self.workspace.root).as_posix()


def _run(
    client: "MlflowClient", workspace: Workspace, run_id: str, kind: str, claims: _Claims
) -> Iterator[Item]:
    from mlflow.exceptions import MlflowException

    what = f"{kind}'s run {run_id[:8]}"
    try:
        run = client.get_run(run_id)
        history = {
            name: client.get_metric_history(run_id, name)
            for name in sorted({name for row in claims.curves for name in row})
        }
    except MlflowException:
        yield Item("registry", what, "missing", "it is not in MLflow")
        return
    if run.info.lifecycle_stage != "active":
        yield Item("registry", what, "missing", "it was deleted in MLflow")
        return
    wrong = [*_said(run, claims)]
    drawn = {
        (name, metric.step): metric.value for name, known in history.items() for metric in known
    }
    for row in claims.curves:
        step = int(row["epoch"])
        wrong += [
            f"{name} of epoch {step}"
            for name, value in row.items()
            if not _equal(drawn.get((name, step)), value)
        ]
    wrong += _altered_files(workspace, run, claims.files)
    for one in wrong:
        yield Item("registry", f"{what}: {one}", "altered", "not as the files it was made from")
    if not wrong:
        counts = {
            "parameters": len(claims.parameters),
            "figures": len(claims.figures),
            "epochs": len(claims.curves),
            "files": len(claims.files),
        }
        told = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
        yield Item("registry", what, "sound", told)


def _description(client: "MlflowClient", told: Mapping[str, Any], left: _Left) -> Iterator[Item]:
    """What was written with the version stands in it still, whatever people have added."""
    from mlflow.exceptions import MlflowException

    try:
        version = client.get_model_version(told["model"], str(told["version"]))
        words = described(left.candidate)
    except (MlflowException, OSError, ValueError, LookupError):
        return  # told of with the versions, or with the runs
    if words not in (version.description or ""):
        detail = f"it does not say any more: {words}"
        yield Item("registry", "description of the version", "altered", detail)


def _said(run: "Run", claims: _Claims) -> Iterator[str]:
    """Names of what a run says otherwise, or not at all."""
    for name, text in claims.tags.items():
        if run.data.tags.get(name) != text:
            yield f"tag {name}"
    for name, text in claims.parameters.items():
        if run.data.params.get(name) != text:
            yield f"parameter {name}"
    for name, value in claims.figures.items():
        if not _equal(run.data.metrics.get(name), value):
            yield name


def _equal(seen: float | None, told: float) -> bool:
    return seen is not None and (seen == told or (math.isnan(seen) and math.isnan(told)))


def _altered_files(workspace: Workspace, run: "Run", expected: Mapping[str, str]) -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="keyslice-") as place:
        for name, md5 in expected.items():
            uri = f"{run.info.artifact_uri}/{name}"
            copy = artifacts.fetch(workspace, uri, Path(place))
            if copy is None or files.md5(copy) != md5:
                yield f"file {name}"
