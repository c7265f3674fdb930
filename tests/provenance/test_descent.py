"""What a version learned from, those that started from it have learned from, too."""

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from keyslice import files, initial
from keyslice.config import Workspace
from keyslice.initial import Ancestor
from keyslice.provenance import (
    descent,
    differences,
    ledger,
    lineage,
    naming,
    prov,
    standing,
    start_evidence,
    traces,
    withdrawn,
)
from keyslice.provenance.evidence import Item
from keyslice.registry import gate, marks
from keyslice.versioning.objects import Store
from tests.provenance.story import Story, digits, row, sha256

OLD, NEW = digits("exam"), digits("other exam")
ANNA, BEN = digits("anna"), digits("ben")


@pytest.fixture
def story(workspace: Workspace) -> Story:
    """Anna is in the first dataset version alone; 2 starts from 1, 3 from 2, 4 from nothing."""
    story = Story(workspace)
    story.version([row(OLD, ANNA)])
    story.registered(1)
    story.version([row(NEW, BEN)])
    story.registered(2, started_from="scans/1")
    story.registered(3, started_from="scans/2")
    story.registered(4, started_from="scratch")
    return story


def test_a_line_is_told_in_both_directions(workspace: Workspace, story: Story) -> None:
    found = ledger.read(workspace)
    told = {
        number: lineage.model(workspace, found, naming.model_version(found, "scans", str(number)))
        for number in (1, 2, 3, 4)
    }
    assert {n: one.started_from for n, one in told.items()} == {1: (), 2: (1,), 3: (2, 1), 4: ()}
    assert {n: one.descendants for n, one in told.items()} == {1: (2, 3), 2: (3,), 3: (), 4: ()}


def test_of_an_exam_those_that_started_from_a_model_of_it_are_told_apart(
    workspace: Workspace, story: Story
) -> None:
    found = ledger.read(workspace)
    [trace] = lineage.exam(workspace, found, OLD)
    assert [one.version for one in trace.models] == [1]
    assert [one.version for one in trace.inherited] == [2, 3]
    [other] = lineage.patient(workspace, found, {"scans": BEN})
    assert [one.version for one in other.models] == [2, 3, 4]
    assert other.inherited == ()
    [first] = naming.dataset_versions(workspace, found, "scans", trace.held[0].version.version)
    assert [one.version for one in lineage.dataset(workspace, found, first).inherited] == [2, 3]


def test_who_withdrew_from_an_ancestor_withdrew_from_those_that_started_from_it(
    workspace: Workspace, story: Story
) -> None:
    found = ledger.read(workspace)
    first = standing.registered(found, "scans", 1).payload["dataset_version"]
    assert traces._models(found, "scans", [first]) == ((1, 2, 3), None)
    story.withdrawn([first], [1, 2, 3])
    known = ledger.read(workspace)
    affected = dict.fromkeys([("scans", 1), ("scans", 2), ("scans", 3)], 2)
    assert withdrawn.models_affected(known) == affected
    through = {n: withdrawn.through(known, "scans", n) for n in (1, 2, 3, 4)}
    assert through == {1: None, 2: 1, 3: 1, 4: None}
    assert "2 of its dataset version's exams" in marks.of(known, "scans", 1)[marks.WITHDRAWN]
    assert "version 1, which it started" in marks.of(known, "scans", 3)[marks.WITHDRAWN]
    assert marks.of(known, "scans", 4) == {}


def test_the_gate_looks_for_leakage_in_the_whole_line(workspace: Workspace, story: Story) -> None:
    found = ledger.read(workspace)
    versions = [standing.registered(found, "scans", number) for number in (3, 1, 4)]
    assert [event.payload["version"] for event in gate._learned(found, versions)] == [3, 2, 1, 4]


def test_prov_says_that_it_was_derived_from_it(workspace: Workspace, story: Story) -> None:
    text = prov.write(prov.document(ledger.read(workspace)), "provn")
    assert "wasDerivedFrom(here:model/scans/2, here:model/scans/1, -, -, -)" in text
    assert "used(here:run/run3, here:model/scans/2, -)" in text
    assert "here:model/scans/4, here:model" not in text


def test_the_difference_of_two_versions_names_what_each_started_from(
    workspace: Workspace, story: Story
) -> None:
    found = ledger.read(workspace)
    ends = [naming.model_version(found, "scans", number) for number in ("3", "4")]
    told = dict(differences.words(differences.between(workspace, found, *ends)))
    assert told["made with"] == ["started_from: scans/2 → scratch"]


def test_a_ledger_that_was_made_to_go_in_circles_ends(workspace: Workspace) -> None:
    story = Story(workspace)
    story.version([row(OLD, ANNA)])
    story.registered(1, started_from="scans/2")
    story.registered(2, started_from="scans/1")
    found = ledger.read(workspace)
    assert descent.ancestors(found, "scans", 1) == [2, 1]
    assert descent.descendants(found, "scans", [1]) == [2]


class Trained:
    """Version 2, which started from version 1: its run's commit, and DVC's cache."""

    def __init__(self, workspace: Workspace, cache: Path) -> None:
        self.workspace, self.cache = workspace, Store("cache", cache)
        story = Story(workspace)
        story.version([row(OLD, ANNA)])
        self.network = b"the network of version 1"
        weights = self._sha256(self.network)
        first = story.registered(1, weights=weights)
        self.ancestor = Ancestor(
            "scans", 1, first.payload["dataset_version"], first.payload["package"], weights,
            ("no", "yes"), "das", "test_resnet", "none", None,
        )  # fmt: skip
        self.noted = self.said = self.ancestor
        self.story = story

    def _sha256(self, content: bytes) -> str:
        file = self.workspace.root / "bytes"
        file.write_bytes(content)
        return files.sha256(file)

    def _keep(self, content: bytes, suffix: str = "") -> str:
        file = self.workspace.root / "bytes"
        file.write_bytes(content)
        md5 = files.md5(file) + suffix
        place = self.cache.root / "files/md5" / md5[:2] / md5[2:]
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
        return md5

    def _tree(self, **contents: bytes) -> str:
        listed = [{"md5": self._keep(c), "relpath": name} for name, c in contents.items()]
        return self._keep(json.dumps(listed).encode(), ".dir")

    def look(self, **told: str) -> list[Item]:
        settings = json.dumps({"initial": initial.plain(self.noted)}).encode()
        out = {"path": "data/models/scans/das", "md5": self._tree(**{"settings.json": settings})}
        entries = {"train@scans-das": {"cmd": "train", "outs": [out]}}
        root = self.workspace.root
        (root / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": entries}))
        initial.write(self.workspace, "scans", {"das": self.said})
        name = f"{self.ancestor.weights}{initial.SUFFIX}"
        outs = [{"path": "scans", "md5": self._tree(**{name: self.network})}]
        self.workspace.networks_pointer("scans").write_text(yaml.safe_dump({"outs": outs}))
        who = ["-c", "user.name=anna", "-c", "user.email=anna@localhost"]
        for command in (["add", "dvc.lock", "data"], [*who, "commit", "--quiet", "-m", "run"]):
            subprocess.run(["git", *command], cwd=root, check=True)
        told = {"started_from": "scans/1", "run_commit": "HEAD"} | told
        version = self.story.registered(2, **told)
        found = ledger.read(self.workspace)
        return [*start_evidence.look(self.workspace, version, found, self.cache)]


@pytest.fixture
def trained(workspace: Workspace, tmp_path: Path) -> Trained:
    return Trained(workspace, tmp_path / "cache")


def test_what_a_version_started_from_is_borne_out_by_the_bytes(trained: Trained) -> None:
    found = trained.look()
    assert [item.state for item in found] == ["sound"] * 4, found
    assert found[0].detail == "scans/1"


def _denied(trained: Trained) -> str:
    trained.noted = None
    return "what the training noted"


def _another_in_the_commit(trained: Trained) -> str:
    trained.said = replace(trained.ancestor, version=7)
    return "as data/initial in the run's commit"


def _never_registered_so(trained: Trained) -> str:
    trained.noted = trained.said = replace(trained.ancestor, package=sha256("another"))
    return "as scans/1 was registered"


def _other_bytes(trained: Trained) -> str:
    trained.network = b"another network"
    return "the network of scans/1"


@pytest.mark.parametrize(
    "alter", [_denied, _another_in_the_commit, _never_registered_so, _other_bytes]
)
def test_each_claim_of_what_it_started_from_is_checked_by_itself(trained: Trained, alter) -> None:
    what = alter(trained)
    assert [item.what for item in trained.look() if item.state != "sound"] == [what]


def test_of_a_version_from_before_there_was_a_choice_nothing_is_claimed(
    trained: Trained,
) -> None:
    version = trained.story.registered(3)
    found = ledger.read(trained.workspace)
    assert [*start_evidence.look(trained.workspace, version, found, trained.cache)] == []
