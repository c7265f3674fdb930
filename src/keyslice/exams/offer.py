"""What a source offers to an ingestion: listings, and an account of everything else in it."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath

from keyslice.config import FolderDataset
from keyslice.errors import UserError
from keyslice.exams import discovery
from keyslice.exams.discovery import Explorer, Header, Unit
from keyslice.exams.source import Listing, Reading, SourceFile, UnreadableError
from keyslice.exams.table import Entry, LabelTable, LineError, WaitingError
from keyslice.exams.workers import Workers

NO_LINE = "no line of the table names it"


@dataclass
class Offer:
    """What was found in a source.

    Args:
        listings: exams with a label.
        waiting: exams without one they could be taken in with: reason by name.
        unlisted: exams taken in earlier that the table does not name any more: name by place.
        withdrawn: places of those whose label is empty now, or none of the classes.
        refused: reason and kind by name.
        skipped: files that are no exams: reason by name.
        arriving: names of files that are still being written.
        counts: of files, by the names above where it is not one.
        headers: of DICOM files; see `Discovery`.
        barred: names of those of patients who have withdrawn; see `bar`.
        unused_lines: of the table, that name nothing that was found.
        places: what stands for the place of each exam that was found, by name.
    """

    listings: list[Listing] = field(default_factory=list)
    waiting: dict[str, str] = field(default_factory=dict)
    unlisted: dict[str, str] = field(default_factory=dict)
    withdrawn: set[str] = field(default_factory=set)
    refused: dict[str, tuple[str, str]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    arriving: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    headers: dict[str, Header] = field(default_factory=dict)
    barred: list[str] = field(default_factory=list)
    unused_lines: int = 0
    places: dict[str, str] = field(default_factory=dict)

    def files(self, names: Iterable[str]) -> int:
        """How many files these are."""
        return sum(self.counts.get(name, 1) for name in names)

    def bar(self, has_withdrawn: Callable[[tuple[str, str]], bool]) -> None:
        """Take out the listings of patients, (issuer, id), who have withdrawn: none is read."""
        listings, self.listings = self.listings, []
        for listing in listings:
            if listing.patient is not None and has_withdrawn(listing.patient):
                self.barred.append(listing.name)
            else:
                self.listings.append(listing)


def of_folder(
    folder: Path,
    dataset: FolderDataset,
    name: str,
    *,
    workers: Workers,
    token: Callable[[str], str] = str,
    known: Collection[str] = (),
    headers: Mapping[str, Header] | None = None,
) -> Offer:
    """The exams in a folder with the labels that its table gives them.

    Args:
        folder: the source.
        dataset: its settings.
        name: of the dataset.
        workers: read the headers of DICOM files.
        token: what stands for a UID.
        known: places of exams that were taken in earlier.
        headers: known ones, by stamp.

    Raises:
        UserError: a folder or the table cannot be read, or the table breaks a rule.
    """
    reading = reading_of(dataset)
    table = LabelTable(folder, dataset, name, token)
    explorer = Explorer(
        folder,
        dataset.limits,
        settle=dataset.settle,
        own=(dataset.labels,),
        single=frozenset(table.keys),
        known=headers,
        headers=lambda files: workers.map(partial(header, token=token), files),
    )
    try:
        found = explorer.explore()
    except OSError as error:
        raise UserError(
            f"a folder in {folder} cannot be read ({error.strerror})",
            where=f"datasets.{name}.path",
            rule="every folder with exams can be read",
            remedy=f"`find {folder} -type d ! -readable` names it",
        ) from None
    offer = Offer(
        refused={file: (reason, "unreadable") for file, reason in found.refused.items()},
        skipped=found.skipped,
        arriving=found.arriving,
        headers=found.headers,
    )
    source = f"{dataset.labels}:{dataset.label_column}"
    for unit in found.units:
        offer.counts[unit.name] = len(unit.files)
        place = offer.places[unit.name] = token(f"{unit.form} {unit.place}")
        try:
            entry = table.entry(unit.keys)
        except LineError as error:
            offer.refused[unit.name] = (f"{dataset.labels}, {error}", "table")
        except WaitingError as error:
            offer.waiting[unit.name] = str(error)
            offer.withdrawn.add(place)
        else:
            if entry is not None:
                offer.listings.append(_listing(unit, place, reading, entry, source))
            elif place in known:
                offer.unlisted[place] = unit.name
            else:
                offer.waiting[unit.name] = NO_LINE
    table.met([*found.refused, *found.arriving])
    offer.unused_lines = len(table.unused)
    return offer


def of_listings(listings: Iterable[Listing]) -> Offer:
    """Of a source that consists of labelled exams."""
    return Offer([*listings])


def reading_of(dataset: FolderDataset) -> Reading:
    """How the files of a dataset are read."""
    return Reading(dataset.slice_axis, dataset.burned_in, dataset.limits)


def header(file: SourceFile, token: Callable[[str], str]) -> Header | str:
    """What is noted of a DICOM file's header, or why it cannot be read. Called by workers."""
    from keyslice.exams.formats.dicom import series  # pydicom

    try:
        found = series(file)
    except UnreadableError as error:
        return str(error)
    except Exception:  # whatever a damaged file makes the library do
        return "damaged, truncated or not really dicom"
    # Without UIDs, the files of a folder belong together.
    series = found.series or f"in {PurePosixPath(file.name).parent}"
    whole = "/".join(map(token, [series, *found.uid.split("/")[1:]]))
    return whole, token(series), token(found.owner), found.image, found.reason


def _listing(unit: Unit, place: str, reading: Reading, entry: Entry, source: str) -> Listing:
    return Listing(
        name=unit.name,
        stamp=unit.stamp(reading),
        place=place,
        read=partial(discovery.read, unit, reading),
        source_format=unit.form,
        label_source=source,
        files=len(unit.files),
        **entry._asdict(),
    )
