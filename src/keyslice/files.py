"""Nothing half-written: files and folders are made beside their place, then renamed into it."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def beside(target: Path) -> Iterator[Path]:
    """A path in the target's folder to write a file to; takes the target's place on success."""
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(
        dir=target.parent, prefix=f".{target.stem}-", suffix=target.suffix
    )
    os.close(descriptor)
    part = Path(name)
    try:
        yield part
        part.chmod(0o644)
        _flush(part)
        part.replace(target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def write_text(target: Path, text: str) -> None:
    """Replace a file's content in one step."""
    with beside(target) as part:
        part.write_text(text, encoding="utf-8", newline="\n")


@contextmanager
def folder_beside(target: Path) -> Iterator[Path]:
    """An empty folder beside `target` to fill; replaces the target and all it held on success."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}-"))
    try:
        yield part
        part.chmod(0o755)
        for file in part.rglob("*"):
            if file.is_file():
                _flush(file)
        if target.exists():
            shutil.rmtree(target)
        part.replace(target)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def _flush(file: Path) -> None:
    """To the disk: else a power cut after the rename could leave the new name with no content."""
    with file.open("rb") as stream:
        os.fsync(stream.fileno())
