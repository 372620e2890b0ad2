"""The errors that end a run, each with the exit code that the command line returns for it."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path


def first_names(names: Sequence[str], most: int) -> str:
    """Join the first `most` names for a message, and say how many more there are."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


class DltrainError(Exception):
    """An end that is the user's to understand: printed in a few lines, without a traceback."""

    exit_code = 1


class UsageError(DltrainError):
    """The command or its configuration cannot mean anything (exit 2)."""

    exit_code = 2


class ConfigError(UsageError):
    """Every problem found in a configuration, each a (what was written, what is wrong and what to write) pair."""

    def __init__(self, problems: list[tuple[str, str]]) -> None:
        self.problems = problems
        count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''} in the configuration"
        width = min(max(len(what) for what, _ in problems), 40)
        super().__init__(
            "\n".join([count, *(f"  {what:<{width}}  {why}" for what, why in problems)])
        )


class InputError(DltrainError):
    """A data set, a checkpoint, a run folder or another input file is missing or broken (exit 3)."""

    exit_code = 3


class DivergedError(DltrainError):
    """A loss or a metric stopped being finite (exit 4)."""

    exit_code = 4


class Interrupted(DltrainError):
    """A signal asked the run to end; `exit_code` is 128 plus its number (129 SIGHUP, 130 SIGINT,
    143 SIGTERM).
    """

    def __init__(self, signal_number: int) -> None:
        self.exit_code = 128 + signal_number
        super().__init__(f"interrupted by {signal.Signals(signal_number).name}")


class StoppedBySignal(KeyboardInterrupt):
    """A signal came where Ctrl-C would be raised: what has been begun is cleaned up."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__()


def ending_signals() -> list[signal.Signals]:
    """Return the signals that ask a process to end; not a hangup that is ignored, as under nohup."""
    found = [signal.SIGINT, signal.SIGTERM]
    hangup = signal.Signals.__members__.get("SIGHUP")  # not on Windows
    if hangup is not None and signal.getsignal(hangup) != signal.SIG_IGN:
        found.append(hangup)
    return found


class SaveError(DltrainError):
    """A checkpoint could not be written (exit 1): where, why, and how many bytes it needs (0: unknown) and there are."""

    def __init__(self, path: Path, reason: OSError, needed: int) -> None:
        room = ""
        with suppress(OSError):  # the disk itself may be gone
            room = f", {shutil.disk_usage(existing(path)).free:,} bytes are free"
        why = reason.strerror or reason
        super().__init__(
            f"{path} cannot be saved: {why}"
            + (f"; it needs {needed:,} bytes{room}" if needed else "")
        )


def existing(path: Path) -> Path:
    """The nearest folder above `path` that is there."""
    return next((folder for folder in path.parents if folder.is_dir()), Path(os.sep))


def first_line(error: Exception) -> str:
    """Of what an error says, as much as fits into a report."""
    lines = (str(error) or str(error.__cause__ or "")).splitlines() or [type(error).__name__]
    return " ".join(lines[: 2 if lines[0].endswith(":") else 1])[:200]
