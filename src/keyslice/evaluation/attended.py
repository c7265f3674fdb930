"""What was kept of each exam, what that cost, and whether the finding was in it."""

import numpy as np
import pandas as pd


def attended(rows: pd.DataFrame) -> pd.DataFrame:
    """Figures per seed, each a mean over that seed's exams.

    Args:
        rows: predictions (`keyslice.evaluation.predictions`) of one split.

    Returns:
        Index `seed`; columns
            frames_kept: kept frames, repeats counted.
            distinct_frames: different frames among them.
            macs: multiply-accumulates.
            hit_rate: share of the exams with informative frames of which one or more was kept.
            informative_recall: share of an exam's informative frames that was kept.
        The last two are NaN where no exam has known informative frames. An exam of which stage
        prepare dropped all of them (`prepare.max_frames`) is a miss.
    """
    distinct = [set(kept) for kept in rows["kept"]]
    found = [
        np.nan if known is None else len(kept.intersection(known)) / max(1, len(known))
        for kept, known in zip(distinct, rows["informative"], strict=True)
    ]
    recall = pd.Series(found, index=rows.index, dtype=float)
    figures = pd.DataFrame(
        {
            "seed": rows["seed"],
            "frames_kept": rows["kept"].map(len).astype(float),
            "distinct_frames": [float(len(kept)) for kept in distinct],
            "macs": rows["macs"],
            "hit_rate": (recall > 0).astype(float).where(recall.notna()),
            "informative_recall": recall,
        }
    )
    return figures.groupby("seed").mean()
