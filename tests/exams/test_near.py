import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import gaussian_filter

from keyslice.exams import near
from keyslice.exams.dhash import difference_hash
from keyslice.exams.near import MOST_BITS, near_duplicates, plain

SPLITS = ("train", "validation", "test")


def table(bits: np.ndarray, splits) -> pd.DataFrame:
    """Of hashes given as (N, 192) bits."""
    hashes = [row.tobytes().hex() for row in np.packbits(bits.astype(np.uint8), axis=1)]
    exams = [f"{n:032x}" for n in range(len(hashes))]
    return pd.DataFrame({"exam_id": exams, "split": list(splits), "difference_hash": hashes})


def flipped(bits: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    other = bits.copy()
    other[rng.choice(bits.size, count, replace=False)] ^= 1
    return other


@pytest.fixture
def bits() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 2, 192, dtype=np.uint8)


@pytest.mark.parametrize("count", [0, 1, MOST_BITS])
def test_whichever_bits_differ_a_near_pair_is_found(bits, count):
    rng = np.random.default_rng(count)
    for _ in range(50):
        found = near_duplicates(table(np.stack([bits, flipped(bits, count, rng)]), SPLITS[:2]))
        assert found == [(f"{1:032x}", f"{0:032x}", count)]


def test_one_bit_more_is_not_near(bits):
    other = flipped(bits, MOST_BITS + 1, np.random.default_rng(0))
    assert near_duplicates(table(np.stack([bits, other]), SPLITS[:2])) == []


def test_exams_of_one_split_are_not_held_against_each_other(bits):
    assert near_duplicates(table(np.stack([bits, bits, bits]), ["test"] * 3)) == []


def test_every_exam_of_a_held_out_split_that_is_like_one_of_training_is_named(bits):
    found = near_duplicates(table(np.stack([bits] * 4), ["train", "test", "test", "validation"]))
    assert [pair.exam for pair in found] == [f"{n:032x}" for n in (1, 2, 3)]


@pytest.mark.parametrize("spread", [0.02, 0.3])
@pytest.mark.parametrize("cost", [0, 1e9])
def test_both_ways_find_the_nearest_that_comparing_all_finds(spread, cost, monkeypatch):
    monkeypatch.setattr(near, "CANDIDATE_COST", cost)
    monkeypatch.setattr(near, "PAIRS_AT_ONCE", 100)
    monkeypatch.setattr(near, "BLOCK", (16, 64))
    rng = np.random.default_rng(1)
    templates = rng.integers(0, 2, (4, 192))
    rows = templates[rng.integers(0, 4, 300)] ^ (rng.random((300, 192)) < spread)
    splits = rng.choice(SPLITS, 300)
    order = np.array([SPLITS.index(split) for split in splits])
    distances = (rows[:, None] != rows[None]).sum(axis=2)
    distances[order[None] >= order[:, None]] = 999
    least = distances.min(axis=1)
    expected = {f"{n:032x}": least[n] for n in range(300) if least[n] <= MOST_BITS}
    assert {pair.exam: pair.bits for pair in near_duplicates(table(rows, splits))} == expected
    assert bool(expected) == (spread < 0.1)


def test_constant_exams_and_masks_are_near_nobody_and_named_as_plain(bits):
    mask = np.zeros(192, np.uint8)
    mask[:10] = 1
    rows = table(np.stack([bits, 0 * bits, mask, 1 - mask, 0 * bits]), ["train", *["test"] * 4])
    assert near_duplicates(rows) == []
    assert plain(rows) == [f"{n:032x}" for n in (1, 2, 3, 4)]


def test_a_brighter_smaller_copy_is_found_among_others():
    rng = np.random.default_rng(0)
    exams = [gaussian_filter(rng.normal(size=(8, 80, 96)), (1, 4, 4)) for _ in range(20)]
    copy = 0.8 * exams[3][:, ::2, ::2] + 0.1
    frames = [*exams, copy]
    rows = pd.DataFrame(
        {
            "exam_id": [f"{n:032x}" for n in range(21)],
            "split": ["train"] * 20 + ["test"],
            "difference_hash": [difference_hash(one.astype(np.float32)) for one in frames],
        }
    )
    assert [(pair.exam, pair.other) for pair in near_duplicates(rows)] == [
        (f"{20:032x}", f"{3:032x}")
    ]


def test_without_exams_there_is_nothing_near():
    assert near_duplicates(table(np.zeros((0, 192)), [])) == []
