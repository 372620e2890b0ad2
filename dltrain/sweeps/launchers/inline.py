"""The launcher that runs the jobs in this process, one after the other."""

from __future__ import annotations

from functools import partial

from dltrain.sweeps.jobs.job import SweepJob, perform
from dltrain.sweeps.launchers.launcher import Ended, Launcher, Site


class Inline(Launcher):
    """Runs each job in this process.

    It starts at once and shows its progress, but a job that ends the process ends the sweep.
    """

    in_process = True

    def __init__(self) -> None:
        self.waiting: list[SweepJob] = []

    def open(self, site: Site) -> None:
        self.site = site

    def free(self) -> int:
        return 1 - len(self.waiting)

    def start(self, job: SweepJob) -> None:
        self.waiting.append(job)

    def wait(self, seconds: float) -> list[Ended]:
        """Run the job that was started, however long it takes."""
        ended = []
        while self.waiting:
            job = self.waiting.pop()
            perform(job, partial(self.site.decide, job.number))
            ended.append(Ended(job.number))
        return ended

    def interrupt(self, signal_number: int) -> None:
        self.waiting.clear()

    def kill(self) -> None:
        self.waiting.clear()

    def close(self) -> None:
        self.waiting.clear()
