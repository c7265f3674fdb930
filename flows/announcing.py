"""What a retraining came to, on Prefect's page and for those who are to be told."""

from prefect.artifacts import create_link_artifact, create_markdown_artifact
from prefect.runtime import flow_run

from flows import notify
from flows.tasks import Gated, Taken
from keyslice.config import Occasion, Params, Workspace
from keyslice.registry import pages


def tell(
    workspace: Workspace,
    params: Params,
    occasion: Occasion,
    sentence: str,
    dataset: str | None = None,
    version: int | None = None,
    event: int | None = None,
) -> None:
    """Tell whoever is to be told of an occasion; see `flows.notify.send`."""
    page = pages.version(workspace, dataset, version) if dataset and version else None
    happening = notify.Happening(
        occasion, sentence, dataset, version, prefect=flow_run.ui_url, mlflow=page, event=event
    )
    notify.send(workspace, params, happening)


def registered(
    workspace: Workspace,
    params: Params,
    dataset: str,
    version: int,
    gated: Gated | None,
    *,
    new: bool,
) -> None:
    """Tell of a new version, how its gate went, and that a person has to decide.

    Each for itself: a retraining that was cut off between them goes on with the gate of a version
    that is not `new`.
    """
    named = f"version {version} of {dataset}"
    if new:
        tell(workspace, params, "candidate", f"{named} is registered", dataset, version)
    if gated is None or not gated.new:
        return
    told = f"the gate of {named}: {gated.sentence}"
    tell(workspace, params, "gate", told, dataset, version, gated.event)
    if gated.waits:
        told = f"{named} passed the gate and waits for approval"
        tell(workspace, params, "approval", told, dataset, version, gated.event)


def show(
    workspace: Workspace,
    dataset: str,
    version: int,
    taken: Taken,
    drift: str,
    gated: Gated | None,
) -> None:
    """Put the comparison and a link to the model on the flow run's page."""
    folder = workspace.comparison(dataset)
    report = (folder / "report.html").relative_to(workspace.root)
    key = dataset.replace("_", "-")
    create_markdown_artifact(
        f"{(folder / 'comparison.md').read_text(encoding='utf-8')}\n"
        f"Ingested: {taken.account or 'nothing new'}.\n"
        f"\nDrift: {drift or 'no earlier model to compare with'}.\n"
        f"\nGate: {gated.sentence if gated else 'version is the champion already'}.\n"
        f"\nReport with pictures, in the workspace: `{report}`.\n",
        key=f"comparison-{key}",
        description=f"{dataset}, dataset version {taken.version}, model version {version}",
    )
    if page := pages.version(workspace, dataset, version):
        create_link_artifact(
            page,
            link_text=f"{dataset}, version {version}, in MLflow",
            key=f"model-{key}",
            description="the registered model, its run, its package",
        )
