"""From listings to manifest rows: the same pixels are one exam, under one patient and one label."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from keyslice.exams.dates import kept_date
from keyslice.exams.exam import from_other_end
from keyslice.exams.keyring import Keyring
from keyslice.exams.quarantine import CONFLICTS, Refusal
from keyslice.exams.source import UNKNOWN, KnownFile, Listing
from keyslice.exams.split import SPLITS
from keyslice.exams.stored import Stored
from keyslice.exams.taking import Fault, Taken, take
from keyslice.exams.workers import Workers

Row = dict[str, Any]
"""A row of the manifest, by column."""

WAY_OUT = "decide which is right, mend the table, then keyslice quarantine DATASET --decided FILE"


class Intake:
    """Takes listings; `settle` then says what the dataset consists of.

    Args:
        stored: takes each exam as soon as it is read.
        ring: makes the pseudonyms.
        dates: what is kept of dates; see `FolderDataset.dates`.
        before: the manifest's rows by exam id.
        known: by stamp, files that need not be read again.
        faults: by stamp, why files could not be read; they are not tried again.
        places: exams that were taken in, by the place of their files.
        shut: ids of exams that were erased; they are not taken in, whoever they are listed under.
    """

    def __init__(
        self,
        stored: Stored,
        ring: Keyring,
        dates: str,
        before: Mapping[str, Row],
        known: Mapping[str, KnownFile],
        faults: Mapping[str, str],
        places: Mapping[str, str],
        shut: Collection[str] = (),
    ) -> None:
        self.refused: list[Refusal] = []
        self.files: dict[str, KnownFile] = {}
        """Those taken in, by stamp."""
        self.faults: set[str] = set()
        """Stamps of those that could not be read."""
        self.places: dict[str, str] = {}
        """Exams taken in, by place."""
        self.arriving: list[str] = []
        self.barred: list[str] = []
        """Names of those that hold an exam which was erased."""
        self.across_splits = 0
        self._stored, self._ring, self._dates, self._before = stored, ring, dates, before
        self._known, self._faults, self._places = known, faults, places
        self._shut = shut
        self._today = datetime.now(UTC).date().isoformat()
        self._read: dict[str, Row] = {}
        self._claims: dict[str, list[tuple[Listing, str]]] = {}
        self._dropped: set[str] = set()

    def take(
        self,
        listings: Sequence[Listing],
        folder: Path,
        workers: Workers,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Read exams, unless they are known and stored, and note who claims them.

        Args:
            listings: of the exams.
            folder: that they are stored in.
            workers: read them.
            progress: told how many of all are done.
        """
        new = {x.stamp for x in listings if not (x.stamp in self._faults or self._whole(x))}
        reads = (listing.read for listing in listings if listing.stamp in new)
        results = workers.map(partial(take, folder=folder), reads)
        for done, listing in enumerate(listings, start=1):
            if listing.stamp in new:
                self._arrived(listing, next(results))
            elif listing.stamp in self._faults:
                self._fault(listing, self._faults[listing.stamp])
            else:
                self._claim(listing, self._known[listing.stamp])
            if progress is not None:
                progress(done, len(listings))

    def keep(self, place: str, exam: str) -> None:
        """Note an exam of the dataset whose files have no listing now; it stays."""
        self.places[place] = exam

    def withdraw(self, place: str) -> None:
        """Drop the exam that was taken in from here unless a listing claims it."""
        if place in self._places:
            self._dropped.add(self._places[place])

    def refuse(self, file: str, reason: str, kind: str, exam: str = "") -> None:
        """Note a file that is not let in; of a conflict, the exam that it is about."""
        self.refused.append(Refusal(file, reason, kind, self._today, exam))

    def _whole(self, listing: Listing) -> bool:
        """Whether a listing's exam is known and stored."""
        file = self._known.get(listing.stamp)
        if file is None or file.exam in self._shut:
            return file is not None
        return file.exam in self._before and self._stored.whole(file.exam)

    def _arrived(self, listing: Listing, result: Taken | Fault | str) -> None:
        """Take what a worker gave."""
        if isinstance(result, str):
            result = Fault(result, lasting=False)
        if isinstance(result, Taken) and result.exam in self._shut:
            result.part.unlink()
            self._claim(listing, KnownFile(result.exam, result.reversed))
        elif isinstance(result, Taken):
            sha256 = self._stored.put(result.exam, result.part, result.row["sha256"])
            self._read[result.exam] = result.row | {"sha256": sha256}
            self._claim(listing, KnownFile(result.exam, result.reversed))
        elif result.arriving:
            self.arriving.append(listing.name)
        else:
            self._fault(listing, result.reason, lasting=result.lasting)

    def _fault(self, listing: Listing, reason: str, *, lasting: bool = True) -> None:
        if lasting:
            self.faults.add(listing.stamp)
        self.refuse(listing.name, reason, "unreadable")

    def _claim(self, listing: Listing, file: KnownFile) -> None:
        if file.exam in self._shut:
            self.files[listing.stamp] = file  # noted, so that it is not read every time
            self.barred.append(listing.name)
            return
        frames = (self._read.get(file.exam) or self._before[file.exam])["frames"]
        if listing.informative and listing.informative[-1] >= frames:
            reason = f"frame {listing.informative[-1]} is listed as informative, of {frames} from 0"
            self.refuse(listing.name, reason, "table")
            return
        if listing.informative and file.reversed:
            stored = tuple(from_other_end(listing.informative, frames))
            listing = replace(listing, informative=stored)
        self.files[listing.stamp] = file
        if listing.place:
            # Slices that came later, or a file put in its place, make another exam of it.
            if self._places.get(listing.place, file.exam) != file.exam:
                self.withdraw(listing.place)
            self.places[listing.place] = file.exam
        patient = self._ring.name(*listing.patient) if listing.patient else UNKNOWN
        self._claims.setdefault(file.exam, []).append((listing, patient))

    def settle(self, barred: Mapping[str, str]) -> tuple[dict[str, Row], dict[str, Listing]]:
        """The dataset's rows by exam id, still without split and batch where new.

        Args:
            barred: kinds of conflict, by exam, that the source cannot settle.

        Returns:
            The rows, and for each exam that the source offers the listing that stands for it; any
            further listing of it is a duplicate; `across_splits` counts those of another split.
        """
        rows = dict(self._before)
        offered: dict[str, Listing] = {}
        for exam, claims in self._claims.items():
            if kind := barred.get(exam) or self._conflict(exam):
                self._refuse_exam(exam, kind)
                rows.pop(exam, None)
                continue
            listing, _ = max(claims, key=_held_out)
            self.across_splits += sum(other.split != listing.split for other, _ in claims)
            offered[exam] = listing
            rows[exam] = self._row(exam, listing, rows.get(exam, {"exam_id": exam}))
        for exam in self._dropped.difference(self._claims, self.places.values()):
            rows.pop(exam, None)
        return rows, offered

    def _row(self, exam: str, listing: Listing, before: Row) -> Row:
        """What the source says now, over what is known of old."""
        read = self._read.pop(exam, {})
        patient = next(iter(self._patients(exam)), UNKNOWN)
        told = {"modality": listing.modality, "acquired": listing.acquired}
        found = {column: told[column] or read.get(column) for column in told}
        key = self._ring.maker(patient)  # another would shift the dates of one patient apart
        dated = kept_date(found["acquired"] or "", self._dates, key, patient)
        said = {
            "patient": patient,
            "label": listing.label,
            "label_source": listing.label_source,
            "labeller": self._labeller(listing.labeller),
            "site": listing.site,
            "source_format": listing.source_format,
            "informative": None if listing.informative is None else [*listing.informative],
        }
        if found["modality"]:
            said["modality"] = found["modality"]
        if dated:
            said["acquired"] = dated
        if not read and said.items() <= before.items():
            return before  # nothing new: of 100,000 exams nearly all
        measured = {column: value for column, value in read.items() if column not in told}
        return {"modality": UNKNOWN, "acquired": UNKNOWN} | before | measured | said

    def _labeller(self, name: str) -> str:
        """A pseudonym: what one person labelled can be told apart, who it was cannot."""
        return self._ring.name("labeller", name) if name else UNKNOWN

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
            self.refuse(name, f"{CONFLICTS[kind]}{also}; {WAY_OUT}", kind, exam)


def _held_out(claim: tuple[Listing, str]) -> int:
    """Ranks the listings of an exam by their official splits; of equals `max` takes the first.

    A public set may offer the same pixels in two splits. Held out, the exam teaches no model what
    it is tested on, and the official test set stays whole; quarantine would shrink it.
    """
    split = claim[0].split
    return SPLITS.index(split) if split else 0
