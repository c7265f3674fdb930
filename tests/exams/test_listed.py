import pytest
import yaml

from keyslice.config import Compare, Params, PhantomDataset, Variant
from keyslice.exams.listed import bring_in_line

SPOTS = PhantomDataset(source="phantom", kind="volume", classes=("healthy", "lesion"))


def _params(*names: str) -> Params:
    return Params(
        datasets=dict.fromkeys(names, SPOTS),
        variants={"full": Variant(sampler="full"), "das": Variant(sampler="das")},
        compare=Compare(references=("full",)),
    )


@pytest.fixture
def ingested(workspace):
    """A workspace with the exams of `a`, and of `b` only the version that git holds."""
    workspace.exams("a").mkdir(parents=True)
    workspace.manifest("a").touch()
    workspace.pointer("b").touch()
    return workspace


def _listed(workspace) -> list[str]:
    return yaml.safe_load(workspace.ingested.read_text())["ingested"]


def test_what_is_here_or_known_to_git_is_listed(ingested):
    assert bring_in_line(ingested, _params("c", "b", "a")) == ("a", "b")
    assert _listed(ingested) == ["a", "b"]


def test_a_dataset_taken_out_of_the_settings_leaves_the_list_and_returns_with_its_name(ingested):
    bring_in_line(ingested, _params("a", "b"))
    bring_in_line(ingested, _params("a"))
    assert _listed(ingested) == ["a"]
    bring_in_line(ingested, _params("a", "b"))
    assert _listed(ingested) == ["a", "b"]


@pytest.mark.parametrize("content", [None, b"", b"ingested: [a,", b"datasets: [a]", b"\xff\xfe"])
def test_a_lost_or_damaged_list_is_restored(ingested, content):
    if content is not None:
        ingested.ingested.write_bytes(content)
    bring_in_line(ingested, _params("a", "b"))
    assert _listed(ingested) == ["a", "b"]


def test_a_list_that_is_right_is_not_written(ingested):
    bring_in_line(ingested, _params("a"))
    time = ingested.ingested.stat().st_mtime_ns
    bring_in_line(ingested, _params("a"))
    assert ingested.ingested.stat().st_mtime_ns == time
