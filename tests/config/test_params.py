import copy
from pathlib import Path

import pytest
import yaml

from keyslice.config import SAMPLER_SETTINGS, Params, StageSettings, TestTime, load
from keyslice.errors import UserError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def values():
    return yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))


@pytest.fixture
def complaint(values, tmp_path):
    """`complaint(change)`: what is said of the settings after `change` was made to them."""

    def say(change):
        changed = copy.deepcopy(values)
        change(changed)
        file = tmp_path / "params.yaml"
        file.write_text(yaml.safe_dump(changed), encoding="utf-8")
        with pytest.raises(UserError) as caught:
            load(file)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    return say


def test_the_settings_that_ship_hold():
    params = load(ROOT / "params.yaml")
    assert {v.sampler for v in params.variants.values()} == set(SAMPLER_SETTINGS)
    assert params.candidates("adrenal") == ("uniform", "nonempty", "dps", "adps", "das")


def test_every_setting_that_ships_is_the_default_or_an_override():
    params = load(ROOT / "params.yaml")
    defaults = Params(datasets=params.datasets, variants=params.variants)
    assert params == defaults


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("variants.das.keep", 1.5, "variants.das.keep: 1.5: Input should be less than or equal"),
        ("variants.das.keep", 0, "variants.das.keep: 0: Input should be greater than 0"),
        ("variants.das.keep", "half", "variants.das.keep: 'half': Input should be a valid number"),
        ("variants.das.kep", 0.5, "unknown key 'kep'; did you mean 'keep'?"),
        ("service.host", "::1", "service.host: '::1': must be a name or an IPv4 address alone"),
        ("service.host", "http://here", "must be a name or an IPv4 address alone"),
        ("retrain.watch_seconds", 0.001, "watch_seconds: 0.001: Input should be greater than or"),
        ("retrain.watch_seconds", 1e12, "Input should be less than or equal to 86400"),
        ("retrain.quiet_minutes", 1e12, "Input should be less than or equal to 10080"),
        ("retrain.stage_hours", 0, "retrain.stage_hours: 0: Input should be greater than 0"),
        ("retrain.stage_hours", 1e12, "Input should be less than or equal to 8784"),
        ("retrain.schedule", {"every_minutes": 1e-9}, "should be greater than or equal to 0.1"),
        ("retrain.schedule", {"every_minutes": 0.001}, "retrain.schedule.every_minutes: 0.001: "),
        ("retrain.schedule", {"every_minutes": 1e12}, "less than or equal to 527040"),
        ("variants.das.sampler", "dass", "unknown sampler 'dass'; did you mean 'das'?"),
        ("variants.full.keep", 0.5, "the sampler full keeps every frame"),
        ("variants.das.settings", {"head": 3}, "variants.das.settings.head: unknown key 'head'"),
        ("variants.das.settings", {"head": 3}, "did you mean 'heads'?"),
        ("variants.uniform.settings", {"head": 3}, "unknown key 'head'; nothing can be set here"),
        (
            "variants.das_paper.settings",
            {"gat": 1},
            "known: adaptive_temperature, base_temperature",
        ),
        ("variants.das.evaluate", {"seed": 1}, "may override evaluate.batch_size only, got seed"),
        ("variants.das.evaluate", {"test_time": {}}, "goes under evaluate.test_time.variants.NAME"),
        ("evaluate", {"test_time": 8}, "evaluate.test_time: 8: give keys with values of their own"),
        ("variants.das.settings", {"heads": 0}, "variants.das.settings.heads: 0: Input should be"),
        ("variants.das.train", {"epochs": 0}, "variants.das.train.epochs: 0: Input should be"),
        ("datasets.adrenal.train", {"epoch": 3}, "datasets.adrenal.train.epoch: unknown key"),
        ("datasets.adrenal.flag", "adrenal", "datasets.adrenal.flag: 'adrenal': Input should be"),
        ("datasets.adrenal.source", "medmist", "'medmist' found using 'source' does not match"),
        ("datasets.adrenal.classes", ["one"], "datasets.adrenal.classes: ['one']: Tuple should"),
        ("datasets.adrenal.classes", ["a", "a"], "each class may be named once"),
        ("datasets.adrenal.classes", ["a", ""], "a class has a name"),
        ("datasets.adrenal.classes", ["a", "b "], "a class has a name, without spaces around it"),
        ("datasets.adrenal.split", {"train": float("nan")}, "split.train: nan: Input should be"),
        ("datasets.adrenal.split", {"train": "0.7"}, "split.train: '0.7': Input should be a valid"),
        ("train.learning_rate", float("inf"), "train.learning_rate: inf: Input should be a finite"),
        ("datasets.adrenal.split", {"train": 0.9}, "the three shares must add up to 1"),
        (
            "datasets.adrenal.siz",
            64,
            "datasets.adrenal.siz: unknown key 'siz'; did you mean 'size'",
        ),
        ("datasets.Adrenal", {}, "String should match pattern"),
        ("trian", {}, "trian: unknown key 'trian'; did you mean 'train'?"),
        ("train.learning_rate", "1e-3", "train.learning_rate: '1e-3': Input should be a valid"),
        ("train.seeds", [1, 1], "each seed may be named once"),
        ("train.seeds", [], "train.seeds"),
        ("train.batch_size", True, "train.batch_size: True: Input should be a valid integer"),
        ("compare.references", ["ful"], "unknown variant 'ful'; did you mean 'full'?"),
        ("compare.candidates", [], "compare.candidates: no variant may become the candidate"),
        ("variants", {"full": {"sampler": "full"}, "uniform": {"sampler": "random"}}, "no variant"),
        (
            "datasets.adrenal.compare",
            {"references": ["ful"]},
            "datasets.adrenal.compare.references: unknown variant 'ful'; did you mean 'full'?",
        ),
        (
            "datasets.adrenal.compare",
            {"candidates": []},
            "datasets.adrenal.compare.candidates: no variant may become the candidate",
        ),
        ("compare.candidates", ["unifom"], "unknown variant 'unifom'; did you mean 'uniform'?"),
        ("prepare.intensity", {"percentiles": [9, 1]}, "the lower percentile must be below the"),
        ("prepare.intensity", {"range": [5, 5]}, "the lower value must be below the upper one"),
        (
            "prepare.intensity",
            {"window": [40, 0]},
            "prepare.intensity.window.1: 0: Input should be",
        ),
        ("prepare.intensity", {"window": "bon"}, "no window has this name; did you mean 'bone'?"),
        ("retrain.watch_secnds", 5, "key 'watch_secnds'; did you mean 'watch_seconds'?"),
        ("retrain.schedule", {"crn": "0 2 * * *"}, "key 'crn'; did you mean 'cron'?"),
        ("service.prot", 5, "unknown key 'prot'; known: host, mlflow_port"),
        ("prepare.intensity", {"windw": "bone"}, "unknown key 'windw'; did you mean 'window'?"),
        ("prepare.intensity", {"eight_bit": "map"}, "exactly one of percentiles, window, range"),
        (
            "prepare.intensity",
            {"range": [0, 1], "window": "bone"},
            "exactly one of percentiles, window, range is given, got window, range",
        ),
        (
            "datasets.adrenal.prepare",
            {"intensity": {"window": "bon"}},
            "datasets.adrenal.prepare.intensity.window: 'bon': no window has this name",
        ),
        (
            "prepare.intensity_percentiles",
            [1, 99],
            "intensity_percentiles has become intensity; write intensity: {percentiles: [1, 99]}",
        ),
    ],
)
def test_a_wrong_setting_is_named_with_its_rule(complaint, key, value, said):
    def change(values):
        *parents, last = key.split(".")
        for parent in parents:
            values = values[parent]
        values[last] = value

    assert said in complaint(change)


def test_a_missing_key_is_named(complaint):
    said = complaint(lambda values: values["datasets"]["adrenal"].pop("classes"))
    assert "datasets.adrenal.classes: is missing" in said


def test_a_section_that_dvc_depends_on_must_be_there(complaint):
    said = complaint(lambda values: values.pop("model"))
    assert "params.yaml: model: the section is missing" in said


def test_a_file_that_is_no_yaml_is_one_line(tmp_path):
    (tmp_path / "params.yaml").write_text("train: [1,", encoding="utf-8")
    with pytest.raises(UserError, match=r"^params\.yaml: not YAML[^\n]*$"):
        load(tmp_path / "params.yaml")


def test_a_key_that_is_there_twice_is_named_with_its_line(tmp_path):
    text = "train:\n  epochs: 3\n  seeds: [0]\n  epochs: 4\n"
    (tmp_path / "params.yaml").write_text(text, encoding="utf-8")
    told = r"^params\.yaml: not YAML \(the key 'epochs' is there twice, again in line 4\)"
    with pytest.raises(UserError, match=told):
        load(tmp_path / "params.yaml")


def test_what_is_merged_may_be_otherwise(tmp_path):
    text = "a: {b: &x {<<: &y {k: 1}, k: 2}}\nc: {<<: *x, k: 3}\nd: {k: {e: &z {<<: *x, k: 4}}}"
    (tmp_path / "params.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match="the section is missing"):
        load(tmp_path / "params.yaml")


def test_a_file_that_is_not_utf_8_is_one_line(tmp_path):
    (tmp_path / "params.yaml").write_bytes("train: {name: é}".encode("latin-1"))
    with pytest.raises(UserError, match=r"^params\.yaml: not UTF-8[^\n]*$"):
        load(tmp_path / "params.yaml")


@pytest.mark.parametrize("text", ["", "[]"])
def test_an_empty_file_is_told(tmp_path, text):
    (tmp_path / "params.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=r"params\.yaml: is empty"):
        load(tmp_path / "params.yaml")


def test_a_variant_overrides_a_dataset_which_overrides_the_section(values):
    values["train"]["epochs"] = 11
    values["datasets"]["adrenal"]["train"] = {"epochs": 22, "patience": 2}
    values["variants"]["das"]["train"] = {"epochs": 33}
    params = Params.model_validate(values)
    assert params.stage("vessel", "full").train.epochs == 11
    assert params.stage("adrenal", "full").train.epochs == 22
    assert params.stage("adrenal", "das").train.epochs == 33
    assert params.stage("adrenal", "das").train.patience == 2


def test_a_datasets_intensity_takes_the_place_of_the_whole_section_wide_one(values):
    values["datasets"]["adrenal"]["prepare"] = {"intensity": {"window": [40, 400]}}
    params = Params.model_validate(values)
    assert params.prepare_settings("adrenal").intensity.window == (40, 400)
    assert params.prepare_settings("adrenal").intensity.percentiles is None
    assert params.prepare_settings("vessel").intensity.percentiles == (0.5, 99.5)


def test_a_named_window_is_recorded_by_its_numbers(values):
    values["prepare"]["intensity"] = {"window": "lung"}
    stage = Params.model_validate(values).stage("adrenal", "das")
    assert stage.model_dump(mode="json")["prepare"]["intensity"] == {"window": [-600, 1500]}


def test_stage_settings_survive_json(values):
    stage = Params.model_validate(values).stage("adrenal", "das")
    assert StageSettings.model_validate_json(stage.model_dump_json()) == stage
    assert "heads" in stage.model_dump()["sampler_settings"]


@pytest.mark.parametrize("ask", ["dataset", "variant"])
def test_an_unknown_name_is_answered_with_the_nearest(values, ask):
    with pytest.raises(UserError, match=r"unknown .*did you mean"):
        getattr(Params.model_validate(values), ask)("vesel" if ask == "dataset" else "unifrm")


@pytest.mark.parametrize(
    ("run", "said"),
    [
        ({"engine": "dask", "remote": "store"}, "engine dask needs `scheduler`, too"),
        ({"engine": "dask", "scheduler": "tcp://cluster:8786"}, "engine dask needs `remote`, too"),
        ({"scheduler": "cluster:8786"}, "must be an address of Dask's"),
        ({"scheduler": "tcp://anna:secret@cluster:8786"}, "must be an address of Dask's"),
        ({"engine": "slurm"}, "run.engine"),
    ],
)
def test_a_cluster_that_is_half_named_is_refused(complaint, run, said):
    assert said in complaint(lambda values: values.update(run=run))


def test_a_variant_may_look_at_exams_as_often_as_it_pleases(values):
    variants = {"das": {"budget": 4}}
    values["evaluate"] = {"test_time": {"budget": 8, "views": ["shift_up"], "variants": variants}}
    params = Params.model_validate(values)
    found = params.stage("adrenal", "das").evaluate.test_time
    assert (found.budget, found.views, found.variants) == (4, ("shift_up",), {})
    assert params.stage("adrenal", "uniform").evaluate.test_time.budget == 8


@pytest.mark.parametrize(
    ("variants", "said"),
    [
        ({"dsa": {"budget": 4}}, "unknown variant 'dsa'; did you mean 'd"),
        ({"das": {"budgit": 4}}, "evaluate.test_time.variants.das.budgit: unknown key"),
        ({"das": {"variants": {}}}, "das.variants: a variant has no variants of its own"),
        ({"das": {"budget": 0}}, "evaluate.test_time.variants.das.budget: 0"),
    ],
)
def test_what_a_variant_may_not_say_of_its_looks_is_refused(complaint, variants, said):
    test_time = {"test_time": {"variants": variants}}
    assert said in complaint(lambda values: values.update(evaluate=test_time))


@pytest.mark.parametrize(
    ("test_time", "said"),
    [
        (
            {"budget": 4, "layers": "conv1"},
            "layers: 'conv1': give so many levels nearest",
        ),
        ({"budget": 4, "layers": True}, "layers: True: give so many"),
        ({"budget": 4, "layers": "first 0"}, "layers: 'first 0': give so many"),
        ({"budget": 4, "layers": "first 2\n"}, "layers: 'first 2\\n': give so many"),
        ({"budget": 4, "border": "edge"}, "border: 'edge': Input should be 'zeros' or 'kept'"),
        ({"border": "zeros"}, "nothing for border to decide"),
        ({"budget": 4, "layers": 0}, "layers: 0: give so many"),
        ({"budget": 4, "layers": []}, "layers: []: give so many"),
        ({"budgt": 4}, "unknown key 'budgt'; did you mean 'budget'?"),
        ({"attention": {"widht": 4}}, "unknown key 'widht'; did you mean 'width'?"),
        ({"views": ["shift_up", "shift_up"]}, "each view may be named once"),
        ({"aggregation": "learned", "layers": 2}, "nothing for aggregation, layers to decide"),
        (
            {"criterion": "random", "variants": {"das": {"views": ["shift_up"]}}},
            "nothing for criterion to decide",
        ),
    ],
)
def test_how_often_to_look_is_checked_before_work_starts(complaint, test_time, said):
    found = complaint(lambda values: values.update(evaluate={"test_time": test_time}))
    assert said in found
    assert "constrained" not in found


@pytest.mark.parametrize(
    ("layers", "searched", "said"),
    [
        (2, 2, "the deepest 2 levels of subsampling layers,"),
        ("first 12", slice(12), "the first 12 levels of subsampling layers,"),
        ("all", None, "all subsampling layers,"),
        (["a", "b"], ("a", "b"), "the layers a, b,"),
    ],
)
def test_layers_are_counted_from_either_end_or_named(layers, searched, said):
    often = TestTime.model_validate({"budget": 4, "layers": layers})
    assert often.searched == searched
    assert said in often.words
    zeros = often.model_copy(update={"border": "zeros"}).words
    assert said.replace(",", "") in zeros.replace(",", "")
    assert "(zeros at their border)" in zeros


def test_a_key_of_how_often_to_look_is_known_in_a_dataset_too(complaint):
    def misspelt(values):
        values["datasets"]["adrenal"]["evaluate"] = {"test_time": {"agregation": "mean"}}

    assert "did you mean 'aggregation'?" in complaint(misspelt)


def test_an_attention_of_a_variant_keeps_what_it_does_not_set(values):
    test_time = {
        "budget": 4,
        "aggregation": "learned",
        "attention": {"width": 32, "epochs": 3},
        "variants": {"das": {"attention": {"patience": 5}}},
    }
    values["evaluate"] = {"test_time": test_time}
    own = Params.model_validate(values).stage("adrenal", "das").evaluate.test_time.attention
    assert (own.width, own.epochs, own.patience) == (32, 3, 5)
