"""Work in other processes: what a file does to one of them ends there."""

import os
import time

import numpy as np
import pytest

from keyslice.config import Limits
from keyslice.exams.workers import Workers


def square(number: int) -> int:
    return number * number


def behave(how: str) -> str:
    if how == "dies":
        os.abort()
    if how == "hangs":
        time.sleep(600)
    if how == "bloats":
        np.ones(2**32, np.uint8)
    return how


def test_results_come_in_the_order_of_the_items() -> None:
    with Workers(Limits()) as workers:
        assert list(workers.map(square, range(50))) == [n * n for n in range(50)]


@pytest.mark.parametrize(
    ("how", "why"), [("dies", "ended the process"), ("hangs", "longer than 1 s")]
)
def test_an_item_that_ends_or_holds_up_its_process_is_alone_in_that(how: str, why: str) -> None:
    with Workers(Limits(seconds=1), count=1) as workers:
        first, fault, last = workers.map(behave, ["fine", how, "fine"])
    assert (first, last) == ("fine", "fine")
    assert why in fault


def test_memory_is_bounded() -> None:
    with Workers(Limits(memory=2**20), count=1) as workers, pytest.raises(MemoryError):
        list(workers.map(behave, ["bloats"]))


def test_no_process_is_started_without_work() -> None:
    with Workers(Limits()) as workers:
        assert list(workers.map(square, [])) == []
        assert workers._pool is None
