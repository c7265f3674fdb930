"""The list of refused files with reasons: no copies of data, the only place with original names."""

import csv
import io
from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields, replace
from difflib import get_close_matches
from pathlib import Path

from keyslice import files
from keyslice.errors import UserError

CONFLICTS = {
    "two_patients": "the same pixels are listed under two patients",
    "two_labels": "the same pixels are listed with two labels",
}
"""Kinds of refusal that the same pixels, listed differently, are the reason of."""


@dataclass(frozen=True, order=True)
class Refusal:
    """One file that was not let in.

    Args:
        file: its name in the source; for an exam whose file is gone, `exam <id>`.
        reason: why, in words.
        kind: unreadable; table, of a line about it that breaks a rule; two_patients or two_labels.
        first_seen: UTC date of the ingestion that first refused it for this.
        exam: its id, where it could be read.
    """

    file: str
    reason: str
    kind: str
    first_seen: str
    exam: str = ""


def read(path: Path) -> list[Refusal]:
    """The list as it stands; empty where there is none.

    Raises:
        UserError: it was edited into something else.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        lines = list(csv.reader(io.StringIO(text)))
    except FileNotFoundError:
        return []
    except (UnicodeDecodeError, csv.Error):
        lines = [[]]  # no header: refused below
    if not lines:
        return []
    columns = [field.name for field in fields(Refusal)]
    header, *rows = lines
    if header != columns or any(len(row) != len(columns) for row in rows):
        raise UserError(
            "is no quarantine list any more",
            where=str(path),
            rule=f"it is CSV in UTF-8 with the columns {', '.join(columns)}",
            remedy="remove whole lines only; delete the file to have it made anew",
        )
    return [Refusal(*row) for row in rows]


def barred(refusals: Iterable[Refusal], listed: set[str]) -> dict[str, str]:
    """The kind of conflict of each exam that is in conflict with one no longer listed.

    The source alone cannot settle such a conflict; removing its lines from the list does.
    """
    return {r.exam: r.kind for r in refusals if r.kind in CONFLICTS and r.file not in listed}


def decided(path: Path, names: Iterable[str]) -> None:
    """Remove all lines of the exams that these files are in conflict about: it is settled.

    The caller holds the dataset's lock.

    Raises:
        UserError: the list does not name one of them, or for no conflict; it is as it was.
    """
    refusals = read(path)
    kinds = {refusal.file: refusal.kind for refusal in refusals}
    disputed = {r.file: r.exam for r in refusals if r.kind in CONFLICTS}
    settled = set()
    for file in names:
        if file not in kinds:
            near = get_close_matches(file, disputed, n=1)
            raise UserError(
                f"{file!r} is not in the quarantine list",
                where="--decided",
                rule="it names a file as the list does",
                remedy=f"did you mean {near[0]!r}?" if near else "without options, all are listed",
            )
        if file not in disputed:
            raise UserError(
                f"{file!r} is in quarantine as {kinds[file]}",
                where="--decided",
                rule="it settles a conflict between two patients or two labels",
                remedy="mend the file or its line in the table; an ingestion then takes it in",
            )
        settled.add(disputed[file])
    update(path, [r for r in refusals if r.exam not in settled], {*kinds})


def update(path: Path, refused: Iterable[Refusal], listed: set[str]) -> list[Refusal]:
    """Bring the list up to date: what is refused now, and conflicts that are still open.

    Dates of first sight are kept. A list that has not changed is not written.
    """
    before = read(path)
    seen = {(r.file, r.kind): r.first_seen for r in before}
    now = {r.file: replace(r, first_seen=seen.get((r.file, r.kind), r.first_seen)) for r in refused}
    still_open = [r for r in before if r.kind in CONFLICTS and r.file not in listed]
    rows = sorted({**{r.file: r for r in still_open}, **now}.values())
    if rows == before:
        return rows
    if not rows:
        path.unlink(missing_ok=True)
        return rows
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(field.name for field in fields(Refusal))
    table.writerows(astuple(row) for row in rows)
    files.write_text(path, text.getvalue())
    return rows
