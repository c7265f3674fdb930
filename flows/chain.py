"""The flow `retrain`: the whole chain of each dataset, its variants in parallel.

DVC knows the order of the stages and what is up to date; the flow decides what runs at once, what
still goes on when a part has failed, and tells MLflow.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from prefect import flow
from prefect.client.schemas.objects import State

from flows import announcing, notify, tasks, telling
from keyslice import initial, space, versioning
from keyslice.config import Params, Workspace
from keyslice.errors import RunError
from keyslice.provenance import ledger
from keyslice.registry import publish, timings


@dataclass(frozen=True)
class Retrained:
    """What a retraining of one dataset ended with."""

    dataset: str
    version: str
    """Of the dataset."""
    run_id: str
    """Of the retraining in MLflow."""
    model_version: int
    gate: str
    """How it went, in words that follow the version's number."""
    warnings: tuple[str, ...] = ()
    """What could not be done besides, a line each; a later retraining tries again."""


class RetrainFailed(RunError):  # noqa: N818 - named for what happened
    """Parts of a retraining failed; what does not depend on them was done.

    Attributes:
        failures: what each part that failed said.
    """

    def __init__(self, failures: dict[str, BaseException]) -> None:
        self.failures = failures
        super().__init__("; ".join(f"{name}: {error}" for name, error in failures.items()))


@flow(name="retrain", persist_result=False)
def retrain(root: str, datasets: list[str]) -> list[Retrained]:
    """Ingest, prepare, train, evaluate, compare, register and gate, dataset after dataset.

    Args:
        root: the workspace's folder.
        datasets: names in params.yaml.

    Raises:
        RetrainFailed: names the parts that failed. The other datasets were retrained.
    """
    done: list[Retrained] = []
    failures: dict[str, BaseException] = {}
    with versioning.children():  # cancelled or not: no stage outlives its flow
        for dataset in datasets:
            try:
                done.append(_chain(root, dataset))
            except RetrainFailed as failed:
                failures |= failed.failures
            except Exception as error:
                failures[dataset] = error
    if failures:
        workspace, params = tasks.opened(root)
        one = datasets[0] if len(datasets) == 1 else None
        failures = _told_once(workspace, failures)
        announcing.tell(workspace, params.notify, "failure", notify.failure(failures), one)
        raise RetrainFailed(failures)
    return done


def _told_once(
    workspace: Workspace, failures: dict[str, BaseException]
) -> dict[str, BaseException]:
    """A full disk in place of all that failed for it."""
    full = {name: space.explained(workspace.root, error) for name, error in failures.items()}
    first = next((error for error in full.values() if error is not None), None)
    if first is None:
        return failures
    rest = {name: error for name, error in failures.items() if full[name] is None}
    return {next(name for name in full if full[name] is first): first} | rest


def to_train(stale: Iterable[str], dataset: str, variants: Iterable[str]) -> list[str]:
    """The variants that have a stage which is not up to date, in the order of params.yaml."""
    stale = set(stale)
    return [
        variant
        for variant in variants
        if {f"train@{dataset}-{variant}", f"evaluate@{dataset}-{variant}"} & stale
    ]


def _chain(root: str, dataset: str) -> Retrained:
    workspace, params = tasks.opened(root)
    versioning.check_repository(workspace)  # hours before the run is recorded
    versioning.check_remotes(workspace, params.versioning.push)
    notify.check(workspace, params.notify)
    if params.run.engine == "dask":
        from flows.cluster import check  # Dask need not be installed otherwise

        check(workspace, params)
    taken = tasks.ingest(root, dataset)
    if to_train(versioning.stale(workspace, [dataset]), dataset, params.variants):
        tasks.check(root, dataset)
    tasks.reproduce(root, f"prepare@{dataset}")
    stale = versioning.stale(workspace, [dataset])
    variants = to_train(stale, dataset, params.variants)
    if initial.concerns(workspace, params, dataset):
        tasks.lay_down(root, dataset, stale)
    parent = tasks.begin(root, dataset, current=not stale)
    finished = [variant for variant in params.variants if variant not in variants]
    with publish.abandoned_on_error(lambda: tasks.abandon(root, dataset, parent, finished)):
        drift = tasks.drift(root, dataset, taken.version, parent)
        failures = _variants(params, root, dataset, variants, stale, parent)
        finished += [variant for variant in variants if variant not in failures]
        if failures:
            raise RetrainFailed({f"{dataset}, {name}": e for name, e in failures.items()})
        if stale:
            tasks.reproduce(root, f"compare@{dataset}")
        if any(timings.current(workspace, dataset, v) is None for v in params.variants):
            tasks.latency(root, dataset)
        run_id = tasks.record(root, dataset, parent)
    known = publish.published(workspace, params, dataset)
    left = telling.begin(workspace, dataset, known, max(e.number for e in ledger.read(workspace)))
    number = tasks.register(root, dataset, run_id)
    gated = tasks.gate(root, dataset, number)
    announcing.registered(workspace, params, dataset, number, gated, left)
    warnings = _keep(workspace, params, dataset, run_id, number)
    if warnings and number != left.version:  # once: later runs try again
        told = f"{dataset} was retrained; not all of it was committed or pushed"
        announcing.tell(workspace, params.notify, "failure", told, dataset, number)
    announcing.show(workspace, dataset, number, taken, drift, gated)
    went = f"gate: {gated.sentence}" if gated else "the champion already"
    return Retrained(dataset, taken.version, run_id, number, went, warnings)


def _keep(
    workspace: Workspace, params: Params, dataset: str, run_id: str, number: int
) -> tuple[str, ...]:
    """Commit and push what is to be; what could not be, a line each."""
    root, found = str(workspace.root), list[str]()
    if params.versioning.commit:
        found.append(tasks.commit(root, dataset, run_id, number))
    left = versioning.unpushed(workspace, dataset, params.versioning.push)
    found += [tasks.push(root, dataset, remote) for remote in left]
    return tuple(line for line in found if line)


def _variants(
    params: Params, root: str, dataset: str, variants: list[str], stale: list[str], parent: str
) -> dict[str, BaseException]:
    """Train and evaluate the variants side by side; what went wrong, by variant."""
    if params.run.engine == "dask":
        from flows import farm

        return farm.variants(root, dataset, variants, stale, parent)
    # All trainings before the first evaluation: a thread that waits for a training does no work.
    trained = {v: tasks.train.submit(root, dataset, v, parent) for v in variants}
    evaluated = {
        v: tasks.reproduce.submit(root, f"evaluate@{dataset}-{v}", wait_for=[future])  # pyright: ignore[reportCallIssue]
        for v, future in trained.items()
    }
    failures: dict[str, BaseException] = {}
    for variant in variants:
        futures = (trained[variant], evaluated[variant])
        for future in futures:
            future.wait()
        # The first cause: that an evaluation was not started is its consequence.
        failed = next((f.state for f in futures if not f.state.is_completed()), None)
        if failed is not None:
            failures[variant] = _error(failed)
    return failures


def _error(state: State) -> BaseException:
    error = state.result(raise_on_failure=False) if state.is_final() else None
    return error if isinstance(error, BaseException) else RuntimeError(state.message or state.name)
