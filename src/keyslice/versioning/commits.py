"""What a commit holds, with every object's hash recomputed from its bytes."""

import hashlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

from keyslice.config import Workspace
from keyslice.versioning import git, processes


def contents(workspace: Workspace, commit: str, *paths: str) -> dict[str, str | None]:
    """The text of files of a commit; None: it has no such file.

    Raises:
        UserError: git cannot read it.
    """
    texts = git.blobs(workspace.root, [f"{commit}:{path}" for path in paths])
    return dict(zip(paths, texts, strict=True))


def damaged(workspace: Workspace, commit: str) -> list[str]:
    """Names of the objects of a commit (itself, its folders, its files) that are not what git's
    hashes say, or are missing; its history is not looked at.

    git itself recomputes a hash only in `git fsck`, which reads the whole repository.

    Raises:
        UserError: there is no such commit.
    """
    root = workspace.root
    listed = git.ask(root, "rev-list", "--objects", "--no-walk", f"{commit}^{{commit}}")
    paths = {}
    for line in listed.splitlines():
        name, _, path = line.partition(" ")
        paths[name] = path or name
    return [paths[name] for name, sound in _sound(root, list(paths)) if not sound]


def _sound(root: Path, names: list[str]) -> Iterator[tuple[str, bool]]:
    """Of each object, whether its bytes have its name as their hash."""
    asked = "".join(f"{name}\n" for name in names).encode()
    answer = subprocess.run(
        ["git", "cat-file", "--batch"],
        cwd=root,
        env=processes.environment() | {"LC_ALL": "C"},
        input=asked,
        capture_output=True,
        check=False,
    )
    left, known = answer.stdout, set()
    while left:
        header, _, left = left.partition(b"\n")
        name, _, rest = header.decode(errors="replace").partition(" ")
        kind, _, size = rest.partition(" ")
        if not size.isdecimal():  # missing
            continue
        content, left = left[: int(size)], left[int(size) + 1 :]
        hashing = hashlib.sha1 if len(name) == 40 else hashlib.sha256
        digest = hashing(f"{kind} {size}\0".encode() + content).hexdigest()
        if digest == name:
            known.add(name)
    # A damaged object ends git's answer: those after it are asked for again, one by one.
    for name in names:
        if name in known or (len(names) > 1 and all(s for _, s in _sound(root, [name]))):
            yield name, True
        else:
            yield name, False
