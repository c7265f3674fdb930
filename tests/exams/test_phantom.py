import csv

import numpy as np
import pytest
from scipy.ndimage import laplace, sobel

from keyslice.config import PhantomDataset
from keyslice.errors import UserError
from keyslice.exams import phantom, phantom_video, phantom_volume
from keyslice.exams.opening import open_exam
from keyslice.exams.source import Reading

VOLUMES = PhantomDataset(source="phantom", kind="volume", exams=6, classes=("healthy", "lesion"))
VIDEOS = PhantomDataset(source="phantom", kind="video", exams=10, classes=phantom_video.CLASSES)


def _edges(frames):
    frames = frames.astype(float)
    return np.hypot(sobel(frames, 1), sobel(frames, 2)).mean((1, 2))


def _drawn(draw, label):
    return [draw(label, np.random.default_rng(seed)) for seed in range(30)]


def _bytes(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("dataset", [VOLUMES, VIDEOS])
def test_the_files_are_read_as_they_were_drawn(tmp_path, dataset):
    phantom.write(tmp_path, dataset, "spots")
    with (tmp_path / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == dataset.exams
    assert {row["label"] for row in rows} == set(dataset.classes)
    draw = phantom.KINDS[dataset.kind][1]
    for number, row in enumerate(rows):
        frames, informative = draw(row["label"], np.random.default_rng([0, number]))
        exam = open_exam(tmp_path / row["file"], Reading())
        assert (exam.frames == frames).all()
        assert [int(n) for n in row["informative"].split()] == informative
        assert (exam.frame_time is not None) == (dataset.kind == "video")


def test_writing_again_changes_nothing_and_restores_what_is_missing(tmp_path):
    phantom.write(tmp_path, VOLUMES, "spots")
    before = _bytes(tmp_path)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    phantom.write(tmp_path, VOLUMES, "spots")
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == times
    (tmp_path / "labels.csv").unlink()
    (tmp_path / "volume_0_00003.nii").unlink()
    phantom.write(tmp_path, VOLUMES, "spots")
    assert _bytes(tmp_path) == before


def test_a_larger_set_begins_with_the_smaller_one(tmp_path):
    phantom.write(tmp_path, VOLUMES, "spots")
    before = _bytes(tmp_path)
    table = before.pop("labels.csv")
    phantom.write(tmp_path, VOLUMES.model_copy(update={"exams": 8}), "spots")
    after = _bytes(tmp_path)
    assert before.items() <= after.items()
    assert after["labels.csv"].startswith(table)


def test_another_seed_draws_other_exams(tmp_path):
    phantom.write(tmp_path / "a", VOLUMES, "spots")
    phantom.write(tmp_path / "b", VOLUMES.model_copy(update={"seed": 1}), "spots")
    one = {p.read_bytes() for p in (tmp_path / "a").glob("*.nii")}
    assert one.isdisjoint(p.read_bytes() for p in (tmp_path / "b").glob("*.nii"))


def test_other_classes_than_the_kinds_are_refused(tmp_path):
    wrong = VOLUMES.model_copy(update={"classes": ("healthy", "ill")})
    with pytest.raises(UserError, match=r"datasets\.spots\.classes.*have healthy, lesion"):
        phantom.write(tmp_path, wrong, "spots")
    assert not any(tmp_path.iterdir())


def test_a_lesion_lies_in_three_to_five_neighbouring_slices():
    for frames, informative in _drawn(phantom_volume.draw, "lesion"):
        assert 20 <= len(frames) <= 40
        assert 3 <= len(informative) <= 5
        assert informative == list(range(informative[0], informative[-1] + 1))
        assert informative[-1] < len(frames)


def test_a_healthy_volume_has_no_informative_slice():
    assert all(not informative for _, informative in _drawn(phantom_volume.draw, "healthy"))


@pytest.mark.parametrize("measure", [lambda frames: frames.var((1, 2)), _edges])
def test_the_half_of_most_variance_or_edges_misses_every_lesion(measure):
    for frames, informative in _drawn(phantom_volume.draw, "lesion"):
        best = np.argsort(-measure(frames))[: -(-len(frames) // 2)]
        assert not set(best) & set(informative)


def test_light_features_together_tell_a_lesions_slices_from_the_others():
    def features(frames):
        scaled = frames.astype(float)
        sharp = np.abs([laplace(frame) for frame in scaled]).mean((1, 2))
        return np.stack([scaled.var((1, 2)), _edges(frames), sharp, scaled.mean((1, 2))], axis=1)

    exams = _drawn(phantom_volume.draw, "lesion")
    rows = np.concatenate([np.log(features(frames)) for frames, _ in exams])
    known = np.concatenate([np.isin(np.arange(len(f)), i) for f, i in exams])
    rows = (rows - rows.mean(0)) / rows.std(0)
    quadratic = np.concatenate([np.ones((len(rows), 1)), rows, rows**2], axis=1)
    score = quadratic @ np.linalg.lstsq(quadratic, known.astype(float), rcond=None)[0]
    above = (score[known][:, None] > score[~known]).mean()  # the area under the ROC curve
    assert above > 0.9


@pytest.mark.parametrize("label", phantom_video.CLASSES)
def test_a_fifth_to_two_fifths_of_a_video_show_the_antrum(label):
    for frames, informative in _drawn(phantom_video.draw, label):
        assert 24 <= len(frames) <= 60
        assert 0.18 < len(informative) / len(frames) < 0.42


def test_videos_have_frames_of_lost_contact_and_of_high_gain():
    brightness = np.concatenate(
        [frames.mean((1, 2)) for frames, _ in _drawn(phantom_video.draw, "solid")]
    )
    assert (brightness < 20).mean() > 0.05
    assert (brightness > 150).mean() > 0.05
