import numpy as np
import pandas as pd
import pandera.errors
import pytest

from keyslice.evaluation.predictions import predicted, read, write
from keyslice.metrics import auc, once


def test_what_is_written_is_read_again(predictions, tmp_path):
    write(predictions, tmp_path / "predictions.parquet")
    again = read(tmp_path / "predictions.parquet")
    expected = predictions.sort_values(["split", "exam_id", "seed"], ignore_index=True)
    for column in expected:
        for before, after in zip(expected[column], again[column], strict=True):
            assert np.array_equal(before, after)


@pytest.mark.parametrize("sure_of", [0, 1])
def test_the_order_of_confident_predictions_is_kept(predictions, tmp_path, sure_of):
    """Margins of 18 and more: in single precision all probabilities would be 1."""
    rows = predictions.query("seed == 0 and split == 'test'").copy()
    margins = np.random.default_rng(0).uniform(18, 21, len(rows))
    small = 1 / (1 + np.exp(margins))
    sure = np.stack([1 - small, small], axis=1)
    rows["probabilities"] = list(sure[:, ::-1] if sure_of else sure)
    write(rows, tmp_path / "predictions.parquet")
    found = predicted(read(tmp_path / "predictions.parquet"), "test")
    logits = np.stack([-margins, margins], axis=1) * (1 if sure_of else -1)
    count = once(len(margins))
    assert auc(found.labels, found.probabilities[0], count) == auc(found.labels, logits, count)


def test_the_order_of_the_rows_does_not_change_the_bytes(predictions, tmp_path):
    write(predictions, tmp_path / "a.parquet")
    write(predictions.sample(frac=1, random_state=0), tmp_path / "b.parquet")
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_unknown_informative_frames_stay_unknown(make, tmp_path):
    write(make(known=False), tmp_path / "predictions.parquet")
    assert read(tmp_path / "predictions.parquet")["informative"].isna().all()


def test_an_exam_without_informative_frames_is_not_one_of_which_they_are_unknown(make, tmp_path):
    rows = make(exams=6, seeds=(0,))
    rows["informative"] = [[], None, [2], [], None, [3, 4]]
    write(rows, tmp_path / "predictions.parquet")
    again = read(tmp_path / "predictions.parquet").sort_values("exam_id")["informative"]
    lists = [None if found is None else found.tolist() for found in again]
    assert lists == rows["informative"].tolist()


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("split", "train"),
        ("label", -1),
        ("probabilities", np.array([0.5, 0.6])),
        ("probabilities", np.array([np.nan, 1.0])),
        ("kept", np.array([3, 1])),
        ("kept", np.array([0, 99])),
        ("kept", np.array([-1, 2])),
        ("attention", np.array([1.0, 0.0, 0.0])),
    ],
)
def test_a_row_that_breaks_the_schema_is_refused(predictions, tmp_path, column, value):
    row = predictions.iloc[[0]].copy()
    row["kept"], row["attention"] = [np.array([0, 1])], [np.array([0.5, 0.5])]
    row[column] = [value]
    with pytest.raises(pandera.errors.SchemaError):
        write(row, tmp_path / "predictions.parquet")
    assert list(tmp_path.iterdir()) == []


def test_an_exam_predicted_twice_by_a_seed_is_refused(predictions, tmp_path):
    twice = pd.concat([predictions, predictions.iloc[[0]]])
    with pytest.raises(pandera.errors.SchemaError):
        write(twice, tmp_path / "predictions.parquet")


def test_a_repeated_frame_is_allowed(predictions, tmp_path):
    row = predictions.iloc[[0]].copy()
    row["kept"], row["attention"] = [np.array([1, 1])], [np.array([0.5, 0.5])]
    write(row, tmp_path / "predictions.parquet")


def test_arrays_are_by_seed_and_exam(predictions):
    found = predicted(predictions.sample(frac=1, random_state=0), "test")
    row = predictions[(predictions["exam_id"] == found.exams[4]) & (predictions["seed"] == 2)]
    assert found.probabilities.shape == (3, 30, 2)
    assert found.probabilities[2, 4] == pytest.approx(row["probabilities"].item())
    assert found.labels[4] == row["label"].item()


def test_an_exam_of_an_unknown_patient_stands_for_itself(predictions):
    predictions.loc[predictions["exam_id"] == "exam0003", "patient"] = "unknown"
    assert predicted(predictions, "test").units[:3].tolist() == ["exam0003", "p001", "p001"]


def test_seeds_of_different_exams_are_refused(predictions):
    with pytest.raises(ValueError, match="different exams"):
        predicted(
            predictions.drop(index=predictions.index[predictions["split"] == "test"][0]), "test"
        )


def test_an_empty_split_is_refused(predictions):
    with pytest.raises(ValueError, match="no predictions"):
        predicted(predictions[predictions["split"] == "test"], "validation")
