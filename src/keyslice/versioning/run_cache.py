"""Which stages DVC would restore, asked before it touches them.

DVC removes a stage's old results before it looks into its run cache, and runs the stage where that
has none.
"""

import json
import sys
from collections.abc import Sequence

from keyslice.config import Workspace
from keyslice.versioning import processes
from keyslice.versioning.dvc import DVCError

# What DVC does to reproduce a stage (`Stage.changed`, `StageCache.restore`), up to its results.
_SCRIPT = """
import json, sys
from dvc.repo import Repo, lock_repo
from dvc.stage.serialize import to_single_stage_lockfile

def known(stage):
    if not stage.changed():
        return True
    runs = stage.repo.stage_cache
    hashed = all(out.hash_info for out in stage.outs)
    if hashed and not stage.changed_stage() and stage.deps_cached():
        entry = to_single_stage_lockfile(stage)
    else:
        stage.save_deps()
        entry = runs._load(stage)
    return bool(entry) and runs._create_stage(entry, wdir=stage.wdir).outs_cached()

repo = Repo(".", _wait_for_lock=True)
with lock_repo(repo):
    found = [name for name in json.loads(sys.argv[1]) if known(*repo.stage.collect(name))]
print("known: " + json.dumps(found))
"""


def known(workspace: Workspace, stages: Sequence[str]) -> list[str]:
    """Those of the stages that DVC has results of, with the inputs and settings of now.

    Nothing is changed. The inputs must be here.

    Raises:
        DVCError: DVC cannot say.
    """
    if not stages:
        return []
    command = (sys.executable, "-c", _SCRIPT, json.dumps(list(stages)))
    finished = processes.ask(command, cwd=workspace.root)
    said = [line for line in finished.lines if line.strip()]
    if finished.code != 0:
        raise DVCError(f"what DVC has of {stages[0]}: {said[-1] if said else finished.code}")
    return json.loads(said[-1].removeprefix("known: "))
