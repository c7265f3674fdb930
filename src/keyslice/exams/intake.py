"""From listings to manifest rows: the same pixels are one exam, under one patient and one label."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from keyslice.exams.exam import Exam, exam_id, from_other_end
from keyslice.exams.pseudonym import pseudonym
from keyslice.exams.quarantine import CONFLICTS, Refusal
from keyslice.exams.source import UNKNOWN, KnownFile, Listing, Unlisted, UnreadableError
from keyslice.exams.split import SPLITS
from keyslice.exams.stored import Stored

Row = dict[str, Any]
"""A row of the manifest, by column."""

WAY_OUT = (
    "decide which is right, mend the table, and remove this exam's lines from the quarantine list"
)


class Intake:
    """Takes listings one by one; `settle` then says what the dataset consists of.

    Args:
        stored: takes each exam as soon as it is read.
        key: of the pseudonyms.
        before: the manifest's rows by exam id.
        known: by stamp, files that need not be read again.
    """

    def __init__(
        self, stored: Stored, key: bytes, before: Mapping[str, Row], known: Mapping[str, KnownFile]
    ) -> None:
        self.refused: list[Refusal] = []
        self.files: dict[str, KnownFile] = {}
        """Those taken in, by stamp."""
        self.across_splits = 0
        self._stored, self._key, self._before, self._known = stored, key, before, known
        self._today = datetime.now(UTC).date().isoformat()
        self._read: dict[str, Row] = {}
        self._claims: dict[str, list[tuple[Listing, str]]] = {}

    def take(self, listing: Listing) -> None:
        """Read an exam, unless it is known and stored, and note who claims it.

        What fails is refused.
        """
        try:
            file = self._known.get(listing.stamp)
            if file is None or file.exam not in self._before or not self._stored.whole(file.exam):
                exam = listing.read()
                file = KnownFile(self._store(exam), exam.reversed)
            frames = (self._read.get(file.exam) or self._before[file.exam])["frames"]
            if listing.informative and listing.informative[-1] >= frames:
                raise UnreadableError(
                    f"frame {listing.informative[-1]} is listed as informative, of {frames} from 0"
                )
        except UnreadableError as error:
            self._refuse(listing.name, str(error), "unreadable")
            return
        if listing.informative and file.reversed:
            stored = tuple(from_other_end(listing.informative, frames))
            listing = replace(listing, informative=stored)
        self.files[listing.stamp] = file
        patient = pseudonym(self._key, *listing.patient) if listing.patient else UNKNOWN
        self._claims.setdefault(file.exam, []).append((listing, patient))

    def refuse_unlisted(self, file: Unlisted) -> None:
        self._refuse(file.name, file.reason, "unlisted")

    def settle(self, barred: Mapping[str, str]) -> tuple[dict[str, Row], dict[str, Listing]]:
        """The dataset's rows by exam id, still without split and batch where new.

        Args:
            barred: kinds of conflict, by exam, that the source cannot settle.

        Returns:
            The rows, and for each exam that the source offers the listing that stands for it; any
            further listing of it is a duplicate; `across_splits` counts those of another split.
        """
        rows = {exam: dict(row) for exam, row in self._before.items()}
        offered: dict[str, Listing] = {}
        for exam, claims in self._claims.items():
            if kind := barred.get(exam) or self._conflict(exam):
                self._refuse_exam(exam, kind)
                rows.pop(exam, None)
                continue
            listing, _ = max(claims, key=_held_out)
            self.across_splits += sum(other.split != listing.split for other, _ in claims)
            offered[exam] = listing
            rows[exam] = (
                rows.get(exam, {"exam_id": exam})
                | self._read.get(exam, {})
                | {
                    "patient": next(iter(self._patients(exam)), UNKNOWN),
                    "label": listing.label,
                    "label_source": listing.label_source,
                    "modality": listing.modality,
                    "site": listing.site,
                    "acquired": listing.acquired,
                    "source_format": listing.source_format,
                    "informative": None if listing.informative is None else [*listing.informative],
                }
            )
        return rows, offered

    def _store(self, exam: Exam) -> str:
        """Store the exam and note its facts."""
        name = exam_id(exam.frames)
        count, height, width = exam.frames.shape[:3]
        between, rows, columns = exam.spacing or (None, None, None)
        self._read[name] = {
            "frames": count,
            "height": height,
            "width": width,
            "channels": exam.channels,
            "dtype": exam.frames.dtype.name,
            "sha256": self._stored.put(name, exam),
            "frame_spacing": between,
            "row_spacing": rows,
            "column_spacing": columns,
            "frame_time": exam.frame_time,
        }
        return name

    def _patients(self, exam: str) -> set[str]:
        """Those the exam is, or was, listed under; unknown contradicts nobody."""
        patients = {patient for _, patient in self._claims[exam]}
        if exam in self._before:
            patients.add(self._before[exam]["patient"])
        return patients - {UNKNOWN}

    def _conflict(self, exam: str) -> str | None:
        if len(self._patients(exam)) > 1:
            return "two_patients"
        return "two_labels" if len({c.label for c, _ in self._claims[exam]}) > 1 else None

    def _refuse_exam(self, exam: str, kind: str) -> None:
        """Refuse all that claim the exam, the one accepted earlier included."""
        names = [listing.name for listing, _ in self._claims[exam]]
        for listing, _ in self._claims[exam]:
            del self.files[listing.stamp]
        earlier = self._before.get(exam)
        claimed = {patient for _, patient in self._claims[exam]}
        if earlier and earlier["patient"] not in claimed | {UNKNOWN}:
            names.append(f"exam {exam} of batch {earlier['batch']}")
        for name in names:
            others = ", ".join(other for other in names if other != name)
            also = f" (also {others})" if others else ""
            self._refuse(name, f"{CONFLICTS[kind]}{also}; {WAY_OUT}", kind, exam)

    def _refuse(self, file: str, reason: str, kind: str, exam: str = "") -> None:
        self.refused.append(Refusal(file, reason, kind, self._today, exam))


def _held_out(claim: tuple[Listing, str]) -> int:
    """Ranks the listings of an exam by their official splits; of equals `max` takes the first.

    A public set may offer the same pixels in two splits. Held out, the exam teaches no model what
    it is tested on, and the official test set stays whole; quarantine would shrink it.
    """
    split = claim[0].split
    return SPLITS.index(split) if split else 0
