import json
import shutil

import pandas as pd
import pyarrow
import pyarrow.parquet as pq
import pytest

from keyslice.config import FolderDataset, Params, Variant
from keyslice.errors import UserError
from keyslice.exams import checks, history, manifest, plausible, quarantine
from keyslice.exams.exam import exam_path
from keyslice.exams.ingestion import ingest
from keyslice.exams.quarantine import Refusal

SPLITS = ("train", "validation", "test")


def row(number: int, **changes):
    label = changes.get("label", "no" if number % 2 else "yes")
    spread = 10.0 + number % 7
    return {
        "exam_id": f"{number:032x}",
        "patient": f"{number:032x}",
        "label": label,
        "split": SPLITS[number % 3],
        "batch": "0001",
        "frames": 20,
        "height": 64,
        "width": 64,
        "channels": 1,
        "dtype": "int16",
        "modality": "CT",
        "site": "unknown",
        "acquired": "2024",
        "source_format": "nifti",
        "sha256": f"{number:064x}",
        "label_source": "labels.csv:label",
        "labeller": "unknown",
        "facts": "{}",
        "difference_hash": f"{hash((number, 1)) % 2**192:048x}",
        "constant_frames": 0,
        "intensity_mean": 100.0 + spread,
        "intensity_sd": 50.0,
        "intensity_low": -1000.0,
        "intensity_high": 400.0 + spread,
    } | changes


def table(*changes: dict) -> pd.DataFrame:
    """Forty sound exams, the first ones changed."""
    rows = [row(n, **(changes[n] if n < len(changes) else {})) for n in range(40)]
    return manifest.frame(rows)


def named(findings) -> dict[str, tuple[str, ...]]:
    return {finding.check: finding.exams for finding in findings}


@pytest.fixture
def params(dataset) -> Params:
    variants = {
        "full": Variant(sampler="full"),
        "das": Variant(sampler="das", keep=0.5),
    }
    return Params.model_validate(
        {"datasets": {"ward": dataset}, "variants": variants, "compare": {"references": ["full"]}}
    )


@pytest.fixture
def whole(workspace, dataset, ward):
    """An ingested dataset of twelve exams."""
    ingest(workspace, "ward", dataset.model_copy(update={"settle": 0.0}))
    return workspace


def wrong(findings) -> dict[str, tuple[str, ...]]:
    return named(finding for finding in findings if finding.level == "wrong")


def test_nothing_is_wrong_with_what_was_just_ingested(whole, params):
    steps = []
    found = checks.run(whole, params, "ward", lambda *step: steps.append(step))
    assert wrong(found) == {}
    assert steps == [(n, 12) for n in range(1, 13)]


def test_damaged_and_missing_exams_are_named_each(whole, params):
    first, second, *_ = manifest.read(whole.manifest("ward"))["exam_id"]
    damaged = exam_path(whole.exams("ward"), first)
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    exam_path(whole.exams("ward"), second).unlink()
    found = wrong(checks.run(whole, params, "ward"))
    assert found == {"damaged": (first,), "missing": (second,)}


def test_a_file_that_does_not_belong_is_counted_and_not_named(whole, params):
    (whole.exams("ward") / "doe_jane.txt").touch()
    [found] = [f for f in checks.run(whole, params, "ward") if f.level == "wrong"]
    assert found.check == "strange_files"
    assert "jane" not in repr(found)


def test_a_dataset_that_is_not_ingested_is_a_mistake_with_the_way_out(workspace, params):
    with pytest.raises(UserError, match=r"not been ingested yet.*keyslice ingest ward"):
        checks.run(workspace, params, "ward")
    with pytest.raises(UserError, match="did you mean 'ward'"):
        checks.run(workspace, params, "wrad")


def test_exams_that_were_not_pulled_are_a_mistake_with_the_way_out(workspace, params):
    workspace.pointer("ward").parent.mkdir(parents=True)
    workspace.pointer("ward").touch()
    with pytest.raises(UserError, match=r"dvc pull data/exams/ward\.dvc"):
        checks.run(workspace, params, "ward")


def test_a_patient_edited_into_two_splits_is_named_with_his_exams(whole, params):
    path = whole.manifest("ward")
    rows = pq.read_table(path)
    one, other = rows["split"].to_pylist().index("train"), rows["split"].to_pylist().index("test")
    patients = rows["patient"].to_pylist()
    patients[one] = patients[other]
    number = rows.schema.get_field_index("patient")
    pq.write_table(rows.set_column(number, "patient", pyarrow.array(patients)), path)
    found = wrong(checks.run(whole, params, "ward"))
    exams = rows["exam_id"].to_pylist()
    assert set(found["across_splits"]) == {exams[one], exams[other]}


def test_a_manifest_that_breaks_its_schema_is_told_without_its_values(whole, params):
    path = whole.manifest("ward")
    rows = pq.read_table(path)
    number = rows.schema.get_field_index("patient")
    names = pyarrow.array(["Doe^Jane"] * len(rows))
    pq.write_table(rows.set_column(number, "patient", names), path)
    found = checks.run(whole, params, "ward")
    assert "(patient)" in found[0].what
    assert "Doe" not in repr(found)


def test_a_manifest_that_is_no_table_is_wrong_and_quarantine_is_still_told(whole, params):
    whole.manifest("ward").write_bytes(b"PAR1")
    quarantine.update(whole.quarantine("ward"), [Refusal("a", "b", "table", "2024-01-01")], {"a"})
    assert [f.check for f in checks.run(whole, params, "ward")] == ["manifest", "quarantine"]


def test_another_split_of_a_patient_in_a_kept_version_is_wrong(whole, params):
    history.keep(whole, "ward", "1.dir")
    rows = manifest.read(whole.manifest("ward"))
    rows.loc[0, "split"] = "train" if rows.loc[0, "split"] == "test" else "test"
    manifest.write(rows, whole.kept_manifest("ward", "2.dir"), {})
    assert set(wrong(checks.run(whole, params, "ward"))) == {"past_splits"}


def test_a_near_duplicate_in_another_split_is_a_note_with_both_exams():
    same = "0f" * 24
    [found] = checks.between_splits(
        table({"difference_hash": same}, {"difference_hash": same[:-1] + "e"})
    )
    assert (found.level, found.exams, found.others) == ("note", (f"{1:032x}",), (f"{0:032x}",))
    assert "hint" in found.remedy


@pytest.mark.parametrize(
    ("changes", "check", "level"),
    [
        ({"constant_frames": 20}, "empty", "wrong"),
        ({"constant_frames": 11}, "mostly_empty", "note"),
        ({"intensity_low": 410.0, "intensity_high": 410.0}, "flat", "note"),
        ({"frames": 1}, "single_frame", "note"),
        ({"height": 7}, "small", "note"),
        ({"row_spacing": 0.0005}, "spacing", "note"),
        ({"frame_spacing": 5000.0}, "spacing", "note"),
        ({"frame_time": 0.033}, "frame_time", "note"),
        ({"acquired": "1900-01-01"}, "acquired", "note"),
        ({"intensity_low": 24.0}, "intensities", "note"),
        ({"intensity_mean": 1100.0}, "intensities", "note"),
        ({"facts": json.dumps({"burned_in": "yes"})}, "burned_in", "note"),
        ({"facts": json.dumps({"burned_in": "unknown"})}, "burned_in_unknown", "note"),
        ({"facts": json.dumps({"missing_slices": 2})}, "missing_slices", "note"),
        ({"facts": json.dumps({"duplicate_slices": 1})}, "duplicate_slices", "note"),
    ],
)
def test_an_odd_exam_among_sound_ones_is_named(changes, check, level):
    found = plausible.implausible(table({}, changes), "ward")
    assert check in named(found)
    [one] = [finding for finding in found if finding.check == check]
    assert (one.level, one.exams) == (level, (f"{1:032x}",))


def test_sound_exams_give_no_finding():
    facts = json.dumps({"burned_in": "no", "missing_slices": 0})
    rows = table({"acquired": "unknown", "facts": facts, "frame_time": 33.3, "row_spacing": 0.7})
    assert plausible.implausible(rows, "ward") == []
    assert [*plausible.shortcuts(rows)] == []


def test_few_exams_have_no_outliers():
    rows = manifest.frame([row(n, intensity_mean=1e6 if n == 3 else 5.0) for n in range(10)])
    assert plausible.outlying(rows) == []


def test_another_modality_is_no_outlier():
    others = [{"modality": "MR", "intensity_mean": 5000.0} for _ in range(20)]
    assert plausible.outlying(table(*others)) == []


def test_a_site_that_gives_the_class_away_is_told():
    rows = table(*({"site": "north"} if n % 2 else {} for n in range(40)))
    told = [finding.what for finding in plausible.shortcuts(rows)]
    assert told == [
        "all exams of 'no' and none of the others have site north",
        "all exams of 'yes' and none of the others have site unknown",
    ]


@pytest.mark.parametrize(("rare", "level"), [("refuse", "wrong"), ("leave_out", "note")])
def test_a_class_without_exams_is_told(rare, level):
    dataset = FolderDataset(source="folder", classes=("no", "yes", "rare"), rare_classes=rare)
    [found] = checks.classes(table(), dataset, "ward")
    assert (found.level, found.what) == (level, "class 'rare' has no exams")


def test_a_class_in_too_few_patients_is_told_by_split(dataset):
    rows = manifest.frame([row(n) for n in range(12)])
    told = {finding.what: finding.level for finding in checks.classes(rows, dataset, "ward")}
    few = "fewer than 5 patients in: train 2, validation 2, test 2"
    assert told == {f"class {c!r} has {few}": "note" for c in ("no", "yes")}


def test_a_class_absent_from_a_split_is_wrong(dataset):
    rows = table(*({"label": "no"} if n % 3 == 2 else {} for n in range(40)))
    [found] = checks.classes(rows, dataset, "ward")
    assert (found.level, "test 0" in found.what) == ("wrong", True)


def test_a_label_outside_the_classes_is_wrong(dataset):
    found = checks.classes(table({"label": "perhaps"}), dataset, "ward")
    assert wrong(found) == {"label": (f"{0:032x}",)}


def test_what_waits_in_quarantine_is_counted_by_kind(whole, params):
    refusals = [Refusal(f"{n}", "why", "unreadable", "2024-01-01") for n in range(3)]
    quarantine.update(whole.quarantine("ward"), refusals, {"0", "1", "2"})
    [found] = checks.refused(whole, "ward")
    assert found.what == "files wait in quarantine: unreadable 3"


def test_wrong_things_come_first(whole, params):
    shutil.copy(whole.params, whole.exams("ward") / "strange")
    levels = [finding.level for finding in checks.run(whole, params, "ward")]
    assert levels == sorted(levels, reverse=True)
    assert set(levels) == {"wrong", "note"}
