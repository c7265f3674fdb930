"""What a run in MLflow says of the files it was made from: parameters, figures, files."""

from collections.abc import Mapping
from typing import Any

from keyslice.registry import tags

EXAM_MAPS = "exam_maps.svg"
"""Shows single exams: a patient who withdraws must not stay in it, and MLflow keeps what it has."""
TEST_TIME = "test_time/test_time.json"
"""Below a variant's results: how often its networks look, and how they learned that."""
_LOOKS = "evaluate.test_time"
COMPARISON_FILES = ("comparison.csv", "comparison.md", "candidate.json")
"""Of a comparison; beside these, its figures but for EXAM_MAPS."""


def parameters(
    settings: Mapping[str, Any], seed: int, test_time: Mapping[str, Any] | None = None
) -> dict[str, str]:
    """Of a training.

    Args:
        settings: the trained model's settings.json.
        seed: of the training.
        test_time: test_time.json of its evaluation, which may be a later one than the training had
            in its settings; None where there is none.
    """
    flat = tags.flatten(settings, ".")
    if test_time is not None:
        flat = {name: one for name, one in flat.items() if not name.startswith(_LOOKS)}
        flat |= tags.flatten(test_time["settings"], ".", _LOOKS)
    return {name: str(one) for name, one in flat.items()} | {"seed": str(seed)}


def figures(metrics: Mapping[str, Any], seed: int) -> dict[str, float]:
    """Of one seed; `metrics` is metrics.json. Named `<split>/<metric>`."""
    return numbers(tags.flatten(metrics.get("seeds", {}).get(str(seed), {}), "/"))


def over_seeds(metrics: Mapping[str, Any], variant: str) -> dict[str, float]:
    """Of all seeds of a variant; `metrics` is metrics.json. Named `<variant>/<split>/…`."""
    summary = {name: value for name, value in metrics.items() if name != "seeds"}
    return numbers(tags.flatten(summary, "/", variant))


def numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """Those that MLflow takes as metrics."""
    return {
        name: float(value)
        for name, value in values.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
