"""Do the exams of a manifest look like exams? Empty, absurd and outlying ones, and told facts."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd

from keyslice.exams.finding import Finding, of_exams
from keyslice.exams.source import UNKNOWN

SMALLEST_SIDE = 8
"""Pixels; with fewer nobody sees anything."""
FEW_BESIDE_ONE = 8
"""Frames of the median exam from which on an exam of a single frame is odd."""
MILLIMETRES = (0.001, 100.0)
"""Outside, the spacing is in metres or micrometres by mistake; inside, it may be."""
MILLISECONDS = (0.1, 60_000.0)
FIRST_YEAR = 1971
"""Of the first CT of a patient; the epochs that software writes for want of a date lie before."""
FEWEST_COMPARED = 20
"""Exams of a kind, below which none can be called an outlier."""
FAR = 6.0
"""Robust standard deviations. Iglewicz and Hoaglin (1993), "How to Detect and Handle Outliers",
take 3.5; with thousands of exams, that would tell of sound ones."""
SMALLEST_SPREAD = 0.05
"""Of the typical range of intensities: the standard deviation is taken to be no less."""
INTENSITIES = ("intensity_mean", "intensity_sd", "intensity_low", "intensity_high")
FEWEST_ALIKE = 5
"""Exams of a class; that fewer are of one site says nothing."""
SHOW = "look at them with keyslice show"


def implausible(table: pd.DataFrame, name: str) -> list[Finding]:
    """All findings of this module about the manifest of dataset `name`."""
    return [*empty(table, name), *absurd(table), *outlying(table), *told(table, name)]


def empty(table: pd.DataFrame, name: str) -> list[Finding]:
    """Exams whose frames are each of one value, wholly or mostly, or almost without variation."""
    ids, constant = table["exam_id"], table["constant_frames"]
    all_constant = constant == table["frames"]
    most = (constant > table["frames"] / 2) & ~all_constant
    flat = (table["intensity_low"] == table["intensity_high"]) & ~all_constant & ~most
    return [
        *of_exams(
            "wrong",
            "empty",
            "show nothing: every frame is of one value",
            f"take their lines out of the table of {name}, or mend the files",
            ids[all_constant],
        ),
        *of_exams(
            "note",
            "mostly_empty",
            "have frames of one value, more than half of all",
            SHOW,
            ids[most],
        ),
        *of_exams("note", "flat", "have one value in almost all of their samples", SHOW, ids[flat]),
    ]


def absurd(table: pd.DataFrame) -> list[Finding]:
    """Sizes, measures and dates that are hardly those of an exam."""
    ids, frames = table["exam_id"], table["frames"]
    odd = (frames == 1) & (frames.median() >= FEW_BESIDE_ONE)
    small = table[["height", "width"]].min(axis=1) < SMALLEST_SIDE
    spacing = table[["frame_spacing", "row_spacing", "column_spacing"]]
    distance = ((spacing < MILLIMETRES[0]) | (spacing > MILLIMETRES[1])).any(axis=1)
    time = table["frame_time"]
    duration = (time < MILLISECONDS[0]) | (time > MILLISECONDS[1])
    year = pd.to_numeric(table["acquired"].str[:4], errors="coerce")
    # A shifted date may lie up to half a year ahead.
    date = (year < FIRST_YEAR) | (year > datetime.now(UTC).year + 1)
    return [
        *of_exams(
            "note",
            "single_frame",
            f"have a single frame; half of all have {frames.median():.0f} or more",
            "a series may have been cut up, or be still incomplete",
            ids[odd],
        ),
        *of_exams(
            "note",
            "small",
            f"have frames of fewer than {SMALLEST_SIDE} pixels in height or width",
            "thumbnails or localizers? If so, take their lines out of the table",
            ids[small],
        ),
        *of_exams(
            "note",
            "spacing",
            "have a spacing of less than {:g} or more than {:g} mm".format(*MILLIMETRES),
            "another unit in the file's header?",
            ids[distance],
        ),
        *of_exams(
            "note",
            "frame_time",
            "have less than {:g} or more than {:g} ms from frame to frame".format(*MILLISECONDS),
            "another unit in the file's header?",
            ids[duration],
        ),
        *of_exams(
            "note",
            "acquired",
            f"were acquired before {FIRST_YEAR} or in the future",
            "a clock that was not set, or a date put in for want of one",
            ids[date],
        ),
    ]


def outlying(table: pd.DataFrame) -> list[Finding]:
    """Exams whose intensities lie far outside those of the others, farthest first.

    Others are those of the same modality, type and channels. The mean, the standard deviation and
    the 1st and 99th percentile are each held against the median; far is more than `FAR` robust
    standard deviations (1.4826 · median absolute deviation).
    """
    far = pd.Series(0.0, index=table.index)
    for _, kind in table.groupby(["modality", "dtype", "channels"], sort=True):
        if len(kind) < FEWEST_COMPARED:
            continue
        values = kind[[*INTENSITIES]]
        away = (values - values.median()).abs()
        typical = (kind["intensity_high"] - kind["intensity_low"]).median()
        spread = (1.4826 * away.median()).clip(lower=SMALLEST_SPREAD * typical)
        with np.errstate(divide="ignore", invalid="ignore"):
            far[kind.index] = (away / spread).fillna(0.0).max(axis=1)
    far = far[far > FAR].sort_values(ascending=False, kind="stable")
    return of_exams(
        "note",
        "intensities",
        "have intensities far outside those of the others",
        "other units, a rescaling that was lost, or another device? " + SHOW,
        table["exam_id"][far.index],
    )


def told(table: pd.DataFrame, name: str) -> list[Finding]:
    """What the files say of themselves that matters: text in the pixels, slices that lack."""
    ids, facts = table["exam_id"], [json.loads(text) for text in table["facts"]]

    def where(fact: str, *values: Any) -> list[str]:
        found = ((exam, one.get(fact)) for exam, one in zip(ids, facts, strict=True))
        return [exam for exam, value in found if (value in values if values else value)]

    return [
        *of_exams(
            "note",
            "burned_in",
            "say that text is burned into their pixels",
            f"it may name a person; see them, or set datasets.{name}.burned_in: quarantine",
            where("burned_in", "yes"),
        ),
        *of_exams(
            "note",
            "burned_in_unknown",
            "do not say whether text is burned into their pixels",
            "look at some with keyslice show",
            where("burned_in", UNKNOWN),
        ),
        *of_exams(
            "note",
            "missing_slices",
            "lack slices between others",
            "export them again, if the archive has them all",
            where("missing_slices"),
        ),
        *of_exams(
            "note",
            "duplicate_slices",
            "had the same slice more than once; one of each was kept",
            "nothing to do, unless it is not what was exported",
            where("duplicate_slices"),
        ),
    ]


def shortcuts(table: pd.DataFrame) -> Iterator[Finding]:
    """Classes that are told apart by how exams were made: all of one and none of the others.

    A model may then learn the site or the format in place of the disease.
    """
    size = table["height"].astype(str) + " by " + table["width"].astype(str) + " pixels"
    names = ("site", "modality", "source_format", "dtype", "channels")
    traits = {name: table[name].astype(str) for name in names} | {"size": size}
    for label, rows in table.groupby("label", sort=True):
        if len(rows) < FEWEST_ALIKE:
            continue
        for trait, values in traits.items():
            own = values[rows.index].unique()
            if len(own) == 1 and not (values.drop(rows.index) == own[0]).any():
                yield Finding(
                    "note",
                    "shortcut",
                    f"all exams of {label!r} and none of the others have {trait} {own[0]}",
                    "a model may learn that in place of the finding; add exams that break it",
                )
