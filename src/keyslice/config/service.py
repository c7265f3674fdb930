"""Sections of params.yaml that no stage depends on: when retrainings happen, and who is told.

They hold for all datasets; `retrain.datasets.NAME` overrides the rest of `retrain` for one. (Under
`datasets.NAME` they would be part of what DVC trains from.)
"""

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self
from zoneinfo import available_timezones

from cronsim import CronSim, CronSimError
from pydantic import Field, field_validator, model_validator

from keyslice.config.base import Positive, Settings

_ANY_TIME = datetime(2026, 1, 1, tzinfo=UTC)
Port = Annotated[int, Field(strict=True, ge=1, le=65535)]
Minutes = Annotated[float, Field(strict=True, ge=0.1, le=366 * 24 * 60)]
"""From one run to the next: six seconds to a year."""
Seconds = Annotated[float, Field(strict=True, ge=0.1, le=24 * 60 * 60)]
"""From one look to the next: a day at most."""
Hours = Annotated[float, Field(strict=True, gt=0, le=366 * 24)]
"""A time limit: a year at most."""


class Schedule(Settings):
    """Times at which a retraining is asked for: `cron`, or every so many minutes."""

    cron: str | None = None
    """Minute, hour, day of month, month, day of week: `0 2 * * *` is each night at two."""
    every_minutes: Minutes | None = None
    timezone: str = "UTC"
    """Of `cron`, as in `Europe/Berlin`; it follows summer time."""

    @field_validator("cron")
    @classmethod
    def _five_fields(cls, cron: str | None) -> str | None:
        if cron is None:
            return None
        if len(cron.split()) != 5:
            raise ValueError("must have five fields, such as `0 2 * * *` for each night at two")
        if re.search(r"\dL|LW|\dW", cron.upper()):
            raise ValueError("has an L or W that Prefect does not know; L alone is the last day")
        try:
            CronSim(cron, _ANY_TIME)
        except CronSimError as error:
            raise ValueError(f"is no time ({error}); `0 2 * * *` is each night at two") from None
        return cron

    @field_validator("timezone")
    @classmethod
    def _known(cls, timezone: str) -> str:
        if timezone not in available_timezones():
            raise ValueError("unknown time zone; they are named as in `Europe/Berlin`, or `UTC`")
        return timezone

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.cron is None) == (self.every_minutes is None):
            raise ValueError("must have either cron or every_minutes")
        return self


class RetrainOfOne(Settings):
    """When `keyslice serve` retrains a dataset."""

    schedule: Schedule | None = None
    """Null: at no set time."""
    watch: bool = True
    """Retrain when complete new exams lie in the inbox. Folders are watched, no other source."""
    minimum_new_exams: Positive = 1
    """Fewer do not start a retraining, neither on arrival nor on schedule."""
    quiet_minutes: Annotated[float, Field(strict=True, ge=0, le=7 * 24 * 60)] = 10.0
    """That nothing in the inbox has changed for, before an arrival counts as complete."""
    attempts: Positive = 3
    """At a retraining that was cut off, before it waits for the next schedule or arrival."""


class Retrain(RetrainOfOne):
    """The same for all datasets, with overrides by the dataset's name."""

    watch_seconds: Seconds = 60.0
    """From one look at the inboxes to the next; runs that are due are asked for at least as often,
    and each half minute."""
    stage_hours: Hours = 48.0
    """What has not ended by then is ended, and has failed: the question whether there is anything
    to do, an ingestion, a stage, an attempt at a push."""
    datasets: dict[str, dict[str, Any]] = {}

    @field_validator("datasets")
    @classmethod
    def _overrides(cls, datasets: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for name, values in datasets.items():
            if unknown := sorted(set(values) - set(RetrainOfOne.model_fields)):
                known = ", ".join(RetrainOfOne.model_fields)
                raise ValueError(f"{name}: unknown key {unknown[0]!r}; known: {known}")
        return datasets


class Service(Settings):
    """Where `keyslice up` opens its servers, and how much runs at once."""

    host: str = "127.0.0.1"
    """Another one opens them to the network, which demands KEYSLICE_AUTH_FILE."""
    prefect_port: Port = 4200
    mlflow_port: Port = 5000
    retrainings: Positive = 1
    """Datasets that `keyslice serve` retrains side by side."""

    @field_validator("host")
    @classmethod
    def _no_port(cls, host: str) -> str:
        if not re.fullmatch(r"[\w.-]+", host):
            raise ValueError("must be a name or an IPv4 address alone, such as `127.0.0.1`")
        return host


class Run(Settings):
    """Where variants are trained and evaluated: in processes of this machine, or on a cluster."""

    engine: Literal["threads", "dask"] = "threads"
    scheduler: str | None = None
    """Of the Dask cluster, as `tcp://HOST:8786` or `tls://HOST:8786`."""
    remote: str | None = None
    """Name of DVC's remote through which frames and models travel to and from Dask's workers."""

    @field_validator("scheduler")
    @classmethod
    def _address(cls, scheduler: str | None) -> str | None:
        if scheduler is not None and not re.fullmatch(r"(tcp|tls)://[^/\s@]+:\d+", scheduler):
            raise ValueError("must be an address of Dask's, such as `tcp://cluster.hospital:8786`")
        return scheduler

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.engine == "dask" and (self.scheduler is None or self.remote is None):
            lacks = "scheduler" if self.scheduler is None else "remote"
            raise ValueError(f"engine dask needs `{lacks}`, too")
        return self


class Versioning(Settings):
    """What becomes of a retraining's changes in git and DVC."""

    commit: bool = False
    """One git commit on the current branch after each retraining that changed something: pointers,
    dvc.lock, the list of datasets. What a person has staged or edited stays as it is."""
    push: tuple[str, ...] = ()
    """Names of DVC's remotes that exams, models and results are pushed to after a retraining."""


Occasion = Literal["candidate", "gate", "approval", "failure"]


class Notify(Settings):
    """Who hears of a retraining, besides the pages of Prefect and MLflow.

    The address of a webhook is a secret: KEYSLICE_WEBHOOK has it.
    """

    occasions: tuple[Occasion, ...] = ("candidate", "gate", "approval", "failure")
    """A new version; how the gate went; that a person has to decide; that something failed."""
    blocks: tuple[str, ...] = ()
    """Prefect's notification blocks, as `slack-webhook/hospital`."""
