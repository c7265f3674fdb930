"""What the ledger tells of: the names of actions, and what stands in the payload of each.

Payloads hold hashes, numbers, settings and words of our own: no pseudonym, no file's name. A model
is named as its dataset; `scans/3` is its version 3.
"""

LEDGER_OPENED = "ledger.opened"
"""Object: the installation. keyslice (version)."""
LEDGER_MENDED = "ledger.mended"
"""fragments: [{bytes, sha256}] of a last line that a crash cut off; kept in state/ledger/torn."""
DATASET_VERSIONED = "dataset.versioned"
"""Object: dataset@version. dataset, version, previous, manifest (sha256), exams, patients, splits,
labels."""
RUN_STARTED = "run.started"
"""Object: the dataset. dataset, run (of MLflow, or empty), plan, plan_sha256, dataset_version,
trained: hashes, as of dvc.lock, of what was trained before."""
MODEL_REGISTERING = "model.registering"
"""The intent, before MLflow gives the version its number. Object: the model. model, identity."""
MODEL_REGISTERED = "model.registered"
"""model, version, dataset_version, manifest, variant, seed, run, training_run, run_commit,
parameters, weights, package, artifact, requirements (sha256 each), stages, trained (hashes in
dvc.lock), settings, classes, validation_auc, figures, identity, started_from (`scratch`, or the
version whose network the training started from, as liver/3), keyslice."""
CHALLENGER_MOVED = "challenger.moved"
"""model, version: a version registered before is the candidate again."""
GATE_EVALUATED = "gate.evaluated"
"""model, version, outcome (passed or failed), plan_sha256, dataset_version, test (sha256 of its
exams), test_exams, look (0: no champion to hold it against), looks, alpha, champion, anchor,
approval (required or automatic), criteria, power, warnings."""
MODEL_APPROVED = "model.approved"
"""model, version, reason, gate (sequence of its event), override: failed criteria, signature."""
MODEL_REJECTED = "model.rejected"
"""The same, of a decision against it; override is empty."""
CHAMPION_MOVING = "champion.moving"
"""The intent, before the alias moves. Object: the model. model, from, to, because (promotion,
rollback or restoration), decision (sequence of the event that decided), reason."""
CHAMPION_MOVED = "champion.moved"
"""The same, and intent: sequence of the CHAMPION_MOVING. From here on it is the champion."""
CHAMPION_STAYED = "champion.stayed"
"""model, intent, reason: a move that could not be made, as MLflow no longer has the version."""
LEDGER_SIGNED = "ledger.signed"
"""first, last: events that nobody had signed; reason: why they are trusted, in a person's words."""
WITHDRAWAL_BEGUN = "withdrawal.begun"
WITHDRAWAL_COMPLETED = "withdrawal.completed"
"""Object: the dataset. See `keyslice.provenance.withdrawal`."""
MODEL_REPRODUCED = "model.reproduced"
"""model, version, outcome, words, difference (the largest of a probability), epochs, weights
(sha256), libraries that were not the run's, platform."""


def named(model: str, version: int) -> str:
    """How the ledger names a model's version."""
    return f"{model}/{version}"
