"""The launcher that trains runs as one program if they differ only in seeds and numbers."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

from dltrain.config.compose import compose
from dltrain.config.groups import config_dir
from dltrain.report.text import counted_noun
from dltrain.sweeps.jobs.job import SweepJob, perform
from dltrain.sweeps.launchers.launcher import Ended, Launcher, Site
from dltrain.types import PositiveInt

log = logging.getLogger("dltrain")
POOL = 4  # programs whose jobs are looked at together
INTERRUPTED = "the sweep was interrupted before the run began"


class Vectorized(Launcher):
    """Trains several jobs in this process as one program, in which their weights are stacked.

    Each run has its own folder, and equals the same run on its own except for rounding. Jobs of one
    program have the same configuration but for seeds, and numbers of the optimizer, the schedule,
    the loss, regularization and dropout. Others run one after the other.

    Args:
        runs: The maximum number of runs in a program.
    """

    in_process = True

    def __init__(self, runs: PositiveInt = 16) -> None:
        self.runs = runs
        self.waiting: list[SweepJob] = []
        self.is_interrupted = False

    def open(self, site: Site) -> None:
        self.site = site
        self.apart: set[str] = set()  # likenesses of jobs that turned out to need to be alone
        self.likenesses: dict[int, tuple[str, str]] = {}

    def free(self) -> int:
        capacity = self.runs if self.site.adapts else POOL * self.runs
        return capacity - len(self.waiting)

    def start(self, job: SweepJob) -> None:
        self.waiting.append(job)

    def wait(self, seconds: float) -> list[Ended]:
        """Train the first job and those that can be trained with it, however long that takes."""
        if self.is_interrupted:
            return self.dropped()
        if not self.waiting:
            return []
        jobs = self.next_jobs()
        self.waiting = [job for job in self.waiting if job not in jobs]
        if len(jobs) > 1:
            return self.trained_together(jobs)
        self.training(jobs[0])()
        return [Ended(jobs[0].number)]

    def next_jobs(self) -> list[SweepJob]:
        """Return the first job and those that can be trained with it; log why it is alone."""
        first = self.waiting[0]
        likeness, apart = self.likeness(first)
        if apart:
            log.info(f"trial {first.number} is trained alone: {apart}")
        if apart or likeness in self.apart:
            return [first]
        alike = [job for job in self.waiting if self.likeness(job)[0] == likeness]
        return alike[: self.runs]

    def likeness(self, job: SweepJob) -> tuple[str, str]:
        """Return what jobs of one program have in common, and why a job is trained alone, if so."""
        from dltrain.vectorized.alike import likeness, reason_apart

        if job.number not in self.likenesses:
            with config_dir(job.config_dir):
                config: dict[str, Any] = compose(list(job.overrides)).config
            self.likenesses[job.number] = likeness(config), reason_apart(config)
        return self.likenesses[job.number]

    def trained_together(self, jobs: list[SweepJob]) -> list[Ended]:
        """Train jobs as one program; those that cannot be in one wait to be trained one by one."""
        from dltrain.vectorized.group import JointTraining

        numbers = ", ".join(str(job.number) for job in jobs)
        log.info(f"trials {numbers} are trained as one program")
        group = JointTraining({job.number: self.training(job) for job in jobs})
        reason = group.execute()
        ended = [Ended(number, group.error(number)) for number in group.threads]
        left = [job for job in jobs if job.number not in group.threads]
        if group.signals.received:
            return [*ended, *(Ended(job.number, INTERRUPTED) for job in left)]
        if left:
            trials = counted_noun(len(left), "other trial")
            log.info(f"{trials} cannot be trained together: {reason}")
            self.apart.add(self.likeness(left[0])[0])
            self.waiting = [*left, *self.waiting]
        return ended

    def training(self, job: SweepJob) -> Any:
        """Return the function that trains a job, with more callbacks."""
        return partial(perform, job, partial(self.site.decide, job.number))

    def dropped(self) -> list[Ended]:
        """Return the end of the jobs that have not begun."""
        jobs = self.waiting
        self.waiting = []
        return [Ended(job.number, INTERRUPTED) for job in jobs]

    def interrupt(self, signal_number: int) -> None:
        self.is_interrupted = True

    def kill(self) -> None:
        self.waiting.clear()

    def close(self) -> None:
        self.waiting.clear()
