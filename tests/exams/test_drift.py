import json
import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from keyslice.exams import drift, manifest, permutation
from keyslice.exams.drift import FEWEST, LEVEL, compare, split_new

WARD = {"frames": 24, "height": 64, "width": 64, "label": "no", "site": "north", "facts": "{}"}


def _row(number: int, **changes):
    return {
        "exam_id": f"{number:032x}",
        "patient": f"{number:032x}",
        "split": "train",
        "batch": "0001",
        "channels": 1,
        "dtype": "int16",
        "modality": "CT",
        "acquired": "unknown",
        "source_format": "nifti",
        "sha256": f"{number:064x}",
        "label_source": "labels.csv:label",
        "labeller": "unknown",
        "informative": None,
        "difference_hash": "0" * 48,
        "constant_frames": 0,
        "intensity_mean": 10.0,
        "intensity_sd": 2.0,
        "intensity_low": 5.0,
        "intensity_high": 15.0,
        **WARD,
    } | changes


def _exams(first: int, each: list[dict]) -> pd.DataFrame:
    """A manifest of these exams, numbered from `first`."""
    return manifest.frame([_row(first + n, **changes) for n, changes in enumerate(each)])


def _normal(seed: int, count: int, patients: int, level: float = 0.0, spread: float = 1.0):
    """Columns of `count` exams each of some patients; a patient's exams are much alike."""
    rng = np.random.default_rng(seed)
    own = np.repeat(rng.normal(size=patients), count)
    names = np.repeat([f"{seed}-{n}" for n in range(patients)], count)
    values = level + spread * (own + 0.3 * rng.normal(size=len(own)))
    ids = [f"{seed}/{n}" for n in range(len(own))]
    label = np.where(own + 0.3 * rng.normal(size=len(own)) > 0, "yes", "no")
    mean = values + 5.0
    return pd.DataFrame(
        {"exam_id": ids, "patient": names, "label": label, "intensity_mean": mean, "width": mean}
    )


def _one(found: drift.Drift, name: str) -> drift.Shift:
    [shift] = [shift for shift in found.shifts if shift.name == name]
    return shift


def _alarms(trials: int) -> float:
    """How often a shift is called where there is none, with 4 exams a patient."""
    found = [
        compare(_normal(2 * n, 4, 30), _normal(2 * n + 1, 4, 10), seed=n) for n in range(trials)
    ]
    return sum(bool(one.shifted) for one in found) / trials


def test_without_a_shift_the_false_alarm_rate_is_kept_though_patients_have_many_exams(monkeypatch):
    """At a rate of 5 %, more than 25 of 300 have a probability of 0.5 %."""
    monkeypatch.setattr(drift, "DRAWS", 399)
    assert _alarms(300) <= 25 / 300


def test_with_exams_permuted_instead_of_patients_the_rate_would_be_broken(monkeypatch):
    monkeypatch.setattr(drift, "DRAWS", 399)
    monkeypatch.setattr(drift, "group", lambda exam, patient: exam)
    assert _alarms(60) > 0.2


@pytest.mark.parametrize("parts", [1, 2])
def test_p_values_are_uniform_where_patients_are_in_both_groups(parts):
    """Kolmogorov–Smirnov against the uniform distribution: false-alarm rate 0.1 %."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(400):
        own = rng.normal(size=16)
        both = np.concatenate([own[:8], own[:8], own[8:]])  # 8 in both groups, 4 and 4 in one
        new = np.repeat([False, True, False, True], [8, 8, 4, 4])
        patients = np.concatenate([np.arange(8), np.arange(8), np.arange(8, 16)])
        values = np.repeat(both, parts) + 0.5 * rng.normal(size=24 * parts)
        categories = np.digitize(values, np.linspace(-2, 2, 15)).astype(np.int64)
        shares = permutation.by_patient(
            categories, np.repeat(new, parts), np.repeat(patients, parts)
        )
        p, _ = permutation.p_value(
            shares, lambda old, now: np.abs((now - old) @ np.arange(old.shape[-1])), 199, rng
        )
        found.append(p)
    assert stats.kstest(found, "uniform").pvalue > 0.001


def test_another_level_is_found_with_its_direction():
    found = compare(_normal(0, 2, 60), _normal(1, 2, 30, level=-1.5))
    shift = _one(found, "intensity_mean")
    assert shift.shifted
    assert shift.effect < -0.474
    assert shift.magnitude == "large"
    assert "smaller" in shift.sentence


def test_another_spread_is_found_where_the_level_is_the_same():
    shift = _one(compare(_normal(0, 1, 200), _normal(1, 1, 100, spread=3.0)), "intensity_mean")
    assert shift.shifted
    assert abs(shift.effect) < 0.147
    assert "otherwise spread" in shift.sentence


def test_another_mix_of_labels_is_found():
    old = _exams(0, [{"label": "yes" if n % 10 < 2 else "no"} for n in range(100)])
    new = _exams(1000, [{"label": "yes" if n % 10 < 7 else "no"} for n in range(40)])
    shift = _one(compare(old, new), "label")
    assert shift.shifted
    assert (shift.before, shift.now) in [("yes 20%", "yes 70%"), ("no 80%", "no 30%")]


def test_many_exams_of_one_patient_count_once():
    old = _exams(0, [{"frames": 20 + n % 5} for n in range(40)])
    one = [{"frames": 90, "patient": "f" * 32}] * 50
    new = _exams(1000, [{"frames": 20 + n % 5} for n in range(20)] + one)
    shift = _one(compare(old, new), "frames")
    assert not shift.shifted
    assert abs(shift.effect) < 0.147
    assert (shift.new_exams, shift.new_patients) == (70, 21)


def test_cliffs_delta_is_that_of_all_pairs():
    rng = np.random.default_rng(3)
    old, new = rng.integers(0, 9, 31).astype(float), rng.integers(2, 11, 17).astype(float)
    pairs = np.sign(new[:, None] - old[None, :]).mean()
    old_rows = _exams(0, [{"intensity_mean": value} for value in old])
    new_rows = _exams(1000, [{"intensity_mean": value} for value in new])
    shift = _one(compare(old_rows, new_rows), "intensity_mean")
    assert shift.effect == pytest.approx(pairs)
    assert shift.distance == pytest.approx(stats.ks_2samp(old, new).statistic)


def test_cramers_v_of_a_table_with_equal_groups_is_scipys_before_its_bias_is_taken_off():
    table = np.array([[30, 15, 5], [10, 20, 20]])
    old, new = table / table.sum(1, keepdims=True)
    chi = stats.chi2_contingency(table, correction=False).statistic
    assert drift._chi_squared(old, new) == pytest.approx(chi / table.sum())


def test_p_values_are_those_of_all_permutations_within_the_error_of_drawing_some():
    """5 and 5 patients, 252 permutations; 4 standard errors."""
    values = np.array([0, 1, 2, 3, 6, 4, 5, 7, 8, 9])
    new = np.arange(10) >= 5
    shares = permutation.by_patient(values.astype(np.int64), new, np.arange(10))
    p, _ = permutation.p_value(shares, drift._kolmogorov_smirnov, 20_000, np.random.default_rng(0))
    exact = stats.ks_2samp(values[:5], values[5:], method="exact").pvalue
    assert p == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 20_000))


def test_holms_correction_is_that_of_the_definition():
    names = ("a", "b", "c", "d")
    blank = drift._blank("", "numeric", np.ones(1, bool), _no_shares(), "", "")
    given = (0.01, 0.04, 0.03, None)
    shifts = [drift.replace(blank, name=n, p=p) for n, p in zip(names, given, strict=True)]
    found = [shift.corrected for shift in drift._corrected(shifts)]
    assert found == [pytest.approx(0.03), pytest.approx(0.06), pytest.approx(0.06), None]


def _no_shares() -> permutation.Shares:
    return permutation.Shares(np.ones((1, 1)), np.ones(1, bool), np.zeros(1, np.int64))


def test_a_site_never_seen_before_is_told_by_name():
    old = _exams(0, [{}] * 20)
    new = _exams(1000, [{"site": "south" if n < 2 else "north"} for n in range(12)])
    shift = _one(compare(old, new), "site")
    assert shift.unseen == ("south",)
    assert "never seen before: south" in shift.sentence
    assert "never seen before: a value of site" in compare(old, new).sentence


def test_facts_are_compared_as_numbers_or_words_and_what_is_not_known_by_itself():
    old = [json.dumps({"tube_voltage": 100 + n % 3, "manufacturer": "A"}) for n in range(30)]
    new = [json.dumps({"manufacturer": "B", "slice_axis": 2}) for _ in range(20)]
    new[:6] = [json.dumps({"tube_voltage": 140})] * 6
    found = compare(
        _exams(0, [{"facts": text} for text in old]),
        _exams(1000, [{"facts": text} for text in new]),
    )
    assert _one(found, "tube_voltage").effect == pytest.approx(1)
    assert (_one(found, "tube_voltage").kind, _one(found, "slice_axis").kind) == (
        "numeric",
        "categorical",
    )
    assert _one(found, "tube_voltage_known").shifted
    assert _one(found, "manufacturer").unseen == ("B", "unknown")
    assert _one(found, "slice_axis").unseen == ("2",)


def test_what_is_the_same_everywhere_or_known_of_too_few_is_not_tested():
    old = _exams(0, [{"frame_time": 40.0 if n < 3 else None} for n in range(20)])
    new = _exams(1000, [{"frame_time": 50.0} for _ in range(10)])
    found = compare(old, new)
    assert _one(found, "frames").sentence == "the same in all exams"
    nowhere_new = _exams(1000, [{} for _ in range(10)])
    late = compare(_exams(0, [{"frame_time": 40.0}] * 20), nowhere_new)
    assert "fewer than 5 patients" in _one(late, "frame_time").sentence
    assert _one(late, "frame_time_known").shifted
    assert "fewer than 5 patients" in _one(found, "frame_time").sentence
    assert all(_one(found, name).p is None for name in ("frames", "frame_time", "site"))
    assert not any(shift.name == "row_spacing" for shift in found.shifts)  # known of no exam


@pytest.mark.parametrize("count", [0, 1, FEWEST - 1])
def test_of_too_few_new_patients_nothing_is_told(count):
    new = _exams(1000, [{"frames": 99}] * count)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = compare(_exams(0, [{}] * 20), new)
        compare(new, new)
    assert found.shifts == ()
    assert (
        found.sentence == "no new exams" if not count else "nothing can be told" in found.sentence
    )


def test_as_many_exams_of_one_patient_are_too_few():
    new = _exams(1000, [{"frames": 99, "patient": "f" * 32}] * 50)
    assert compare(_exams(0, [{}] * 20), new).shifts == ()


def test_new_are_the_exams_that_the_reference_does_not_have():
    old, all_of = _exams(0, [{}] * 4), _exams(0, [{"label": "yes"}] * 7)
    assert [*split_new(all_of, old)["exam_id"]] == [f"{n:032x}" for n in (4, 5, 6)]
    assert split_new(old, all_of).empty


def test_the_same_manifests_give_the_same_figures_whatever_else_is_compared():
    old, new = _normal(0, 2, 30), _normal(1, 2, 20, level=0.4)
    first, again = compare(old, new), compare(old, new)
    assert first == again
    fewer = compare(old.drop(columns="label"), new.drop(columns="label"))
    assert _one(fewer, "width").p == _one(first, "width").p


def test_as_json_it_has_no_nan():
    old, new = _normal(0, 2, 30), _normal(1, 2, 20, level=2.0)
    shown = json.loads(json.dumps(compare(old, new).as_dict(), allow_nan=False))
    assert "intensity_mean" in shown["shifted"]
    assert shown["level"] == LEVEL
    assert shown["shifts"][0]["name"] == "label"
