"""The account of the Prefect server that a command starts for itself."""

import os

import pytest

from flows.environment import API, ASKED, SHOWN, prepare
from keyslice.config import Workspace


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (API, ASKED, SHOWN):
        monkeypatch.delenv(name, raising=False)


def _account(workspace: Workspace) -> str:
    for name in (ASKED, SHOWN):
        os.environ.pop(name, None)
    prepare(workspace)
    assert os.environ[ASKED] == os.environ[SHOWN]
    return os.environ[ASKED]


def test_each_has_an_account_of_its_own(workspace: Workspace) -> None:
    one, another = _account(workspace), _account(workspace)
    assert one != another
    assert len(one.partition(":")[2]) > 40


@pytest.mark.parametrize("name", [ASKED, SHOWN])
def test_an_account_that_is_given_is_the_one(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "ann:hers")
    prepare(workspace)
    assert (os.environ[ASKED], os.environ[SHOWN]) == ("ann:hers", "ann:hers")


def test_a_server_that_is_named_keeps_what_it_asks_for(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(API, "http://prefect.example:4200/api")
    prepare(workspace)
    assert ASKED not in os.environ
    assert SHOWN not in os.environ
