"""The command line. Heavy libraries are imported by the command that needs them."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from keyslice import __version__
from keyslice.errors import RunError, UserError

if TYPE_CHECKING:
    from keyslice.config import Params, Workspace

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")


class Group(click.Group):
    """A user's mistake is one line and exit code 2, a failed run one line and exit code 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except UserError as error:
            click.echo(f"error: {error}", err=True)
            sys.exit(2)
        except RunError as error:
            click.echo(f"failed: {' '.join(str(error).split())}", err=True)
            sys.exit(1)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="keyslice")
def main() -> None:
    """Retrain, audit and promote classifiers that look only at the frames that matter."""


def _workspace() -> "tuple[Workspace, Params]":
    from keyslice.config import Workspace, load

    workspace = Workspace.find()
    return workspace, load(workspace.params)


@main.command()
def demo() -> None:
    """Phantoms from the inbox to a registered model, and what to type next."""
    from keyslice.console import demo

    demo.run(*_workspace())


@main.command()
@click.argument("name")
@json_option
def ingest(name: str, as_json: bool) -> None:
    """Make or extend dataset NAME of params.yaml and give it a version."""
    from keyslice.console import ingestion

    ingestion.run(*_workspace(), name, as_json=as_json)


@main.command()
@click.argument("datasets", nargs=-1, metavar="[DATASET]...")
@click.option("--parallel", type=click.IntRange(1), help="Variants at a time [default: cores].")
@click.option("--force", is_flag=True, help="Run the flow even if nothing is new.")
@click.option("--verbose", is_flag=True, help="Show Prefect's own log.")
def retrain(datasets: Sequence[str], parallel: int | None, force: bool, verbose: bool) -> None:
    """Ingest, prepare, train, evaluate, compare and register (default: all ingested datasets)."""
    from keyslice.console import retraining

    workspace, params = _workspace()
    retraining.run(
        workspace, params, tuple(datasets), parallel=parallel, force=force, verbose=verbose
    )


@main.command()
@click.argument("datasets", nargs=-1, metavar="[DATASET]...")
def register(datasets: Sequence[str]) -> None:
    """Show finished results in MLflow and register the candidate, as retrain does at its end."""
    from keyslice.console import registration

    registration.run(*_workspace(), tuple(datasets))


@main.command()
@json_option
def status(as_json: bool) -> None:
    """Datasets with their versions, what is out of date, runs and models."""
    from keyslice.console import overview

    overview.run(*_workspace(), as_json=as_json)


@main.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--model", "name", help="Registered model [default: the only one].")
@click.option("--version", "version", default="@challenger", help="Version or @alias.")
@json_option
def predict(files: Sequence[Path], name: str | None, version: str, as_json: bool) -> None:
    """Class probabilities of exam FILES, and the slices that were looked at."""
    from keyslice.console import prediction

    prediction.run(*_workspace(), files, name=name, version=version, as_json=as_json)


@main.command()
@click.argument("datasets", nargs=-1, required=True, metavar="DATASET...")
@click.option("--output", type=click.Path(path_type=Path), default=Path("docs/results.md"))
def experiment(datasets: Sequence[str], output: Path) -> None:
    """Train and compare all variants on DATASETs and write the results page."""
    from keyslice.console import experiments

    experiments.run(*_workspace(), tuple(datasets), output)


@main.group(cls=Group)
def key() -> None:
    """The secret key that pseudonyms are made with."""


@key.command("new")
@click.argument("file", type=click.Path(path_type=Path))
def key_new(file: Path) -> None:
    """Make a key in FILE, outside the workspace; back it up apart from the data."""
    from keyslice.exams.pseudonym import create_key

    create_key(file)
    click.echo(f"Made {file}. Set KEYSLICE_KEY_FILE to it, and back it up apart from the data.")


@main.group(cls=Group)
def stage() -> None:
    """One stage of dvc.yaml, as DVC calls it."""


@stage.command("prepare")
@click.argument("dataset")
def stage_prepare(dataset: str) -> None:
    """Write the frame store of DATASET."""
    from keyslice.stages.prepare import prepare

    prepare(*_workspace(), dataset)


@stage.command("train")
@click.argument("dataset")
@click.argument("variant")
def stage_train(dataset: str, variant: str) -> None:
    """Fit VARIANT on DATASET, all seeds."""
    workspace, params = _workspace()
    params.stage(dataset, variant)  # before torch, timm and Lightning take their seconds
    from keyslice.stages.train import train

    train(workspace, params, dataset, variant)


@stage.command("evaluate")
@click.argument("dataset")
@click.argument("variant")
def stage_evaluate(dataset: str, variant: str) -> None:
    """Predict validation and test exams of DATASET with VARIANT."""
    workspace, params = _workspace()
    params.stage(dataset, variant)
    from keyslice.stages.evaluate import evaluate

    evaluate(workspace, params, dataset, variant)


@stage.command("compare")
@click.argument("dataset")
def stage_compare(dataset: str) -> None:
    """Hold the variants of DATASET against each other and choose the candidate."""
    from keyslice.stages.compare import compare

    compare(*_workspace(), dataset)


@stage.command("latency")
@click.argument("dataset")
@json_option
def stage_latency(dataset: str, as_json: bool) -> None:
    """Measure milliseconds per exam of every variant of DATASET; no stage of DVC."""
    from keyslice.stages.latency import measure

    figures = measure(*_workspace(), dataset)
    if as_json:
        click.echo(json.dumps(figures))


if __name__ == "__main__":
    main()
