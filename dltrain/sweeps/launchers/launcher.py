"""The interface of launchers, which run the jobs of a sweep."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from dltrain.sweeps.jobs.job import SweepJob

Decide = Callable[[int, int, float], str]
"""Called with (number of the job, number of the evaluation, value); returns why to prune, or ""."""


@dataclass(frozen=True)
class Site:
    """The sweep, as a launcher needs to know it.

    `folder` is that of the sweep. `decide` judges an evaluation of a job that runs in this process;
    other processes report through files (`dltrain.sweeps.jobs.reports`). `adapts` is True if trials
    depend on the results of earlier ones, so that they should not all start at once.
    """

    folder: Path
    decide: Decide
    adapts: bool = False


@dataclass(frozen=True)
class Ended:
    """A job whose process is gone.

    `reason` says why it could not end by itself, such as "killed by SIGKILL"; it is empty if it
    did, and has then written its outcome.
    """

    number: int
    reason: str = ""


class Launcher(ABC):
    """Runs jobs, some side by side.

    `warm_up` comes first, while the configurations of the trials are still being checked. The
    coordinator calls `open`, then `start` and `wait` in turn, and `close` at the end, also after an
    error, and perhaps twice. All calls come from one thread.

    Attributes:
        in_process: Whether jobs run in this process: they find the classes of its program, and
            print on its screen.
    """

    in_process: ClassVar[bool] = False

    def warm_up(self) -> None:
        """Begin what takes a while; `close` ends it, perhaps without `open` in between."""

    @abstractmethod
    def open(self, site: Site) -> None:
        """Get ready to start jobs."""

    @abstractmethod
    def free(self) -> int:
        """Return how many more jobs may be started now."""

    @abstractmethod
    def start(self, job: SweepJob) -> None:
        """Start a job, which ends by writing its outcome (`dltrain.sweeps.jobs.job.perform`)."""

    @abstractmethod
    def wait(self, seconds: float) -> list[Ended]:
        """Return the jobs that have ended since the last call; wait for one up to `seconds`."""

    @abstractmethod
    def interrupt(self, signal_number: int) -> None:
        """Ask the running jobs to save a checkpoint and end; those that wait do not start."""

    @abstractmethod
    def kill(self) -> None:
        """End the running jobs at once."""

    @abstractmethod
    def close(self) -> None:
        """Release processes and files. No job runs any more when it returns."""
