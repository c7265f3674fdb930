"""What a retraining came to, on Prefect's page and for those who are to be told."""

from prefect.artifacts import create_link_artifact, create_markdown_artifact
from prefect.runtime import flow_run

from flows import notify, telling
from flows.progress import on_page
from flows.tasks import Gated, Taken
from flows.telling import Telling
from keyslice.config import Notify, Occasion, Params, Workspace
from keyslice.registry import pages


def tell(
    workspace: Workspace,
    settings: Notify,
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
    notify.send(workspace, settings, happening)


def registered(
    workspace: Workspace,
    params: Params,
    dataset: str,
    version: int,
    gated: Gated | None,
    left: Telling,
) -> None:
    """Tell of a new version, how its gate went, and that a person has to decide; each once.

    Args:
        workspace: that holds it.
        params: its settings.
        dataset: that the version was trained on.
        version: of the model.
        gated: None: it is the champion.
        left: what there was before, and who has been told since, also by a run that was cut off.
    """
    named = f"version {version} of {dataset}"
    occasions: dict[Occasion, tuple[str, int | None]] = {}
    if version != left.version:
        occasions["candidate"] = f"{named} is registered", None
    if gated is not None and gated.event > left.event:
        occasions["gate"] = f"the gate of {named}: {gated.sentence}", gated.event
        if gated.waits:
            told = f"{named} passed the gate and waits for approval"
            occasions["approval"] = told, gated.event
    for occasion, (sentence, event) in occasions.items():
        if occasion not in left.told:
            tell(workspace, params.notify, occasion, sentence, dataset, version, event)
            left = telling.note(workspace, dataset, left, occasion)
    telling.end(workspace, dataset)


def show(
    workspace: Workspace,
    dataset: str,
    version: int,
    taken: Taken,
    drift: str,
    gated: Gated | None,
) -> None:
    """Put the comparison and a link to the model on the flow run's page, if it takes them."""
    folder = workspace.comparison(dataset)
    report = (folder / "report.html").relative_to(workspace.root)
    key = dataset.replace("_", "-")
    with on_page():
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
