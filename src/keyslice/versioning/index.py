"""Entries of the person's index, exchanged in one step under git's own lock.

An entry is `MODE SHA`, as in `100644 8ab686…`; None: the index or tree has none.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from keyslice import files
from keyslice.errors import RunError
from keyslice.versioning import git

WAIT_SECONDS = 10.0
"""For a git command of the person's that holds the index."""

_STAMP = ("st_ino", "st_mtime_ns", "st_size")
"""What changes with each index that git writes."""

Entries = Mapping[str, str | None]
"""By path from the top of the repository."""


def exchange(root: Path, old: Entries, new: Entries, *, check: Callable[[], None]) -> None:
    """Put `new` in the place of `old`; every other entry, staged or not, stays as it is.

    `check` is called when the index has been read; a change after that is seen, and it is called
    again. What it raises leaves the index as it was. A kill leaves the old index or the new one,
    whole (and between the last system calls git's lock, as a kill of git does).

    Raises:
        RunError: a path is staged with what is neither old nor new, or another git command holds
            the index for longer than WAIT_SECONDS.
        UserError: git cannot read the index.
    """
    index = root / plumbing(root, "rev-parse", "--git-path", "index")
    deadline = time.monotonic() + WAIT_SECONDS
    with tempfile.TemporaryDirectory(prefix="keyslice-") as folder:
        copy = Path(folder) / "index"
        own = {"GIT_INDEX_FILE": str(copy)}
        while True:
            known = index.stat()
            shutil.copy2(index, copy)  # with its times: git goes by them
            check()
            found = _staged(root, new, own)
            for path, entry in found.items():
                if entry not in (old[path], new[path]):
                    raise RunError(
                        f"{path} is staged with other content; commit that, or "
                        f"git restore --staged {path}"
                    )
            if found == dict(new):
                return
            info = {p: e or _none(found[p]) for p, e in new.items()}
            _update(root, {p: e for p, e in info.items() if new[p] != found[p]}, own)
            if _replaced(index, known, copy.read_bytes()):
                return
            if time.monotonic() > deadline:
                raise RunError(
                    "git's index is in use by another git command; if none runs, a killed one has "
                    f"left {index.name}.lock: remove it"
                )
            time.sleep(0.05)


def tree_with(root: Path, base: str, entries: Entries) -> str:
    """The tree of commit `base` with these entries in it; the person's index is not looked at."""
    with tempfile.TemporaryDirectory(prefix="keyslice-") as folder:
        own = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
        plumbing(root, "read-tree", base, environment=own)
        gone = [path for path, entry in entries.items() if entry is None]
        old = committed(root, base, gone) if gone else {}
        _update(root, {p: e or _none(old[p]) for p, e in entries.items()}, own)
        return plumbing(root, "write-tree", environment=own)


def committed(root: Path, commit: str, paths: Iterable[str]) -> dict[str, str | None]:
    """The entries of a commit's tree."""
    found: dict[str, str | None] = dict.fromkeys(paths)
    listed = plumbing(root, "ls-tree", "-z", "--full-tree", commit, "--", *found)
    for line in filter(None, listed.split("\0")):
        about, _, path = line.partition("\t")
        mode, _, sha = about.split()
        found[path] = f"{mode} {sha}"
    return found


def plumbing(
    root: Path,
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    stdin: str | None = None,
) -> str:
    """`git.ask` with paths as they are spelt."""
    own = {"GIT_LITERAL_PATHSPECS": "1"} | dict(environment or {})
    return git.ask(root, *arguments, environment=own, stdin=stdin)


def _staged(root: Path, paths: Iterable[str], own: Mapping[str, str]) -> dict[str, str | None]:
    """The entries of an index; one in conflict is like no other."""
    found: dict[str, str | None] = dict.fromkeys(paths)
    tops = [f":(top,literal){path}" for path in found]
    magic = {**own, "GIT_LITERAL_PATHSPECS": "0"}
    listed = plumbing(
        root, "ls-files", "-z", "--stage", "--full-name", "--", *tops, environment=magic
    )
    for line in filter(None, listed.split("\0")):
        about, _, path = line.partition("\t")
        mode, sha, stage = about.split()
        found[path] = f"{mode} {sha}" if stage == "0" else "conflict"
    return found


def _update(root: Path, entries: Entries, own: Mapping[str, str]) -> None:
    """Set the entries of an index; one whose mode is 0 is removed."""
    lines = "".join(f"{entry}\t{path}\0" for path, entry in entries.items())
    plumbing(root, "update-index", "-z", "--index-info", stdin=lines, environment=own)


def _none(entry: str | None) -> str:
    """What removes an entry: git wants its sha, too."""
    return f"0 {(entry or '').partition(' ')[2]}"


def _replaced(index: Path, known: os.stat_result, content: bytes) -> bool:
    """Replace the index if it is still the known one and nobody holds it; whether it was."""
    lock, part = index.with_name(f"{index.name}.lock"), files.hidden(index)
    try:
        part.write_bytes(content)
        part.chmod(known.st_mode & 0o777)
        files.flush(part)  # all that takes time comes before the lock: a kill would leave that
        try:
            os.close(os.open(lock, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return False
        try:
            now = index.stat()
            same = all(getattr(now, name) == getattr(known, name) for name in _STAMP)
            if same:
                part.replace(index)
            return same
        finally:
            lock.unlink()
    finally:
        part.unlink(missing_ok=True)
