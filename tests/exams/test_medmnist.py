import hashlib
import http.server
import os
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from keyslice.config import MedMNISTDataset
from keyslice.errors import UserError
from keyslice.exams import medmnist

DATASET = MedMNISTDataset(source="medmnist", flag="adrenalmnist3d", classes=("no", "yes"))


@pytest.fixture
def npz(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    arrays = {}
    for split, count in {"train": 4, "val": 2, "test": 3}.items():
        arrays[f"{split}_images"] = rng.integers(0, 255, (count, 5, 6, 7), dtype=np.uint8)
        arrays[f"{split}_labels"] = (np.arange(count) % 2)[:, None].astype(np.uint8)
    np.savez_compressed(tmp_path / "small.npz", **arrays)
    return tmp_path / "small.npz"


def _md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


@pytest.fixture
def server(npz: Path):
    """The address of a server of the npz's folder."""
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=npz.parent)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def test_official_splits_labels_and_frames_are_taken(npz):
    listings = medmnist.read_listings(npz, _md5(npz), DATASET)
    assert [listing.split for listing in listings] == (
        ["train"] * 4 + ["validation"] * 2 + ["test"] * 3
    )
    assert [listing.label for listing in listings[:4]] == ["no", "yes", "no", "yes"]
    with np.load(npz) as arrays:
        assert (listings[1].read().frames == arrays["train_images"][1]).all()


def test_a_truncated_file_is_told_by_its_md5(npz):
    md5 = _md5(npz)
    npz.write_bytes(npz.read_bytes()[:-100])
    with pytest.raises(UserError, match=f"truncated or not the official file.*{md5}"):
        medmnist.read_listings(npz, md5, DATASET)


def test_the_packages_facts_are_read_without_importing_it():
    assert medmnist.info()["vesselmnist3d"]["MD5"] == "b41fd4f7e7e2feedddb201585ecafa1b"
    assert medmnist.MODALITIES.keys() == {flag for flag in medmnist.info() if flag[-2:] == "3d"}


def test_the_number_of_classes_must_be_the_sets(workspace):
    dataset = DATASET.model_copy(update={"classes": ("a", "b", "c")})
    with pytest.raises(
        UserError, match=r"datasets\.glands\.classes: 3 .* 2, .*normal, hyperplasia"
    ):
        medmnist.listings(workspace, dataset, "glands")


def test_a_file_missing_from_the_root_is_named_and_not_fetched(workspace, tmp_path, monkeypatch):
    monkeypatch.setenv(medmnist.ROOT_VARIABLE, str(tmp_path))
    with pytest.raises(UserError, match=r"MEDMNIST_ROOT: no adrenalmnist3d\.npz"):
        medmnist.listings(workspace, DATASET, "glands")


def test_a_file_that_is_not_the_official_one_is_refused(workspace, npz, monkeypatch):
    npz.rename(npz.with_name("adrenalmnist3d.npz"))
    monkeypatch.setenv(medmnist.ROOT_VARIABLE, str(npz.parent))
    with pytest.raises(UserError, match="not the official file"):
        medmnist.listings(workspace, DATASET, "glands")


def test_a_file_is_fetched_once(npz, server, tmp_path, monkeypatch):
    monkeypatch.delenv(medmnist.ROOT_VARIABLE, raising=False)
    downloads = tmp_path / "state" / "medmnist"
    md5 = _md5(npz)
    path = medmnist.locate("a.npz", f"{server}/small.npz", md5, downloads)
    assert path.read_bytes() == npz.read_bytes()
    assert medmnist.locate("a.npz", "http://127.0.0.1:1", md5, downloads) == path


@pytest.mark.parametrize("file", ["small.npz", "gone.npz"])
def test_a_failed_fetch_leaves_nothing_and_names_the_way_out(server, tmp_path, file):
    target = tmp_path / "state" / "a.npz"
    with pytest.raises(UserError, match=medmnist.ROOT_VARIABLE):
        medmnist.download(f"{server}/{file}", "0" * 32, target)
    assert not target.exists()
    assert not target.parent.exists() or not any(target.parent.iterdir())


def test_an_unreachable_hub_names_the_way_out(tmp_path):
    with pytest.raises(UserError, match=r"cannot fetch .*refused.* set MEDMNIST_ROOT"):
        medmnist.download("http://127.0.0.1:1/a.npz", "0" * 32, tmp_path / "a.npz")


def test_the_official_file_gives_its_own_numbers_of_exams(workspace):
    root = os.environ.get(medmnist.ROOT_VARIABLE)
    if not root or not (Path(root) / "adrenalmnist3d.npz").is_file():
        pytest.skip("set MEDMNIST_ROOT to a folder with adrenalmnist3d.npz")
    listings = medmnist.listings(workspace, DATASET, "glands")
    numbers = medmnist.info()["adrenalmnist3d"]["n_samples"]
    for ours, theirs in medmnist.SPLITS.items():
        assert sum(listing.split == theirs for listing in listings) == numbers[ours]
    assert listings[0].read().frames.shape == (28, 28, 28)
