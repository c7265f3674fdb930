"""The command line. Heavy libraries are imported by the command that needs them."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from keyslice import __version__, space
from keyslice.errors import RunError, StoppedError, UserError, without_credentials

if TYPE_CHECKING:
    from keyslice.config import Params, Workspace

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
parallel_option = click.option(
    "--parallel",
    type=click.IntRange(1),
    metavar="N",
    help="Train N variants at a time.  [default: what cores and GPU allow]",
)


def _version_named(ctx: click.Context, parameter: click.Parameter, words: Sequence[str]) -> str:
    """`liver 3`, as `approve` has it, is `liver/3`."""
    if len(words) > 2:
        raise click.BadParameter("it is MODEL, MODEL@ALIAS or MODEL/VERSION", ctx, parameter)
    return ("" if words[-1].startswith("@") else "/").join(words)


version_argument = click.argument(
    "model", nargs=-1, required=True, metavar="MODEL[@ALIAS|/VERSION]", callback=_version_named
)


class Group(click.Group):
    """A user's mistake is one line and exit code 2, any other failure one line and exit code 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.Abort, click.exceptions.Exit, BrokenPipeError):
            raise  # click's own ways to end
        except Exception as error:
            _fail(space.explained(Path(), error) or error)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


def _fail(error: Exception) -> NoReturn:
    if isinstance(error, UserError):
        _end(f"error: {error}", 2)
    if isinstance(error, StoppedError):
        _end(f"stopped; {error}", 130)
    if isinstance(error, RunError):
        _end(f"failed: {error}", 1)
    from keyslice.console import crash

    _end(f"failed: {crash.told(error)}", 1)


def _end(line: str, code: int) -> NoReturn:
    from keyslice.console.output import tell

    tell(without_credentials(" ".join(line.split())))
    sys.exit(code)


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="keyslice")
def main() -> None:
    """Retrain, audit and promote classifiers that look only at the frames that matter.

    Commands run inside a workspace: a clone of the repository, with its settings in params.yaml.
    `keyslice demo` is the place to start.

    Exit codes: 0 done, 1 something failed, 2 a mistake in settings or input, 130 stopped.
    """


def _workspace() -> "tuple[Workspace, Params]":
    from keyslice.config import Workspace, load

    workspace = Workspace.find()
    return workspace, load(workspace.params)


def _settled() -> "tuple[Workspace, Params]":
    """The workspace for a command that changes something, which the ledger is told of.

    First a withdrawal that was cut off is completed; at the end the ledger's heads are pushed.
    """
    from keyslice.console.output import tell
    from keyslice.registry import settling

    workspace, params = _workspace()
    settling.resume(workspace, tell)
    click.get_current_context().call_on_close(lambda: settling.push(workspace, params, tell))
    return workspace, params


@main.command()
def demo() -> None:
    """See the whole chain run on synthetic exams.

    Volumes with a lesion in a few slices go from the inbox to a registered model; then it says what
    to type next. Asked again, it finds nothing new and does no work.
    """
    from keyslice.console import demo

    demo.run(*_workspace())


@main.command()
@click.argument("dataset")
@json_option
def ingest(dataset: str, as_json: bool) -> None:
    """Take new exams into a dataset and give it a version.

    DATASET is a name under `datasets` in params.yaml. Exams that cannot be used are listed in
    data/quarantine with the reason; the others go on.
    """
    from keyslice.console import ingestion

    ingestion.run(*_settled(), dataset, as_json=as_json)


@main.command()
@click.argument("dataset")
@json_option
def check(dataset: str, as_json: bool) -> None:
    """Check a dataset: stored exams, splits, classes, odd ones.

    Reads every stored byte of DATASET, and tells what is wrong and what is worth a look. Exit code
    1 where something is wrong.
    """
    from keyslice.console import checking

    if not checking.run(*_workspace(), dataset, as_json=as_json):
        sys.exit(1)


@main.command()
@click.argument("datasets", nargs=-1, metavar="[DATASET]...")
@json_option
def inbox(datasets: Sequence[str], as_json: bool) -> None:
    """Show what lies in inboxes that is new.

    Of each DATASET whose source is a folder (default: all of them): exams that no ingestion has
    read, files that are still being written, exams that wait for a label. No exam is read.
    """
    from keyslice.console import inbox

    inbox.run(*_workspace(), tuple(datasets), as_json=as_json)


@main.command()
@click.argument("dataset")
@click.option("--retry", is_flag=True, help="Ingest again, also what could not be read before.")
@click.option(
    "--decided",
    multiple=True,
    metavar="FILE",
    help="Ingest again, the conflict about FILE's exam being settled in the table of labels; may "
    "be repeated.",
)
@json_option
def quarantine(dataset: str, retry: bool, decided: Sequence[str], as_json: bool) -> None:
    """Show which files of a dataset were refused, and why.

    Lists what waits in quarantine of DATASET, what each kind means, and the way out.
    """
    from keyslice.console import quarantining

    quarantining.run(*_workspace(), dataset, retry=retry, decided=tuple(decided), as_json=as_json)


@main.command()
@click.argument("datasets", nargs=-1, metavar="[DATASET]...")
@parallel_option
@click.option("--force", is_flag=True, help="Run the flow even if nothing is new.")
@click.option("--verbose", is_flag=True, help="Show Prefect's own log.")
@json_option
def retrain(
    datasets: Sequence[str], parallel: int | None, force: bool, verbose: bool, as_json: bool
) -> None:
    """Train on what is new, compare, and register the candidate.

    Ingests, prepares, trains, evaluates, compares and registers each DATASET (default: all that
    have been ingested). What is up to date is not done again.
    """
    from keyslice.console import retraining

    workspace, params = _settled()
    retraining.run(
        workspace,
        params,
        tuple(datasets),
        parallel=parallel,
        force=force,
        verbose=verbose,
        as_json=as_json,
    )


@main.command()
@json_option
def notify(as_json: bool) -> None:
    """Send a test to whoever is told of retrainings.

    That is the webhook in KEYSLICE_WEBHOOK, and Prefect's notification blocks in `notify.blocks` of
    params.yaml; shows for each whether it arrived. Exit code 1 where one did not.
    """
    from keyslice.console import notifying

    if not notifying.run(*_workspace(), as_json=as_json):
        sys.exit(1)


@main.command()
def up() -> None:
    """Start the servers, and retrain on schedule and on arrival.

    Keeps Prefect's and MLflow's server and `keyslice serve` running in the foreground, with their
    data in state/, until it is ended (Ctrl-C, or `keyslice down`). Servers that PREFECT_API_URL and
    MLFLOW_TRACKING_URI name are used instead of its own.
    """
    from keyslice.console import serving

    serving.up(*_workspace())


@main.command()
def down() -> None:
    """End `keyslice up`, wherever it runs."""
    from keyslice.config import Workspace
    from keyslice.console import serving

    serving.down(Workspace.find())  # whatever params.yaml says by now


@main.command()
def serve() -> None:
    """Retrain on schedule and on arrival, until ended.

    Serves the workspace's datasets to the Prefect server that PREFECT_API_URL names; when they are
    retrained stands under `retrain` in params.yaml. `keyslice up` starts this and the servers.
    """
    from keyslice.console import serving

    serving.serve(_workspace()[0])


@main.command()
@click.argument("datasets", nargs=-1, metavar="[DATASET]...")
@json_option
def register(datasets: Sequence[str], as_json: bool) -> None:
    """Register what `dvc repro` has made.

    Shows the finished results of each DATASET (default: all that have been ingested) in MLflow and
    registers the candidate, as retrain does at its end. Nothing is trained.
    """
    from keyslice.console import registration

    registration.run(*_settled(), tuple(datasets), as_json=as_json)


reason_option = click.option(
    "--reason", required=True, metavar="TEXT", help="Why; stays in the ledger."
)


@main.command()
@click.argument("dataset")
@json_option
def plan(dataset: str, as_json: bool) -> None:
    """Fix in the ledger what candidates will be judged by.

    `retrain` does so before it trains. Before `dvc repro`, do it here: a version passes the gate by
    the plan alone that was fixed before it was trained. Where `train.start` is champion, its
    network is laid down for the trainings that are due.
    """
    from keyslice.console import promotion

    promotion.plan(*_settled(), dataset, as_json=as_json)


@main.command()
@click.argument("model")
@click.argument("version", required=False, type=int)
@json_option
def gate(model: str, version: int | None, as_json: bool) -> None:
    """Hold a version against the champion.

    Both predict today's test exams of MODEL's dataset through their packages; VERSION (default: the
    challenger) passes if it is shown to be no worse than the margins of `promote` in params.yaml
    allow. Exit code 1 where it does not pass.
    """
    from keyslice.console import promotion

    if not promotion.gate(*_settled(), model, version, as_json=as_json):
        sys.exit(1)


@main.command()
@click.argument("model")
@click.argument("version", type=int)
@reason_option
@click.option("--override", is_flag=True, help="Although the gate failed; stays visible for ever.")
@json_option
def approve(model: str, version: int, reason: str, override: bool, as_json: bool) -> None:
    """Make a version that passed the gate the champion."""
    from keyslice.console import promotion

    promotion.decide(
        *_settled(), model, version, "approved", reason, override=override, as_json=as_json
    )


@main.command()
@click.argument("model")
@click.argument("version", type=int)
@reason_option
@json_option
def reject(model: str, version: int, reason: str, as_json: bool) -> None:
    """Decide against a version; the champion stays."""
    from keyslice.console import promotion

    promotion.decide(*_settled(), model, version, "rejected", reason, as_json=as_json)


@main.command()
@click.argument("model")
@click.option("--to", type=int, metavar="V", help="That version.  [default: the one before]")
@reason_option
@json_option
def rollback(model: str, to: int | None, reason: str, as_json: bool) -> None:
    """Make an earlier champion the champion again."""
    from keyslice.console import promotion

    promotion.rollback(*_settled(), model, to, reason, as_json=as_json)


@main.command()
@click.argument("model")
@click.option("--at", metavar="TIME", help="Who was it then: 2026-05-01, or with a time (UTC).")
@click.option(
    "--restore",
    metavar="REASON",
    help="Put MLflow's alias back to where the ledger says, should someone have moved it.",
)
@json_option
def champion(model: str, at: str | None, restore: str | None, as_json: bool) -> None:
    """Show who is, and was, champion."""
    from keyslice.console import promotion

    workspace, _ = _settled() if restore else _workspace()
    promotion.champion(workspace, model, at=at, restore=restore, as_json=as_json)


@main.command()
@version_argument
@json_option
def verify(model: str, as_json: bool) -> None:
    """Recompute every hash that a version's provenance claims.

    Reads the bytes of the exams, of all that was made from them, of the package, the run's commit,
    MLflow's tags and aliases, and the ledger. Exit code 1 where anything is not as it was.
    """
    from keyslice.console import verifying

    if not verifying.run(*_workspace(), model, as_json=as_json):
        sys.exit(1)


@main.command()
@version_argument
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE.html",
    help="Page to write, and FILE.json beside it.  [default: in state/audits]",
)
@click.option(
    "--no-verify",
    "verify",
    flag_value=False,
    default=True,
    type=bool,
    help="Leave the verification out; the page says so.",
)
@json_option
def audit(model: str, output: Path | None, verify: bool, as_json: bool) -> None:
    """Write all that is known of a version as one page.

    Identity, data, training, evaluation, gate, decisions, history, drift and verification, mapped
    to the EU AI Act, FDA's change control plan, CLAIM and TRIPOD+AI. One self-contained HTML file,
    and its JSON.
    """
    from keyslice.console import auditing

    auditing.run(*_workspace(), model, output=output, verify=verify, as_json=as_json)


@main.command()
@click.option("--patient", metavar="ID", help="Their real id; needs the key.")
@click.option("--pseudonym", "known_as", metavar="P", help="Their pseudonym instead.")
@click.option("--issuer", metavar="NAME", help="Who gave the id out.  [default: the dataset's]")
@click.option("--dataset", metavar="NAME", help="From this one alone.  [default: all]")
@reason_option
@click.option("--bar-unknown", is_flag=True, help="Bar them also where nothing of theirs is there.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Only show what would be touched.")
@json_option
def withdraw(**options: Any) -> None:
    """Erase a patient from all versions, and bar them.

    Shows first what is touched, and asks. No later ingestion takes an exam of theirs. Exams and all
    that was made from them are erased in the workspace, in DVC's cache and in its remotes; what is
    left of old versions stays restorable.
    """
    from keyslice.console import withdrawing

    withdrawing.run(*_settled(), **options)


@main.command()
@click.argument("model")
@click.argument("version", type=int)
@click.option(
    "--tolerance",
    type=click.FloatRange(0, 1),
    default=0.02,
    show_default=True,
    help="Of a probability, where weights are not equal bit for bit.",
)
@click.option(
    "--present",
    is_flag=True,
    help="With the libraries that are installed, though they are not the run's.",
)
@json_option
def reproduce(model: str, version: int, tolerance: float, present: bool, as_json: bool) -> None:
    """Rebuild a version from its commit, data and seed, and compare.

    Trains anew, in a checkout of the run's commit with the run's libraries. Exit code 1 where what
    comes out is neither the same nor within the tolerance.
    """
    from keyslice.console import reproducing

    workspace, _ = _settled()
    if not reproducing.run(
        workspace, model, version, tolerance=tolerance, present=present, as_json=as_json
    ):
        sys.exit(1)


@main.command()
@json_option
def status(as_json: bool) -> None:
    """Show datasets, versions, what is due, what runs, and models."""
    from keyslice.config import Workspace
    from keyslice.console import overview

    overview.run(Workspace.find(), as_json=as_json)


@main.command()
@click.argument("dataset")
@click.option(
    "--against",
    metavar="V",
    help="Model version that knows the reference: a number or an @alias.  "
    "[default: @champion, else the last model of another dataset version]",
)
@json_option
def drift(dataset: str, against: str | None, as_json: bool) -> None:
    """Show how new exams differ from those a model knows.

    Lengths, geometry, intensities, acquisition facts, labels and sites are compared, each patient
    counting once, with effect sizes and p-values corrected for their number.
    """
    from keyslice.console import drift

    drift.run(*_workspace(), dataset, against=against, as_json=as_json)


@main.command()
@click.argument(
    "files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE..."
)
@click.option(
    "--model", "name", metavar="NAME", help="Registered model.  [default: the only one there is]"
)
@click.option(
    "--version",
    metavar="V",
    help="Its version: a number or an @alias.  [default: @champion, else @challenger]",
)
@json_option
def predict(files: Sequence[Path], name: str | None, version: str | None, as_json: bool) -> None:
    """Give class probabilities of exams, and the slices looked at.

    Each FILE is one exam, in a format that ingest reads.
    """
    from keyslice.console import prediction

    workspace, _ = _workspace()
    prediction.run(workspace, files, name=name, version=version, as_json=as_json)


@main.command()
@click.argument("exam")
@click.option(
    "--model",
    "name",
    metavar="NAME",
    help="Registered model.  [default: that of the exam's dataset; of a file, the only one]",
)
@click.option(
    "--version",
    metavar="V",
    help="Its version: a number or an @alias.  [default: @champion, else @challenger]",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE.png",
    help="Picture to write.  [default: the exam's id, in the current folder]",
)
@click.option("--force", is_flag=True, help="Replace a picture that is there.")
@json_option
def show(
    exam: str,
    name: str | None,
    version: str | None,
    output: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Draw an exam, with the slices that a model looked at marked.

    EXAM is the id of an ingested exam, or its first digits (6 or more), or the path of an exam that
    ingest reads. The picture shows the frames as the model sees them, which it kept and how much
    each weighed, and its probabilities; no patient and no file name.
    """
    from keyslice.console import showing

    showing.run(
        *_workspace(),
        exam,
        name=name,
        version=version,
        output=output,
        force=force,
        as_json=as_json,
    )


@main.command()
@click.argument("datasets", nargs=-1, required=True, metavar="DATASET...")
@parallel_option
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Page to write; what else stands there stays.  [default: the workspace's docs/results.md]",
)
@click.option(
    "--test-time",
    multiple=True,
    metavar="VARIANT",
    help="Try on it all ways of looking more than once, too; may be given several times.",
)
def experiment(
    datasets: Sequence[str], parallel: int | None, output: Path | None, test_time: Sequence[str]
) -> None:
    """Retrain datasets and put their figures on the results page.

    Each DATASET is retrained where anything is new, and gets a section: all variants compared, and
    what it takes to repeat it. A README with marks for it gets the short table.

    With --test-time a second section tells what it gains to look at exams more than once, by
    criterion, aggregation and budget, and against flips and shifts. What is done is kept, and
    not done again.
    """
    from keyslice.console import experiments

    workspace, params = _workspace()
    for name in datasets:
        for variant in test_time:
            params.stage(name, variant)
    page = output or workspace.root / "docs" / "results.md"
    experiments.run(
        workspace, params, tuple(datasets), page, parallel=parallel, test_time=test_time
    )


@main.command()
@click.argument("what", required=False)
@click.argument("version", required=False)
@click.option("--against", metavar="V", help="Tell the difference from that version of the model.")
@click.option("--patient", metavar="ID", help="A real id; needs the key.")
@click.option("--issuer", metavar="NAME", help="Who gave the id out.  [default: the dataset's]")
@click.option("--pseudonym", metavar="P", help="Of a patient, or its first digits.")
@click.option("--exams", "list_exams", is_flag=True, help="List exams' ids and pseudonyms, too.")
@json_option
def lineage(what: str | None, version: str | None, **options: Any) -> None:
    """Tell what came from what, from any end.

    WHAT is a model (its history), MODEL/3 or MODEL@champion (its data, code, gate, decisions), a
    dataset's version or an exam's id, or the first digits of either. Of a patient or an exam:
    which models were made from it, and was any of them ever champion.
    """
    from keyslice.config import Workspace
    from keyslice.console import lineage

    lineage.run(Workspace.find(), what, version, **options)


@main.group(cls=Group)
def ledger() -> None:
    """Show, check and export the record of all that happened."""


@ledger.command("show")
@click.argument("about", required=False)
@click.option("--last", type=click.IntRange(1), default=50, show_default=True, metavar="N")
@json_option
def ledger_show(about: str | None, last: int, as_json: bool) -> None:
    """List events, of all or of a model, a dataset, or MODEL/VERSION."""
    from keyslice.console import ledger

    workspace, _ = _workspace()
    ledger.show(workspace, about, last, as_json=as_json)


@ledger.command("verify")
@json_option
def ledger_verify(as_json: bool) -> None:
    """Find what was changed, removed, reordered or cut off.

    Names the first bad event, and says what can be proved and what cannot. Exit code 1 where the
    ledger is not the one that was written.
    """
    from keyslice.console import ledger

    if not ledger.verify(*_workspace(), as_json=as_json):
        sys.exit(1)


@ledger.command("sign")
@click.argument("reason")
@json_option
def ledger_sign(reason: str, as_json: bool) -> None:
    """Sign what a command that was cut off left unsigned.

    Look at it first: `keyslice ledger show`. Where signatures are in use no command acts on what
    nobody has signed. REASON stays in the ledger.
    """
    from keyslice.console import ledger

    ledger.sign(*_workspace(), reason, as_json=as_json)


@ledger.command("export")
@click.option(
    "--format",
    "form",
    type=click.Choice(["json", "provn", "jsonld"]),
    default="json",
    show_default=True,
    help="PROV-JSON, PROV-N or PROV-JSONLD.",
)
@click.option("--output", type=click.Path(path_type=Path), metavar="FILE")
def ledger_export(form: str, output: Path | None) -> None:
    """Write the ledger as W3C PROV, to FILE or to standard output."""
    from keyslice.console import ledger

    workspace, _ = _workspace()
    ledger.export(workspace, form, output)


@main.group(cls=Group)
def key() -> None:
    """Make, and look after, the secret keys that pseudonyms depend on."""


@key.command("new")
@click.argument("file", type=click.Path(path_type=Path))
def key_new(file: Path) -> None:
    """Make a key in FILE, outside the workspace.

    Back it up apart from the data: without it no exam is taken in any more, since nobody could tell
    known patients from strangers. Where it follows another key, docs/operations.md says how.
    """
    from keyslice.exams.pseudonym import create_key

    create_key(file)
    click.echo(
        f"Made {file}. Set KEYSLICE_KEY_FILE to it, and back it up apart from the data. A key that "
        "was used before goes to KEYSLICE_FORMER_KEYS."
    )


@key.command("status")
@json_option
def key_status(as_json: bool) -> None:
    """Tell which keys are set, and which ones the datasets need.

    A key is told by a mark, the first digits of a hash that reveals nothing of it. Exit code 1
    where a dataset has pseudonyms of a key that is not set.
    """
    from keyslice.console import keys

    if not keys.status(*_workspace(), as_json=as_json):
        sys.exit(1)


@main.group(cls=Group)
def stage() -> None:
    """Run one stage of dvc.yaml, as DVC calls it."""


@stage.command("prepare")
@click.argument("dataset")
def stage_prepare(dataset: str) -> None:
    """Write the frame store of DATASET."""
    from keyslice.console import preparation

    preparation.run(*_workspace(), dataset)


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
    """Compare the variants of DATASET and choose the candidate."""
    from keyslice import versioning
    from keyslice.stages.compare import compare

    workspace, params = _workspace()
    compare(workspace, params, dataset, version=versioning.prepared_version(workspace, dataset))


@stage.command("latency")
@click.argument("dataset")
@json_option
def stage_latency(dataset: str, as_json: bool) -> None:
    """Time every variant of DATASET, in milliseconds per exam.

    No stage of DVC: times differ from run to run, and go to state/timings.
    """
    from keyslice.registry import timings
    from keyslice.stages.latency import measure

    workspace, params = _workspace()
    models = {variant: timings.key(workspace, dataset, variant) for variant in params.variants}
    figures = measure(workspace, params, dataset, models)
    if as_json:
        click.echo(json.dumps(figures))


if __name__ == "__main__":
    main()
