"""Where everything lies. The repository is the workspace; its root holds params.yaml."""

from dataclasses import dataclass
from pathlib import Path

from keyslice.errors import UserError


@dataclass(frozen=True)
class Workspace:
    """Paths below one workspace's root; nothing is created by asking for a path."""

    root: Path

    @classmethod
    def find(cls, start: Path | None = None) -> "Workspace":
        """The workspace that `start` (default: the current folder) lies in.

        Raises:
            UserError: no params.yaml in the folder or above it.
        """
        start = (start or Path.cwd()).resolve()
        for folder in (start, *start.parents):
            if (folder / "params.yaml").is_file():
                return cls(folder)
        raise UserError(
            "no params.yaml here or above",
            where=str(start),
            rule="commands run inside a workspace",
            remedy="cd into a clone of the repository",
        )

    @property
    def params(self) -> Path:
        return self.root / "params.yaml"

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def state(self) -> Path:
        """This installation's own: database, artifacts, checkpoints. Never in git or DVC."""
        return self.root / "state"

    @property
    def ingested(self) -> Path:
        """The tracked list of datasets that have been ingested; dvc.yaml's matrix runs over it."""
        return self.data / "datasets.yaml"

    def inbox(self, dataset: str) -> Path:
        return self.data / "inbox" / dataset

    def quarantine(self, dataset: str) -> Path:
        """The list of refused files with reasons; the only place with original names."""
        return self.data / "quarantine" / f"{dataset}.csv"

    def exams(self, dataset: str) -> Path:
        return self.data / "exams" / dataset

    def manifest(self, dataset: str) -> Path:
        return self.exams(dataset) / "manifest.parquet"

    def pointer(self, dataset: str) -> Path:
        """DVC's pointer: its md5 is the dataset's version."""
        return self.data / "exams" / f"{dataset}.dvc"

    def initial(self, dataset: str) -> Path:
        """Says what each variant's next training starts from; git holds it."""
        return self.data / "initial" / f"{dataset}.json"

    def networks(self, dataset: str) -> Path:
        """Holds the networks that it names; there is no such folder where it names none."""
        return self.data / "initial" / dataset

    def networks_pointer(self, dataset: str) -> Path:
        """DVC's, of `networks`."""
        return self.data / "initial" / f"{dataset}.dvc"

    def manifests(self, dataset: str) -> Path:
        """Holds the manifest of every version recorded here, also of those whose exams are gone."""
        return self.state / "manifests" / dataset

    def kept_manifest(self, dataset: str, version: str) -> Path:
        return self.manifests(dataset) / f"{version}.parquet"

    def prepared(self, dataset: str) -> Path:
        return self.data / "prepared" / dataset

    def models(self, dataset: str, variant: str) -> Path:
        return self.data / "models" / dataset / variant

    def results(self, dataset: str, variant: str) -> Path:
        return self.data / "results" / dataset / variant

    def comparison(self, dataset: str) -> Path:
        return self.data / "comparisons" / dataset

    def timings(self, dataset: str, variant: str) -> Path:
        """Wall times, which differ from run to run, and therefore lie outside DVC's outputs."""
        return self.state / "timings" / dataset / f"{variant}.json"

    def sweep(self, dataset: str, variant: str) -> Path:
        """Holds a folder for each seed: what ways of looking more than once gave."""
        return self.state / "sweeps" / dataset / variant

    def checkpoints(self, dataset: str, variant: str) -> Path:
        """Holds a folder for each hash of a training's inputs."""
        return self.state / "checkpoints" / dataset / variant

    def states(self, dataset: str, variant: str) -> Path:
        """What a network's states show of exams, while stage evaluate learns from it."""
        return self.state / "states" / dataset / variant

    def lock(self, name: str) -> Path:
        return self.state / "locks" / f"{name}.lock"
