"""Runs in MLflow, made from files: one per retraining, below it one per variant and seed.

A training run is keyed by what dvc.lock says of its stages, and by its seed. One that exists is
linked, not made twice: after a repetition, after a plain `dvc repro`, after a restored cache, and
where another installation that shares the MLflow has made it. A retraining's run is always one's
own.
What shows pixels (report.html) or lists patients (predictions.parquet) is not copied.
"""

import json
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keyslice import versioning
from keyslice.config import Workspace
from keyslice.provenance.installation import installation
from keyslice.registry import client as mlflow_client
from keyslice.registry import curves, runs, tags, timings
from keyslice.registry.owner import refuse_anothers

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

NOTE_CHARACTERS = 5000
"""That every release of MLflow takes as a tag."""
PARAMS_AT_ONCE = 100
"""Parameters and tags that MLflow takes in one call."""


class Mirror:
    """One dataset's side of MLflow.

    Args:
        workspace: holds the files.
        dataset: the experiment's name.
    """

    def __init__(self, workspace: Workspace, dataset: str) -> None:
        self.workspace, self.dataset = workspace, dataset
        self.client: MlflowClient = mlflow_client.connect(workspace)
        self.experiment = mlflow_client.experiment(self.client, workspace, dataset)
        self.installation = installation(workspace)

    def begin(self, lock_hash: str | None = None) -> str:
        """The id of the retraining's run: that of the results `lock_hash`, else a new one.

        Asked first of all, before anything is trained: whether its model may be registered.

        Runs that this installation left unfinished are ended: whoever wrote them is gone, since
        the caller holds the dataset (`keyslice.stages.running.only_retraining`).

        Raises:
            UserError: the dataset's model is another installation's.
        """
        refuse_anothers(self.client, self.dataset, self.installation)
        for run in self._unfinished():
            self.client.set_terminated(run.info.run_id, "KILLED")
        known = self._retraining(lock_hash) if lock_hash else None
        if known is not None:
            return known.info.run_id
        version = self._version() or "none"
        name = f"{self.dataset} {version[:8]} {time.strftime('%Y-%m-%d %H:%M', time.gmtime())}"
        own = self._own("retraining") | {tags.VERSION: version}
        return self.client.create_run(self.experiment, run_name=name, tags=own).info.run_id

    def open_run(self, parent: str, variant: str, seed: int) -> str:
        """The run of a variant and seed below `parent`, still to be filled.

        One that is there already is taken up: a training that failed and is tried again goes on
        from its checkpoint, and so do its curves.
        """
        opened = self._opened(parent, variant, seed)
        if opened:
            return opened[0].info.run_id
        own = self._own("training") | {
            "mlflow.parentRunId": parent,
            tags.VARIANT: variant,
            tags.SEED: str(seed),
        }
        run = self.client.create_run(self.experiment, run_name=f"{variant} seed {seed}", tags=own)
        return run.info.run_id

    def variant(self, parent: str, variant: str) -> dict[str, str]:
        """Mirror what stages train and evaluate left of a variant; tag name to run id, by seed.

        Runs that were opened below `parent` while training ran are completed, or deleted where
        the same results have a run already.
        """
        names = [f"{stage}@{self.dataset}-{variant}" for stage in ("train", "evaluate")]
        stage_hash = versioning.stage_hash(self.workspace, *names)
        if stage_hash is None:
            raise versioning.DVCError(f"{' or '.join(names)} is not in dvc.lock")
        settings = _json(self.workspace.models(self.dataset, variant) / "settings.json")
        links: dict[str, str] = {}
        for seed in settings["train"]["seeds"]:
            known = self._find(
                {tags.KIND: "training", tags.STAGES: stage_hash, tags.SEED: str(seed)}
            )
            if known is not None:
                for run in self._opened(parent, variant, seed):
                    self.client.delete_run(run.info.run_id)
                run_id = known.info.run_id
            else:
                run_id = self.open_run(parent, variant, seed)
                self._fill(run_id, variant, seed, settings)
                # Last, as the sign that the run is whole.
                self.client.set_tag(run_id, tags.STAGES, stage_hash)
                self.client.set_terminated(run_id, "FINISHED")
            links[tags.run_tag(variant, seed)] = run_id
        return links

    def complete(self, parent: str, variants: Iterable[str], run_commit: str) -> str:
        """Mirror the whole chain and end the retraining's run; returns the id of that run.

        It is `parent`, or the run that the same results have already: then `parent` is deleted.
        """
        variants = list(variants)
        lock_hash = versioning.lock_hash(self.workspace, self.dataset, variants)
        if lock_hash is None:
            raise versioning.DVCError(f"a stage of {self.dataset} is not in dvc.lock")
        known = self._retraining(lock_hash)
        if known is not None and known.info.run_id == parent:
            return parent  # the hash is written last: this run is whole
        links: dict[str, str] = {}
        for variant in variants:
            links |= self.variant(parent, variant)
        if known is not None:
            self.client.delete_run(parent)
            return known.info.run_id
        folder = self.workspace.comparison(self.dataset)
        for name in runs.COMPARISON_FILES:
            self.client.log_artifact(parent, str(folder / name))
        for figure in sorted((folder / "figures").glob("*")):
            if figure.name != runs.EXAM_MAPS:
                self.client.log_artifact(parent, str(figure), "figures")
        self._log_dataset(parent, "comparison")
        self._log_metrics(parent, self._summary(variants))
        candidate = _json(folder / "candidate.json")
        proposed = f"{candidate['variant']}/{candidate['seed']}"
        self._tag(parent, links | {tags.COMMIT: run_commit, tags.CANDIDATE: proposed})
        self.client.set_tag(parent, "mlflow.note.content", _note(folder, described(candidate)))
        self.client.set_tag(parent, tags.LOCK, lock_hash)
        self.client.set_terminated(parent, "FINISHED")
        return parent

    def abandon(self, parent: str, finished: Iterable[str]) -> None:
        """End a retraining that failed: what its finished variants left is kept.

        A `parent` that is whole already, of an earlier retraining, stays as it is.
        """
        if any(run.info.run_id == parent for run in self._unfinished()):
            for variant in finished:
                self._tag(parent, self.variant(parent, variant))
        for run in self._unfinished():
            self.client.set_terminated(run.info.run_id, "FAILED")

    def _fill(self, run_id: str, variant: str, seed: int, settings: Mapping[str, Any]) -> None:
        models = self.workspace.models(self.dataset, variant) / f"seed-{seed}"
        results = self.workspace.results(self.dataset, variant)
        looks = results / runs.TEST_TIME
        test_time = _json(looks) if looks.is_file() else None  # of an earlier release
        self._log_params(run_id, runs.parameters(settings, seed, test_time))
        curves.log(self.client, run_id, curves.read(models / "history.csv"))
        self._log_metrics(run_id, runs.figures(_json(results / "metrics.json"), seed))
        self._log_dataset(run_id, "training")
        copied = [models / "summary.json", models / "history.csv", results / "confusion.json"]
        for file in [*copied, *[looks] * (test_time is not None)]:
            self.client.log_artifact(run_id, str(file))
        # The MD5 is the results' own, so that a run leads to the bytes it was trained from.
        self.client.set_tag(run_id, tags.VERSION, self._version() or "none")

    def _summary(self, variants: Iterable[str]) -> dict[str, float]:
        """Each variant's figures over seeds, and its wall times, under `<variant>/…`."""
        figures: dict[str, float] = {}
        for variant in variants:
            results = _json(self.workspace.results(self.dataset, variant) / "metrics.json")
            figures |= runs.over_seeds(results, variant)
            measured = timings.current(self.workspace, self.dataset, variant) or {}
            figures |= runs.numbers(tags.flatten(measured, "/", f"{variant}/timings"))
        return figures

    def _log_metrics(self, run_id: str, values: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(name, value, now, 0) for name, value in values.items()]
        for start in range(0, len(metrics), curves.BATCH):
            self.client.log_batch(run_id, metrics=metrics[start : start + curves.BATCH])

    def _log_params(self, run_id: str, values: Mapping[str, str]) -> None:
        from mlflow.entities import Param

        params = [Param(key, value) for key, value in values.items()]
        for start in range(0, len(params), PARAMS_AT_ONCE):
            self.client.log_batch(run_id, params=params[start : start + PARAMS_AT_ONCE])

    def _log_dataset(self, run_id: str, context: str) -> None:
        """The dataset's version as the run's input; DVC's md5 is the digest (36 characters)."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        digest = self._version()
        if digest is None:
            return
        pointer = self.workspace.pointer(self.dataset).relative_to(self.workspace.root)
        source = json.dumps({"dvc": pointer.as_posix(), "md5": digest})
        entry = DatasetInput(
            Dataset(self.dataset, digest, source_type="dvc", source=source),
            [InputTag("mlflow.data.context", context)],
        )
        self.client.log_inputs(run_id, datasets=[entry])

    def _version(self) -> str | None:
        """That was prepared and trained on; the dataset may have a newer one by now."""
        return versioning.prepared_version(self.workspace, self.dataset)

    def _tag(self, run_id: str, values: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        pairs = [RunTag(key, value) for key, value in values.items()]
        for start in range(0, len(pairs), PARAMS_AT_ONCE):
            self.client.log_batch(run_id, tags=pairs[start : start + PARAMS_AT_ONCE])

    def _own(self, kind: str) -> dict[str, str]:
        return {
            tags.KIND: kind,
            tags.DATASET: self.dataset,
            tags.INSTALLATION: self.installation,
        }

    def _unfinished(self, values: Mapping[str, str] | None = None) -> "list[Run]":
        """Runs with these tags that this installation has begun and not ended."""
        own = tags.query({tags.INSTALLATION: self.installation, **(values or {})})
        return self._search(f"attributes.status = 'RUNNING' and {own}")

    def _opened(self, parent: str, variant: str, seed: int) -> "list[Run]":
        """Runs below `parent` that live mirroring opened and nothing has filled yet."""
        opened = self._unfinished({tags.VARIANT: variant, tags.SEED: str(seed)})
        return [run for run in opened if run.data.tags["mlflow.parentRunId"] == parent]

    def _retraining(self, lock_hash: str) -> "Run | None":
        """This installation's run of these results, whole."""
        own = {tags.KIND: "retraining", tags.INSTALLATION: self.installation}
        return self._find(own | {tags.LOCK: lock_hash})

    def _find(self, values: Mapping[str, str]) -> "Run | None":
        found = self._search(tags.query(values))
        return found[0] if found else None

    def _search(self, text: str) -> "list[Run]":
        return list(self.client.search_runs([self.experiment], text, max_results=1000))


def described(candidate: Mapping[str, Any]) -> str:
    """Why this candidate, and what speaks against it; `candidate` is candidate.json."""
    return f"{candidate['reason']} {candidate['warning']}".strip()


def _note(comparison: Path, reason: str) -> str:
    """What the run's page in MLflow shows first: why this candidate, and the comparison."""
    text = f"{reason}\n\n{(comparison / 'comparison.md').read_text(encoding='utf-8')}"
    return text if len(text) <= NOTE_CHARACTERS else reason


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))
