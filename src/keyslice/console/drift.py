"""`keyslice drift`: how new exams differ from those that a model knows."""

from rich.table import Table
from rich.text import Text

from keyslice.config import Params, Workspace
from keyslice.console.output import err, out, print_json, say
from keyslice.evaluation import drift_page
from keyslice.exams.drift import Drift
from keyslice.registry import drift


def run(
    workspace: Workspace, params: Params, dataset: str, *, against: str | None, as_json: bool
) -> None:
    """Print what has shifted; as JSON an object, null where no model is the reference."""
    params.dataset(dataset)
    with err.status("comparing"):
        found = drift.find(workspace, dataset, against=against)
    if as_json:
        print_json(found and found.as_dict())
    elif found is None:
        say(
            out,
            f"No model of {dataset} was trained on another version of it yet: there is nothing to "
            "compare with.",
        )
    else:
        one = found.drift
        say(
            out,
            f"{one.new_exams} new exams of {one.new_patients} patients against "
            f"{one.reference_exams} of {one.reference_patients}: {found.reference.words}",
        )
        if one.shifts:
            out.print(table(one))
            out.print("* shifted; effect: Cliff's delta of numbers, Cramér's V of categories")
            say(out, drift_page.untested(one))
        say(out, Text(drift_page.sentence(one)))


def table(one: Drift) -> Table:
    """Within 80 columns; what is too long for that is folded."""
    shown = Table(box=None, pad_edge=False)
    shown.add_column("quantity", style="bold", overflow="fold")
    shown.add_column("reference", overflow="fold")
    shown.add_column("new", overflow="fold")
    shown.add_column("effect", justify="right")
    shown.add_column("")
    shown.add_column("p corr.", justify="right")
    for row in drift_page.tested(one).to_dict("records"):
        # Text: a site's name in brackets is no markup.
        mark = "*" if row["shifted"] else ""
        cells = (row["quantity"] + mark, row["reference"], row["new"], row["effect"])
        words = (row["magnitude"], row["p corrected"])
        shown.add_row(*map(Text, (*cells, *words)), style="yellow" if mark else "")
    return shown
