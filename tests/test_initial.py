"""What trainings start from: said per variant, and changed only of those that are due anyway."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyslice import initial, versioning
from keyslice.config import StageSettings, Workspace
from keyslice.errors import UserError
from keyslice.initial import Ancestor

FIRST = Ancestor(
    "tiny", 3, "0.dir", "p" * 64, "w" * 64, ("no", "yes"), "das", "test_resnet", "none", None
)
SECOND = replace(FIRST, version=5, weights="x" * 64)
NAMES = ("full", "das", "half")
Make = Callable[..., StageSettings]


def settings_of(make: Make, start: str = "champion") -> dict[str, StageSettings]:
    return {
        "full": make("full", start=start),
        "das": make("das", start=start),
        "half": make("das", keep=0.25, start=start),
    }


entries = st.dictionaries(st.sampled_from(NAMES), st.none() | st.sampled_from([FIRST, SECOND]))
some = st.sets(st.sampled_from(NAMES))
champions = st.none() | st.sampled_from([FIRST, SECOND])


@pytest.fixture(scope="module")
def made(stage_settings: Make) -> dict[str, StageSettings]:
    return settings_of(stage_settings)


@given(known=entries, begins=some, champion=champions)
def test_a_start_changes_only_where_a_training_is_due_anyway(made, known, begins, champion):
    found = initial.chosen(known, made, begins, champion)
    assert set(found) == {*known, *NAMES}
    for variant in set(NAMES) - begins:
        assert found[variant] == known.get(variant)
    for variant in begins:
        fits = variant in ("das", "half")  # the champion's sampler
        assert found[variant] == (champion if fits else None)


@given(known=entries, champion=champions)
def test_a_promotion_alone_changes_nothing_and_the_same_question_has_the_same_answer(
    made, known, champion
):
    once = initial.chosen(known, made, (), champion)
    assert {name: one for name, one in once.items() if name in known} == known
    again = initial.chosen(known, made, NAMES, champion)
    assert initial.chosen(again, made, NAMES, champion) == again


@given(known=entries, champion=champions)
def test_what_is_to_start_from_scratch_does(made, known, champion):
    scratch = {
        name: one.model_copy(update={"train": one.train.model_copy(update={"start": "scratch"})})
        for name, one in made.items()
    }
    found = initial.chosen(known, scratch, NAMES, champion)
    assert not any(found[name] for name in NAMES)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, ""),
        ({"classes": ("yes", "no")}, "its classes: no, yes; of tiny/3: yes, no"),
        ({"sampler": "adps"}, "its sampler: das; of tiny/3: adps"),
        ({"backbone": "resnet18"}, "its backbone: test_resnet; of tiny/3: resnet18"),
    ],
)
def test_a_network_of_another_kind_is_not_started_from(made, changes, said):
    assert initial.unfit(made["das"], replace(FIRST, **changes)) == said


@given(st.sets(st.sampled_from(versioning.stage_names("tiny", NAMES))))
def test_trainings_are_due_whose_stage_is_stale_or_whose_frames_will_change(stale):
    found = initial.beginning(stale, "tiny", NAMES)
    if "prepare@tiny" in stale:
        assert found == list(NAMES)
    else:
        assert found == [name for name in NAMES if f"train@tiny-{name}" in stale]


def test_what_is_written_is_read_and_new_variants_begin_from_scratch(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    assert initial.read(workspace, "tiny") == {}
    initial.write(workspace, "tiny", {"das": FIRST, "gone": SECOND})
    before = workspace.initial("tiny").read_bytes()
    initial.bring_in_line(workspace, "tiny", ["das", "gone"])
    assert workspace.initial("tiny").read_bytes() == before
    initial.bring_in_line(workspace, "tiny", ["das", "full"])
    assert initial.read(workspace, "tiny") == {"das": FIRST, "gone": SECOND, "full": None}


@pytest.mark.parametrize("text", ["", "[]", '{"das": "old"}', '{"das": {"version": 3}}'])
def test_a_damaged_file_is_told_with_the_way_out(tmp_path: Path, text: str) -> None:
    workspace = Workspace(tmp_path)
    workspace.initial("tiny").parent.mkdir(parents=True)
    workspace.initial("tiny").write_text(text)
    with pytest.raises(UserError, match=r"git checkout data/initial/tiny\.json"):
        initial.read(workspace, "tiny")
