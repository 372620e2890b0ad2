"""`kill -9` at any instant and file-system call: checkpoints are whole, resumes exact."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from fork_server import Process, Server
from states import (
    SAVE_EVERY,
    SETTINGS,
    Whole,
    differences,
    last_line,
    leftovers,
    runs_in,
    steps_logged,
)

from dltrain.errors import InputError
from dltrain.runs import checkpoint
from dltrain.runs.checkpoint import Store
from dltrain.runs.folder import CHECKPOINTS, RESULTS

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def condition(cwd: Path) -> tuple[list[str], int]:
    """Return what is wrong with the files of a killed run, and how many steps are lost."""
    wrong, lost = [], 0
    for run in runs_in(cwd):
        store = Store(run / CHECKPOINTS)
        for folder in store.steps():
            try:
                checkpoint.load(folder)
            except InputError as e:
                wrong.append(f"unloadable: {e}")
        logged = max(steps_logged(run), default=0)
        saved = int(store.steps()[-1].name.split(".")[0]) if store.steps() else 0
        lost = max(0, logged - saved)
        begun = (
            max(0, logged - 1) // SAVE_EVERY * SAVE_EVERY
        )  # this save was under way; the one before was on the disk
        if saved < begun - SAVE_EVERY:
            wrong.append(
                f"lost {lost} steps: at step {logged}, and the newest checkpoint is of {saved}"
            )
    return wrong, lost


def continue_run(server: Server, cwd: Path, whole: Whole, *, overdue: float = 60.0) -> list[str]:
    """Resume the run that a kill left in `cwd`, or start one; return what is wrong at its end."""
    runs = runs_in(cwd)
    code, output = server.run(cwd, *(("resume", "last") if runs else SETTINGS), timeout=overdue)
    if code != 0 or "Traceback" in output:
        return [f"exit {code}: {last_line(output)}"]
    wrong = [f"left behind: {name}" for name in leftovers(cwd)]
    if len(runs_in(cwd)) != 1:
        return [*wrong, f"{len(runs_in(cwd))} runs"]
    different = differences(runs_in(cwd)[0], whole.end)
    return [*wrong, f"other than uninterrupted: {different}"] if different else wrong


def wait_for_a_save(process: Process, cwd: Path, seconds: float) -> None:
    """Wait until a checkpoint is being written, or the time is over."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for run in runs_in(cwd):
            if any((run / CHECKPOINTS).glob(".tmp-*")):
                return
        time.sleep(0.0005)


def test_at_random_instants(server: Server, whole: Whole, full: bool, tmp_path: Path) -> None:
    """Half of them while a checkpoint is being written."""
    draw = random.Random(4)
    wanted = 200 if full else 2
    kills, failed, most_lost, before_a_run, before_a_checkpoint = 0, [], 0, 0, 0
    while kills < wanted:
        cwd = tmp_path / "run"
        process = server.start(cwd, *SETTINGS)
        time.sleep(draw.uniform(0, whole.seconds))
        if kills % 2:
            wait_for_a_save(process, cwd, whole.seconds)
            time.sleep(draw.uniform(0, 0.005))
        process.kill()
        runs = runs_in(cwd)
        if not (runs and (runs[0] / RESULTS).exists()):  # else it was through, and was not killed
            kills += 1
            before_a_run += not runs
            before_a_checkpoint += bool(runs) and not Store(runs[0] / CHECKPOINTS).steps()
            wrong, lost = condition(cwd)
            most_lost = max(most_lost, lost)
            wrong += continue_run(server, cwd, whole)
            failed += [f"kill {kills}: {what}" for what in wrong]
        shutil.rmtree(cwd)
    print(
        f"kill -9 at a random instant: {kills}, {before_a_run} of them before the run's folder "
        f"was there and {before_a_checkpoint} before its first checkpoint, "
        f"at most {most_lost} steps lost (saved every {SAVE_EVERY}):"
        f" {len(failed)} failed"
    )
    assert not failed, "\n".join(failed)


def killed_halfway(server: Server, cwd: Path, step: int) -> Path:
    """A run that was killed at `step`."""
    server.run(
        cwd,
        *SETTINGS,
        aim="signal_at",
        moment="batch",
        number=signal.SIGKILL,
        group=False,
        at=step,
        journal="step",
    )
    assert runs_in(cwd), "killed before it began"
    return cwd


def test_while_a_resume_begins(server: Server, whole: Whole, full: bool, tmp_path: Path) -> None:
    """A resume that is killed too is resumed."""
    draw = random.Random(5)
    killed = killed_halfway(server, tmp_path / "killed", step=3 * SAVE_EVERY + 2)
    failed = []
    count = 20 if full else 1
    for number in range(count):
        cwd = tmp_path / str(number)
        shutil.copytree(killed, cwd)
        process = server.start(cwd, "resume", "last")
        time.sleep(draw.uniform(0.2, 0.9) * whole.seconds)
        process.kill()
        wrong, _ = condition(cwd)
        if not (runs_in(cwd)[0] / RESULTS).exists():
            wrong += continue_run(server, cwd, whole)
        failed += [f"kill {number}: {what}" for what in wrong]
        shutil.rmtree(cwd)
    print(f"kill -9 while a resume begins: {count}: {len(failed)} failed")
    assert not failed, "\n".join(failed)


def operations(server: Server, cwd: Path, *argv: str, saves: tuple[int, int] | None) -> list[str]:
    """The file-system calls that can be counted, none of them the last."""
    journal = cwd.parent / f"{cwd.name}-journal"
    code, output = server.run(
        cwd, *argv, aim="crash_at", number=0, saves=saves, journal=str(journal)
    )
    assert code == 0, output
    return journal.read_text().splitlines()


def spread(calls: list[str], wanted: int) -> list[int]:
    """So many of the calls' numbers, evenly."""
    wanted = min(wanted, len(calls))
    return sorted({1 + round(i * (len(calls) - 1) / max(1, wanted - 1)) for i in range(wanted)})


def crash_at_each(
    server: Server,
    whole: Whole,
    argv: tuple[str, ...],
    choose: Callable[[list[str]], list[int]],
    base: Path | None = None,
    saves: tuple[int, int] | None = None,
) -> tuple[int, list[str]]:
    """Kill `argv` at the chosen file-system calls; return their number and the failures.

    With a `base` it runs in a copy of that folder.
    """
    failed = []
    cwd = Path("crash").absolute()

    def fresh() -> None:
        shutil.rmtree(cwd, ignore_errors=True)
        if base:
            shutil.copytree(base, cwd)

    fresh()
    numbers = choose(operations(server, cwd, *argv, saves=saves))
    for number in numbers:
        fresh()
        journal = str(cwd.parent / "crash-journal")
        code, output = server.run(
            cwd, *argv, aim="crash_at", number=number, saves=saves, journal=journal
        )
        if code == 0:
            continue  # its threads went another way, and it made fewer calls
        where = f"at {Path(journal).read_text().splitlines()[-1]}"
        wrong = [f"exit {code}: {last_line(output)}"] if code != -signal.SIGKILL else []
        if saves and not Store(runs_in(cwd)[0] / CHECKPOINTS).steps():
            wrong.append("no whole checkpoint")
        wrong += condition(cwd)[0]
        if not (runs_in(cwd) and (runs_in(cwd)[0] / RESULTS).exists()):
            wrong += continue_run(server, cwd, whole)
        failed += [f"{where}: {what}" for what in wrong]
    return len(numbers), failed


def first_of(calls: list[str], *marks: str) -> list[int]:
    """The numbers of the first calls that look like each of `marks`."""
    return [1 + next(i for i, call in enumerate(calls) if re.search(mark, call)) for mark in marks]


def test_at_each_call_of_a_save(server: Server, whole: Whole, full: bool) -> None:
    """Kill at each call of three saves in a row, an evaluation's among them.

    The calls write files and manifests, rename, point and prune.
    """

    def choose(calls: list[str]) -> list[int]:
        if full:
            return spread(calls, len(calls))
        return first_of(
            calls,
            "write .*/state.pt",
            r"rename .*/\.tmp-0",
            r"rename .*/\.tmp-last",
            "os.remove manifest.json",
        )

    count, failed = crash_at_each(server, whole, SETTINGS, choose, saves=(3, 5))
    print(f"kill -9 at each file-system call of three saves: {count}: {len(failed)} failed")
    assert not failed, "\n".join(failed)


def test_at_each_call_of_a_run(server: Server, whole: Whole, full: bool) -> None:
    """Those of the run's folder, the log, the results and the end of the stage are among them."""
    count, failed = crash_at_each(
        server, whole, SETTINGS, lambda calls: spread(calls, 60 if full else 2)
    )
    print(f"kill -9 at file-system calls of a whole run: {count}: {len(failed)} failed")
    assert not failed, "\n".join(failed)


def test_at_each_call_of_a_resume(server: Server, whole: Whole, full: bool, tmp_path: Path) -> None:
    """Kill a resume while it cuts back logs, sweeps and replaces files."""
    killed = killed_halfway(server, tmp_path / "killed", step=3 * SAVE_EVERY + 2)

    def choose(calls: list[str]) -> list[int]:
        if not full:
            return first_of(calls, r"write .*/\.tmp-config.yaml", r"rename .*/\.tmp-metrics.jsonl")
        saved = next(
            i
            for i, call in enumerate(calls)
            if re.search(r" (mkdir|write) .*checkpoints/\.tmp-0", call)
        )
        return [*range(1, saved + 1), *(saved + number for number in spread(calls[saved:], 20))]

    count, failed = crash_at_each(server, whole, ("resume", "last"), choose, base=killed)
    print(
        "kill -9 at file-system calls of a resume, all until its first save and 20 later: "
        f"{count}: {len(failed)} failed"
    )
    assert not failed, "\n".join(failed)
