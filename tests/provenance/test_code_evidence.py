"""Settings that two releases have written, held against each other."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest

from keyslice.config import StageSettings
from keyslice.provenance.code_evidence import same_settings


@pytest.fixture
def written(stage_settings: Callable[..., StageSettings]) -> dict[str, Any]:
    return stage_settings("das").model_dump(mode="json")


def test_a_default_that_one_release_has_not_written_makes_no_difference(
    written: dict[str, Any],
) -> None:
    earlier = deepcopy(written)
    assert earlier["train"].pop("start") == "scratch"
    assert same_settings(earlier, written)
    assert same_settings(written, earlier)


def test_another_value_makes_one(written: dict[str, Any]) -> None:
    other = deepcopy(written)
    other["train"]["start"] = "champion"
    assert not same_settings(other, written)
    other["train"].pop("start")
    other["train"]["learning_rate"] *= 2
    assert not same_settings(other, written)


def test_settings_of_a_later_release_are_held_against_each_other_as_they_stand(
    written: dict[str, Any],
) -> None:
    later = deepcopy(written)
    later["train"]["unheard_of"] = 1
    assert same_settings(later, deepcopy(later))
    assert not same_settings(later, written)
