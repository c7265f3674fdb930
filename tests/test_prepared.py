import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyslice import prepared
from keyslice.config import Intensity, Prepare
from keyslice.errors import UserError
from keyslice.exams import manifest
from keyslice.exams.container import save
from keyslice.exams.exam import Exam, exam_id, exam_path
from keyslice.prepared import PreparedStore, pad, prepare_frames, thinned
from keyslice.stages import prepare
from keyslice.stages.prepare import write_store

SETTINGS = Prepare(image_size=8)


class Dataset:
    """Exams on disk and their manifest, which grows."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.out, self.rows = folder / "exams", folder / "prepared", []
        self.read = 0

    def add(self, frames: np.ndarray, batch: str = "0001", informative=None) -> str:
        exam = exam_id(frames)
        path = exam_path(self.folder, exam)
        save(Exam(frames), path)
        count, height, width = frames.shape[:3]
        self.rows.append(
            {
                "exam_id": exam,
                "patient": "unknown",
                "label": "no",
                "split": "train",
                "batch": batch,
                "frames": count,
                "height": height,
                "width": width,
                "channels": 1 if frames.ndim == 3 else 3,
                "dtype": frames.dtype.name,
                "modality": "unknown",
                "site": "unknown",
                "acquired": "unknown",
                "source_format": "nifti",
                "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
                "label_source": "test",
                "labeller": "unknown",
                "informative": informative,
                "facts": "{}",
                "difference_hash": "0" * 48,
                "constant_frames": 0,
                "intensity_mean": float(frames.mean()),
                "intensity_sd": float(frames.std()),
                "intensity_low": float(frames.min()),
                "intensity_high": float(frames.max()),
            }
        )
        return exam

    def write(self, settings: Prepare = SETTINGS, progress=None) -> PreparedStore:
        self.read = 0

        def count(done: int, total: int) -> None:
            assert done <= total
            self.read = done

        table = manifest.frame(self.rows)
        write_store(table, "hash", self.folder, self.out, settings, progress or count)
        return PreparedStore.open(self.out)

    def files(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.out.iterdir()}


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return Dataset(tmp_path)


def _random(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@given(st.integers(1, 300), st.integers(1, 300))
def test_thinning_keeps_distinct_frames_in_order_at_even_steps(count, most):
    kept = thinned(count, most)
    assert len(kept) == min(count, most)
    assert kept[0] >= 0
    assert kept[-1] < count
    steps = np.diff(kept)
    assert (steps > 0).all()
    assert len(steps) == 0 or steps.max() - steps.min() <= 1
    assert abs(kept[0] - (count - 1 - kept[-1])) <= 1


def test_without_a_limit_every_frame_is_kept():
    assert thinned(5, None).tolist() == [0, 1, 2, 3, 4]


def test_eight_bit_frames_of_the_right_size_are_left_alone():
    frames = _random(0, 4, 8, 8)
    prepared, scaling = prepare_frames(frames, SETTINGS)
    assert (prepared == frames).all()
    assert scaling == (0, 255)


@pytest.mark.parametrize("shape", [(3, 20, 30), (3, 5, 6), (3, 20, 30, 3)])
def test_frames_become_squares_of_the_set_size(shape):
    prepared, _ = prepare_frames(_random(0, *shape), SETTINGS)
    assert prepared.dtype == np.uint8
    assert prepared.shape == (3, 8, 8, *shape[3:])


def test_shrinking_averages_and_does_not_pick_single_pixels():
    stripes = np.zeros((1, 64, 64), np.uint8)
    stripes[:, :, ::2] = 200
    prepared, _ = prepare_frames(stripes, SETTINGS)
    assert np.abs(prepared.astype(int) - 100).max() <= 5


@pytest.mark.parametrize("dtype", ["int16", "float32"])
def test_percentiles_become_0_and_255_and_are_recorded(dtype):
    frames = np.arange(-1000, 1048, dtype=dtype).reshape(32, 8, 8)
    settings = Prepare(image_size=8, intensity=Intensity(percentiles=(10.0, 90.0)))
    prepared, scaling = prepare_frames(frames, settings)
    assert scaling == pytest.approx((np.percentile(frames, 10), np.percentile(frames, 90)))
    expected = 255 * np.clip((frames - scaling.low) / (scaling.high - scaling.low), 0, 1)
    assert np.abs(prepared - expected).max() <= 0.5 + 1e-6


@pytest.mark.parametrize("dtype", ["int16", "float32"])
def test_a_window_of_ct_ends_half_its_width_from_its_centre(dtype):
    """LINEAR_EXACT by hand: c = 40, w = 400 reaches from −160 to 240."""
    frames = np.zeros((1, 8, 8), dtype)
    frames[0, 0, :6] = [-1000, -160, -60, 40, 240, 3000]
    settings = Prepare(image_size=8, intensity=Intensity(window=(40, 400)))
    prepared, scaling = prepare_frames(frames, settings)
    assert scaling == (-160, 240)
    assert prepared[0, 0, :6].tolist() == [0, 0, 64, 128, 255, 255]


def test_under_a_window_equal_samples_of_any_two_exams_become_equal():
    settings = Prepare(image_size=8, intensity=Intensity.model_validate({"window": "liver"}))
    one, other = np.full((1, 8, 8), 60, np.int16), np.full((1, 8, 8), 60, np.int16)
    other[0, 0] = 2000
    assert (
        prepare_frames(one, settings)[0][0, 1] == prepare_frames(other, settings)[0][0, 1]
    ).all()
    assert prepare_frames(one, settings)[0][0, 1, 0] == 178  # (60 + 45) / 150 · 255


def test_a_range_becomes_0_and_255():
    frames = np.arange(-32, 32, dtype=np.int16).reshape(1, 8, 8)
    settings = Prepare(image_size=8, intensity=Intensity(range=(-10, 20)))
    prepared, scaling = prepare_frames(frames, settings)
    assert scaling == (-10, 20)
    assert (prepared[frames <= -10] == 0).all()
    assert (prepared[frames >= 20] == 255).all()
    assert prepared[frames == 5] == 128


@pytest.mark.parametrize("given", [{"window": "lung"}, {"range": [0, 100]}])
def test_a_window_or_range_is_not_silently_dropped_for_an_8_bit_exam(given):
    settings = Prepare(image_size=8, intensity=Intensity.model_validate(given))
    with pytest.raises(UserError, match=r"samples have 8 bits.*eight_bit: keep .*eight_bit: map"):
        prepare_frames(_random(0, 2, 8, 8), settings)


def test_an_8_bit_exam_is_kept_or_mapped_as_the_setting_says():
    frames = np.arange(128, dtype=np.uint8).reshape(2, 8, 8)
    kept = Intensity(range=(0, 100), eight_bit="keep")
    mapped = Intensity(range=(0, 100), eight_bit="map")
    by_percentiles = Intensity(percentiles=(0, 100), eight_bit="map")
    found = [
        prepare_frames(frames, Prepare(image_size=8, intensity=intensity))
        for intensity in (kept, mapped, by_percentiles)
    ]
    assert [scaling for _, scaling in found] == [(0, 255), (0, 100), (0, 127)]
    assert (found[0][0] == frames).all()
    assert [int(prepared[0, 6, 2]) for prepared, _ in found] == [50, 128, 100]


def test_8_bit_exams_are_refused_before_any_exam_is_prepared(dataset):
    dataset.add(np.arange(64, dtype=np.int16).reshape(1, 8, 8))
    dataset.add(_random(0, 3, 8, 8))
    with pytest.raises(UserError, match="samples have 8 bits"):
        dataset.write(Prepare(image_size=8, intensity=Intensity(window=(40, 400))))
    assert not dataset.out.exists()


def test_the_window_is_recorded_in_the_store_and_for_each_exam(dataset):
    dataset.add(np.arange(64, dtype=np.int16).reshape(1, 8, 8))
    store = dataset.write(Prepare(image_size=8, intensity=Intensity(window=(40, 400))))
    assert store.settings.intensity == Intensity(window=(40, 400))
    (record,) = dataset.out.glob("0001-*.json")
    (scaling,) = json.loads(record.read_text()).values()
    assert (scaling["low"], scaling["high"]) == (-160, 240)


def test_the_scaling_does_not_depend_on_thinning():
    frames = np.random.default_rng(0).normal(size=(40, 8, 8)).astype(np.float32)
    whole, scaling = prepare_frames(frames, SETTINGS)
    few, same = prepare_frames(frames, SETTINGS.model_copy(update={"max_frames": 7}))
    assert same == scaling
    assert (few == whole[thinned(40, 7)]).all()


def test_an_exam_of_one_value_becomes_0():
    prepared, _ = prepare_frames(np.full((2, 8, 8), 7.0, np.float32), SETTINGS)
    assert not prepared.any()


def test_what_is_rarer_than_the_percentiles_still_shows():
    frames = np.zeros((40, 8, 8), np.int16)
    frames[0, 0, 0] = 90
    assert prepare_frames(frames, SETTINGS)[0][0, 0, 0] == 255


@given(st.lists(st.tuples(st.integers(1, 6), st.sampled_from([1, 3])), min_size=1, max_size=5))
def test_padding_keeps_every_exam_and_fills_its_end_with_empty_frames(exams):
    arrays = [_random(n, count, channels, 4, 5) for n, (count, channels) in enumerate(exams)]
    batch, lengths = pad(arrays)
    assert batch.shape == (len(arrays), max(map(len, arrays)), max(c for _, c in exams), 4, 5)
    assert lengths.tolist() == [len(array) for array in arrays]
    for row, length, array in zip(batch, lengths, arrays, strict=True):
        assert (row[:length] == array).all()
        assert not row[length:].any()


def test_a_store_gives_every_exam_back(dataset):
    exams = [_random(n, 3 + n, 8, 8) for n in range(4)]
    ids = [dataset.add(frames) for frames in exams]
    store = dataset.write()
    assert len(store) == 4
    for exam, frames in zip(ids, exams, strict=True):
        row = store.table.index[store.table["exam_id"] == exam][0]
        assert (store.frames(row) == frames[:, None]).all()
        assert store.table.at[row, "frames"] == len(frames)


def test_colour_lies_channels_first_and_grey_exams_beside_it_are_repeated(dataset):
    colour, grey = _random(0, 2, 8, 8, 3), _random(1, 5, 8, 8)
    expected = {
        dataset.add(colour): np.moveaxis(colour, 3, 1),
        dataset.add(grey): np.repeat(grey[:, None], 3, axis=1),
    }
    store = dataset.write()
    for row, exam in enumerate(store.table["exam_id"]):
        assert (store.frames(row) == expected[exam]).all()


def test_frames_are_views_of_the_mapped_file(dataset):
    dataset.add(_random(0, 3, 8, 8))
    frames = dataset.write().frames(0)
    while not isinstance(frames, np.memmap):
        frames = frames.base
        assert frames is not None


def test_rows_of_a_split_are_found(dataset):
    for n in range(4):
        dataset.add(_random(n, 3, 8, 8))
        dataset.rows[-1]["split"] = "test" if n % 2 else "train"
    store = dataset.write()
    assert (store.table["split"].iloc[store.where(split="test")] == "test").all()
    assert len(store.where(split="test")) == 2
    assert len(store.where(split="validation")) == 0


def test_informative_frames_are_renumbered_by_thinning(dataset):
    dataset.add(_random(0, 10, 8, 8), informative=[0, 3, 4])
    store = dataset.write(Prepare(image_size=8, max_frames=5))
    assert thinned(10, 5).tolist() == [1, 3, 5, 7, 9]
    assert store.table["informative"].tolist() == [[1]]
    assert store.table["source_frames"].tolist() == [10]


def test_informative_frames_that_thinning_dropped_are_none_of_those_kept_not_unknown(dataset):
    dataset.add(_random(0, 10, 8, 8), informative=[0, 4])
    dataset.add(_random(1, 10, 8, 8), informative=None)
    found = dataset.write(Prepare(image_size=8, max_frames=5)).table["informative"].tolist()
    assert sorted(found, key=str) == [None, []]


def test_exams_that_never_had_an_informative_frame_are_as_those_not_known(dataset):
    dataset.add(_random(0, 3, 8, 8), informative=None)
    dataset.add(_random(1, 3, 8, 8), informative=[])
    found = dataset.write().table["informative"].tolist()
    assert found == [None, None]


def test_the_same_inputs_give_the_same_bytes(dataset):
    for n in range(3):
        dataset.add(_random(n, 3, 20, 20))
    dataset.write()
    first = dataset.files()
    for path in dataset.out.iterdir():
        path.unlink()
    dataset.write()
    assert dataset.files() == first


def test_a_new_batch_leaves_the_shards_of_earlier_ones_alone(dataset):
    for n in range(3):
        dataset.add(_random(n, 3, 8, 8))
    dataset.write()
    before = {path: path.stat().st_mtime_ns for path in dataset.out.glob("0001-*")}
    new = dataset.add(_random(9, 3, 8, 8), batch="0002")
    store = dataset.write()
    assert dataset.read == 1
    assert {path: path.stat().st_mtime_ns for path in dataset.out.glob("0001-*")} == before
    assert (store.frames(3) == _random(9, 3, 8, 8)[:, None]).all()
    assert store.table["exam_id"].iloc[3] == new


def test_a_changed_label_rewrites_no_shard(dataset):
    dataset.add(_random(0, 3, 8, 8))
    dataset.write()
    dataset.rows[0]["label"] = "yes"
    assert dataset.write().table["label"].tolist() == ["yes"]
    assert dataset.read == 0


def test_a_batch_that_changed_is_written_again_and_its_old_shard_removed(dataset):
    for n in range(3):
        dataset.add(_random(n, 3, 8, 8))
    dataset.write()
    del dataset.rows[0]
    store = dataset.write()
    gone = _random(0, 3, 8, 8).tobytes()
    assert not any(gone in content for content in dataset.files().values())
    expected = {exam_id(_random(n, 3, 8, 8)): _random(n, 3, 8, 8) for n in range(3)}
    for row, exam in enumerate(store.table["exam_id"]):
        assert (store.frames(row)[:, 0] == expected[exam]).all()
    assert len(dataset.files()) == 4


def test_other_settings_write_everything_again(dataset):
    dataset.add(_random(0, 3, 8, 8))
    dataset.write()
    store = dataset.write(Prepare(image_size=9))
    assert store.frames(0).shape == (3, 1, 9, 9)
    assert len(dataset.files()) == 4


def test_a_writing_cut_off_is_completed_by_the_next(dataset):
    for n in range(4):
        dataset.add(_random(n, 3, 8, 8), batch=f"000{n // 2 + 1}")
    dataset.write()
    undisturbed = dataset.files()
    dataset.write(Prepare(image_size=9))

    def cut(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        dataset.write(progress=cut)
    with pytest.raises(UserError, match="no prepared frames"):
        PreparedStore.open(dataset.out)
    dataset.write()
    assert dataset.read == 2
    assert dataset.files() == undisturbed


def test_other_code_or_another_decoder_changes_what_the_store_is_known_by(dataset, monkeypatch):
    dataset.add(_random(0, 5, 20, 20))
    dataset.write()
    before = (dataset.out / "store.json").read_bytes()
    monkeypatch.setattr("PIL.__version__", "another")
    dataset.write()
    assert (dataset.out / "store.json").read_bytes() != before


@pytest.mark.parametrize("module", [prepared, prepare])
def test_a_change_of_what_lays_out_the_pixels_writes_every_shard_again(
    dataset, tmp_path, monkeypatch, module
):
    dataset.add(_random(0, 5, 20, 20))
    dataset.write()
    changed = tmp_path / "changed.py"
    changed.write_bytes(Path(module.__file__).read_bytes() + b"# changed\n")
    monkeypatch.setattr(module, "__file__", str(changed))
    dataset.write()
    assert dataset.read == 1


def test_an_altered_exam_is_refused(dataset):
    exam = dataset.add(_random(0, 3, 8, 8))
    save(Exam(_random(1, 3, 8, 8)), exam_path(dataset.folder, exam))
    with pytest.raises(UserError, match=f"exam {exam} is not the exam that was ingested"):
        dataset.write()


def test_a_missing_exam_is_refused(dataset):
    exam = dataset.add(_random(0, 3, 8, 8))
    exam_path(dataset.folder, exam).unlink()
    with pytest.raises(UserError, match=f"exam {exam} is not there"):
        dataset.write()


def test_a_store_of_another_format_is_refused(dataset):
    dataset.add(_random(0, 3, 8, 8))
    dataset.write()
    about = dataset.out / "store.json"
    about.write_text(about.read_text().replace('"format": 2', '"format": 0'))
    with pytest.raises(UserError, match=r"has format 0.*dvc repro -f prepare@prepared"):
        PreparedStore.open(dataset.out)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


@pytest.mark.parametrize("pattern", ["store.json", "index.parquet", "*.npy"])
@pytest.mark.parametrize("damage", [_cut, lambda path: path.write_bytes(b""), Path.unlink])
def test_a_damaged_store_is_refused_and_preparing_again_mends_it(dataset, pattern, damage):
    for n in range(2):
        dataset.add(_random(n, 3, 8, 8))
    dataset.write()
    whole = dataset.files()
    (path,) = dataset.out.glob(pattern)
    damage(path)
    with pytest.raises(UserError, match=r"prepared frames in .*dvc repro (-f )?prepare@prepared$"):
        PreparedStore.open(dataset.out)
    dataset.write()
    assert dataset.files() == whole


@pytest.mark.parametrize("about", ["[]", "{}", '{"format": 2}', '{"format": 2, "settings": 1}'])
def test_a_store_that_tells_something_else_is_refused(dataset, about):
    dataset.add(_random(0, 3, 8, 8))
    dataset.write()
    (dataset.out / "store.json").write_text(about)
    with pytest.raises(UserError, match=r"are damaged.*dvc repro -f prepare@prepared"):
        PreparedStore.open(dataset.out)


def test_a_damaged_record_of_a_shard_means_that_it_is_written_again(dataset):
    dataset.add(_random(0, 3, 8, 8))
    dataset.write()
    whole = dataset.files()
    (record,) = dataset.out.glob("0001-*.json")
    _cut(record)
    dataset.write()
    assert dataset.files() == whole
