"""The Dask cluster that a retraining is sent to: whether it can do the work as the flow would.

Dask's own messages are pickled, both ways: whoever reaches the scheduler can run code on each
machine of the cluster. Nothing in Keyslice can change that; see docs/operations.md.
"""

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import httpx
from distributed import Client
from prefect.settings import PREFECT_API_URL

from keyslice.config import Params, Workspace
from keyslice.errors import UserError, without_credentials
from keyslice.versioning import elsewhere

LIBRARIES = (
    *("keyslice", "prefect", "prefect-dask", "dask", "distributed", "cloudpickle", "dvc"),
    *("torch", "torchvision", "timm", "lightning", "numpy", "pandas", "pyarrow", "scikit-learn"),
)
"""What must be the same wherever a retraining runs, for its results to be the same, or for Dask to
understand itself (cloudpickle); only their versions are read here."""
CONNECT_SECONDS = 10.0


@dataclass(frozen=True)
class Software:
    """What a process runs."""

    python: str
    """Release, without its last number."""
    libraries: dict[str, str]
    """Version of each of LIBRARIES; empty: not installed."""

    def differences(self, other: "Software") -> list[str]:
        """`torch 2.14.0, not 2.15.0` for each that is not `other`'s."""
        here, there = ({"python": one.python} | one.libraries for one in (self, other))
        return [f"{n} {here[n] or 'missing'}, not {there[n]}" for n in here if here[n] != there[n]]


def software() -> Software:
    """Of this process."""

    def installed(name: str) -> str:
        try:
            return version(name)
        except PackageNotFoundError:
            return ""

    python = ".".join(platform.python_version_tuple()[:2])
    return Software(python, {name: installed(name) for name in LIBRARIES})


def check(workspace: Workspace, params: Params) -> None:
    """Whether the cluster can do the work, asked before any is begun.

    Raises:
        UserError: the scheduler does not answer or has no worker; a worker has other software or
            does not reach Prefect's server; the remote is unfit.
    """
    elsewhere.check(workspace, params.run.remote or "")
    address, api = params.run.scheduler or "", PREFECT_API_URL.value()
    with connected(address) as client:
        found: Any = client.run(_look_around, api, on_error="return")
    if not found:
        raise UserError(
            "the scheduler has no worker",
            where=f"run.scheduler: {address}",
            remedy=f"dask worker {address} --nthreads 1, on each machine",
        )
    for worker, answer in found.items():
        if isinstance(answer, BaseException):
            raise UserError(
                f"the worker {worker} cannot work for Keyslice: {without_credentials(str(answer))}",
                rule="each worker has Keyslice installed",
                remedy="install it from the same requirements.lock",
            )
        if other := answer[0].differences(software()):
            raise UserError(
                f"the worker {worker} has {', '.join(other)}",
                rule="workers have the flow's own software, or results would differ",
                remedy="install it from the same requirements.lock",
            )
        if answer[1]:
            raise UserError(
                f"the worker {worker} does not reach Prefect's server at "
                f"{without_credentials(api)}: {answer[1]}",
                where="PREFECT_API_URL",
                remedy="an address that the workers reach (service.host opens the server wider)",
            )


@contextmanager
def connected(address: str) -> Iterator[Client]:
    """A connection to the scheduler at an address.

    Raises:
        UserError: none answers there.
    """
    try:
        client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, TimeoutError) as error:
        raise UserError(
            f"no Dask scheduler answers ({type(error).__name__})",
            where=f"run.scheduler: {address}",
            remedy="start it (dask scheduler), or set run.engine to threads",
        ) from None
    with client:
        yield client


def _look_around(api: str) -> tuple[Software, str]:
    """On a worker: its software, and why Prefect's server cannot be reached (empty: it can)."""
    try:
        httpx.get(f"{api}/health", timeout=CONNECT_SECONDS)
    except httpx.HTTPError as error:
        return software(), type(error).__name__
    return software(), ""
