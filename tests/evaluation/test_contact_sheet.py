import base64
import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from keyslice.evaluation.contact_sheet import MOST_TILES, TILE_PIXELS, choose, exam, strip, tiles


def pixels(address):
    kind, data = address.split(",")
    assert kind == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


@pytest.mark.parametrize("channels", [1, 3])
def test_the_strip_holds_the_frames_side_by_side(channels):
    frames = np.random.default_rng(0).integers(0, 256, (5, channels, 8, 6), dtype=np.uint8)
    image = pixels(strip(frames)).reshape(8, 30, channels)
    for number, frame in enumerate(frames):
        assert np.array_equal(image[:, 6 * number : 6 * number + 6].transpose(2, 0, 1), frame)


def test_large_frames_are_shrunk_each_for_itself():
    frames = np.zeros((3, 1, 200, 100), dtype=np.uint8)
    frames[1] = 255
    image = pixels(strip(frames))
    width = TILE_PIXELS // 2
    assert image.shape == (TILE_PIXELS, 3 * width)
    assert (image[:, width : 2 * width] == 255).all()
    assert (image[:, :width] == 0).all()


def test_a_long_exam_is_shown_by_evenly_spread_frames():
    shown = exam("id", "lesion", np.zeros((495, 1, 4, 4), dtype=np.uint8)).shown
    assert (len(shown), shown[0], shown[-1]) == (MOST_TILES, 0, 494)
    assert set(np.diff(shown)) <= {8, 9}


def test_a_tile_tells_how_often_its_frame_was_kept_and_its_weight():
    row = pd.Series({"kept": [1, 1, 3], "attention": [0.2, 0.3, 0.5], "informative": [0, 3]})
    found = tiles(row, range(4))
    assert [tile.times for tile in found] == [0, 2, 0, 1]
    assert [tile.attention for tile in found] == pytest.approx([0, 0.5, 0, 0.5])
    assert [tile.informative for tile in found] == [True, False, False, True]


def test_a_frame_stays_itself_where_only_some_are_shown():
    row = pd.Series({"kept": [4], "attention": [1.0], "informative": None})
    found = tiles(row, (0, 4, 8))
    assert [(tile.frame, tile.offset, tile.times) for tile in found] == [
        (0, 0, 0),
        (4, 1, 1),
        (8, 2, 0),
    ]


def test_shown_exams_take_the_classes_in_turn(predictions):
    labels = predictions.drop_duplicates("exam_id").set_index("exam_id")["label"]
    assert labels[choose(predictions, 4)].tolist() == [1, 0, 1, 0]


def test_exams_whose_finding_is_known_are_shown_first(predictions):
    predictions["informative"] = [
        row.informative if row.exam_id == "exam0031" else None for row in predictions.itertuples()
    ]
    assert choose(predictions, 1) == ["exam0031"]
