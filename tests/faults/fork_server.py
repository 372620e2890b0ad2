"""A process that imports torch and dltrain once and forks for every command.

A command then takes tenths of a second. Run as a script it serves: a line of JSON in, one out.
Every command has a session of its own, so that it can be killed with all that it started, and ends
as any Python process does. aims.py prepares its faults before it begins.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MODULES = (  # which commands import as they go along
    *(
        "dltrain.commands.train",
        "dltrain.commands.resume",
        "dltrain.commands.evaluate",
        "dltrain.commands.predict",
    ),
    *(
        "dltrain.data.images.digits",
        "dltrain.data.images.image_folder",
        "dltrain.callbacks.tensorboard",
        "dltrain.models.mlp",
    ),
    *(
        "torch.utils.tensorboard",
        "torch._inductor",
        "PIL.Image",
        "matplotlib.backends.backend_agg",
    ),
    *("hydra", "hydra._internal.core_plugins", "omegaconf"),
)


@dataclass
class Process:
    """A command under way: `pid` is also its group's number."""

    server: Server
    pid: int
    out: Path

    def wait(self, timeout: float = 60.0) -> int | None:
        """Its exit code, -N for signal N; None if it continues after `timeout` seconds."""
        code: int | None = self.server.ask({"wait": self.pid, "timeout": timeout})["code"]
        return code

    def send(self, number: int, group: bool = True) -> None:
        (os.killpg if group else os.kill)(self.pid, number)

    def kill(self) -> None:
        """`kill -9` of the group, until it is gone."""
        self.send(signal.SIGKILL)
        self.wait()

    def group_lives(self) -> bool:
        """Tell if a process of its group is alive (after a wait: one that it left behind)."""
        try:
            os.killpg(self.pid, 0)
        except ProcessLookupError:
            return False
        return True

    @property
    def output(self) -> str:
        return self.out.read_text(encoding="utf-8", errors="replace")


class Server:
    """Starts commands in folders of their own."""

    def __init__(self) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.requests, self.answers = self.process.stdin, self.process.stdout
        if self.answers.readline() != "ready\n":
            self.close()
            raise ImportError("the server could not import dltrain")

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        self.requests.write(json.dumps(request) + "\n")
        self.requests.flush()
        answer: dict[str, Any] = json.loads(self.answers.readline())
        return answer

    def start(
        self,
        cwd: Path,
        *argv: str,
        aim: str = "",
        screen: str = "",
        closed: tuple[int, ...] = (),
        **settings: Any,
    ) -> Process:
        """`dltrain ARGV` in `cwd` (made if it is not there), with a function of aims.py called with
        `settings` before.

        Output goes into a file, or to the device `screen`; a terminal becomes the process's own.
        `closed` are descriptors that it begins without.
        """
        cwd.mkdir(parents=True, exist_ok=True)
        out = Path(screen) if screen else cwd / f"output-{time.monotonic_ns()}.txt"
        environment = {"DLTRAIN_DATA": str(cwd / "no-data"), **settings.pop("environment", {})}
        request = {
            "argv": argv,
            "cwd": str(cwd),
            "out": str(out),
            "environment": environment,
            "closed": closed,
        }
        return Process(self, self.ask({**request, "aim": aim, "settings": settings})["pid"], out)

    def run(
        self, cwd: Path, *argv: str, aim: str = "", timeout: float = 60.0, **settings: Any
    ) -> tuple[int | None, str]:
        """Exit code and output of a command."""
        process = self.start(cwd, *argv, aim=aim, **settings)
        code = process.wait(timeout)
        if code is None:
            process.kill()
        return code, process.output

    def close(self) -> None:
        self.requests.close()
        self.process.wait()
        self.answers.close()


def load_everything() -> None:
    from dltrain.config.compose import compose

    for module in MODULES:
        importlib.import_module(module)
    compose([])  # fills its caches
    gc.collect()
    gc.freeze()  # what is here is shared with all that are forked


def serve() -> dict[str, Any] | None:
    """Answer until the requests end; in a process that was forked for a command, return that."""
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            answer = {"code": ended(request["wait"], request["timeout"])}
        else:
            pid = os.fork()
            if pid == 0:
                return request
            while os.getsid(pid) != pid:
                time.sleep(0.0002)
            answer = {"pid": pid}
        print(json.dumps(answer), flush=True)
    return None


def ended(pid: int, seconds: float) -> int | None:
    until = time.monotonic() + seconds
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > until:
            return None
        time.sleep(0.002)


def become(command: dict[str, Any]) -> None:
    """Be the process of a command, from now to its end."""
    os.setsid()
    os.chdir(command["cwd"])
    os.environ.update(command["environment"])
    for descriptor, path, mode in (
        (0, os.devnull, os.O_RDONLY),
        (1, command["out"], os.O_RDWR | os.O_CREAT),
    ):
        os.dup2(os.open(path, mode), descriptor)
    os.dup2(1, 2)
    for descriptor in command[
        "closed"
    ]:  # Python has no stream where it begins without a descriptor
        os.close(descriptor)
        setattr(sys, ("stdin", "stdout", "stderr")[descriptor], None)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup
    sys.argv = ["dltrain", *command["argv"]]
    if command["aim"]:
        getattr(importlib.import_module("aims"), command["aim"])(**command["settings"])
    from dltrain.cli import entry

    code = 1
    try:
        entry()
    except SystemExit as e:
        code = int(e.code or 0)
    except BaseException:
        traceback.print_exc()
    threading._shutdown()  # as Python ends, but without unloading torch, which takes a second
    atexit._run_exitfuncs()
    if sys.stdout is not None:
        sys.stdout.flush()
    os._exit(code)


if __name__ == "__main__":
    load_everything()
    print("ready", flush=True)
    asked = serve()
    if asked is None:
        os._exit(0)
    become(asked)
