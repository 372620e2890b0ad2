"""`resume=auto` under `kill -9` and with two processes at once: one run, one writer, exact."""

from __future__ import annotations

import json
import os
import random
import shutil
import time
from pathlib import Path

import pytest
from fork_server import Server
from states import SETTINGS, Whole, differences, last_line, leftovers

from dltrain.runs.find import all_runs
from dltrain.runs.folder import RESULTS

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
AUTO = (*SETTINGS, "resume=auto")


def is_finished(cwd: Path) -> bool:
    """Tell if a run in `cwd` has results that say so."""
    files = [run / RESULTS for run in all_runs(cwd / "outputs") if (run / RESULTS).exists()]
    return any(json.loads(file.read_text())["status"] == "completed" for file in files)


def problems_of(server: Server, cwd: Path, whole: Whole) -> list[str]:
    """Start the command a last time; return what is wrong with what it leaves."""
    code, output = server.run(cwd, *AUTO)
    if code != 0:
        return [f"exit {code}: {last_line(output)}"]
    runs = all_runs(cwd / "outputs")
    wrong = [f"left behind: {name}" for name in leftovers(cwd)]
    if len(runs) != 1:
        return [*wrong, f"{len(runs)} runs"]
    different = differences(runs[0], whole.end)
    return [*wrong, f"other than uninterrupted: {different}"] if different else wrong


def test_a_requeued_command_continues(
    server: Server, whole: Whole, full: bool, tmp_path: Path
) -> None:
    """The same command, killed at random instants again and again, ends as if it had not been."""
    draw = random.Random(6)
    wanted = 20 if full else 3
    cwd = tmp_path / "run"
    kills, failed = 0, []
    while kills < wanted:
        process = server.start(cwd, *AUTO)
        time.sleep(draw.uniform(0.2, 0.9) * whole.seconds)
        process.kill()
        if is_finished(cwd):  # it was through: the next kills are of a new run
            failed += problems_of(server, cwd, whole)
            shutil.rmtree(cwd)
        else:
            kills += 1
    failed += problems_of(server, cwd, whole)
    print(f"kill -9 of a command with resume=auto: {kills}: {len(failed)} failed")
    assert not failed, "\n".join(failed)


def test_two_processes_at_once(server: Server, full: bool, tmp_path: Path) -> None:
    """One trains; the others end with a message that names it."""
    for number in range(5 if full else 1):
        cwd = tmp_path / str(number)
        cwd.mkdir()
        moment = time.time() + 1.0
        launched = [server.start(cwd, *AUTO, aim="begin_at", moment=moment) for _ in range(3)]
        codes = [process.wait(120) for process in launched]
        assert sorted(codes) == [0, 2, 2], [process.output for process in launched]
        winner = launched[codes.index(0)]
        for process, code in zip(launched, codes, strict=True):
            if code:
                assert f"is being trained by another process (pid {winner.pid} on" in process.output
        assert len(all_runs(cwd / "outputs")) == 1


def test_a_killed_process_does_not_keep_the_key(server: Server, tmp_path: Path) -> None:
    first = server.start(tmp_path, *AUTO, aim="slow", seconds=0.05)
    until = time.monotonic() + 30
    while not all_runs(tmp_path / "outputs") and time.monotonic() < until:
        time.sleep(0.01)
    code, output = server.run(tmp_path, *AUTO)
    assert (code, f"(pid {first.pid} on" in output) == (2, True), output
    first.kill()
    assert server.run(tmp_path, *AUTO)[0] == 0
    assert len(all_runs(tmp_path / "outputs")) == 1
