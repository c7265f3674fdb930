"""Whose a registered model is: installations that share an MLflow may have datasets of one name."""

from typing import TYPE_CHECKING

from keyslice.errors import UserError
from keyslice.registry import tags

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

CHALLENGER, CHAMPION = "challenger", "champion"
"""Aliases: the candidate of the last retraining, and the version in use."""


def is_own(version: "ModelVersion", installation: str) -> bool:
    """Whether this installation registered it; one that nobody signed is nobody else's."""
    return version.tags.get(tags.INSTALLATION, installation) == installation


def refuse_anothers(client: "MlflowClient", dataset: str, installation: str) -> None:
    """The alias of the dataset's model must not be taken from another installation.

    Raises:
        UserError: it is on a version that another installation registered.
    """
    found = client.search_registered_models(f"name = '{dataset}'")
    number = found[0].aliases.get(CHALLENGER) if found else None
    if number and not is_own(client.get_model_version(dataset, str(number)), installation):
        raise UserError(
            f"@{CHALLENGER} is version {number}, which another installation registered",
            where=f"model {dataset}",
            rule="installations that share an MLflow give their datasets names of their own",
            remedy="rename the dataset in params.yaml; if that installation is this one, restore "
            "state/installation from its backup",
        )
