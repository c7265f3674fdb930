"""Nothing half-written: files and folders are made beside their place, then renamed into it."""

import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def beside(target: Path, *, mode: int = 0o666) -> Iterator[Path]:
    """A path in the target's folder to write a file to; takes the target's place on success.

    `mode` is what others may do with it, less what the umask forbids.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = hidden(target, target.suffix)
    part.touch(mode, exist_ok=False)
    try:
        yield part
        flush(part)
        part.replace(target)
        flush(target.parent)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def write_text(target: Path, text: str, *, mode: int = 0o666) -> None:
    """Replace a file's content in one step."""
    with beside(target, mode=mode) as part:
        part.write_text(text, encoding="utf-8", newline="\n")


@contextmanager
def folder_beside(target: Path) -> Iterator[Path]:
    """An empty folder beside `target` to fill; replaces the target and all it held on success.

    A kill at the wrong moment may leave no target, but never a part of one.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part, old = hidden(target), hidden(target)
    part.mkdir()
    try:
        yield part
        for path in (part, *part.rglob("*")):
            flush(path)
        if target.exists():
            target.replace(old)
        part.replace(target)
        flush(target.parent)
        shutil.rmtree(old, ignore_errors=True)
    except BaseException:
        if old.exists() and not target.exists():
            old.replace(target)
        shutil.rmtree(part, ignore_errors=True)
        raise


def sha256(path: Path) -> str:
    """Hex digits, of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def md5(path: Path) -> str:
    """By which DVC and MedMNIST know a file; it protects from no one."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def hidden(target: Path, suffix: str = "") -> Path:
    """A name of its own in the target's folder, which readers of the folder pass over."""
    return target.with_name(f".{target.stem}-{secrets.token_hex(4)}{suffix}")


def remove_hidden(folder: Path) -> None:
    """Folders with names as `hidden` gives: a killed process has left them half-written."""
    for cut_off in folder.glob(".*/"):
        shutil.rmtree(cut_off)


def flush(path: Path) -> None:
    """To the disk: else a power cut after the rename could leave the new name with no content."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
