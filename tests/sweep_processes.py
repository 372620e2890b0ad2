"""Sweeps in processes of their own: networks that do harm, and the processes that are left."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from dltrain.sweeps.journal import JOURNAL, read_journal
from dltrain.sweeps.trial import trials_of

PLUGIN = """
import ctypes, json, os, signal, subprocess, sys, time
from pathlib import Path

from torch import nn


class Net(nn.Sequential):
    def __init__(self, input_shape: tuple[int, ...], num_classes: int, number: int = 0):
        super().__init__(nn.Flatten(), nn.Linear(64, num_classes))
        self.harm = json.loads(Path("harms.json").read_text()).get(str(number))
        self.calls = 0

    def forward(self, x):
        outputs = super().forward(x)
        self.calls += self.training
        if self.training and self.calls == 4 and self.harm:
            return getattr(Harms, self.harm)(outputs)
        return outputs


class Harms:
    def raises(outputs):
        raise RuntimeError("a defect of the user")

    def exits(outputs):
        os._exit(9)

    def leaves(outputs):
        sys.exit(3)

    def is_killed(outputs):
        os.kill(os.getpid(), signal.SIGKILL)

    def is_terminated(outputs):
        os.kill(os.getpid(), signal.SIGTERM)
        return outputs

    def hangs(outputs):
        while True:
            time.sleep(1)

    def diverges(outputs):
        return outputs * float("nan")

    def segfaults(outputs):
        ctypes.string_at(0)

    def leaves_a_child(outputs):
        subprocess.Popen(["sleep", "1000"])
        return outputs
"""
NET = ("plugins=[saboteur]", "model={_target_: saboteur.Net}")
BRIEF = (
    *("dataset=digits", "dataset.batch_size=200", "callbacks=quiet", "device=cpu"),
    *("trainer.epochs=2", "trainer.log_every=1"),
)


def write_plugin(folder: Path, harms: dict[int, str]) -> None:
    """Write the network into a folder, with the harm that it does by its argument `number`."""
    (folder / "saboteur.py").write_text(PLUGIN)
    (folder / "harms.json").write_text(json.dumps(harms))


def started(folder: Path, *words: str) -> subprocess.Popen[str]:
    """A command that runs in a folder."""
    return subprocess.Popen(
        [sys.executable, "-m", "dltrain", *words],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "DLTRAIN_DATA": str(folder / "no-data")},
    )


def ended(process: subprocess.Popen[str], seconds: float = 120.0) -> tuple[int, str, str]:
    """The code, the output and the errors of a command."""
    out, err = process.communicate(timeout=seconds)
    return process.returncode, out, err


def run(folder: Path, *words: str) -> tuple[int, str, str]:
    """The code, the output and the errors of a command that is run in a folder to its end."""
    return ended(started(folder, *words))


def rows(sweep: Path) -> list[dict[str, Any]]:
    """The row of each trial of a sweep that has one, by number."""
    trials = trials_of(read_journal(sweep), sweep)
    return [trial.row for _, trial in sorted(trials.items()) if trial.row is not None]


def starts(sweep: Path) -> list[int]:
    """The number of each job that was started, in the order of the starts."""
    return [one["number"] for one in read_journal(sweep) if one["event"] == "start"]


def processes_in(folder: Path) -> dict[int, str]:
    """The command line of each process that works in a folder, by its number."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            is_other = int(process.name) != os.getpid()
            if is_other and (process / "cwd").readlink() == folder:
                found[int(process.name)] = (process / "cmdline").read_bytes().decode()
    return found


def wait_until(condition: Any, what: str, seconds: float = 60.0) -> None:
    """Wait until a function returns something true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.02)


def wait_until_gone(folder: Path) -> None:
    """Wait until no process works in a folder."""
    wait_until(lambda: not processes_in(folder), f"{processes_in(folder)} are left")


def journal_has(sweep: Path, event: str, number: int) -> bool:
    """Tell if the journal of a sweep has an event of a trial."""
    if not (sweep / JOURNAL).is_file():
        return False
    lines = (sweep / JOURNAL).read_text().splitlines()
    return any(f'"event": "{event}"' in line and f'"number": {number}' in line for line in lines)


def server_of(folder: Path) -> int:
    """The fork server of the sweep that runs in a folder."""
    servers = [pid for pid in processes_in(folder) if is_server(pid)]
    assert len(servers) == 1, processes_in(folder)
    return servers[0]


def jobs_of(folder: Path) -> list[int]:
    """The processes of jobs of the sweep that runs in a folder."""
    found = [pid for pid, command in processes_in(folder).items() if "fork_server" in command]
    return [pid for pid in found if not is_server(pid)]


def is_server(pid: int) -> bool:
    """Tell if a process is a fork server: its parent is not one."""
    command = command_of(pid)
    return "fork_server" in command and "fork_server" not in command_of(parent_of(pid))


def command_of(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode()
    return ""


def parent_of(pid: int) -> int:
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return 0


def kill(pid: int) -> None:
    """`kill -9`, unless it is gone."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
