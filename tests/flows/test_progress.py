"""What the terminal shows of steps that run and of those that are done."""

import io
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from rich.console import Console

from flows import progress, tasks
from flows.progress import Display, step
from keyslice import versioning
from keyslice.config import Workspace

EPOCH = (
    "phantom_volumes · das_paper · seed 1 · epoch 12: "
    "loss 0.6931, validation loss 0.6931, AUC 0.512"
)


def console(*, terminal: bool) -> Console:
    return Console(file=io.StringIO(), width=80, force_terminal=terminal, color_system=None)


def written(console: Console) -> list[str]:
    return console.file.getvalue().splitlines()  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (EPOCH, "seed 1 · epoch 12 · val. AUC 0.512"),
        ("phantom_volumes · 120 of 10000 exams", "120 of 10000 exams"),
        (
            "adrenal · das · weights a.safetensors, device cpu",
            "weights a.safetensors, device cpu",
        ),
        ("Running stage 'train@phantom_volumes-das'", ""),
        ("> keyslice stage train phantom_volumes das", ""),
    ],
)
def test_a_line_of_a_stage_says_how_far_it_is(line: str, text: str) -> None:
    assert tasks.far(line) == text


def test_a_running_training_is_one_line_of_80_columns() -> None:
    shown, screen = console(terminal=True), console(terminal=False)
    with Display(shown) as display, step("train@phantom_volumes-das_paper") as running:
        running.progress(tasks.far(EPOCH))
        screen.print(display._progress.get_renderable())
    [line] = written(screen)
    assert "train@phantom_volumes-das_paper seed 1 · epoch 12 · val. AUC 0.512" in line
    assert len(line) <= 80


def test_a_step_that_is_ended_with_all_others_has_not_failed() -> None:
    shown = console(terminal=False)
    for ended in (True, False):
        with Display(shown), suppress(KeyboardInterrupt), ExitStack() as stack:
            end = stack.enter_context(versioning.children())
            with step("train@a-das"):
                if ended:
                    end()
                raise KeyboardInterrupt
    stopped, failed = (line for line in written(shown) if line.startswith("✗"))
    assert "stopped" in stopped
    assert "failed" in failed


def test_off_a_terminal_a_running_step_says_so_once_a_minute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    plain = console(terminal=False)
    with Display(plain), step("train@a-das") as running:
        for epoch in range(7):
            running.progress(f"epoch {epoch}")
            now[0] += 20
    told = written(plain)
    assert told[:3] == [f"… train@a-das  epoch {epoch}" for epoch in (0, 3, 6)]
    assert len(told) == 4


def test_refused_and_removed_exams_are_told_below_the_ingestion(
    workspace: Workspace, tmp_path: Path
) -> None:
    plain = console(terminal=False)
    with Display(plain):
        taken = tasks.ingest.fn(str(workspace.root), "tiny")
    assert taken.account == "1 new, 1 left out (class too rare), 3 quarantined, 2 removed"
    told = written(plain)
    assert "new version" in told[-2]
    assert told[-1] == f"  {taken.account}"


def test_a_stage_is_shown_as_far_as_its_last_line_says(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reproduce(*_: object, on_line, limit, **__: object) -> str:
        for line in (EPOCH, "Updating lock file"):
            on_line(line)
        assert limit == 3600 * 48.0
        return "ran"

    monkeypatch.setattr(tasks.versioning, "reproduce", reproduce)
    plain = console(terminal=False)
    with Display(plain):
        assert tasks.reproduce.fn(str(workspace.root), "train@tiny-das") == "ran"
    assert "val. AUC 0.512" in written(plain)[0]
