"""What is registered, and a registered model's package as files."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from keyslice import files
from keyslice.config import Workspace
from keyslice.errors import UserError, without_credentials
from keyslice.registry import artifacts, champion, package, tags
from keyslice.registry.client import connect, exists
from keyslice.registry.owner import CHALLENGER, CHAMPION
from keyslice.registry.register import PACKAGE

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion, RegisteredModel


DATA = f"data/{PACKAGE}"
"""Where the package lies in what MLflow stores."""


@dataclass(frozen=True)
class Model:
    """One version of a registered model, for a listing."""

    name: str
    version: int
    aliases: tuple[str, ...]
    variant: str
    seed: int
    auc: float
    """On validation."""
    created: datetime


def models(workspace: Workspace) -> list[Model]:
    """Every version that Keyslice registered, newest first within a name.

    An MLflow may be shared with others, whose models are left out.
    """
    if not exists(workspace):
        return []
    client = connect(workspace)
    listed: list[Model] = []
    for registered in _registered(client):
        # Versions that are searched for carry no aliases.
        aliases: dict[int, list[str]] = {}
        for alias, number in client.get_registered_model(registered.name).aliases.items():
            aliases.setdefault(int(number), []).append(alias)
        found = client.search_model_versions(f"name = '{registered.name}'")
        own = [one for one in found if tags.DATASET in one.tags]
        listed += [_model(one, aliases.get(int(one.version), [])) for one in own]
    return sorted(listed, key=lambda one: (one.name, -one.version))


def in_use(workspace: Workspace, name: str) -> str:
    """The alias of the version to take where none is named: `@champion`, else `@challenger`."""
    if not exists(workspace):
        return f"@{CHALLENGER}"
    found = connect(workspace).search_registered_models(f"name = '{name}'")
    return f"@{CHAMPION}" if found and CHAMPION in found[0].aliases else f"@{CHALLENGER}"


def download(workspace: Workspace, name: str, version: str | None = None) -> Path:
    """The folder of a registered model's package, all of it checked against its hash.

    Args:
        workspace: whose registry is asked.
        name: of the registered model: the dataset's.
        version: a number, or an alias with or without its @; default: `in_use`.

    Raises:
        UserError: no such model or version, or not one of Keyslice's; or its package is not where
            it was stored, or is not what was registered; or `@champion` is not where the ledger
            says.
    """
    version = version or in_use(workspace, name)
    if not exists(workspace):
        raise _unknown(name, version)
    client = connect(workspace)
    found = resolved(client, name, version.removeprefix("@"))
    if version.removeprefix("@") == CHAMPION:
        champion.check_followed(workspace, client, name)
    if tags.PACKAGE not in found.tags:
        raise UserError(
            "is not one that Keyslice registered",
            where=f"model {name} version {found.version}",
            rule="only its packages are loaded: numbers and JSON, checked by their hash",
            remedy="keyslice status shows which there are",
        )
    folder = _stored(client, workspace, found, found.tags[tags.PACKAGE])
    if package.digest(folder) != found.tags[tags.PACKAGE]:
        raise UserError(
            "the stored package is not the one that was registered",
            where=f"model {name} version {found.version}",
            rule="its sha256 must be the one in the registry",
            remedy="restore the artifacts from a backup",
        )
    package.check(folder)
    return folder


def _registered(client: "MlflowClient") -> "Iterator[RegisteredModel]":
    """All of them: MLflow gives them in pages."""
    page = client.search_registered_models()
    yield from page
    while page.token:
        page = client.search_registered_models(page_token=page.token)
        yield from page


def _stored(
    client: "MlflowClient", workspace: Workspace, version: "ModelVersion", sha256: str
) -> Path:
    """The folder of a version's package; a server's is fetched into state/packages, once."""
    fetched = workspace.state / "packages" / sha256
    if artifacts.is_local(_uri(client, version)):
        return fetch(client, workspace, version, fetched, DATA)
    if package.digest(fetched / PACKAGE) != sha256:
        with files.folder_beside(fetched) as part:
            fetch(client, workspace, version, part, DATA)
    return fetched / PACKAGE


def fetch(
    client: "MlflowClient",
    workspace: Workspace,
    version: "ModelVersion",
    target: Path,
    below: str = "",
) -> Path:
    """What MLflow stores of a version, or the folder `below` it: fetched into `target`.

    What lies in this file system is not copied: then the folder where it lies is returned.

    Raises:
        UserError: it is not where it was stored.
    """
    uri = f"{_uri(client, version)}/{below}".rstrip("/")
    found = artifacts.fetch(workspace, uri, target)
    if found is None:
        raise UserError(
            f"its package is not at {without_credentials(uri)}",
            where=f"model {version.name} version {version.version}",
            rule="MLflow notes the full path of what it stores",
            remedy="move the workspace back to where the model was registered, or restore the "
            "artifacts there",
        )
    return found


def _uri(client: "MlflowClient", version: "ModelVersion") -> str:
    return client.get_model_version_download_uri(version.name, version.version).rstrip("/")


def resolved(client: "MlflowClient", name: str, version: str) -> "ModelVersion":
    """A version by its number, or by an alias without its @.

    Raises:
        UserError: there is none.
    """
    from mlflow.exceptions import MlflowException

    try:
        if version.isdecimal():
            return client.get_model_version(name, version)
        return client.get_model_version_by_alias(name, version)
    except MlflowException:
        raise _unknown(name, version) from None


def _unknown(name: str, version: str) -> UserError:
    return UserError(
        f"no model {name!r} with version or alias {version!r} is registered",
        rule="a model is registered at the end of a retraining",
        remedy=f"keyslice retrain {name}, or see keyslice status",
    )


def _model(version: "ModelVersion", aliases: list[str]) -> Model:
    return Model(
        name=version.name,
        version=int(version.version),
        aliases=tuple(sorted(aliases)),
        variant=version.tags.get(tags.VARIANT, ""),
        seed=int(version.tags.get(tags.SEED, 0)),
        auc=float(version.tags.get(tags.VALIDATION_AUC, "nan")),
        created=datetime.fromtimestamp(version.creation_timestamp / 1000, UTC),
    )
