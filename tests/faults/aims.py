"""Faults inside a command: each function prepares one fault before the command begins.

They wrap parts of dltrain and of the standard library in a forked process; dltrain itself has no
hooks for them.
"""

from __future__ import annotations

import errno as errors
import importlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dltrain.callbacks.checkpoint
import dltrain.files
import dltrain.runs.checkpoint
import dltrain.runs.folder
from dltrain.callbacks.checkpoint import Checkpoint
from dltrain.engine import Engine

SWALLOWS = """
import os, time
try:
    os.kill(os.getpid(), {number})
    time.sleep(1)
except BaseException:
    pass
"""
CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "shutil.rmtree"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def before_batches(do: Callable[[Engine], None]) -> None:
    """Call `do` with the engine before the step of every training batch."""
    fit = Engine.fit

    def fitted(self: Engine, *args: Any, **more: Any) -> None:
        run = self.step_runner.run

        def run_after(stage: Any, batch: Any) -> Any:
            do(self)
            return run(stage, batch)

        self.step_runner.run = run_after  # type: ignore[method-assign]
        fit(self, *args, **more)

    Engine.fit = fitted  # type: ignore[method-assign]


def changed_path(event: str, args: tuple[Any, ...]) -> str | None:
    """The path that an audited event is about to change; None where it changes none."""
    if event in CHANGES:
        return (
            os.fsdecode(args[0]) if isinstance(args[0], str | bytes | os.PathLike) else str(args[0])
        )
    if event == "open" and isinstance(args[0], str | bytes | os.PathLike):
        mode, flags = args[1] or "", args[2] or 0
        if set(mode) & set("wax+") or flags & WRITING:
            return os.fsdecode(args[0])
    return None


def crash_at(  # noqa: C901 - a hook for each call
    number: int, journal: str, saves: tuple[int, int] | None = None
) -> None:
    """Kill the process at its file-system call `number`, before it is made.

    A write is killed when half of it is done. Calls below the working folder count: all, or those
    of the checkpoint writer from the first to the last of `saves`. Each is a line in the file
    `journal`.
    """
    here = str(Path.cwd())
    lines = os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    lock = threading.Lock()
    counted, saved = 0, 0

    def watched(path: str) -> bool:
        if saves is None:
            return str(Path(here, path)).startswith(here) and path != journal
        return (
            threading.current_thread().name == "checkpoint writer" and saves[0] <= saved <= saves[1]
        )

    def operation(name: str, path: str) -> None:
        nonlocal counted
        if not watched(path):
            return
        with lock:
            counted += 1
            os.write(lines, f"{counted} {name} {path}\n".encode())
            if counted == number:
                os.kill(os.getpid(), signal.SIGKILL)
                time.sleep(60)

    def audit(event: str, args: tuple[Any, ...]) -> None:
        path = changed_path(event, args)
        if path is not None:
            operation(event, path)

    fsync, write = os.fsync, Checkpoint._write

    def synced(descriptor: int) -> None:
        path = here
        if os.path.exists("/proc/self/fd"):  # noqa: PTH110 - Path is what is wrapped here
            path = os.readlink(f"/proc/self/fd/{descriptor}")  # noqa: PTH115
        operation("fsync", path)
        fsync(descriptor)

    def halfway(path: Path, content: bytes) -> None:
        with path.open("wb") as file:
            file.write(content[: len(content) // 2])
            file.flush()
            operation("write", str(path))
            file.write(content[len(content) // 2 :])
            file.flush()
            os.fsync(file.fileno())

    def counting(self: Checkpoint, saving: Any) -> None:
        nonlocal saved
        self.wait()
        saved += 1
        write(self, saving)

    os.fsync = synced
    for module in (dltrain.files, dltrain.runs.checkpoint, dltrain.runs.folder):
        module.write_through = halfway  # type: ignore[attr-defined]
    Checkpoint._write = counting  # type: ignore[method-assign]
    sys.addaudithook(audit)


def signal_at(  # noqa: C901 - a hook for each moment
    moment: str, number: int, group: bool, journal: str, at: int = 1
) -> None:
    """Send the process, or its group, a signal the `at`-th time that it reaches `moment`.

    Moments are batch, evaluation, save, run (before it makes the run's folder), import (of a module
    that lets no exception out) and second (two signals, the second while it handles the step of the
    first). `journal` then holds the step of the engine.
    """
    engines: list[Engine] = []
    passed = 0

    def send() -> None:
        nonlocal passed
        passed += 1
        if passed == at:
            Path(journal).write_text(str(engines[0].step if engines else 0))
            (os.killpg if group else os.kill)(os.getpid(), number)

    def began(engine: Engine) -> None:
        if not engines:
            engines.append(engine)
        if moment in ("batch", "second"):
            send()
        if moment == "second" and passed == at:
            time.sleep(0.01)
            os.kill(os.getpid(), number)
            time.sleep(60)

    before_batches(began)
    announced, commit, make = (
        Engine._announced,
        dltrain.runs.checkpoint.commit,
        dltrain.runs.folder.RunFolder.make,
    )

    def evaluating(self: Engine, batches: Iterator[Any]) -> Iterator[Any]:
        for batch in announced(self, batches):
            send()
            yield batch

    def saving(*args: Any) -> None:
        send()
        commit(*args)

    def making(*args: Any) -> Any:
        if moment == "run":
            send()
        else:
            importlib.import_module("swallows")
        return make(*args)

    if moment == "evaluation":
        Engine._announced = evaluating  # type: ignore[method-assign]
    elif moment == "save":
        dltrain.callbacks.checkpoint.commit = saving
    elif moment in ("run", "import"):
        folder = Path(journal).parent
        sys.path.insert(0, str(folder))
        (folder / "swallows.py").write_text(SWALLOWS.format(number=int(number)))
        dltrain.runs.folder.RunFolder.make = making  # type: ignore[method-assign,assignment]


def no_room(begin: int, end: int, journal: str, names: str = "", errno: str = "ENOSPC") -> None:
    """Let nothing be made, opened for writing, renamed or removed from step `begin` to `end`.

    It concerns paths below the run's folder (with `names` in them, if given). `journal` then holds
    the checkpoints there were, and whether they could be read.
    """
    full = begin < 0  # before there is an engine
    number = getattr(errors, errno)

    def audit(event: str, args: tuple[Any, ...]) -> None:
        path = (
            changed_path(event, args) if full and event != "shutil.rmtree" else None
        )  # its parts are refused
        if path and "outputs" in str(Path(path).absolute()) and names in path and path != journal:
            raise OSError(number, os.strerror(number), path)

    def began(engine: Engine) -> None:
        nonlocal full
        if engine.step == end:
            full = False
            witness(journal)
        elif engine.step == begin:
            settle()
            full = True

    before_batches(began)
    sys.addaudithook(audit)


def fill_disk(begin: int, end: int, disk: str, journal: str) -> None:
    """Fill the disk to the last byte from step `begin` to `end`; `journal` is as of `no_room`."""
    filler = Path(disk, "filler")

    def began(engine: Engine) -> None:
        if engine.step == end:
            witness(journal)
            filler.unlink()
        elif engine.step == begin:
            settle()
            fill(filler)

    before_batches(began)


def fill(path: Path) -> None:
    """Take all the room there is."""
    with path.open("wb", buffering=0) as file:
        for size in (65536, 4096, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue


def settle() -> None:
    """Wait until the current checkpoint is on the disk, so that the fault hits the next one."""
    for thread in threading.enumerate():
        if thread.name == "checkpoint writer":
            thread.join()


def witness(journal: str) -> None:
    """Write down every checkpoint that there is and how it loads."""
    settle()
    found = []
    for folder in sorted(Path("outputs").glob("*/*/checkpoints/[0-9]*")):
        try:
            dltrain.runs.checkpoint.load(folder)
            found.append(f"{folder.name} whole")
        except Exception as e:
            found.append(f"{folder.name} {type(e).__name__}")
    Path(journal).write_text("\n".join(found) + "\n")


def begin_at(moment: float) -> None:
    """Not before this time, that others begin at too."""
    time.sleep(max(0.0, moment - time.time()))


def slow(seconds: float) -> None:
    """Take so long over every batch."""
    before_batches(lambda engine: time.sleep(seconds))


def still_clock(calls: int) -> None:
    """The clock of the folders' names shows one time to the first so many calls."""
    real, called = dltrain.runs.folder.datetime, 0

    class Clock:
        @staticmethod
        def now() -> Any:
            nonlocal called
            called += 1
            return real(2030, 1, 1) if called <= calls else real.now()

    dltrain.runs.folder.datetime = Clock  # type: ignore[assignment,misc]


def stuck_image(name: str, after: int) -> None:
    """Reading the image `name` never ends, once `after` images were read."""
    from dltrain.data.images import decode

    receiver, _ = os.pipe()
    plain, seen = decode.read_image, []

    def read(path: Path, *more: Any) -> Any:
        seen.append(path)
        return (
            os.read(receiver, 1)
            if str(path).endswith(name) and len(seen) > after
            else plain(path, *more)
        )

    decode.read_image = read


def ignore_hangup(seconds: float) -> None:
    """Begin as nohup lets a command begin, and take so long over every batch."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    slow(seconds)


def careless_library() -> None:
    """Something writes to the descriptors of standard output and error at every batch, whatever
    they are.
    """

    def write(engine: Engine) -> None:
        for descriptor in (1, 2):
            try:
                os.write(descriptor, b"careless\n")
            except OSError:
                continue

    before_batches(write)


def killed_with_bar(step: int) -> None:
    """Import the bar's library as a new process does, and `kill -9` when the batch after so many
    steps begins.
    """
    for name in [name for name in sys.modules if name.partition(".")[0] == "rich"]:
        del sys.modules[name]

    def kill(engine: Engine) -> None:
        if engine.step == step:
            settle()
            os.kill(os.getpid(), signal.SIGKILL)

    before_batches(kill)
