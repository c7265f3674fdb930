"""DVC's objects: files under their md5, in its cache and in its remotes, whoever refers to them.

A remote that is a folder is read where it lies. Of any other (s3, ssh, …) what may matter is
fetched into a folder of its own first, through DVC's own file systems, in a process of its own.
"""

import json
import os
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from keyslice import files
from keyslice.config import Workspace
from keyslice.errors import RunError, UserError, without_credentials
from keyslice.versioning import processes

TREE = ".dir"
"""How the md5 of a folder's listing ends."""
MODE = 0o444
"""Of an object in the cache: DVC takes one that is read-only for what its name says, and one that
is not it reads, and removes where its md5 is another."""
LAYOUTS = ("files/md5", "")
"""Where objects lie: of DVC 3, and of older ones."""
_PLACE = re.compile(r"(?:^|/)([0-9a-f]{2})/([0-9a-f]{30}(?:\.dir)?)$")
_LEFT = (".zip", ".npy", ".safetensors", ".svg", ".png", ".csv", ".md")
"""Ends of names whose objects need not be read to know what they are; fetched when asked for."""


@dataclass(frozen=True)
class Store:
    """The cache, or a remote.

    Args:
        name: `cache`, or the remote's.
        root: folder that the layouts lie in.
    """

    name: str
    root: Path

    def all(self) -> Iterator[tuple[str, Path]]:
        """The md5 and the file of every object that may have to be read."""
        for layout in LAYOUTS:
            for first in _folders(self.root / layout):
                with os.scandir(first) as entries:
                    for entry in entries:
                        if match := _PLACE.search(f"{first.name}/{entry.name}"):
                            yield match[1] + match[2], Path(entry.path)

    def find(self, md5: str) -> list[Path]:
        """Its files: none, one, or one in each layout."""
        places = (self.root / layout / md5[:2] / md5[2:] for layout in LAYOUTS)
        return [path for path in places if path.is_file()]

    def replace(self, path: Path, content: Iterable[bytes]) -> None:
        """Put other bytes in the place of one of its files, in one step."""
        with files.beside(path) as part:
            with part.open("wb") as stream:
                stream.writelines(content)
            part.chmod(MODE)

    def need(self, md5s: Iterable[str]) -> None:
        """Say what will be asked for: a remote that is far fetches it together."""

    def flush(self) -> None:
        """Have what was replaced reach the place that others read; to be called at the end."""


@dataclass(frozen=True)
class FarStore(Store):
    """A remote that is no folder; `root` holds what was fetched of it.

    Raises:
        RunError: by everything that asks the remote: it does not answer, or refuses.
    """

    workspace: Workspace
    listed: dict[str, str] = field(default_factory=dict)
    """Layout of each object, by md5."""
    replaced: set[str] = field(default_factory=set)
    """Those that the remote has not yet got."""

    def open(self) -> None:
        """List its objects, and fetch those that may have to be read."""
        self.listed.update(self._ask("list", {})["listed"])
        self._fetch(md5 for md5 in self.listed if md5.endswith(TREE))
        known = {e["md5"] for t, p in self.all() if t.endswith(TREE) for e in entries(p)
                 if e["relpath"].endswith(_LEFT)}  # fmt: skip
        self._fetch(self.listed.keys() - known)

    def find(self, md5: str) -> list[Path]:
        self.need([md5])
        return super().find(md5)

    def need(self, md5s: Iterable[str]) -> None:
        self._fetch(md5 for md5 in md5s if md5 in self.listed)

    def replace(self, path: Path, content: Iterable[bytes]) -> None:
        super().replace(path, content)
        match = _PLACE.search(path.as_posix())
        assert match is not None
        self.replaced.add(match[1] + match[2])

    def flush(self) -> None:
        if self.replaced:
            self._ask("put", {"objects": {md5: self.listed[md5] for md5 in self.replaced}})
            self.replaced.clear()

    def _fetch(self, wanted: Iterable[str]) -> None:
        objects = {md5: self.listed[md5] for md5 in wanted if not super(FarStore, self).find(md5)}
        if objects:
            self._ask("get", {"objects": objects})

    def _ask(self, what: str, task: dict[str, Any]) -> dict[str, Any]:
        note = self.root / "task.json"
        given = {"do": what, "remote": self.name, "root": str(self.workspace.root),
                 "folder": str(self.root), "layouts": LAYOUTS}  # fmt: skip
        files.write_text(note, json.dumps(given | task))
        command = (sys.executable, "-c", _SCRIPT, str(note))
        finished = processes.run(command, cwd=self.workspace.root)
        if finished.code != 0:
            said = next((line for line in reversed(finished.lines) if line.strip()), "no word")
            raise RunError(f"the remote {self.name} does not let its objects be erased: {said}")
        return json.loads(note.read_text(encoding="utf-8"))


_SCRIPT = """
import json, sys
from pathlib import Path
from dvc.repo import Repo

note = Path(sys.argv[1])
task = json.loads(note.read_text())
remote = Repo(task["root"]).cloud.get_remote(task["remote"])
aware = remote.worktree or getattr(remote.fs, "version_aware", False)
kept = "version_aware or worktree" if aware else ""
if remote.fs.protocol == "s3":
    bucket = remote.path.partition("/")[0]
    if remote.fs.fs.call_s3("get_bucket_versioning", Bucket=bucket).get("Status"):
        kept = f"versioning of the bucket {bucket}"
if kept:
    sys.exit(
        f"it keeps versions of its own ({kept}), which would outlive what is erased: "
        "erase them there by hand, and remove the remote from DVC's settings meanwhile"
    )
places = dict(zip(task["layouts"], (remote.odb, remote.legacy_odb)))
if task["do"] == "list":
    # The present layout last: what lies in both is taken from there.
    listed = {}
    for layout, odb in reversed(places.items()):
        try:
            found = [oid for oid in odb.all() if len(oid.partition(".")[0]) == 32]
        except FileNotFoundError:  # nothing was ever pushed there
            found = []
        listed |= dict.fromkeys(found, layout)
    note.write_text(json.dumps({"listed": listed}))
else:
    for oid, layout in task["objects"].items():
        odb = places[layout]
        there, here = odb.oid_to_path(oid), Path(task["folder"], layout, oid[:2], oid[2:])
        if task["do"] == "get":
            here.parent.mkdir(parents=True, exist_ok=True)
            odb.fs.get_file(there, str(here))
        else:
            odb.fs.put_file(str(here), there)
            back = here.with_name(here.name + ".back")
            odb.fs.get_file(there, str(back))
            same = back.read_bytes() == here.read_bytes()
            back.unlink()
            if not same:
                sys.exit("it took the new bytes and gives others back")
"""


def cache(workspace: Workspace) -> Store:
    """DVC's cache.

    Raises:
        RunError: DVC's settings cannot be read.
    """
    return _cache(workspace, settings(workspace))


def remotes(workspace: Workspace) -> dict[str, str]:
    """The address of each remote, by its name in lower case; of a folder the absolute path.

    Raises:
        RunError: DVC's settings cannot be read.
    """
    return _remotes(settings(workspace))


@contextmanager
def stores(workspace: Workspace) -> Iterator[list[Store]]:
    """The cache, and every remote that is configured, in whichever of DVC's settings.

    Raises:
        UserError: a remote's folder is not there.
        RunError: DVC's settings cannot be read, or a remote cannot be reached.
    """
    set_to = settings(workspace)
    found = [_cache(workspace, set_to)]
    with tempfile.TemporaryDirectory(prefix="keyslice-") as place:
        for name, url in _remotes(set_to).items():
            if (folder := _folder(url)) is None:
                far = FarStore(name, Path(place) / name, workspace)
                far.open()
                found.append(far)
                continue
            if not folder.is_dir():
                raise UserError(
                    f"the folder of DVC's remote {name} is not there",
                    where=str(folder),
                    rule="what is erased is erased in every remote, too",
                    remedy="mount it; if nothing was ever pushed there, make it, empty; if it is "
                    f"gone for good: dvc remote remove {name}",
                )
            found.append(Store(name, folder))
        yield found


def _cache(workspace: Workspace, set_to: Mapping[str, str]) -> Store:
    return Store("cache", Path(set_to.get("cache.dir", workspace.root / ".dvc" / "cache")))


def _remotes(set_to: Mapping[str, str]) -> dict[str, str]:
    """The address of each remote, by name."""
    start, end = "remote.", ".url"
    return {
        key.removeprefix(start).removesuffix(end): value
        for key, value in set_to.items()
        if key.startswith(start) and key.endswith(end)
    }


def entries(tree: Path) -> list[dict[str, str]]:
    """`md5` and `relpath` of each file that a folder's listing names; none where it is damaged."""
    try:
        return json.loads(tree.read_bytes())
    except ValueError:
        return []


def _folder(url: str) -> Path | None:
    if "://" not in url:
        return Path(url)
    parts = urlsplit(url)
    return Path(unquote(parts.path)) if parts.scheme == "file" else None


def _folders(place: Path) -> list[Path]:
    """Those named by two hex digits."""
    try:
        with os.scandir(place) as found:
            return [Path(e.path) for e in found if re.fullmatch("[0-9a-f]{2}", e.name)]
    except FileNotFoundError:
        return []


def settings(workspace: Workspace) -> dict[str, str]:
    """DVC's, of all places that it looks for them in, paths as absolute ones.

    Raises:
        RunError: they cannot be read.
    """
    command = (*processes.DVC, "config", "--list")
    finished = processes.ask(command, cwd=workspace.root)
    if finished.code != 0:
        said = finished.lines[-1] if finished.lines else f"exit code {finished.code}"
        raise RunError(f"dvc config: {without_credentials(said)}")
    pairs = (line.partition("=") for line in finished.lines)
    return {key: value for key, _, value in pairs}
