"""The table of labels of a folder of exams.

Everything in it is text; spaces around it are dropped, leading zeros are kept. Each line has as
many fields as the first, which names the columns: file or series (one of them at least), patient_id
and the label's; optional: issuer, site, acquired (ISO date), modality, labeller, split (an official
one) and informative: between spaces the numbers of the frames that carry the finding. They count
from 0 along the axis that slices are taken along (see `FolderDataset.slice_axis`; in videos, time),
in the order in which the file has them, whichever way up the patient lies in it. An empty cell says
that no frame carries a finding.

`file` is a path relative to the folder: of a file, of one of an exam's many, of the folder that an
exam fills, or of a member of an archive, as in `export.zip/a.dcm`. `series` is the UID of a DICOM
series (or that and, after a slash, the UID of one multi-frame object in it).

A table that cannot be told apart into lines and columns stops the ingestion. Anything else is an
error about one exam, which waits or is refused. Messages name line and column and quote no cell:
any may hold a patient's name by mistake.
"""

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from keyslice.config import FolderDataset
from keyslice.errors import UserError
from keyslice.exams.source import UNKNOWN
from keyslice.exams.split import SPLITS

COLUMNS = (
    "file",
    "series",
    "patient_id",
    "label",
    "issuer",
    "site",
    "acquired",
    "modality",
    "labeller",
    "split",
    "informative",
)
"""Those that are read; the label's may have another name."""
OFFICIAL = {split: split for split in SPLITS} | {"val": "validation"}


class LineError(Exception):
    """A line that says of its exam what cannot be; the message says what, and the way out."""

    def __init__(self, line: int, what: str, rule: str, remedy: str) -> None:
        super().__init__(f"line {line} {what}; {rule}; {remedy}")


class WaitingError(Exception):
    """The exam has no label yet that it could be taken in with; the message says why."""


class Entry(NamedTuple):
    """What the table says of one exam; see `source.Listing`."""

    patient: tuple[str, str] | None
    label: str
    split: str | None
    informative: tuple[int, ...] | None
    modality: str
    site: str
    acquired: str
    labeller: str


class LabelTable:
    """Of one folder, read whole.

    Args:
        folder: that holds the exams.
        dataset: its settings.
        name: of the dataset.
        token: what stands for the UID of a series.

    Raises:
        UserError: the table cannot be read, or lacks a column.
    """

    def __init__(
        self, folder: Path, dataset: FolderDataset, name: str, token: Callable[[str], str] = str
    ) -> None:
        self.dataset, self.name = dataset, name
        self._columns: dict[str, int] = {}
        self._rows: dict[int, tuple[str, ...]] = {}
        self._lines: dict[str, list[int]] = {}
        self._patients: dict[tuple[str, str], tuple[str, int]] = {}
        """Official split of each patient, and the line that said so first."""
        self._used: set[int] = set()
        for line, row in self._read(folder):
            self._rows[line] = row
            for key in {_path(self._cell(row, "file")), self._token(row, token)} - {""}:
                self._lines.setdefault(key, []).append(line)

    @property
    def keys(self) -> Iterable[str]:
        """All that the lines name."""
        return self._lines.keys()

    @property
    def unused(self) -> list[int]:
        """Lines that no exam was found for, so far."""
        return sorted(self._rows.keys() - self._used)

    def met(self, names: Iterable[str]) -> None:
        """Count lines as used that name files which are here, refused or still arriving."""
        for name in names:
            self._used.update(self._lines.get(_path(name), ()))

    def named(self, theirs: Callable[[tuple[str, str]], bool]) -> list[tuple[int, str]]:
        """The lines of patients, (issuer, id), that are sought: their number, and what they name.

        Those are files as in the table, or UIDs of series.
        """
        return [
            (line, self._cell(row, "file") or self._cell(row, "series"))
            for line, row in self._rows.items()
            if (patient := self._cell(row, "patient_id"))
            and theirs((self._cell(row, "issuer") or self.dataset.issuer, patient))
        ]

    def entry(self, keys: Iterable[str]) -> Entry | None:
        """What the lines say that name an exam by one of `keys`; None where there is none.

        Raises:
            WaitingError: its label is empty or none of the classes.
            LineError: a line breaks a rule, or two contradict each other.
        """
        lines = sorted({line for key in keys for line in self._lines.get(_path(key), ())})
        if not lines:
            return None
        self._used.update(lines)
        entries = [self._entry(line, self._rows[line]) for line in lines]
        first = entries[0]
        for line, other in zip(lines[1:], entries[1:], strict=True):
            for what in ("label", "patient", "split", "informative"):
                if getattr(other, what) != getattr(first, what):
                    raise LineError(
                        line,
                        f"names another {what} than line {lines[0]} does for the same exam",
                        f"an exam has one {what}",
                        "decide which is right, and mend or drop the other",
                    )
        return first

    def _token(self, row: Sequence[str], token: Callable[[str], str]) -> str:
        series = self._cell(row, "series")
        return "/".join(map(token, series.split("/"))) if series else ""

    def _cell(self, row: Sequence[str], column: str) -> str:
        number = self._columns.get(column)
        return "" if number is None else row[number]

    def _read(self, folder: Path) -> Iterator[tuple[int, tuple[str, ...]]]:
        """Line number and values of each line, columns checked first."""
        path = folder / self.dataset.labels
        try:
            # The signature that spreadsheets put in front is dropped.
            with path.open(encoding="utf-8-sig", newline="") as file:
                table = csv.reader(file, strict=True)
                columns = [column.strip() for column in next(table, [])]
                self._check_columns(columns)
                self._columns = {column: number for number, column in enumerate(columns)}
                for values in filter(None, table):
                    if len(values) != len(columns):
                        raise self._error(
                            table.line_num,
                            f"has {len(values)} fields",
                            f"each line has as many as the first, {len(columns)}",
                            'put text that holds a comma between quotes, as in "Smith, Ann"',
                        )
                    yield table.line_num, tuple(map(str.strip, values))
        except FileNotFoundError:
            raise UserError(
                f"no table of labels {path}",
                where=f"datasets.{self.name}.labels",
                rule="a folder of exams needs one, with file, patient_id and label",
                remedy="write it, or name it",
            ) from None
        except (UnicodeDecodeError, csv.Error) as error:
            raise UserError(
                f"cannot be read as a table ({error})",
                where=str(path),
                rule="it must be comma-separated text in UTF-8",
                remedy="save it as CSV UTF-8",
            ) from None
        except OSError as error:
            raise UserError(
                f"{path} cannot be read ({error.strerror})",
                where=f"datasets.{self.name}.labels",
                rule="it is a table that this account may read",
                remedy="name the table, or mend its permissions",
            ) from None

    def _check_columns(self, columns: Sequence[str]) -> None:
        key = f"datasets.{self.name}.label_column"
        for needed, where in (
            (("file", "series"), self.dataset.labels),
            (("patient_id",), self.dataset.labels),
            ((self.dataset.label_column,), f"{self.dataset.labels} ({key})"),
        ):
            if not set(needed).intersection(columns):
                # Of its words only known ones are told: without a header they are a patient's.
                known = [name for name in COLUMNS if name in columns]
                near = get_close_matches(needed[0], known)
                raise UserError(
                    f"no column {' or '.join(map(repr, needed))}",
                    where=where,
                    rule="file (or series), patient_id and the label's column are needed, named in "
                    "line 1",
                    remedy=f"did you mean {near[0]!r}?" if near else "add it, or mend its name",
                )
        for number, column in enumerate(columns):
            if column and column in columns[:number]:
                raise self._error(
                    1,
                    f"names columns {columns.index(column) + 1} and {number + 1} alike",
                    "each column has a name of its own",
                    "rename or drop one",
                )

    def _entry(self, line: int, row: Sequence[str]) -> Entry:
        label = self._cell(row, self.dataset.label_column)
        if not label:
            raise WaitingError("its label is empty")
        if label not in self.dataset.classes:
            raise WaitingError("its label is none of the classes")
        patient = self._patient(line, row)
        return Entry(
            patient=patient,
            label=label,
            split=self._split(line, row, patient),
            informative=self._informative(line, row),
            modality=self._cell(row, "modality"),
            site=self._cell(row, "site") or UNKNOWN,
            acquired=self._acquired(line, row),
            labeller=self._cell(row, "labeller"),
        )

    def _patient(self, line: int, row: Sequence[str]) -> tuple[str, str] | None:
        if patient := self._cell(row, "patient_id"):
            return self._cell(row, "issuer") or self.dataset.issuer, patient
        if self.dataset.identifiers == "public":
            return None
        raise LineError(
            line,
            "has no patient_id",
            "without it a patient could be in two splits",
            f"fill it in; only with datasets.{self.name}.identifiers: public may it be empty",
        )

    def _split(self, line: int, row: Sequence[str], patient: tuple[str, str] | None) -> str | None:
        if "split" not in self._columns:
            return None
        split = OFFICIAL.get(self._cell(row, "split"))
        if split is None:
            raise LineError(
                line,
                "has an unknown split",
                "where the table has a column split, each line fills it",
                f"known: {', '.join(OFFICIAL)}",
            )
        if patient is not None:
            other, first = self._patients.setdefault(patient, (split, line))
            if other != split:
                raise LineError(
                    line,
                    f"puts the patient of line {first} into {split} as well as {other}",
                    "a patient is in one split",
                    "mend the column split",
                )
        return split

    def _informative(self, line: int, row: Sequence[str]) -> tuple[int, ...] | None:
        if "informative" not in self._columns:
            return None
        words = self._cell(row, "informative").split()
        if not all(word.isascii() and word.isdigit() for word in words):
            raise LineError(
                line,
                "holds in column informative more than frame numbers",
                "it lists numbers of frames, from 0 in the file's own order, with spaces between",
                "mend it or leave it empty",
            )
        return tuple(sorted({int(word) for word in words}))

    def _acquired(self, line: int, row: Sequence[str]) -> str:
        acquired = self._cell(row, "acquired")
        if not acquired:
            return ""
        try:
            return date.fromisoformat(acquired).isoformat()
        except ValueError:
            raise LineError(
                line,
                "holds in column acquired no date",
                "it is an ISO date, such as 2024-03-01",
                "mend it or leave it empty",
            ) from None

    def _error(self, line: int, what: str, rule: str, remedy: str) -> UserError:
        where = f"{self.dataset.labels} of {self.name}, line {line}"
        return UserError(what, where=where, rule=rule, remedy=remedy)


def _path(name: str) -> str:
    """One name for one file, however it is written: ./a.nii is a.nii, folder/ is folder."""
    if not (name.endswith("/") or "//" in name or "./" in name):
        return name  # as nearly all are
    return PurePosixPath(name).as_posix() if name else ""
