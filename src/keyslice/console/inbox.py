"""`keyslice inbox`: what lies there that no ingestion has taken."""

from rich.text import Text

from keyslice.config import FolderDataset, Params, Workspace
from keyslice.console.output import end_with, out, print_json, say
from keyslice.errors import UserError
from keyslice.exams.news import News, news


def run(workspace: Workspace, params: Params, datasets: tuple[str, ...], *, as_json: bool) -> None:
    """Print it for each dataset.

    As JSON: for each dataset the stamps of `new` exams, and the numbers `arriving` and `waiting`.
    What is in the way of one dataset (a key that is not set) hides no other: it is told at the end.

    Raises:
        UserError: a dataset is not configured, or its source is no folder; or a source breaks a
            rule, or cannot be read.
    """
    found: dict[str, News] = {}
    problems: list[UserError] = []
    for name in datasets or params.datasets:
        dataset = params.dataset(name)
        if isinstance(dataset, FolderDataset):
            try:
                found[name] = news(workspace, name, dataset)
            except UserError as error:
                problems.append(UserError(str(error), where=name))
        elif datasets:
            raise UserError(
                f"the source of {name} is no folder",
                rule=f"{dataset.source} is fixed by its settings: nothing arrives there",
                remedy=f"keyslice ingest {name}",
            )
    if found or not problems:
        _show(found, as_json=as_json)
    end_with(problems)


def _show(found: dict[str, News], *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                name: {"new": one.exams, "arriving": one.arriving, "waiting": one.waiting}
                for name, one in found.items()
            }
        )
        return
    for name, one in found.items():
        say(out, Text(f"{name}: {told(one)}"))
    if not found:
        say(out, "No dataset has a folder as its source.")


def told(found: News) -> str:
    """`3 new exams, 1 file still arriving, 2 exams wait for a label`, or `nothing new`."""
    parts = [
        _some(len(found.exams), "new exam", "new exams"),
        _some(found.arriving, "file still arriving", "files still arriving"),
        _some(found.waiting, "exam waits for a label", "exams wait for a label"),
    ]
    return ", ".join(part for part in parts if part) or "nothing new"


def _some(count: int, one: str, more: str) -> str:
    return "" if count == 0 else f"{count} {one if count == 1 else more}"
