"""SIGTERM and SIGINT at any moment: the state is saved, the exit code right, nothing left."""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from fork_server import Process, Server
from states import SETTINGS, last_line, leftovers, runs_in, steps_logged

from dltrain.runs import checkpoint
from dltrain.runs.checkpoint import Store
from dltrain.runs.folder import CHECKPOINTS, RESULTS

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
MOMENTS = ("first batch", "mid-epoch", "evaluation", "save")
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
CASES = list(itertools.product(SIGNALS, (False, True), (0, 2), MOMENTS))
QUICK = [
    CASES[i] for i in (0, 7, 10, 13, 17, 22, 27, 28)
]  # every moment twice, every signal, target and number of threads


def arguments(threads: int, pictures: Path) -> tuple[str, ...]:
    if not threads:
        return SETTINGS
    streamed = (
        f"dataset.path={pictures}",
        "dataset.memory=false",
        f"dataset.workers={threads}",
        "dataset.batch_size=4",
    )
    return ("dataset=image_folder", "dataset.channels=1", *streamed, *SETTINGS[2:])


def at(moment: str, draw: random.Random) -> dict[str, Any]:
    """Return the batch, evaluation batch or save at which the signal comes."""
    if moment == "first batch":
        return {"moment": "batch", "at": 1}
    if moment == "mid-epoch":
        return {"moment": "batch", "at": draw.randint(2, 20)}
    return {"moment": moment, "at": draw.randint(1, 3)}


def problems(cwd: Path, process: Process, number: int, journal: Path) -> list[str]:
    """Return what is wrong with how an interrupted run ended."""
    code = process.wait(30)
    if code is None:
        process.kill()
        return ["it continues"]
    wrong = [] if code == 128 + number else [f"exit {code}: {last_line(process.output)}"]
    if process.group_lives():
        wrong.append("left a process behind")
    if "Traceback" in process.output:
        wrong.append(f"a traceback: {last_line(process.output)}")
    wrong += [f"left behind: {name}" for name in leftovers(cwd)]
    run = runs_in(cwd)[0]
    status = json.loads((run / RESULTS).read_text())["status"]
    if status != "interrupted":
        wrong.append(f"results say {status}")
    steps = Store(run / CHECKPOINTS).steps()
    if not steps:
        return [*wrong, "no checkpoint"]
    step = checkpoint.load(steps[-1])["step"]
    logged = max(steps_logged(run), default=0)
    sent = int(journal.read_text())
    if step != logged:
        wrong.append(f"saved at step {step}, logged until {logged}")
    if step > sent + 1 + 3 * (
        "save" in journal.name
    ):  # a thread may have to wait for its turn to send it
        wrong.append(f"signaled at step {sent}, saved at {step}")
    return wrong


def test_a_signal_saves_and_ends(
    server: Server, pictures: Path, full: bool, tmp_path: Path
) -> None:
    draw = random.Random(6)
    repeats = 50 if full else 1
    failed: list[str] = []
    counted: Counter[str] = Counter()
    for number, group, threads, moment in CASES if full else QUICK:
        target = "group" if group else "process"
        name = f"{signal.Signals(number).name} to the {target}, {threads} threads, {moment}"
        for repeat in range(repeats):
            cwd = tmp_path / "run"
            journal = tmp_path / f"sent-{moment.replace(' ', '-')}"
            process = server.start(
                cwd,
                *arguments(threads, pictures),
                **{
                    "aim": "signal_at",
                    "number": number,
                    "group": group,
                    "journal": str(journal),
                    **at(moment, draw),
                },
            )
            try:
                wrong = problems(cwd, process, number, journal)
            except (OSError, ValueError, IndexError) as e:
                wrong = [f"{type(e).__name__}: {e}"]
            failed += [f"{name} ({repeat}): {what}" for what in wrong]
            counted[name] += 1
            shutil.rmtree(cwd)
    print(
        f"signals: {sum(counted.values())}, {repeats} of each of {len(counted)}: "
        f"{len(failed)} failed"
    )
    assert not failed, "\n".join(failed)


@pytest.mark.parametrize("number", SIGNALS[:2])
def test_a_second_signal_ends_at_once(number: int, server: Server, tmp_path: Path) -> None:
    start = time.monotonic()
    code, output = server.run(
        tmp_path / "run",
        *SETTINGS,
        aim="signal_at",
        moment="second",
        number=number,
        group=False,
        journal=str(tmp_path / "sent"),
        at=3,
    )
    assert (code, "Traceback" in output) == (128 + number, False), output
    assert time.monotonic() - start < 30, "the step takes a minute"


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("moment", ["run", "import"])
def test_before_there_is_a_run(moment: str, number: int, server: Server, tmp_path: Path) -> None:
    """Nothing is left, and nothing but a line is said."""
    sent = {"moment": moment, "number": number, "group": True, "journal": str(tmp_path / "sent")}
    process = server.start(tmp_path / "run", *SETTINGS, aim="signal_at", **sent)
    assert process.wait() == 128 + number, process.output
    assert process.output.splitlines() == ["dltrain: interrupted"]
    assert runs_in(tmp_path / "run") == []
    assert leftovers(tmp_path) == []


def test_while_a_command_starts(full: bool, tmp_path: Path) -> None:
    """A whole process, at any instant of its first seconds, when it imports libraries."""
    draw = random.Random(7)
    failed = []
    count = 20 if full else 2
    program = (
        "from dltrain.cli import entry; print(flush=True);"
        "import sys; sys.argv[0] = 'dltrain'; entry()"
    )
    command = [sys.executable, "-c", program, *SETTINGS]
    for i in range(count):
        number = SIGNALS[i % 2]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert process.stdout is not None
        process.stdout.readline()
        after = draw.uniform(0.0, 3.0)
        time.sleep(after)
        process.send_signal(number)
        output = process.communicate(timeout=60)[0]
        killed = (
            number == signal.SIGTERM and process.returncode == -number
        )  # a shell says 143 of that too
        if (process.returncode != 128 + number and not killed) or "Traceback" in output:
            failed.append(
                f"{number} after {after:.2f} s: exit {process.returncode}, {output[-300:]!r}"
            )
    print(f"signals while a command starts: {count}: {len(failed)} failed")
    assert not failed, "\n".join(failed)
