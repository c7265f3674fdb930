"""`keyslice stage prepare`: a bar on a terminal; elsewhere a line for each hundredth."""

from keyslice.config import Params, Workspace
from keyslice.console.output import bar, err, out
from keyslice.stages.prepare import prepare


def run(workspace: Workspace, params: Params, dataset: str) -> None:
    """Write the frame store of `dataset` and say how far it is."""
    with bar() as progress:
        task = progress.add_task(f"preparing {dataset}", total=None)

        def told(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)
            if not err.is_terminal and done * 100 // total > (done - 1) * 100 // total:
                # DVC's log gets it, and from there the terminal of `keyslice retrain`.
                out.print(f"{dataset} · {done} of {total} exams", soft_wrap=True)

        prepare(workspace, params, dataset, progress=told)
