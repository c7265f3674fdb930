import numpy as np
import pandas as pd
import pytest

from keyslice.config import Prepare
from keyslice.prepared import PreparedStore

SIZE = 32


@pytest.fixture
def store(tmp_path):
    """40 exams of 4 to 8 frames; those of class `yes` have a bright square in one of them."""
    rng = np.random.default_rng(0)
    rows, parts, offset = [], [], 0
    for i in range(40):
        frames = rng.integers(0, 80, (int(rng.integers(4, 9)), 1, SIZE, SIZE), dtype=np.uint8)
        label = ("no", "yes")[i % 2]
        if label == "yes":
            frames[rng.integers(len(frames)), :, 8:24, 8:24] = 250
        split = "train" if i < 24 else "validation" if i < 32 else "test"
        rows.append(
            {
                "exam_id": f"{i:032x}",
                "patient": f"p{i}",
                "label": label,
                "split": split,
                "shard": "0001.npy",
                "offset": offset,
                "frames": len(frames),
                "channels": 1,
            }
        )
        parts.append(frames.reshape(-1))
        offset += frames.size
    folder = tmp_path / "prepared"
    folder.mkdir()
    np.save(folder / "0001.npy", np.concatenate(parts))
    return PreparedStore(folder, pd.DataFrame(rows), Prepare(image_size=SIZE), "0" * 64)
