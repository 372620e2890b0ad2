"""Starts the other processes of a run on this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from typing import IO

import torch.distributed as dist

from dltrain.distributed.environment import ADDRESS
from dltrain.distributed.processes import START_TIME

HOST = "127.0.0.1"
END_SECONDS = 5.0  # that a process has to end before it is killed
FAILURE_SECONDS = 2.0  # within which a process that broke a connection is gone
TAIL_LINES = 8  # of a process's messages in an error


class Followers:
    """The other processes of a run, started by process 0 on its own machine.

    Each of them runs `dltrain.experiment.follower`. Their messages go to files, whose last lines
    are part of an error. They end when this process does, because their standard input ends.
    """

    def __init__(self, size: int) -> None:
        self.store = dist.TCPStore(HOST, 0, None, True, START_TIME, wait_for_workers=False)
        self.processes: list[subprocess.Popen[bytes]] = []
        self.messages: list[IO[bytes]] = []
        self.failed_code = 0  # the exit code of the process that `failure` describes
        for rank in range(1, size):
            self._start(rank, size)

    def _start(self, rank: int, size: int) -> None:
        messages = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`
        environment = {
            **os.environ,
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(size),
            ADDRESS: str(self.store.port),
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "dltrain.experiment.follower"],
            stdin=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for process 0
            stdout=messages,
            stderr=messages,
            env=environment,
        )
        self.processes.append(process)
        self.messages.append(messages)

    def wait(self) -> str:
        """Wait until all processes are there; return which one has ended instead, or ""."""
        missing = [ready_key(rank) for rank in range(1, len(self.processes) + 1)]
        while not self.store.check(missing):
            failure = self.failure(0.0)
            if failure:
                return failure
            time.sleep(0.02)
        return ""

    def failure(self, wait_seconds: float = FAILURE_SECONDS) -> str:
        """Return which process is gone and its last messages; "" if all are there."""
        end = time.monotonic() + wait_seconds
        while True:
            for rank, process in enumerate(self.processes, 1):
                if process.poll() is not None:
                    self.failed_code = process.returncode
                    return self._described(rank, process.returncode)
            if time.monotonic() >= end:
                return ""
            time.sleep(0.05)

    def _described(self, rank: int, code: int) -> str:
        lines = self._tail(rank)
        how = f"ended with exit code {code}"
        if code < 0:
            how = f"was killed by {signal_name(-code)}"
        elif lines:
            how += f": {lines.pop()}"  # the error itself; tables of results have the first line
        tail = "".join(f"\n  {line}" for line in lines)
        return f"process {rank} of {len(self.processes) + 1} {how}{tail}"

    def _tail(self, rank: int) -> list[str]:
        """Return the last lines of the messages of a process, without empty ones."""
        messages = self.messages[rank - 1]
        messages.seek(0)
        lines = messages.read().decode(errors="replace").splitlines()
        return [line for line in lines if line.strip()][-TAIL_LINES:]

    def close(self) -> None:
        """End the processes: they see that their standard input ends."""
        for process in self.processes:
            if process.stdin is not None:
                process.stdin.close()
        for process in self.processes:
            try:
                process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for messages in self.messages:
            messages.close()
        self.processes = []
        self.messages = []


def signal_name(number: int) -> str:
    """Return the name of a signal, such as SIGKILL."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def ready_key(rank: int) -> str:
    """Return the key by which a process says that it is there."""
    return f"ready {rank}"


def leader_store(rank: int) -> dist.Store:
    """Return where the processes that process 0 started meet, and say that this one is there."""
    port = int(os.environ[ADDRESS])
    store = dist.TCPStore(HOST, port, is_master=False, timeout=START_TIME)
    store.set(ready_key(rank), "")
    return store
