"""The process that starts the jobs of a sweep: it has torch imported, and forks for each job.

It is a program of its own, started by `server_client.ForkServer`, and not a fork of the program
that runs the sweep: that one may have threads, or use a GPU, and then cannot be forked safely. This
process starts no thread, computes nothing and imports no code of the user.

Requests and answers are lines of JSON on a socket:

* `{"start": JOB, "environment": {...}}` forks for a job; the answer is `{"started": N, "pid": PID}`
* `{"signal": S, "number": N, "group": true}` signals a job's group, or only its first process
* `{"ended": N, "code": C}` is sent when a job has ended, and nothing of its group is left

A job has a session of its own. If the program that runs the sweep ends, however that happens, the
jobs are asked to save and end; if this process is killed, they notice it by themselves.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import time
import warnings
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NoReturn

from dltrain.cli import let_waiting_threads_sleep
from dltrain.files import to_json
from dltrain.sweeps.launchers.process_groups import ENDING_SIGNALS, group_lives, kill_group

GRACE_SECONDS = 30.0  # for jobs to save, when the program that runs the sweep is gone
LEFTOVER_SECONDS = 1.0  # for processes that a job leaves behind, before they are killed
POLL_SECONDS = 0.02  # while such processes are left
BUFFER_BYTES = 1 << 16
PR_SET_CHILD_SUBREAPER = 36  # from linux/prctl.h
MODULES = (  # which most runs import as they go along
    "dltrain.sweeps.launchers.forked_job",
    "filelock",
    "matplotlib.backends.backend_agg",
    "matplotlib.figure",
    "PIL.ImageDraw",
    "torch.utils.tensorboard",
    "torchvision",
)


@dataclass
class Leftover:
    """The group of a job whose first process has ended with `code`."""

    number: int
    code: int
    kill_at: float
    give_up_at: float


class Server:
    """Answers the requests that arrive at a socket, until its other end is closed."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.received = b""
        self.jobs: dict[int, int] = {}  # the number of a job, by its process
        self.leftovers: dict[int, Leftover] = {}  # by group
        # jobs hold the end for reading, and this process alone the one for writing
        self.lifeline, self.lifeline_end = os.pipe()
        self.wakeup, self.wakeup_end = os.pipe()
        for descriptor in (self.wakeup, self.wakeup_end):
            os.set_blocking(descriptor, False)

    def serve(self) -> None:
        """Answer requests until there can be none any more; then end all jobs."""
        signal.set_wakeup_fd(self.wakeup_end, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        # the program may end while it is sent an answer
        with suppress(BrokenPipeError, ConnectionResetError):
            while self.read_requests():
                self.note_ends()
        self.end_all()

    def read_requests(self) -> bool:
        """Wait for something to do, and carry out requests; False if there are no more to come."""
        seconds = POLL_SECONDS if self.leftovers else None
        requests = self.connection.fileno()
        ready, _, _ = select.select([requests, self.wakeup], [], [], seconds)
        if self.wakeup in ready:
            os.read(self.wakeup, BUFFER_BYTES)
        if requests not in ready:
            return True
        received = self.connection.recv(BUFFER_BYTES)
        *lines, self.received = (self.received + received).split(b"\n")
        for line in lines:
            self.carry_out(json.loads(line))
        return bool(received)

    def carry_out(self, request: dict[str, Any]) -> None:
        """Start a job, or signal one."""
        if "start" in request:
            self.start(request["start"], request["environment"])
        else:
            self.send_signal(request["number"], request["signal"], request["group"])

    def start(self, job: str, environment: dict[str, str]) -> None:
        """Fork for a job."""
        number = json.loads(job)["number"]
        try:
            pid = forked()
        except OSError as e:  # no memory, or too many processes
            self.answer(ended=number, code=None, reason=f"cannot be started: {e.strerror}")
            return
        if pid == 0:
            self.become(job, environment)
        self.jobs[pid] = number
        self.answer(started=number, pid=pid)

    def become(self, job: str, environment: dict[str, str]) -> NoReturn:
        """Be the process of a job, from now to its end."""
        from dltrain.sweeps.launchers.forked_job import run

        try:
            os.setsid()
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self.connection.close()
            for descriptor in (self.wakeup, self.wakeup_end, self.lifeline_end):
                os.close(descriptor)
            os.environ.update(environment)
            run(job, self.lifeline)
        finally:
            os._exit(1)  # only if `run` could not even begin

    def send_signal(self, number: int, signal_number: int, is_group: bool) -> None:
        """Send a signal to a job's group or to its first process, if it runs."""
        send = os.killpg if is_group else os.kill
        for pid, running in self.jobs.items():
            if running == number:
                with suppress(ProcessLookupError, PermissionError):
                    send(pid, signal_number)

    def note_ends(self) -> None:
        """Note which jobs have ended, and tell of those whose group is gone."""
        now = time.monotonic()
        for pid, code in ended_children():
            if pid in self.jobs:
                number = self.jobs.pop(pid)
                kill_at = now + LEFTOVER_SECONDS
                self.leftovers[pid] = Leftover(number, code, kill_at, kill_at + LEFTOVER_SECONDS)
        for group, leftover in list(self.leftovers.items()):
            if now > leftover.kill_at:
                kill_group(group)
            if not group_lives(group) or now > leftover.give_up_at:
                del self.leftovers[group]
                self.answer(ended=leftover.number, code=leftover.code)

    def answer(self, **content: Any) -> None:
        """Send an answer."""
        self.connection.sendall(f"{to_json(content)}\n".encode())

    def end_all(self) -> None:
        """Ask the jobs to save and end; kill what is left of them after a while."""
        for pid in self.jobs:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        groups = {*self.jobs, *self.leftovers}
        end = time.monotonic() + GRACE_SECONDS
        while self.jobs and time.monotonic() < end:
            for pid, _ in ended_children():
                self.jobs.pop(pid, None)
            time.sleep(POLL_SECONDS)
        for group in groups:
            kill_group(group)


def forked() -> int:
    """Return the number of the new process, and 0 in it."""
    with warnings.catch_warnings():
        # libraries of numerical code have threads that wait, and survive this
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def ended_children() -> list[tuple[int, int]]:
    """Return the processes that have ended since the last call, with their codes.

    The code is -N after signal N. Processes that a job left behind are among them.
    """
    ended = []
    with suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            ended.append((pid, os.waitstatus_to_exitcode(status)))
    return ended


def prepare() -> None:
    """Import what runs need, and fill the caches of the configuration; forks share all that."""
    for module in MODULES:
        importlib.import_module(module)
    from dltrain.config.check import raise_all
    from dltrain.config.compose import compose

    raise_all(compose(["seed=1"]))  # an override, so that what parses it is imported
    gc.collect()
    gc.freeze()  # collections in a job leave it alone, so that its memory stays shared


def adopt_orphans() -> None:
    """Become the parent of processes whose own parents end, so that they are waited for.

    Otherwise they would stay as zombies in a container whose first process waits for none.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)


def main(descriptor: int) -> None:
    """Serve the socket of a descriptor that this process inherited."""
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING_SIGNALS)  # the program decides about the jobs
    adopt_orphans()
    let_waiting_threads_sleep()
    prepare()
    with socket.socket(fileno=descriptor) as connection:
        Server(connection).serve()
    os._exit(0)  # unloading torch would take a second
