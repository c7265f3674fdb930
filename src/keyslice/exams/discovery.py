"""What lies in a source: files grouped into exams, and those that are none, each with its reason.

A file is an exam; of DICOM files a series is; and all images of a folder are, but for one that the
table of labels names by itself. A zip archive is as the folder of what it holds.
"""

import os
import re
import stat
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from keyslice.config import Limits
from keyslice.exams import archives, readers
from keyslice.exams.exam import Exam
from keyslice.exams.folder import scan
from keyslice.exams.readers import format_of
from keyslice.exams.source import (
    Reading,
    SourceFile,
    StillArrivingError,
    UnreadableError,
    file_state,
    printable,
    stamp,
)

ARRIVING = re.compile(
    r".*\.(part|partial|filepart|crdownload|download|tmp|temp|incomplete|!ut|aria2)"
    r"|\..+\.\w{6}"  # rsync's
    r"|\.~.*|~\$.*",
    re.IGNORECASE,
)
"""Names that programs give to files that they have not yet written to the end."""
NO_EXAMS = {"dicomdir", "thumbs.db", "desktop.ini"}
SNIFFED = 132 + 128
"""Bytes by which a DICOM file is known."""

Header = tuple[str, str, str, bool, str]
"""Of a DICOM file: tokens of its exam, of its series and of whose it is; whether it holds an image;
and why not."""


@dataclass(frozen=True, slots=True)
class Unit:
    """The files of one exam.

    Args:
        name: of its file, `printable`; of several, the first's.
        form: of `readers.FORMATS`.
        files: by name.
        keys: by what a table may name it: files, a folder or archive it fills, tokens of a series.
    """

    name: str
    form: str
    files: tuple[SourceFile, ...]
    keys: tuple[str, ...]

    def stamp(self, reading: Reading) -> str:
        """Changes when the files, or the way of reading them, may have changed."""
        state = [(file.name, file.size, file.time) for file in self.files]
        return stamp(self.form, state, reading.slice_axis, reading.burned_in)

    @property
    def place(self) -> str:
        """Where it lies: its file, its folder or its series. Files that come or go leave it be."""
        return self.keys[0]


def read(unit: Unit, reading: Reading) -> Exam:
    """The exam of a unit.

    Raises:
        UnreadableError: see `readers.read`.
        StillArrivingError: a file has changed since it was found.
    """
    try:
        exam = readers.read(unit.form, unit.files, reading)
    except UnreadableError:
        _check_unchanged(unit)  # half a file is no damaged one
        raise
    _check_unchanged(unit)
    return exam


def _check_unchanged(unit: Unit) -> None:
    if not all(map(unchanged, unit.files)):
        raise StillArrivingError("it changed while it was read")


@dataclass
class Discovery:
    """Files by name, and why they are where they are."""

    units: list[Unit] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    """Those that are no exams."""
    arriving: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    headers: dict[str, Header] = field(default_factory=dict)
    """Of DICOM files, by their stamps: not to be read again."""


class Explorer:
    """Finds the exams of a folder.

    Args:
        folder: the source.
        limits: on archives.
        settle: seconds for which a file must have stayed as it is.
        own: names in the folder that are not exams': the table of labels.
        single: names of images that are exams by themselves.
        known: headers of DICOM files, by stamp.
        headers: reads those of the others, in parallel.
    """

    def __init__(
        self,
        folder: Path,
        limits: Limits,
        *,
        settle: float = 0.0,
        own: Collection[str] = (),
        single: Collection[str] = (),
        known: Mapping[str, Header] | None = None,
        headers: Callable[[Sequence[SourceFile]], Iterable[Header | str]],
    ) -> None:
        self.found = Discovery()
        self._folder, self._limits, self._settle = folder, limits, settle
        self._own, self._single = set(own), set(single)
        self._known, self._headers = known or {}, headers

    def explore(self) -> Discovery:
        """Everything in the folder.

        Raises:
            OSError: a folder in it cannot be read.
        """
        return self.sort(self._settled([*self._files()]))

    def sort(self, files: Iterable[SourceFile]) -> Discovery:
        """These files of the folder, and what the archives among them hold."""
        by_form: dict[str, list[SourceFile]] = {}
        for file in (file for one in files for file in self._unpacked(one)):
            if form := self._form(file):
                by_form.setdefault(form, []).append(file)
        dicom, images = by_form.pop("dicom", []), by_form.pop("images", [])
        for form, ones in by_form.items():
            self.found.units += [Unit(one.name, form, (one,), (one.name,)) for one in ones]
        self._group(self._series(dicom), "dicom")
        self._group(self._folders(images), "images")
        self.found.units.sort(key=lambda unit: unit.name)
        return self.found

    def _files(self) -> Iterator[SourceFile]:
        home = os.fspath(self._folder)
        # No pathlib here: for 100,000 files it would take longer than all else.
        for path, status in scan(self._folder):
            name = printable(path)
            base = path.rpartition("/")[2]
            if path in self._own:
                self.found.skipped[name] = "the table of labels"
            elif ARRIVING.fullmatch(base):
                self.found.arriving.append(name)
            elif path.startswith(".") or "/." in path:
                self.found.skipped[name] = "hidden"
            elif stat.S_ISLNK(status.st_mode):
                self._link(path, name)
            elif not stat.S_ISREG(status.st_mode):
                self.found.skipped[name] = "no file that could be read to an end"
            elif name != path:
                self.found.refused[name] = (
                    "its name is not UTF-8, so no table can name it; rename it"
                )
            else:
                yield SourceFile(name, f"{home}/{path}", *file_state(status))

    def _link(self, path: str, name: str) -> None:
        target = Path(os.path.realpath(self._folder / path))
        if target.is_relative_to(self._folder.resolve()):
            self.found.skipped[name] = "a link to what lies here anyway"
        else:
            self.found.refused[name] = "a link that leads out of the source's folder"

    def _settled(self, files: list[SourceFile]) -> list[SourceFile]:
        """Those that have not changed for a while; waits for the youngest to be that old."""
        now = time.time()
        ages = {file.name: now - file.time / 1e9 for file in files}
        # Also those from the future: the clock of a share may be ahead.
        young = [file for file in files if ages[file.name] < self._settle]
        if young:
            time.sleep(self._settle - max(0, min(ages[file.name] for file in young)))
        moved = {file.name for file in young if not unchanged(file)}
        self.found.arriving += sorted(moved)
        return [file for file in files if file.name not in moved]

    def _unpacked(self, file: SourceFile) -> Iterator[SourceFile]:
        """The file, or what the archive holds that it is."""
        if not file.name.lower().endswith(archives.ENDING):
            yield file
            return
        try:
            inside = [*archives.members(file, self._limits)]
        except UnreadableError as error:
            self.found.refused[file.name] = str(error)
            return
        if not inside:
            self.found.skipped[file.name] = "an empty archive"
        for member, fault in inside:
            if fault:
                self.found.refused[member.name] = fault
            elif any(p.startswith((".", "__MACOSX")) for p in PurePosixPath(member.member).parts):
                self.found.skipped[member.name] = "hidden"
            else:
                yield member

    def _form(self, file: SourceFile) -> str | None:
        """The format; of what is no exam it is noted why."""
        base = file.name.rpartition("/")[2].lower()
        if base in NO_EXAMS:
            self.found.skipped[file.name] = "an index, no exam"
            return None
        form = format_of(base)
        if form and not file.size:
            self.found.refused[file.name] = "it is empty"
            return None
        return form or self._sniffed(file)

    def _sniffed(self, file: SourceFile) -> str | None:
        key = _stamp(file)
        if key in self._known:
            return "dicom"
        try:
            start = file.start(SNIFFED)
        except UnreadableError as error:
            self.found.refused[file.name] = str(error)
            return None
        from keyslice.exams.formats.dicom import is_dicom  # pydicom: only where such a file is met

        if is_dicom(start):
            return "dicom"
        self.found.skipped[file.name] = "of no known format"
        return None

    def _group(self, groups: dict[tuple[str, ...], list[SourceFile]], form: str) -> None:
        """A unit for each group of files, whose key holds by what a table may name it."""
        alone = _folders_with_one(groups)
        for keys, files in groups.items():
            ones = tuple(sorted(files, key=lambda file: file.name))
            names = tuple(file.name for file in ones)
            folders = tuple(name for name in {_parent(n) for n in names} if name in alone)
            self.found.units.append(Unit(names[0], form, ones, (*keys, *names, *folders)))

    def _series(self, files: list[SourceFile]) -> dict[tuple[str, ...], list[SourceFile]]:
        headers = {file.name: self._known.get(_stamp(file)) for file in files}
        new = [file for file in files if headers[file.name] is None]
        groups: dict[tuple[str, ...], list[SourceFile]] = {}
        owners: dict[str, set[str]] = {}
        for file, header in zip(new, self._headers(new), strict=True):
            if isinstance(header, str):
                self.found.refused[file.name] = header
            else:
                headers[file.name] = header
        for file in files:
            header = headers[file.name]
            if header is None:
                continue
            self.found.headers[_stamp(file)] = header
            exam, series, owner, image, reason = header
            if image:
                owners.setdefault(series, set()).add(owner)
                groups.setdefault((f"{owner} {exam}", exam, series), []).append(file)
            else:
                self.found.skipped[file.name] = reason
        # A UID that two patients or studies have names neither.
        return {
            keys if len(owners[keys[2]]) == 1 else keys[:1]: files for keys, files in groups.items()
        }

    def _folders(self, files: list[SourceFile]) -> dict[tuple[str, ...], list[SourceFile]]:
        groups: dict[tuple[str, ...], list[SourceFile]] = {}
        for file in files:
            single = file.name in self._single
            groups.setdefault((file.name if single else f"{_parent(file.name)}/",), []).append(file)
        return groups


def unchanged(file: SourceFile) -> bool:
    """Whether a file is as it was when it was found."""
    try:
        size, changed = file_state(os.stat(file.path))  # noqa: PTH116
        return changed == file.time and (size == file.size or file.member != "")
    except OSError:
        return False


def _stamp(file: SourceFile) -> str:
    return stamp(file.name, file.size, file.time)


def _parent(name: str) -> str:
    return name.rpartition("/")[0]


def _folders_with_one(groups: dict[tuple[str, ...], list[SourceFile]]) -> set[str]:
    """Folders, the source itself aside, that the files of one group alone fill."""
    owners: dict[str, set[tuple[str, ...]]] = {}
    for keys, files in groups.items():
        for file in files:
            owners.setdefault(_parent(file.name), set()).add(keys)
    return {folder for folder, of in owners.items() if folder and len(of) == 1}
