"""The frame store: exams thinned, scaled to 8 bits and resized once, memory-mapped when read.

A folder with one shard per ingest batch, `index.parquet` with a row per exam, and `store.json`,
which is written last: without it the store is not complete. A shard is one flat array of bytes;
an exam lies in it as (T, C, H, W), at the offset that the index gives. A shard's name tells what
went into it, so that a batch that has not changed is not written again and n new exams cost O(n).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet as pq
from PIL import Image

from keyslice.config import Intensity, Prepare
from keyslice.errors import UserError
from keyslice.exams.manifest import to_pandas

FORMAT = 2
EMPTY = 0
"""Value of every sample of a padded frame."""
COPIED = ("exam_id", "patient", "label", "split", "batch")
"""Columns that the index has from the manifest."""
TYPES = pyarrow.schema(
    [
        *((name, pyarrow.string()) for name in COPIED),
        ("shard", pyarrow.string()),
        ("offset", pyarrow.int64()),  # bytes from the start of the shard's array
        ("frames", pyarrow.int64()),
        ("channels", pyarrow.int64()),
        ("source_frames", pyarrow.int64()),  # before thinning
        ("low", pyarrow.float64()),  # the sample values that became 0 and 255
        ("high", pyarrow.float64()),
        # Numbers after thinning, which may have left none; null: not known, or never any.
        ("informative", pyarrow.list_(pyarrow.int32())),
    ]
)


class Scaling(NamedTuple):
    """Sample values that became 0 and 255; those between were mapped linearly."""

    low: float
    high: float


def thinned(count: int, most: int | None) -> np.ndarray:
    """Numbers of the frames that are kept, (min(count, most),): the middles of equal stretches."""
    if most is None or count <= most:
        return np.arange(count)
    return (2 * np.arange(most) + 1) * count // (2 * most)


def prepare_frames(frames: np.ndarray, settings: Prepare) -> tuple[np.ndarray, Scaling]:
    """Scale to 8 bits, thin and resize.

    Frames become squares; shrinking averages (a triangle filter as wide as the step), so that
    nothing is aliased. A frame that has the size is not touched.

    Args:
        frames: (T, H, W) or (T, H, W, 3); uint8, int16 or float32.
        settings: image size, intensity, most frames.

    Returns:
        uint8 frames (T', S, S) or (T', S, S, 3), and the scaling.

    Raises:
        UserError: see `scaling_of`.
    """
    scaling = scaling_of(frames, settings.intensity)
    pixels = eight_bit(frames[thinned(len(frames), settings.max_frames)], scaling)
    side = settings.image_size
    if pixels.shape[1:3] != (side, side):
        resized = [
            Image.fromarray(frame).resize((side, side), Image.Resampling.BILINEAR)
            for frame in pixels
        ]
        pixels = np.stack([np.asarray(frame) for frame in resized])
    return pixels, scaling


def scaling_of(frames: np.ndarray, intensity: Intensity) -> Scaling:
    """The scaling of an exam, from all its frames (T, H, W) or (T, H, W, 3).

    Percentiles are the exam's own. A window (c, w) is DICOM's VOI LUT function LINEAR_EXACT (PS3.3
    C.11.2.1.3.2): c − w/2 becomes 0, c + w/2 becomes 255. LINEAR would put 255 at c + w/2 − 1.

    Raises:
        UserError: 8-bit samples, and the settings do not say what becomes of them.
    """
    check_eight_bit(frames.dtype.name, intensity)
    if frames.dtype == np.uint8 and intensity.eight_bit != "map":
        return Scaling(0.0, 255.0)
    if intensity.window is not None:
        centre, width = intensity.window
        return Scaling(centre - width / 2, centre + width / 2)
    if intensity.range is not None:
        return Scaling(*intensity.range)
    assert intensity.percentiles is not None
    low, high = np.percentile(frames, intensity.percentiles)
    if low == high:  # nearly all samples are one value; what differs must not vanish
        low, high = frames.min(), frames.max()
    return Scaling(float(low), float(high))


def check_eight_bit(dtype: str, intensity: Intensity) -> None:
    """Whether the settings say what becomes of an exam whose samples have this type.

    Raises:
        UserError: 8-bit samples under a window or range, and `eight_bit` is not set.
    """
    if dtype != "uint8" or intensity.percentiles is not None or intensity.eight_bit is not None:
        return
    raise UserError(
        f"the samples have 8 bits, {intensity.kind} is set",
        where="prepare.intensity",
        rule="8-bit samples are grey levels, seldom Hounsfield units, so neither is guessed",
        remedy="add eight_bit: keep (as they are) or eight_bit: map (by it, too), or set it for "
        "other datasets only, under datasets.NAME.prepare",
    )


def eight_bit(frames: np.ndarray, scaling: Scaling) -> np.ndarray:
    """The frames, or some of an exam's, as uint8 of the same shape."""
    if frames.dtype == np.uint8 and scaling == (0, 255):
        return frames
    span = (scaling.high - scaling.low) or 1.0
    share = (frames.astype(np.float64) - scaling.low) / span
    return np.rint(np.clip(share, 0, 1) * 255).astype(np.uint8)


def pad(exams: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Put exams of any lengths into one batch; empty frames fill the ends.

    Args:
        exams: each (T, C, H, W) uint8. Where some are in colour, grey ones become so.

    Returns:
        Frames (B, T, C, H, W) uint8 with T the longest, and lengths (B,) int64.
    """
    lengths = np.array([len(frames) for frames in exams], dtype=np.int64)
    channels = max(frames.shape[1] for frames in exams)
    shape = (len(exams), lengths.max(), channels, *exams[0].shape[2:])
    batch = np.full(shape, EMPTY, dtype=np.uint8)
    for row, frames in zip(batch, exams, strict=True):
        row[: len(frames)] = frames
    return batch, lengths


@dataclass(frozen=True)
class PreparedStore:
    """A store that is open for reading.

    Args:
        folder: that it lies in.
        table: a row per exam, in the manifest's order; `informative` holds lists or None.
        settings: by which it was made.
        manifest_sha256: of the manifest that it was made from.
    """

    folder: Path
    table: pd.DataFrame
    settings: Prepare
    manifest_sha256: str

    @classmethod
    def open(cls, folder: Path) -> "PreparedStore":
        """Open a store.

        Raises:
            UserError: there is none, it is not complete or damaged, or another version of Keyslice
                made it.
        """
        if not (folder / "store.json").is_file():
            raise UserError(
                f"no prepared frames in {folder}",
                rule="exams are prepared before they are read",
                remedy=f"dvc repro prepare@{folder.name}",
            )
        again = f"dvc repro -f prepare@{folder.name}"
        try:
            about = json.loads((folder / "store.json").read_text(encoding="utf-8"))
            if about["format"] != FORMAT:
                raise UserError(
                    f"{folder} has format {about['format']}",
                    rule=f"this version reads format {FORMAT}",
                    remedy=again,
                )
            table = to_pandas(pq.read_table(folder / "index.parquet"))
            settings = Prepare.model_validate(about["settings"])
            store = cls(folder, table, settings, about["manifest_sha256"])
            store._shards  # noqa: B018 - opened now, not in the middle of a training
        # What a full disk or a crash of the machine makes of JSON, parquet and arrays.
        except (ValueError, KeyError, TypeError, OSError, EOFError) as error:
            raise UserError(
                f"the prepared frames in {folder} are damaged ({type(error).__name__})",
                rule="they are as stage prepare wrote them",
                remedy=again,
            ) from None
        return store

    def __len__(self) -> int:
        return len(self.table)

    def where(self, *, split: str) -> np.ndarray:
        """Rows of the exams in a split, ascending."""
        return np.flatnonzero(self.table["split"] == split)

    def frames(self, row: int) -> np.ndarray:
        """(T, C, H, W) uint8, a read-only view of the shard; C is the same for the whole store.

        Where some exams are in colour, the one channel of grey ones is repeated.
        """
        shard, offset, count, channels = self._places[row]
        side = self.settings.image_size
        size = count * channels * side * side
        stored = self._shards[shard][offset : offset + size]
        stored = stored.reshape(count, channels, side, side)
        return np.broadcast_to(stored, (count, self.channels, side, side))

    @cached_property
    def channels(self) -> int:
        return int(self.table["channels"].max())

    @cached_property
    def _places(self) -> list[tuple[str, int, int, int]]:
        columns = (self.table[name].tolist() for name in ("shard", "offset", "frames", "channels"))
        return list(zip(*columns, strict=True))

    @cached_property
    def _shards(self) -> dict[str, np.ndarray]:
        return {
            name: np.load(self.folder / name, mmap_mode="r", allow_pickle=False)
            for name in self.table["shard"].unique()
        }
