"""Names of the tags on runs and model versions."""

from collections.abc import Iterator, Mapping
from typing import Any

KIND = "keyslice.kind"
"""`retraining` (a parent run) or `training` (one variant, one seed)."""
DATASET = "keyslice.dataset"
VERSION = "keyslice.dataset_version"
LOCK = "keyslice.lock_hash"
"""Of the dataset's whole chain in dvc.lock; keys a parent run."""
STAGES = "keyslice.stage_hash"
"""Of a variant's train and evaluate entries in dvc.lock; with the seed it keys a training run."""
VARIANT = "keyslice.variant"
SEED = "keyslice.seed"
COMMIT = "keyslice.run_commit"
INSTALLATION = "keyslice.installation"
"""Of the installation that writes a run or a model version; the others leave it as it is."""
PACKAGE = "keyslice.package"
"""sha256 over all files of a model version's package."""
ARTIFACT = "keyslice.artifact"
"""The same over all that MLflow stores of the version: its own description of the package, too."""
CANDIDATE = "keyslice.candidate"
"""`<variant>/<seed>` that a retraining proposes."""
IDENTITY = "keyslice.identity"
"""sha256 over all that decides what a model version predicts and where it came from."""
MANIFEST = "keyslice.manifest"
PARAMETERS = "keyslice.parameters"
"""sha256 of the settings of the version's stages."""
WEIGHTS = "keyslice.weights"
"""sha256 of the weights; in the provenance of a package, too."""
STATE_ATTENTION = "keyslice.state_attention"
"""sha256 of what the model has learned in order to look more than once; empty: nothing."""
STARTED_FROM = "keyslice.started_from"
"""`scratch`, or the version whose network the training started from, as `liver/3`."""
REQUIREMENTS = "keyslice.requirements"
PACKAGE_FORMAT = "keyslice.package_format"
RETRAINING_RUN = "keyslice.retraining_run"
TRAINING_RUN = "keyslice.training_run"
VALIDATION_AUC = "keyslice.validation_auc"


def run_tag(variant: str, seed: int) -> str:
    """The parent's tag that names the run of a variant and seed."""
    return f"keyslice.run.{variant}.{seed}"


def stage_tag(kind: str) -> str:
    """A version's tag that holds the hash of its stage of a kind, such as `train`."""
    return f"keyslice.stage.{kind}"


def query(values: Mapping[str, str]) -> str:
    """A filter for `search_runs`, by tags: `query({KIND: "training", SEED: "0"})`."""
    return " and ".join(f"tags.`{tag}` = '{value}'" for tag, value in values.items())


def flatten(values: Mapping[str, Any], separator: str, prefix: str = "") -> dict[str, Any]:
    """Nested keys joined: {"a": {"b": 1}} becomes {"a.b": 1}."""
    return dict(_leaves(values, separator, prefix))


def _leaves(values: Mapping[str, Any], separator: str, prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        name = f"{prefix}{separator}{key}" if prefix else str(key)
        if isinstance(value, Mapping):
            yield from _leaves(value, separator, name)
        else:
            yield name, value
