"""What an audit is about: a registered version, with what is known of it here."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

import pandas as pd

from keyslice.config import StageSettings, Workspace
from keyslice.errors import UserError
from keyslice.exams import manifest
from keyslice.provenance import events, ledger, standing
from keyslice.provenance.ledger import Event
from keyslice.registry import chronicle, models, package


@dataclass(frozen=True)
class Subject:
    """A version, by the event of its registration, and all events."""

    workspace: Workspace
    events: Sequence[Event]
    registered: Event

    @property
    def told(self) -> Mapping[str, Any]:
        """What the ledger says of the version."""
        return self.registered.payload

    @property
    def model(self) -> str:
        return self.told["model"]

    @property
    def version(self) -> int:
        return self.told["version"]

    @property
    def own(self) -> list[Event]:
        """The events about this version, in their order."""
        about = standing.of_model(self.events, self.model)
        return [event for event in about if event.payload.get("version") == self.version]

    @cached_property
    def settings(self) -> StageSettings:
        """That it was trained and evaluated with."""
        return StageSettings.model_validate(self.told["settings"])

    @cached_property
    def package(self) -> dict[str, Any] | None:
        """package.json; None: it is not where it was stored, or not what was registered."""
        try:
            folder = models.download(self.workspace, self.model, str(self.version))
        except UserError:
            return None
        return json.loads((folder / package.DESCRIPTION).read_text(encoding="utf-8"))

    @cached_property
    def manifest(self) -> pd.DataFrame | None:
        """Of its dataset version, without who has withdrawn; None: it is not kept, or damaged."""
        path = self.workspace.kept_manifest(self.model, self.told["dataset_version"])
        try:
            return manifest.read(path) if path.is_file() else None
        except UserError:
            return None

    def is_here(self, stage: str) -> bool:
        """Whether the workspace's results of a stage are this version's."""
        return chronicle.is_here(self.workspace, self.registered, stage)


def subject(workspace: Workspace, model: str, version: int) -> Subject:
    """Of a version that the ledger tells of.

    Raises:
        UserError: it tells of none such, or cannot be read.
    """
    found = ledger.read(workspace)
    registered = standing.registered(found, model, version)
    if registered is None:
        raise UserError(
            f"the ledger knows no {events.named(model, version)}",
            rule="an audit is of a version that was registered",
            remedy="keyslice status shows which there are",
        )
    return Subject(workspace, found, registered)


def when(moment: datetime) -> str:
    """2026-05-01T09:30:00Z."""
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"
