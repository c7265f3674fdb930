"""The table of labels of a folder of exams, checked line by line.

Everything in it is text; spaces around it are dropped, leading zeros are kept. Each line has as
many fields as the first, which names the columns: file, patient_id and the label's; optional:
issuer, site, acquired (ISO date), modality, split (an official one) and informative: between spaces
the numbers of the frames that carry the finding. They count from 0 along the axis that slices are
taken along (see `FolderDataset.slice_axis`; time, in a video), in the order in which the file has
them, whichever way up the patient lies in it. An empty cell says that no frame carries a finding.
Errors name line and column and quote no cell: any may hold a patient's name by mistake.
"""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from difflib import get_close_matches
from functools import partial
from pathlib import Path, PurePosixPath

from keyslice.config import FolderDataset
from keyslice.errors import UserError
from keyslice.exams import readers
from keyslice.exams.source import UNKNOWN, Listing, file_state, stamp
from keyslice.exams.split import SPLITS

COLUMNS = (
    "file",
    "patient_id",
    "label",
    "issuer",
    "site",
    "acquired",
    "modality",
    "split",
    "informative",
)
"""Those that are read; the label's may have another name."""
OFFICIAL = {split: split for split in SPLITS} | {"val": "validation"}


@dataclass
class LabelTable:
    """Of one folder; its rows become listings, each checked against those before it.

    Raises:
        UserError: from its methods; the table cannot be read, lacks a column, or a line breaks a
            rule.
    """

    folder: Path
    dataset: FolderDataset
    name: str
    lines: dict[Path, int] = field(default_factory=dict)
    """Line that listed each file."""
    splits: dict[tuple[str, str], tuple[str, int]] = field(default_factory=dict)
    """Official split of each patient, and the line that said so."""

    def rows(self) -> Iterator[tuple[int, dict[str, str]]]:
        """Line number and values of each line, columns checked first."""
        path = self.folder / self.dataset.labels
        try:
            # The signature that spreadsheets put in front is dropped.
            with path.open(encoding="utf-8-sig", newline="") as file:
                table = csv.reader(file, strict=True)
                columns = [column.strip() for column in next(table, [])]
                self._check_columns(columns)
                for values in filter(None, table):
                    if len(values) != len(columns):
                        raise self._error(
                            table.line_num,
                            f"has {len(values)} fields",
                            f"each line has as many as the first, {len(columns)}",
                            'put text that holds a comma between quotes, as in "Smith, Ann"',
                        )
                    row = dict(zip(columns, map(str.strip, values), strict=True))
                    yield table.line_num, row
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
        for column, where in (
            ("file", self.dataset.labels),
            ("patient_id", self.dataset.labels),
            (self.dataset.label_column, f"{self.dataset.labels} ({key})"),
        ):
            if column not in columns:
                # Of its words only known ones are told: without a header they are a patient's.
                near = get_close_matches(column, [name for name in COLUMNS if name in columns])
                raise UserError(
                    f"no column {column!r}",
                    where=where,
                    rule="file, patient_id and the label's column are needed, named in line 1",
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

    def listing(self, line: int, row: dict[str, str]) -> Listing:
        path = self._file(line, row["file"])
        name = path.relative_to(self.folder).as_posix()
        label = row[self.dataset.label_column]
        if label not in self.dataset.classes:
            raise self._error(
                line,
                f"column {self.dataset.label_column} holds an unknown label",
                f"the classes of datasets.{self.name} are {', '.join(self.dataset.classes)}",
                "mend the label, or drop the line",
            )
        patient = self._patient(line, row)
        return Listing(
            name=name,
            stamp=stamp(name, file_state(path.stat()), self.dataset.slice_axis),
            patient=patient,
            label=label,
            read=partial(readers.read, path, self.dataset.slice_axis),
            source_format=readers.format_of(path.name) or UNKNOWN,
            label_source=f"{self.dataset.labels}:{self.dataset.label_column}",
            split=self._split(line, row, patient),
            informative=self._informative(line, row),
            modality=row.get("modality") or UNKNOWN,
            site=row.get("site") or UNKNOWN,
            acquired=self._acquired(line, row),
        )

    def _file(self, line: int, name: str) -> Path:
        # One name for one file, however it is written: ./a.nii is a.nii.
        relative = PurePosixPath(name)
        path = self.folder / relative
        try:
            inside = path.resolve().is_relative_to(self.folder.resolve())
            there = path.is_file()
        except (OSError, ValueError) as error:  # too long for a name, a folder that is closed, …
            raise self._error(
                line,
                f"the file cannot be looked for ({getattr(error, 'strerror', 'no file name')})",
                "every listed file can be read",
                "mend its name or the permissions of its folder",
            ) from None
        if not name or relative.is_absolute() or ".." in relative.parts or not inside:
            raise self._error(
                line,
                "the file lies outside the folder" if name else "names no file",
                "files are named by their path relative to the folder, and lie in it",
                "move the file into the folder",
            )
        if not there:
            raise self._error(
                line, "the file is not there", "every listed file exists", "add it or drop the line"
            )
        if first := self.lines.get(path):
            raise self._error(
                line, f"lists the file of line {first} again", "a file has one line", "drop one"
            )
        self.lines[path] = line
        return path

    def _patient(self, line: int, row: dict[str, str]) -> tuple[str, str] | None:
        if row["patient_id"]:
            return row.get("issuer") or self.dataset.issuer, row["patient_id"]
        if self.dataset.identifiers == "public":
            return None
        raise self._error(
            line,
            "has no patient_id",
            "without it a patient could be in two splits",
            f"fill it in; only with datasets.{self.name}.identifiers: public may it be empty",
        )

    def _split(self, line: int, row: dict[str, str], patient: tuple[str, str] | None) -> str | None:
        if "split" not in row:
            return None
        split = OFFICIAL.get(row["split"])
        if split is None:
            raise self._error(
                line,
                "column split holds an unknown split",
                "where the table has a column split, each line fills it",
                f"known: {', '.join(OFFICIAL)}",
            )
        if patient is not None:
            other, first = self.splits.setdefault(patient, (split, line))
            if other != split:
                raise self._error(
                    line,
                    f"puts the patient of line {first} into {split} as well as {other}",
                    "a patient is in one split",
                    "mend the column split",
                )
        return split

    def _informative(self, line: int, row: dict[str, str]) -> tuple[int, ...] | None:
        if "informative" not in row:
            return None
        words = row["informative"].split()
        if not all(word.isascii() and word.isdigit() for word in words):
            raise self._error(
                line,
                "column informative holds more than frame numbers",
                "it lists numbers of frames, from 0 in the file's own order, with spaces between",
                "mend it or leave it empty",
            )
        return tuple(sorted({int(word) for word in words}))

    def _acquired(self, line: int, row: dict[str, str]) -> str:
        if not row.get("acquired"):
            return UNKNOWN
        try:
            return date.fromisoformat(row["acquired"]).isoformat()
        except ValueError:
            raise self._error(
                line,
                "column acquired holds no date",
                "it is an ISO date, such as 2024-03-01",
                "mend it or leave it empty",
            ) from None

    def _error(self, line: int, what: str, rule: str, remedy: str) -> UserError:
        where = f"{self.dataset.labels} of {self.name}, line {line}"
        return UserError(what, where=where, rule=rule, remedy=remedy)
