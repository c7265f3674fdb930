"""Criteria that need no champion: plan, package, leakage, drift.

Is the plan the one that was fixed before training, does the package do what the evaluation did, has
anybody of today's test exams been learned from, and are they like those that were.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keyslice.config import TestTime, Workspace
from keyslice.evaluation import predictions
from keyslice.evaluation.criterion import Criterion, decided
from keyslice.exams import drift as exams_drift
from keyslice.exams import manifest, manifest_columns
from keyslice.exams.split import group
from keyslice.provenance import canonical
from keyslice.provenance.ledger import Event
from keyslice.registry import chronicle
from keyslice.registry.trial import TestSet, Trial

SAME = 1e-4
"""Of a probability: the package reads stored exams, the evaluation prepared ones, in other batches.
Rounding differs, and nothing else should."""
OTHER_WAY = 0.02
"""Share of the exams, or one exam, in which a search may have gone another way by that rounding: it
extends the best of several states, and two may be as good. One look must agree in all."""


def plan(found: Sequence[Event], registered: Event, now: Mapping[str, Any]) -> Criterion:
    """Whether the version is judged by the plan that was fixed before it was trained."""
    fixed = chronicle.plan_before_training(list(found), registered)
    if fixed is None:
        words = "no plan was fixed before it was trained; keyslice plan, or retrain, does that"
        return decided("plan", "check", False, words)
    if fixed.payload["plan_sha256"] != canonical.sha256(now):
        before = fixed.payload["plan"]
        changed = [key for key in now if now[key] != before.get(key)]
        changed += [key for key in before if key not in now]
        words = f"changed since event {fixed.number}, before it was trained: {', '.join(changed)}"
        return decided("plan", "check", False, words)
    return decided("plan", "check", True, f"fixed as event {fixed.number}, before it was trained")


def load(workspace: Workspace, test: TestSet, registered: Event, found: Trial) -> Criterion:
    """Whether the package gives probabilities, and those of the evaluation, where they are here."""
    sums = found.probabilities.sum(1)
    if not np.isfinite(found.probabilities).all() or not np.allclose(sums, 1, atol=SAME):
        return decided("package", "check", False, "its outputs are no probabilities")
    told = registered.payload
    path = workspace.results(told["model"], told["variant"]) / "predictions.parquet"
    stored: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    if path.is_file() and chronicle.is_here(workspace, registered):
        table = predictions.read(path)
        rows = table[(table["seed"] == told["seed"]) & (table["split"] == "test")]
        plain = rows["plain_probabilities"].where(
            rows["plain_probabilities"].notna(), rows["probabilities"]
        )
        pairs = zip(rows["probabilities"], plain, strict=True)
        stored = dict(zip(rows["exam_id"], pairs, strict=True))
    here = [number for number, exam in enumerate(test.exams) if exam in stored]
    if not here:
        words = "it predicts; the evaluation's results are not here any more to compare with"
        return decided("package", "check", True, words)
    own = np.stack([found.probabilities[here], found.plain[here]])
    evaluated = np.stack([np.stack(stored[test.exams[number]]) for number in here], 1)
    used, plain = np.abs(own - evaluated).max(-1)
    others = int((used > SAME).sum())
    few = max(1, OTHER_WAY * len(here)) if _searches(registered) else 0
    if others > few or plain.max() > SAME:
        words = (
            f"probabilities differ by up to {max(used.max(), plain.max()):.2g} from those of the "
            "evaluation"
        )
        return decided("package", "check", False, words)
    words = f"it predicts {len(here)} exams as the evaluation did"
    if others:
        words += (
            f", but for {others} where its search went another way, by rounding: by up to "
            f"{used.max():.2g}"
        )
    return decided("package", "check", True, words)


def _searches(registered: Event) -> bool:
    """Whether what a version looks at next depends on what it has seen."""
    evaluated = registered.payload["settings"].get("evaluate", {})
    test_time = TestTime.model_validate(evaluated.get("test_time", {}))
    return test_time.budget > 1 and test_time.criterion != "random"


def leakage(workspace: Workspace, test: TestSet, versions: Sequence[Event]) -> Criterion:
    """Whether any of the versions learned from a patient of today's test exams."""
    today = {group(*p) for p in zip(test.rows["exam_id"], test.rows["patient"], strict=True)}
    for event in versions:
        number, version = event.payload["version"], event.payload["dataset_version"]
        kept = workspace.kept_manifest(test.dataset, version)
        if not kept.is_file():
            words = f"the manifest of version {number}'s exams is not in state/manifests"
            return decided("leakage", "check", False, words)
        splits = manifest_columns.read_splits(kept)
        learned = sum(splits.get(one) in ("train", "validation") for one in today)
        if learned:
            words = f"version {number} was trained or chosen on {learned} of today's test patients"
            return decided("leakage", "check", False, words)
    numbers = ", ".join(dict.fromkeys(str(e.payload["version"]) for e in versions))
    return decided(
        "leakage", "check", True, f"no test patient was learned from by version {numbers}"
    )


def drift(workspace: Workspace, test: TestSet, registered: Event, limit: float | None) -> Criterion:
    """Whether today's test exams are like those that the version was trained on."""
    kept = workspace.kept_manifest(test.dataset, registered.payload["dataset_version"])
    if limit is None or not kept.is_file():
        words = "no limit is set" if limit is None else "its exams' manifest is not here"
        return decided("drift", "drift", None, needed=False, words=words)
    table = manifest.read(kept)
    found = exams_drift.compare(table[table["split"] == "train"], test.rows)
    if not found.shifts:
        return decided("drift", "drift", None, needed=False, words=found.sentence)
    shifted = [shift for shift in found.shifts if shift.shifted]
    worst = max((abs(shift.effect or 0) for shift in shifted), default=0.0)
    beyond = [shift for shift in shifted if abs(shift.effect or 0) > limit]
    if beyond:
        words = "; ".join(f"{s.name}: {s.sentence} (effect {s.effect:.2f})" for s in beyond)
        return decided("drift", "drift", False, words, needed=False, estimate=worst, margin=limit)
    words = found.sentence
    return decided("drift", "drift", True, words, needed=False, estimate=worst, margin=limit)
