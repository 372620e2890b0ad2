"""Many runs at once, two writers of one run, and readers while a run saves."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from fork_server import Process, Server
from states import SETTINGS, leftovers, runs_in

from dltrain.errors import InputError
from dltrain.runs import checkpoint
from dltrain.runs.checkpoint import Store
from dltrain.runs.folder import CHECKPOINTS, RESULTS

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
SHORT = [word for word in SETTINGS if not word.startswith("trainer.")] + ["trainer.steps=2"]
LONG = [*SETTINGS[:-1], "trainer.epochs=1000", "trainer.save_every=1"]


def wait_for_checkpoints(cwd: Path, seconds: float = 30.0) -> Path:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for run in runs_in(cwd):
            store = Store(run / CHECKPOINTS)
            if len(store.steps()) >= 2 and store.pointed("best"):
                return run
        time.sleep(0.01)
    raise TimeoutError


def test_launches_at_once(server: Server, full: bool, tmp_path: Path) -> None:
    """Into one output root within a second: each has a folder of its own."""
    count = 20 if full else 4
    moment = time.time() + 0.5 * count
    launched = [server.start(tmp_path, *SHORT, aim="begin_at", moment=moment) for _ in range(count)]
    ready = time.time()
    codes = [process.wait(120) for process in launched]
    runs = runs_in(tmp_path)
    done = [run for run in runs if json.loads((run / RESULTS).read_text())["status"] == "completed"]
    print(
        f"{count} launches at once: {len(runs)} folders, "
        f"{codes.count(0)} of them trained to the end"
    )
    assert codes == [0] * count, launched[0].output
    assert len(runs) == len(done) == count
    assert leftovers(tmp_path) == []
    assert ready < moment


def test_launches_in_the_same_microsecond(server: Server, tmp_path: Path) -> None:
    """Clocks that stand still make no two runs share a folder: all but one take the next name."""
    launched = [server.start(tmp_path, *SHORT, aim="still_clock", calls=3) for _ in range(4)]
    assert [process.wait(120) for process in launched] == [0] * 4
    assert len(runs_in(tmp_path)) == 4
    assert leftovers(tmp_path) == []


def test_a_second_writer_is_refused(server: Server, tmp_path: Path) -> None:
    """In one line that names pid and host; the first continues undisturbed."""
    first = server.start(tmp_path, *SETTINGS, aim="slow", seconds=0.05)
    try:
        run = wait_for_checkpoints(tmp_path)
        for number in range(2):
            code, output = server.run(tmp_path, "resume", str(run))
            lines = output.splitlines()
            assert (code, len(lines)) == (2, 1), output
            assert re.search(rf"pid {first.pid} on {re.escape(socket.gethostname())}", lines[0]), (
                number,
                lines,
            )
        assert first.wait(60) == 0, first.output
    finally:
        if first.group_lives():
            first.kill()
    assert leftovers(tmp_path) == []


def test_a_lock_does_not_outlive_its_owner(server: Server, tmp_path: Path) -> None:
    """Killed, it is out of the way."""
    first = server.start(tmp_path, *SETTINGS, aim="slow", seconds=0.05)
    run = wait_for_checkpoints(tmp_path)
    first.kill()
    code, output = server.run(tmp_path, "resume", str(run))
    assert code == 0, output


def evaluated(reader: Process) -> str:
    code = reader.wait(60)
    return "" if code == 0 else f"exit {code}: {reader.output[-300:]}"


def test_reads_while_a_run_saves(
    server: Server, full: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run saves after every step and removes old checkpoints; readers get whole ones.

    That includes readers so slow that the checkpoint is removed while they read.
    """
    read_manifest, draw = checkpoint.read_manifest, random.Random(9)

    def slowly(folder: Path) -> dict[str, Any]:
        manifest = read_manifest(folder)
        time.sleep(draw.choice((0.0, 0.05, 0.1)))
        return manifest

    monkeypatch.setattr(checkpoint, "read_manifest", slowly)
    writer = server.start(tmp_path, *LONG)
    count, reads = ((200, 4) if full else (20, 1)), 0
    failed: list[str] = []
    try:
        run = wait_for_checkpoints(tmp_path)
        store = Store(run / CHECKPOINTS)
        seen = set()
        while reads < count[0]:
            pointer = ("best", "last")[reads % 2]
            try:
                found = store.read(pointer)
                if found is None:
                    failed.append(f"{pointer}: none")
                else:
                    seen.add(found[0].name)
            except (InputError, OSError) as e:
                failed.append(f"{pointer}: {type(e).__name__}: {e}")
            reads += 1
        readers = [
            server.start(tmp_path / f"reader-{i}", "evaluate", str(run)) for i in range(count[1])
        ]
        failed += [wrong for wrong in map(evaluated, readers) if wrong]
        assert writer.wait(0.0) is None, f"the run is to continue meanwhile: {writer.output[-500:]}"
    finally:
        writer.kill()
    shutil.rmtree(run)
    print(
        f"reads while a run saves at every step: {count[0]} of {len(seen)} checkpoints, "
        f"and {count[1]} evaluations:"
        f" {len(failed)} failed"
    )
    assert not failed, "\n".join(failed[:20])
    assert len(seen) > count[0] / 20, "it saved between the reads"
