"""What a dataset's retraining moved in the files that git holds, apart from what others did there.

dvc.lock and the list of datasets are files of all datasets. Another one may be in the middle of its
retraining, or a person may try something by hand: that part stays as it was committed last.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from keyslice import initial
from keyslice.config import Workspace
from keyslice.errors import RunError
from keyslice.versioning import lock
from keyslice.versioning.dvc import dataset_of

LOCK = "dvc.lock"
_TRIES = 20
"""At reading a file that DVC writes to all the time."""


def paths(workspace: Workspace, dataset: str) -> tuple[str, ...]:
    """The dataset's pointer, the list of datasets, dvc.lock; below the workspace's root.

    Then what trainings start from, and the pointer to the networks of that.
    """
    own = (workspace.pointer(dataset), workspace.ingested)
    initial = (workspace.initial(dataset), workspace.networks_pointer(dataset))
    pointer, listed, *others = (
        path.relative_to(workspace.root).as_posix() for path in (*own, *initial)
    )
    return pointer, listed, LOCK, *others


def contents(
    workspace: Workspace, dataset: str, committed: Mapping[str, str | None]
) -> dict[str, str | None]:
    """The text that each of `paths` is to have in a commit of the dataset's retraining.

    None: it is to have no such file.

    Args:
        workspace: whose files they are.
        dataset: its name.
        committed: the texts in the commit before; None: it has no such file.

    Raises:
        UserError: a file is damaged.
        RunError: the pointer is not of the exams that were prepared, or a file is not as DVC and
            Keyslice write it.
    """
    pointer, listed, _, said, networks = paths(workspace, dataset)
    version = lock.version(workspace, dataset)
    if version is None or version != lock.prepared_version(workspace, dataset):
        raise RunError(
            f"{pointer} is of other exams than {LOCK}; the retraining that takes them commits both"
        )
    root = workspace.root
    texts: dict[str, str | None] = {
        pointer: _whole(root / pointer, lock.version_in, lambda: lock.version(workspace, dataset)),
        listed: _its_list(
            (root / listed).read_text(encoding="utf-8"), committed.get(listed), dataset, listed
        ),
        LOCK: its_lock(
            _whole(root / LOCK, lock.entries_in, lambda: lock.entries(workspace)),
            committed.get(LOCK),
            dataset,
        ),
    }
    here = (root / said).is_file()
    texts[said] = (root / said).read_text(encoding="utf-8") if here else committed.get(said)
    named = any(initial.read(workspace, dataset).values())
    texts[networks] = _pointer(root / networks) if named else None
    return texts


def _pointer(path: Path) -> str:
    """The text of a pointer that DVC has written.

    Raises:
        RunError: there is none such.
    """
    try:
        text = path.read_text(encoding="utf-8")
        if lock.version_in(text) is not None:
            return text
    except (FileNotFoundError, ValueError):
        pass
    raise RunError(f"data/initial/{path.name} is not as DVC writes it")


def its_lock(text: str, committed: str | None, dataset: str) -> str:
    """`committed` with the stages of one dataset as they are in `text`; both are a dvc.lock.

    In the order of `text`, so that both are the same, byte for byte, when all is committed.

    Raises:
        RunError: one of them is not as DVC writes it.
    """

    def own(stage: str) -> bool:
        return dataset_of(stage) == dataset

    def merged(now: Mapping[str, Any], then: Mapping[str, Any]) -> dict[str, Any]:
        kept = {s: now[s] if own(s) else then[s] for s in now if own(s) or s in then}
        return kept | {s: then[s] for s in then if s not in now and not own(s)}

    try:
        now, then = _parts(text), _parts(committed or "")
        head, tail = (then or now)["head"], then.get("tail", "")
        found = head + "".join(merged(now["stages"], then.get("stages", {})).values()) + tail
        known = lock.entries_in(committed) if committed else {}
        if lock.entries_in(found) == merged(lock.entries_in(text), known):
            return found
    except (ValueError, LookupError, yaml.YAMLError):
        pass
    raise RunError(f"{LOCK} is not as DVC writes it, here or in the last commit")


def _parts(text: str) -> dict[str, Any]:
    """What stands before the stages, each stage's lines, and what comes after; {}: no stages."""
    begin = re.search(r"^stages:\n", text, re.MULTILINE)
    if begin is None:
        return {}
    end = re.compile(r"^\S", re.MULTILINE).search(text, begin.end())
    stop = end.start() if end else len(text)
    lines = re.split(r"^(?=  \S)", text[begin.end() : stop], flags=re.MULTILINE)
    stages = {next(iter(yaml.safe_load(part.partition("\n")[0]))): part for part in lines if part}
    return {"head": text[: begin.end()], "stages": stages, "tail": text[stop:]}


def _its_list(text: str, committed: str | None, dataset: str, path: str) -> str:
    """The list without the datasets that no commit has named yet, other than this one."""
    try:
        names = yaml.safe_load(text)["ingested"]
        before = yaml.safe_load(committed)["ingested"] if committed else []
        kept = [name for name in names if name == dataset or name in before]
    except (yaml.YAMLError, LookupError, TypeError):
        raise RunError(f"{path} is not as Keyslice writes it, here or in the last commit") from None
    return text if kept == names else yaml.safe_dump({"ingested": kept})


def _whole(path: Path, parsed: Callable[[str], Any], settled: Callable[[], Any]) -> str:
    """The text of a file of DVC's, not while it is being written.

    Args:
        path: of the file.
        parsed: what a text says; raises ValueError where it is cut off.
        settled: what the file says once it is written to its end.
    """
    for _ in range(_TRIES):
        known = settled()
        try:
            text = path.read_text(encoding="utf-8")
            if parsed(text) == known:
                return text
        except ValueError:
            continue
    raise RunError(f"{path.name} keeps changing")
