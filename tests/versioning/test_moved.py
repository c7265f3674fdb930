"""What is committed of dvc.lock and of the list of datasets: one dataset's part."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from keyslice.config import Workspace
from keyslice.errors import RunError
from keyslice.versioning import lock, moved

DATASETS = ("a", "b", "c")
STAGES = [name for dataset in DATASETS for name in lock.stage_names(dataset, ["x", "y"])]
HEAD, TAIL = "schema: '2.0'\nstages:\n", "datasets:\n- name: of a person's\n"


def text_of(stages: dict[str, str], tail: str = "") -> str:
    """As DVC writes it; the hashes are numbers."""
    entry = (
        "  {0}:\n    cmd: >-\n      python\n\n      stage.py\n    deps:\n    - path: data/{1}\n"
        "      md5: {1}\n    params:\n      params.yaml:\n        train: {{rate: 1e-05, on: [a]}}\n"
    )
    return HEAD + "".join(entry.format(name, md5) for name, md5 in stages.items()) + tail


locks = st.dictionaries(st.sampled_from(STAGES), st.sampled_from(["1", "2", "3"]), min_size=1)


@given(now=locks, then=st.none() | locks, dataset=st.sampled_from(DATASETS))
def test_the_stages_of_one_dataset_are_todays_and_all_others_those_of_the_commit(
    now: dict[str, str], then: dict[str, str] | None, dataset: str
) -> None:
    committed = None if then is None else text_of(then)
    now = now | {f"prepare@{dataset}": "1"}
    found = lock.entries_in(moved.its_lock(text_of(now), committed, dataset))
    today = lock.entries_in(text_of(now))
    before = lock.entries_in(committed) if committed else {}

    def own(stage: str) -> bool:
        return stage.partition("@")[2].startswith(dataset)

    assert found == {s: e for s, e in before.items() if not own(s)} | {
        s: e for s, e in today.items() if own(s)
    }


@given(
    now=locks,
    then=st.none() | locks,
    order=st.permutations(DATASETS),
    tail=st.sampled_from(["", TAIL]),
)
def test_once_all_are_committed_the_file_is_the_committed_one(
    now: dict[str, str], then: dict[str, str] | None, order: list[str], tail: str
) -> None:
    here = {stage.partition("@")[2][0] for stage in now}
    if then is not None:
        then = {stage: md5 for stage, md5 in then.items() if stage.partition("@")[2][0] in here}
    committed = text_of(then, tail) if then else None
    for dataset in sorted(here, key=order.index):
        committed = moved.its_lock(text_of(now, tail), committed, dataset)
    assert committed == text_of(now, tail if then else "")


@pytest.mark.parametrize(
    "text",
    ["stages: {prepare@a: {cmd: x}}\n", "a: 1\n", "<<<<<<< HEAD\n", HEAD + "  prepare@a: 1\n"],
)
def test_a_lock_in_another_hand_is_refused(text: str) -> None:
    good = text_of({"prepare@a": "1"})
    for now, then in ((text, good), (good, text)):
        with pytest.raises(RunError, match="not as DVC writes it"):
            moved.its_lock(now, then, "b")


@pytest.mark.parametrize(
    ("now", "then", "found"),
    [
        (["a", "b", "c"], ["c"], ["a", "c"]),  # b's first retraining is under way
        (["a", "c"], ["b", "c"], ["a", "c"]),  # b was taken out of params.yaml
        (["a", "b"], ["a", "b"], ["a", "b"]),
        (["a", "b"], None, ["a"]),
    ],
)
def test_the_list_names_no_dataset_whose_pointer_is_in_no_commit(
    now: list[str], then: list[str] | None, found: list[str]
) -> None:
    def listed(names: list[str] | None) -> str | None:
        return None if names is None else yaml.safe_dump({"ingested": names})

    text = moved._its_list(str(listed(now)), listed(then), "a", "data/datasets.yaml")
    assert text == listed(found)


def test_the_paths_are_below_the_workspaces_root() -> None:
    found = moved.paths(Workspace(Path("/somewhere")), "a")
    assert found[:3] == ("data/exams/a.dvc", "data/datasets.yaml", "dvc.lock")
    assert found[3:] == ("data/initial/a.json", "data/initial/a.dvc")
