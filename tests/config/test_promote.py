from pathlib import Path

import pytest
import yaml

from keyslice.config import Params, Promote, load
from keyslice.errors import UserError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def values():
    return yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))


@pytest.fixture
def loaded(values, tmp_path):
    """`loaded(change)`: the settings that ship, after `change` was made to them."""

    def load_changed(change):
        change(values)
        file = tmp_path / "params.yaml"
        file.write_text(yaml.safe_dump(values), encoding="utf-8")
        return load(file)

    return load_changed


def test_the_section_may_be_left_out(loaded):
    assert loaded(lambda v: v.pop("promote")).promote == Promote()


def test_every_setting_is_shown_in_the_file_that_ships(values):
    assert list(values["promote"]) == list(Promote.model_fields)


def test_a_dataset_overrides_what_it_names_alone(loaded):
    def change(values):
        values["promote"]["looks"] = 5
        values["datasets"]["adrenal"]["promote"] = {"margin": 0.1}

    params = loaded(change)
    assert params.promote_settings("adrenal") == Promote(looks=5, margin=0.1)
    assert params.promote_settings("vessel") == Promote(looks=5)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ({"margn": 0.1}, "datasets.adrenal.promote.margn: unknown key 'margn'; did you mean"),
        ({"approval": "no"}, "datasets.adrenal.promote.approval: 'no': Input should be 'required'"),
        ({"margin": 0}, "datasets.adrenal.promote.margin: 0: Input should be greater than 0"),
        ({"alpha": 0.5}, "datasets.adrenal.promote.alpha: 0.5: Input should be less than 0.5"),
        ({"minimum_cases": 1}, "promote.minimum_cases: 1: Input should be greater than or equal"),
        ({"looks": 100}, "resamples must be at least 20000 (10 * looks / alpha), got 10000"),
    ],
)
def test_a_mistake_is_named_with_its_key_and_rule(loaded, override, said):
    with pytest.raises(UserError) as caught:
        loaded(lambda v: v["datasets"]["adrenal"].update(promote=override))
    assert said in str(caught.value)


def test_the_section_s_own_mistake_is_named_with_its_key(loaded):
    with pytest.raises(UserError, match=r"promote\.margn: unknown key 'margn'; did you mean"):
        loaded(lambda v: v["promote"].update(margn=1))


def test_the_error_rate_is_shared_out_over_the_planned_looks():
    assert Promote(alpha=0.04, looks=8).look_alpha == pytest.approx(0.005)


def test_no_stage_depends_on_the_plan(values):
    params = Params.model_validate(values)
    other = Params.model_validate(values | {"promote": {"margin": 0.2}})
    assert params.stage("adrenal", "das") == other.stage("adrenal", "das")
    assert "promote" not in (ROOT / "dvc.yaml").read_text(encoding="utf-8")


def test_the_plan_is_read_back_from_its_json():
    plan = Promote(signed=True, drift_effect=None, auc_floor=None)
    assert Promote.model_validate(plan.model_dump(mode="json")) == plan
