"""Which manifest results come from: the one that was prepared, not the one that is there now."""

import json

from keyslice.config import Workspace


def prepared_manifest(workspace: Workspace, dataset: str) -> str:
    """sha256 of the manifest whose exams stage prepare has read, as it noted it."""
    store = workspace.prepared(dataset) / "store.json"
    return json.loads(store.read_text(encoding="utf-8"))["manifest_sha256"]
