"""`make chaos`: a workspace that was retrained is archived, deleted and restored by the runbook."""

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import runbook
from tests.services.world import World, run

pytestmark = [
    pytest.mark.skipif("KEYSLICE_CHAOS" not in os.environ, reason="takes minutes: make chaos"),
    pytest.mark.timeout(1800),
]


@pytest.mark.parametrize("commit", [False, True])
def test_a_restored_model_is_verified_from_its_bytes(
    clone: Callable[..., Path], tmp_path: Path, commit: bool
) -> None:
    world = World(tmp_path / "workspace", "retrain")
    versioning = {"commit": commit, "push": ["far"]}
    world.make(clone({}), {"url": str(tmp_path / "far")}, {"versioning": versioning})
    default = (sys.executable, "-m", "dvc", "remote", "default", "far")
    run(world.root, *default)
    before, verified = world.files(), world.keyslice("verify", "scans")

    machine = runbook.Machine(tmp_path / "machine", world.root)
    machine.program("keyslice", f'exec {sys.executable} -P -m keyslice.cli "$@"')
    machine.program("dvc", f'exec {sys.executable} -m dvc "$@"')
    machine.program("make", ":")
    backup, restore = runbook.blocks("Backup and restore")
    machine.succeeds(backup)
    shutil.rmtree(world.root)
    world.root.mkdir()
    machine.succeeds(restore.replace("liver", "scans"))

    assert world.files() == before
    assert world.keyslice("verify", "scans") == verified
    assert json.loads(world.keyslice("ledger", "verify", "--json"))["intact"]
