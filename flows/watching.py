"""What `keyslice serve` looks at: inboxes, schedules, runs that were cut off, and params.yaml."""

import json
import sys
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from uuid import UUID

import anyio
from prefect.client.orchestration import PrefectClient
from prefect.events import emit_event
from prefect.runner import Runner

from flows import attempts, notify
from flows.deployments import ARRIVED, deploy, resource_of, served
from flows.open_runs import OpenRuns
from flows.watch import Order, Watch
from keyslice import versioning
from keyslice.config import FolderDataset, Params, Workspace, load
from keyslice.errors import RunError, UserError, without_credentials
from keyslice.exams.pseudonym import secret_key

COUNT_SECONDS = 3600.0
"""That new exams are counted for, at most; what opens them is ended then."""

Tell = Callable[[str], None]


class Watching:
    """Watches over all datasets, and over params.yaml.

    Args:
        workspace: that is served.
        params: its settings, as `text` has them.
        text: of params.yaml.
        ids: deployments by dataset.
        runner: that has them.
        client: of the server that keeps them.
        tell: shows a line.
    """

    def __init__(
        self,
        workspace: Workspace,
        params: Params,
        text: bytes,
        ids: Mapping[str, UUID],
        runner: Runner,
        client: PrefectClient,
        tell: Tell,
    ) -> None:
        self._workspace, self._runner, self._client, self._tell = workspace, runner, client, tell
        self._text, self._broken = text, False
        self._open = OpenRuns(workspace, client)
        self._said: dict[str, str] = {}
        self._seen: dict[str, str] = {}
        self._take_up(params, ids)

    def _take_up(self, params: Params, ids: Mapping[str, UUID]) -> None:
        watches = {
            name: Watch(
                self._workspace,
                name,
                dataset if isinstance(dataset, FolderDataset) else None,
                params.retrain_settings(name),
                partial(_count, self._workspace),
            )
            for name, dataset in params.datasets.items()
        }
        for name in params.datasets:
            self._seen.setdefault(name, _words(self._workspace, name))
        self._params, self._ids, self._watches = params, ids, watches  # all, or none on a full disk
        secret = [
            name
            for name, dataset in params.datasets.items()
            if isinstance(dataset, FolderDataset) and dataset.identifiers == "secret"
        ]
        if secret:
            try:  # before the first exam arrives: nobody may look then
                secret_key(self._workspace)
            except UserError as error:
                self._tell(f"{error}; until then no exams of {', '.join(secret)} are taken in")

    @property
    def seconds(self) -> float:
        """From one look to the next."""
        return self._params.retrain.watch_seconds

    async def go_on(self) -> None:
        """Look again and again, until cancelled; each dataset has a task of its own.

        The share that one lies on may hang, and the others' do not.
        """
        while True:
            async with anyio.create_task_group() as looks:
                for name, watch in self._watches.items():
                    looks.start_soon(self._look_again, name, watch)
                watches = self._watches
                while self._watches is watches:
                    await anyio.sleep(self.seconds)
                    await self._guarded(self._workspace.params.name, self._follow)
                looks.cancel_scope.cancel()

    async def _look_again(self, name: str, watch: Watch) -> None:
        while True:
            await self._guarded(name, partial(self._look, name, watch))
            await anyio.sleep(self.seconds)

    async def _guarded(self, about: str, look: Callable[[], Awaitable[None]]) -> None:
        """Whatever is in a look's way is told once, and looked past."""
        try:
            await look()
            self._said.pop(about, None)
        except Exception as error:
            told = without_credentials(str(error)) or type(error).__name__
            if self._said.get(about) != told:  # not each minute
                self._tell(f"{about}: {told}")
            self._said[about] = told

    async def _follow(self) -> None:
        """Take up what params.yaml says now; while it breaks a rule, nothing is ordered."""
        text = self._workspace.params.read_bytes()
        if text == self._text:
            return
        try:
            params = load(self._workspace.params)
            ids = await deploy(self._runner, self._workspace, params, self._client)
        except UserError as error:
            self._text, self._broken = text, True
            then = "nothing is resumed or started on arrival, and what a schedule starts fails"
            self._tell(f"{error}; until it is mended, {then}")
            return
        late = " (service: at the next start)" if params.service != self._params.service else ""
        self._take_up(params, ids)
        self._text, self._broken = text, False
        told = await anyio.to_thread.run_sync(served, params, datetime.now(UTC))
        self._tell(f"params.yaml has changed{late}; serving {told}")

    async def _look(self, name: str, watch: Watch) -> None:
        if (words := _words(self._workspace, name)) != self._seen[name]:
            self._tell(f"{name}: {words}")
            self._seen[name] = words
        if self._broken:
            return
        order = await anyio.to_thread.run_sync(watch.look, abandon_on_cancel=True)
        if order is None:
            return
        kind, why = order
        if kind == "given up":
            self._tell(f"{name}: {why}")
            await anyio.to_thread.run_sync(self._give_up, name, why)
        elif not await self._open.any(name, self._ids[name]):
            await _give(self._workspace, self._client, name, self._ids[name], order, watch.lost)
            watch.given(order)
            self._tell(f"{name}: {why}")

    def _give_up(self, name: str, why: str) -> None:
        last = attempts.last(self._workspace, name)
        assert last is not None
        notify.send(self._workspace, self._params.notify, notify.Happening("failure", why, name))
        if attempts.last(self._workspace, name) == last:  # else a run has begun meanwhile
            attempts.end(self._workspace, name, last, "given up")


def _words(workspace: Workspace, dataset: str) -> str:
    last = attempts.last(workspace, dataset)
    return "" if last is None else last.words


def _count(workspace: Workspace, dataset: str) -> set[str]:
    """Asked in a process of its own: a damaged header ends that one, and memory is given back."""
    lines: list[str] = []
    command = (sys.executable, "-P", "-m", "keyslice.cli", "inbox", dataset, "--json")
    ended = versioning.run(command, cwd=workspace.root, on_line=lines.append, limit=COUNT_SECONDS)
    if ended.code != 0:
        last = lines[-1] if lines else f"exit code {ended.code}"
        told = last.removeprefix("error: ").removeprefix(f"{dataset}: ")
        raise (UserError if ended.code == 2 else RunError)(told)
    start = next(i for i, line in enumerate(lines) if line.startswith("{"))  # warnings go around
    told, _ = json.JSONDecoder().raw_decode("\n".join(lines[start:]))
    return set(told[dataset]["new"])


async def _give(
    workspace: Workspace,
    client: PrefectClient,
    name: str,
    deployment: UUID,
    order: Order,
    lost: bool,
) -> None:
    """An arrival is an event, which others may listen to, too; it goes direct after one was `lost`.

    A Prefect server whose PostgreSQL was away hears of no deployment that is made afterwards: the
    event of an arrival starts nothing until that server is started anew.
    """
    kind, why = order
    if kind == "arrival" and not lost:
        emit_event(ARRIVED, resource_of(workspace, name), payload={"why": why})
    else:
        await client.create_flow_run_from_deployment(deployment, parameters={"why": why})
