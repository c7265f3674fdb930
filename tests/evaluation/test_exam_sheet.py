from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageColor

from keyslice.evaluation.exam_sheet import (
    FEWEST_OTHERS,
    FRAME_LINE,
    GROUND,
    INFORMATIVE,
    MOST,
    TRACK,
    WIDTH,
    Sheet,
    Verdict,
    draw,
    on_dark,
    shown,
)
from keyslice.evaluation.sheet_grid import CAPTION, GAP, LONGEST, Grid

COLOUR = "#0072b2"


def sheet(count=6, kept=(1, 4), attention=(0.25, 0.75), informative=(), **given):
    frames = np.full((count, 10, 10), 128, np.uint8)
    probabilities = given.pop("probabilities", {"no": 0.25, "yes": 0.75})
    verdict = Verdict("m @x", "das", COLOUR, probabilities, kept, attention)
    given = {"verdict": verdict, "numbers": range(count), "aspect": 1.0, "frames": frames} | given
    return Sheet(
        "0" * 32, [("size", "small")], count=count, informative=frozenset(informative), **given
    )


def has(image: Image.Image, box, colour: str) -> bool:
    """Whether any pixel of the box has the colour."""
    area = np.asarray(image.crop(box)).reshape(-1, 3)
    return bool((area == ImageColor.getrgb(colour)).all(axis=1).any())


def test_kept_frames_and_no_others_are_framed_in_the_models_colour():
    one = sheet()
    image = draw(one)
    for position in range(6):
        left, top, right, bottom = one.box(position)
        line = [
            image.getpixel(place)
            for place in ((left - 1, top), (right, top), (left, top - 1), (left, bottom))
        ]
        expected = on_dark(COLOUR) if position in (1, 4) else GROUND
        assert line == [ImageColor.getrgb(expected)] * 4


def test_marks_leave_the_frames_own_pixels_alone():
    one = sheet(informative=range(6))
    image = draw(one)
    for position in range(6):
        assert (np.asarray(image.crop(one.box(position))) == 128).all()


def test_the_line_fits_between_two_kept_frames():
    assert 2 * FRAME_LINE < GAP
    assert FRAME_LINE < CAPTION


def test_the_bar_of_a_frame_is_its_share_of_the_largest_weight():
    one = sheet()
    image = draw(one)
    lengths = {}
    for position in (1, 4):
        left, _, right, bottom = one.box(position)
        row = np.asarray(image.crop((left, bottom + 10, right, bottom + 11)))[0]
        lengths[position] = (row == ImageColor.getrgb(on_dark(COLOUR))).all(axis=1).mean()
    assert lengths[4] == 1
    assert lengths[1] == pytest.approx(1 / 3, abs=0.01)


def test_a_frame_kept_twice_has_both_weights():
    one = sheet(kept=(1, 1, 4), attention=(0.2, 0.3, 0.5))
    image = draw(one)
    for position in (1, 4):
        left, _, right, bottom = one.box(position)
        assert not has(image, (left, bottom + 9, right, bottom + 11), TRACK)


def test_informative_frames_and_no_others_are_dotted():
    one = sheet(informative=[0, 4])
    image = draw(one)
    dotted = [
        position
        for position in range(6)
        for _, _, right, bottom in [one.box(position)]
        if has(image, (right - 12, bottom + 14, right, bottom + CAPTION), INFORMATIVE)
    ]
    assert dotted == [0, 4]


def test_without_a_model_nothing_is_in_a_models_colour():
    image = draw(sheet(verdict=None))
    assert not has(image, (0, 0, *image.size), on_dark(COLOUR))


def test_colour_stays_colour():
    frames = np.zeros((2, 8, 8, 3), np.uint8)
    frames[1, :, :, 0] = 200
    one = sheet(2, (), (), frames=frames)
    image = draw(one)
    left, top, *_ = one.box(1)
    assert image.getpixel((left + 4, top + 4)) == (200, 0, 0)


def test_the_same_sheet_gives_the_same_pixels():
    assert draw(sheet()).tobytes() == draw(sheet()).tobytes()


@pytest.mark.parametrize("label", ["Größe", "жидкость", "x" * 200, "two\nlines", "液"])
def test_a_class_of_any_name_is_drawn(label):
    one = sheet(probabilities={label: 1.0, "other": 0.0}, label=label)
    assert draw(one).width == WIDTH


def test_of_many_classes_the_most_probable_are_shown_and_the_others_as_one():
    probabilities = {f"c{n}": n / 190 for n in range(20)}
    classes = sheet(probabilities=probabilities)._classes()
    assert len(classes) == 12
    assert classes[0] == ("c19", 0.1)
    assert classes[-1][0] == "9 others"
    assert sum(value for _, value in classes) == pytest.approx(1)


@given(st.integers(1, 500), st.data())
def test_every_kept_frame_is_shown_and_the_others_are_spread_evenly(count, data):
    kept = data.draw(st.lists(st.integers(0, count - 1), max_size=300))
    found = shown(count, kept)
    assert set(kept) <= set(found.tolist())
    assert (np.diff(found) > 0).all()
    others = np.setdiff1d(np.arange(count), kept)
    among = np.flatnonzero(np.isin(others, found))
    room = max(MOST - len(set(kept)), FEWEST_OTHERS)
    assert len(among) == min(len(others), room)
    assert len(among) < 2 or np.ptp(np.diff(among)) <= 1


@given(st.integers(1, 500), st.floats(0.02, 50))
def test_cells_of_any_shape_lie_side_by_side_within_the_page(count, aspect):
    grid = Grid.fit(count, aspect, 1000)
    boxes = [grid.box(position) for position in range(count)]
    assert all(0 <= box.left < box.right <= 1000 and 0 <= box.top < box.bottom for box in boxes)
    assert boxes[-1].bottom + CAPTION == grid.total
    assert max(grid.width, grid.height) <= LONGEST + 1
    for one, other in pairwise(boxes):
        assert other.left - one.right == GAP or other.top - one.bottom == GAP + CAPTION
    if min(grid.width, grid.height) > 20:
        assert grid.width / grid.height == pytest.approx(aspect, rel=0.05)
