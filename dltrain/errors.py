"""Errors that are the user's to understand, each with the exit code of the command line."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from dltrain.terminal import cells, pad

MAX_KEY_CELLS = 40  # width of the left column of a list of problems
MAX_REASON_CHARS = 200  # of an error in a report


def first_names(names: Sequence[str], most: int) -> str:
    """Join the first `most` names for a message, and say how many more there are."""
    joined = ", ".join(names[:most])
    if len(names) > most:
        return f"{joined} and {len(names) - most:,} more"
    return joined


class DltrainError(Exception):
    """An error that is printed in a few lines, without a traceback."""

    exit_code = 1

    def __reduce__(self) -> tuple[Any, ...]:
        """Let another process have the error, as pools of processes pass it on."""
        return rebuilt, (type(self), self.args, self.__dict__)


AnyError = TypeVar("AnyError", bound=BaseException)


def rebuilt(kind: type[AnyError], arguments: tuple[Any, ...], attributes: Any) -> AnyError:
    """Return an error with the message and attributes of one that was pickled.

    Its class may make the message of other arguments, so its constructor is not called.
    """
    error = kind.__new__(kind, *arguments)
    error.__dict__.update(attributes)
    return error


class UsageError(DltrainError):
    """An error of the command or its configuration (exit 2)."""

    exit_code = 2


class ConfigError(UsageError):
    """All problems found in a configuration.

    Each is a pair: what was written, and what is wrong with it and what to write instead.
    """

    def __init__(self, problems: list[tuple[str, str]]) -> None:
        self.problems = problems
        noun = "problem" if len(problems) == 1 else "problems"
        width = min(max(cells(written) for written, _ in problems), MAX_KEY_CELLS)
        lines = [f"{len(problems)} {noun} in the configuration"]
        for written, reason in problems:
            lines.append(f"  {pad(written, width)}  {reason}")
        super().__init__("\n".join(lines))


class UserCodeError(UsageError):
    """An error in a user's own model, data set, task, loss, metric or callback (exit 2).

    The message names the file and the line, and the shapes of the tensors there. `file` and `line`
    are those of the user's code, "" and 0 where they are not known. The error that was raised
    there is the `__cause__`.
    """

    def __init__(self, message: str, file: str = "", line: int = 0) -> None:
        self.file = file
        self.line = line
        super().__init__(message)


class InputError(DltrainError):
    """A data set, checkpoint, run folder or another input is missing or broken (exit 3)."""

    exit_code = 3


class DivergedError(DltrainError):
    """A loss or a metric that is not finite any more (exit 4)."""

    exit_code = 4


class PrunedError(DltrainError):
    """A run that was ended because other trials of its sweep are better."""


class NotReproducedError(DltrainError):
    """A run whose metrics another training of it does not give again (exit 5)."""

    exit_code = 5


class Interrupted(DltrainError):
    """A signal that asked the run to end.

    `exit_code` is 128 plus its number (129 SIGHUP, 130 SIGINT, 143 SIGTERM).
    """

    def __init__(self, signal_number: int) -> None:
        self.exit_code = 128 + signal_number
        super().__init__(f"interrupted by {signal.Signals(signal_number).name}")


class StoppedBySignal(KeyboardInterrupt):
    """A signal outside training, raised where Ctrl-C would be: cleaning up still happens."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__()


def ending_signals() -> list[signal.Signals]:
    """Return the signals that ask a process to end.

    A hangup is not one of them if it is ignored, as under nohup.
    """
    signals = [signal.SIGINT, signal.SIGTERM]
    hangup = signal.Signals.__members__.get("SIGHUP")  # Windows has none
    if hangup is not None and signal.getsignal(hangup) != signal.SIG_IGN:
        signals.append(hangup)
    return signals


class SaveError(DltrainError):
    """A checkpoint that could not be written (exit 1), with the reason.

    `needed` is its size in bytes, or 0 if that is unknown; the message compares it to the free
    space.
    """

    def __init__(self, path: Path, reason: OSError, needed: int) -> None:
        message = f"{path} cannot be saved: {reason.strerror or reason}"
        if needed:
            message += f"; it needs {needed:,} bytes"
            with suppress(OSError):  # the disk itself may be gone
                free = shutil.disk_usage(existing_parent(path)).free
                message += f", {free:,} bytes are free"
        super().__init__(message)


def existing_parent(path: Path) -> Path:
    """Return the nearest folder above `path` that exists."""
    for folder in path.parents:
        if folder.is_dir():
            return folder
    return Path(os.sep)


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, for a report.

    The second one is added if the first ends in a colon.
    """
    text = str(error) or str(error.__cause__ or "") or type(error).__name__
    lines = text.splitlines()
    count = 2 if lines[0].endswith(":") else 1
    return " ".join(lines[:count])[:MAX_REASON_CHARS]
