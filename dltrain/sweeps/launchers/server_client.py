"""The fork server, as the program that runs a sweep sees it: a process behind a socket."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from typing import Any

from dltrain.files import to_json
from dltrain.sweeps.jobs.job import SweepJob

BUFFER_BYTES = 1 << 16
MIN_WAIT_SECONDS = 0.001
MAX_LOG_BYTES = 2000
PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from dltrain.sweeps.launchers.fork_server import main; main(int(sys.argv[2]))"
)


class ServerGone(Exception):
    """The fork server has ended, although nobody asked it to."""


class ForkServer:
    """A process that forks for jobs; it ends when this program does.

    It finds modules where this program finds them, and has its environment, with `environment` in
    addition.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.connection, theirs = socket.socketpair()
        self.received = b""
        self.output = tempfile.TemporaryFile()  # noqa: SIM115, closed by `close`
        warnings = [f"-W{option}" for option in sys.warnoptions]
        with theirs:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, *warnings, "-c", PROGRAM),
                    *(to_json(sys.path), str(theirs.fileno())),
                ],
                stdin=subprocess.DEVNULL,
                stdout=self.output,
                stderr=self.output,
                env={**os.environ, **environment},
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # Ctrl-C on the terminal does not reach it
            )

    def start(self, job: SweepJob, environment: Mapping[str, str]) -> None:
        """Have a job started with `environment` in addition."""
        self.send({"start": job.as_json(), "environment": dict(environment)})

    def send_signal(self, number: int, signal_number: int, group: bool) -> None:
        """Have a signal sent to a job's group, or to its first process only."""
        self.send({"signal": signal_number, "number": number, "group": group})

    def send(self, request: Mapping[str, Any]) -> None:
        """Send a request; ServerGone if nobody can receive it."""
        self.connection.settimeout(None)
        try:
            self.connection.sendall(f"{to_json(request)}\n".encode())
        except OSError as e:
            raise ServerGone from e

    def receive(self, seconds: float) -> list[dict[str, Any]]:
        """Return the answers that have arrived; wait for one up to `seconds`.

        Raises ServerGone if none can arrive any more.
        """
        self.connection.settimeout(max(seconds, MIN_WAIT_SECONDS))
        try:
            received = self.connection.recv(BUFFER_BYTES)
        except TimeoutError:
            return []
        except OSError as e:
            raise ServerGone from e
        if not received:
            raise ServerGone
        *lines, self.received = (self.received + received).split(b"\n")
        return [json.loads(line) for line in lines]

    def log(self) -> str:
        """Return the end of what the process has printed."""
        descriptor = self.output.fileno()
        begin = max(0, os.fstat(descriptor).st_size - MAX_LOG_BYTES)
        return os.pread(descriptor, MAX_LOG_BYTES, begin).decode("utf-8", "replace").strip()

    def close(self) -> int:
        """End the process, which has no jobs any more; return its code, -N after signal N."""
        self.process.kill()  # nothing happens if it has ended
        code = self.process.wait()
        self.connection.close()
        self.output.close()
        return code
