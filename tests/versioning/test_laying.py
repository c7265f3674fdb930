"""What trainings start from is laid down step by step, and a kill costs none of it."""

import hashlib
import os
import sys
from pathlib import Path

import pytest

from keyslice import files, initial, versioning
from keyslice.config import Workspace, load
from keyslice.errors import UserError
from keyslice.initial import Ancestor
from keyslice.versioning import dvc
from tests import killing

TEXTS = ("of liver/3", "of liver/4")
OLD, NEW = (hashlib.sha256(text.encode()).hexdigest() for text in TEXTS)
STEPS = {"open", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "shutil.copyfile"}
"""The interpreter's own names of what may change a folder."""


def ancestor(version: int, weights: str) -> Ancestor:
    return Ancestor(
        model="liver",
        version=version,
        dataset_version="abc.dir",
        package="0" * 64,
        weights=weights,
        classes=("no", "yes"),
        sampler="das",
        backbone="test_resnet",
        backbone_weights="none",
        backbone_sha256=None,
    )


THIRD, FOURTH = ancestor(3, OLD), ancestor(4, NEW)
BEFORE = {"das": THIRD, "full": THIRD}
AFTER = {
    "one goes on from the old": {"das": FOURTH, "full": THIRD},
    "the old is not needed": {"das": FOURTH, "full": None},
    "none is needed": {"das": None, "full": None},
}


@pytest.fixture
def given(tmp_path: Path) -> dict[str, Path]:
    """The networks as they come from MLflow."""
    found = {}
    for text, weights in zip(TEXTS, (OLD, NEW), strict=True):
        found[weights] = tmp_path / f"{weights}.downloaded"
        found[weights].write_text(text)
    return found


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """In DVC's place: the pointer names what lies in the folder."""

    def add(workspace: Workspace, folder: Path) -> None:
        names = sorted(path.name for path in folder.iterdir())
        files.write_text(workspace.networks_pointer(folder.name), "\n".join(names))

    monkeypatch.setattr(dvc, "_add", add)


def state(workspace: Workspace) -> object:
    """All but what a kill may leave: files that were not finished, beside data/initial/tiny."""
    root = workspace.data / "initial"
    found = (path for path in root.rglob("*") if path.parent != root or path.name[0] != ".")
    return {path.relative_to(root): path.is_file() and path.read_bytes() for path in found}


def sound(workspace: Workspace) -> None:
    """A network that is named is here, whole, and in DVC's pointer."""
    pointer = workspace.networks_pointer("tiny")
    for one in filter(None, initial.read(workspace, "tiny").values()):
        network = initial.network(workspace, "tiny", one.weights)
        assert files.sha256(network) == one.weights
        assert network.name in pointer.read_text()


def killed(workspace: Workspace, entries: initial.Entries, given: dict, at: int) -> bool:
    """Lay in a process that is killed by -9 before its step `at`; whether it came to that."""
    number = 0

    def fatal(event: str, args: tuple) -> None:
        nonlocal number
        reads = event == "open" and not (args[2] or 0) & (os.O_WRONLY | os.O_RDWR)
        if event in STEPS and not reads and "initial" in f"{args[0]} {args[1]}":
            number += 1
            if number == at:
                killing.die()

    def lay() -> None:
        sys.addaudithook(fatal)
        versioning.lay(workspace, "tiny", entries, given)

    return killing.killed(lay)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("case", AFTER)
def test_a_kill_at_any_step_costs_no_network_and_the_next_call_completes_it(
    workspace: Workspace, given: dict[str, Path], case: str
) -> None:
    wanted = AFTER[case]
    versioning.lay(workspace, "tiny", BEFORE, {OLD: given.pop(OLD)})
    versioning.lay(workspace, "tiny", wanted, given)
    done = state(workspace)
    number = 1
    while True:
        versioning.lay(workspace, "tiny", dict.fromkeys(BEFORE), {})
        versioning.lay(workspace, "tiny", BEFORE, {OLD: given[NEW].with_name(f"{OLD}.downloaded")})
        if not killed(workspace, wanted, given, number):
            break
        sound(workspace)
        versioning.lay(workspace, "tiny", wanted, given)
        assert state(workspace) == done
        number += 1
    assert number > 5
    assert state(workspace) == done


@pytest.mark.usefixtures("quick")
def test_until_all_is_laid_down_it_is_asked_for_again(
    workspace: Workspace, given: dict[str, Path]
) -> None:
    """A kill while the last network goes: its entry has gone before it."""
    versioning.lay(workspace, "tiny", BEFORE, given)
    initial.write(workspace, "tiny", dict.fromkeys(BEFORE))
    assert initial.concerns(workspace, load(workspace.params), "tiny")
    versioning.lay(workspace, "tiny", dict.fromkeys(BEFORE), {})
    assert not initial.concerns(workspace, load(workspace.params), "tiny")


@pytest.mark.usefixtures("quick")
def test_an_altered_network_is_refused_and_a_given_one_takes_its_place(
    workspace: Workspace, given: dict[str, Path]
) -> None:
    versioning.lay(workspace, "tiny", BEFORE, given)
    network = initial.network(workspace, "tiny", OLD)
    network.write_text("altered")
    with pytest.raises(UserError, match=r"dvc pull data/initial/tiny\.dvc"):
        versioning.lay(workspace, "tiny", BEFORE, {})
    versioning.lay(workspace, "tiny", BEFORE, given)
    assert files.sha256(network) == OLD


@pytest.mark.forked_dvc
def test_dvc_holds_the_networks_that_are_named_and_no_other(
    workspace: Workspace, given: dict[str, Path]
) -> None:
    versioning.lay(workspace, "tiny", BEFORE, given)
    versioning.lay(workspace, "tiny", AFTER["the old is not needed"], given)
    assert [path.stem for path in workspace.networks("tiny").iterdir()] == [NEW]
    alone = (workspace.networks_pointer("tiny")).read_bytes()
    assert b"nfiles: 1" in alone
    versioning.lay(workspace, "tiny", AFTER["the old is not needed"], {})
    assert workspace.networks_pointer("tiny").read_bytes() == alone
