"""Signs that a command did harm: Python's audit events, a file that it leaves, changed files."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dltrain.config.compose import compose

FULL = os.environ.get("DLTRAIN_FAULTS") == "full"
CANARY = "canary"  # a name in the test's empty folder
WATCHED = {  # audit events; opening a file to write it is seen beside these
    *(
        "os.system",
        "os.exec",
        "os.posix_spawn",
        "os.spawn",
        "os.fork",
        "subprocess.Popen",
        "pty.spawn",
    ),
    *(
        "os.remove",
        "os.rmdir",
        "os.rename",
        "shutil.rmtree",
        "shutil.unpack_archive",
        "shutil.copyfile",
    ),
    *(
        "socket.connect",
        "socket.getaddrinfo",
        "urllib.Request",
        "webbrowser.open",
        "pickle.find_class",
    ),
    *("builtins.input", "code.__new__", "ctypes.dlopen", "os.putenv", "os.mkdir"),
}
_seen: list[str] | None = None  # a hook cannot be taken away again, so it is switched


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _seen is None:
        return
    if event == "os.mkdir" and Path(arguments[0]).is_dir():
        return  # changes nothing: filelock makes sure of the folder of its lock
    written = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
    if (event in WATCHED or written) and not any(
        name in str(arguments) for name in ("__pycache__", ".lock")
    ):
        _seen.append(f"{event} {arguments}"[:300])


sys.addaudithook(_hook)


@contextmanager
def tripwire() -> Iterator[list[str]]:
    """Inside, a list of what has been executed, written, deleted or asked for."""
    global _seen
    seen: list[str] = []
    _seen = seen
    try:
        yield seen
    finally:
        _seen = None


@functools.cache
def defaults() -> dict[str, Any]:
    return compose([]).config


def files() -> list[str]:
    """Return all files but the lock of a run, which is held while its configuration is read."""
    return sorted(str(path) for path in Path().rglob("*") if path.name != ".lock")


def harm_of(words: list[str], dltrain, lines: int) -> list[str]:
    """Return what is wrong with a command's answer to hostile words; nothing if it refused them."""
    before = files()
    with tripwire() as seen:
        outcome = dltrain(*words)
    wrong = [f"did {event}" for event in seen]
    wrong += ["changed files"] if files() != before else []
    wrong += [f"exit {outcome.code}"] if outcome.code != 2 else []
    if (
        "Traceback" in outcome.err
        or "unexpected failure" in outcome.err
        or len(outcome.err.splitlines()) > lines
    ):
        wrong.append(f"said {outcome.err}")
    return wrong
