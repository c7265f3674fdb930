"""What dvc.yaml's stages run over: datasets that are here and in params.yaml, and variants."""

import yaml

from keyslice import files, initial
from keyslice.config import Params, Workspace
from keyslice.exams.lock import locked


def bring_in_line(workspace: Workspace, params: Params) -> tuple[str, ...]:
    """Write data/datasets.yaml where it is not right; returns the names in it.

    The list follows from what there is: params.yaml names the dataset, and its manifest is here or
    git holds a version of it. So a dataset taken out of params.yaml leaves the list and returns
    with its name, and a list that is lost or damaged is restored.

    Of each, data/initial/DATASET.json gets an entry for every variant that has none.

    Raises:
        UserError: such a file is damaged.
    """
    with locked(workspace, "datasets", "listing the datasets"):
        names = sorted(
            name
            for name in params.datasets
            if workspace.manifest(name).is_file() or workspace.pointer(name).is_file()
        )
        path = workspace.ingested
        content = yaml.safe_dump({"ingested": names})
        if not path.is_file() or path.read_bytes() != content.encode():
            files.write_text(path, content)
        for name in names:
            initial.bring_in_line(workspace, name, params.variants)
    return tuple(names)
