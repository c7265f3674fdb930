from collections import Counter

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from keyslice.config import Split
from keyslice.exams.split import SPLITS, assign, lacking, patients_by_label

names = st.integers(0, 10**6).map("{:032x}".format)
# Each patient with one label, as most have.
patients = st.dictionaries(names, st.sampled_from("ab"), max_size=60)
shares = st.sampled_from([Split(), Split(train=0.6, validation=0.2, test=0.2)])


def _count(splits, pairs, label):
    return Counter(splits[patient] for patient, its in pairs if its == label)


@given(st.lists(st.tuples(names, st.sampled_from("abc"))), shares)
def test_every_patient_is_in_one_split_whatever_its_labels(pairs, shares):
    splits = assign(pairs, {}, shares)
    assert splits.keys() == {patient for patient, _ in pairs}
    assert set(splits.values()) <= set(SPLITS)


@given(patients, patients, shares)
def test_later_patients_move_nobody(first, second, shares):
    settled = assign(first.items(), {}, shares)
    later = assign([*first.items(), *second.items()], settled, shares)
    assert later | settled == later


@given(patients, shares, st.randoms(use_true_random=False))
def test_the_order_of_the_exams_does_not_matter(exams, shares, random):
    shuffled = list(exams.items())
    random.shuffle(shuffled)
    assert assign(shuffled, {}, shares) == assign(exams.items(), {}, shares)


@given(patients, shares)
def test_a_label_of_three_patients_or_more_is_in_every_split(exams, shares):
    found = lacking(exams.items(), assign(exams.items(), {}, shares))
    by_label = patients_by_label(exams.items())
    assert all(len(by_label[label]) < 3 for label in found)


@given(st.integers(12, 200), shares)
def test_a_labels_shares_are_within_one_patient_of_the_target(count, shares):
    pairs = [(f"{n:032x}", "a") for n in range(count)]
    counts = _count(assign(pairs, {}, shares), pairs, "a")
    for split in SPLITS:
        assert abs(counts[split] - getattr(shares, split) * count) <= 1


@given(st.lists(st.integers(1, 9), min_size=2, max_size=20), shares)
def test_shares_stay_within_a_patient_of_the_target_over_many_additions(additions, shares):
    assume(sum(additions) >= 12)
    pairs, splits = [], {}
    for size in [6, *additions]:
        pairs += [(f"{len(pairs) + n:032x}", "a") for n in range(size)]
        splits = assign(pairs, splits, shares)
    counts = _count(splits, pairs, "a")
    for split in SPLITS:
        assert abs(counts[split] - getattr(shares, split) * len(pairs)) <= 1


def test_a_split_that_lost_its_only_patient_is_filled_first():
    settled = {f"{n:032x}": split for n, split in enumerate(["train"] * 7 + ["validation"] * 2)}
    pairs = [(patient, "a") for patient in [*settled, "f" * 32]]
    assert assign(pairs, settled, Split())["f" * 32] == "test"


@pytest.mark.parametrize("missing", SPLITS)
def test_a_label_that_a_split_lacks_is_told(missing):
    splits = {split: split for split in SPLITS if split != missing}
    assert lacking([(patient, "a") for patient in splits], splits) == {"a": [missing]}
