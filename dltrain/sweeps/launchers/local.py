"""The launcher that runs each job in a process of its own on this machine."""

from __future__ import annotations

import logging
import math
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from dltrain.errors import DltrainError
from dltrain.sweeps.jobs.job import INTERRUPTED, SweepJob, outcome_of
from dltrain.sweeps.launchers import slots
from dltrain.sweeps.launchers.launcher import Ended, Launcher, Site
from dltrain.sweeps.launchers.process_groups import group_lives, kill_group
from dltrain.sweeps.launchers.server_client import ForkServer, ServerGone
from dltrain.types import PositiveFloat, PositiveInt

log = logging.getLogger("dltrain")
KILL_SECONDS = 10.0  # for killed jobs to be gone
ORPHAN_GRACE_SECONDS = 35.0  # for jobs to end when the fork server is gone: they need 30 to save
POLL_SECONDS = 0.05
MAX_RESTARTS = 1


@dataclass
class RunningJob:
    """A job that has been started.

    Attributes:
        job: The job.
        slot: Its place among the jobs that run side by side.
        start: When its process began; the fork server may not be ready before.
        pid: Its process, which leads a group; 0 until the fork server tells it.
        kill_at: When it will be killed, once its time is over.
    """

    job: SweepJob
    slot: int
    start: float = math.inf
    pid: int = 0
    kill_at: float | None = None


class Local(Launcher):
    """Runs each job in a process of its own, which is forked with torch imported.

    A job that ends its process, or is killed, costs that job alone. All that it prints is in the
    sweep's folder, in `jobs/<number>.log`.

    Args:
        jobs: How many jobs run side by side; null: one for each GPU, and one without GPUs. The jobs
            share the CPU cores, and each has one GPU.
        timeout: Seconds after which a job is asked to save and end, and has failed.
        grace: Seconds that it then has, before it is killed.
    """

    def __init__(
        self,
        jobs: PositiveInt | None = None,
        timeout: PositiveFloat | None = None,
        grace: PositiveFloat = 10.0,
    ) -> None:
        self.gpus = slots.gpus()
        self.jobs = jobs or max(1, len(self.gpus))
        self.timeout = timeout
        self.grace = grace
        self.server: ForkServer | None = None
        self.running: dict[int, RunningJob] = {}
        self.free_slots = list(range(self.jobs))
        self.restarts = 0
        self.is_interrupted = False

    def warm_up(self) -> None:
        self.server = ForkServer(slots.environment_of_jobs(self.jobs))

    def open(self, site: Site) -> None:
        if self.server is None:
            self.warm_up()
        if self.jobs > slots.cores():
            log.warning(
                f"launcher.jobs={self.jobs}: this machine has {slots.cores()} CPU cores for this "
                "process, so the jobs wait for each other"
            )

    def free(self) -> int:
        return len(self.free_slots)

    def start(self, job: SweepJob) -> None:
        slot = self.free_slots.pop(0)
        self.running[job.number] = RunningJob(job, slot)
        with suppress(ServerGone):  # `wait` notices it, too
            self.opened.start(job, slots.environment_of_slot(slot, self.gpus))

    @property
    def opened(self) -> ForkServer:
        """The fork server."""
        assert self.server is not None
        return self.server

    def wait(self, seconds: float) -> list[Ended]:
        end = time.monotonic() + seconds
        while True:
            try:
                self.end_late_jobs()
                answers = self.opened.receive(min(end, self.next_deadline()) - time.monotonic())
            except ServerGone:
                return self.recover()
            ended = [self.ended(answer) for answer in answers if self.is_end(answer)]
            if ended or time.monotonic() >= end:
                return ended

    def is_end(self, answer: dict[str, Any]) -> bool:
        """Tell if an answer says that a job has ended; note the process of one that has started."""
        if "started" not in answer:
            return True
        running = self.running[answer["started"]]
        running.pid = answer["pid"]
        running.start = time.monotonic()
        return False

    def ended(self, answer: dict[str, Any]) -> Ended:
        """Return how a job has ended, and free its slot."""
        running = self.released(answer["ended"])
        return Ended(running.job.number, self.reason(running, answer))

    def released(self, number: int) -> RunningJob:
        """Return a job that runs no more, after freeing its slot."""
        running = self.running.pop(number)
        self.free_slots.append(running.slot)
        self.free_slots.sort()
        return running

    def reason(self, running: RunningJob, answer: dict[str, Any]) -> str:
        """Return why a job could not end by itself; "" if it did."""
        if running.kill_at is not None:
            return f"ended after launcher.timeout={self.timeout:g} s"
        code: int | None = answer["code"]
        if code is None:
            return str(answer["reason"])
        if code != 0:
            return end_of_process(code)
        outcome = outcome_of(running.job)
        if not outcome:
            return "exited with code 0 before its run had ended"
        if outcome.get("status") == INTERRUPTED and not self.is_interrupted:
            return f"{outcome['reason']}, which another program has sent"
        return ""

    def next_deadline(self) -> float:
        """Return when the next job has to be asked to end, or to be killed."""
        return min((self.deadline(job) for job in self.running.values()), default=math.inf)

    def deadline(self, running: RunningJob) -> float:
        """Return when a job has to be asked to end, or to be killed."""
        if running.kill_at is not None:
            return running.kill_at
        if self.timeout is None:
            return math.inf
        return running.start + self.timeout

    def end_late_jobs(self) -> None:
        """Ask jobs whose time is over to save and end; kill those that did not."""
        now = time.monotonic()
        for number, running in self.running.items():
            if self.deadline(running) > now:
                continue
            if running.kill_at is None:
                running.kill_at = now + self.grace
                self.opened.send_signal(number, signal.SIGTERM, group=False)
            else:
                running.kill_at = math.inf
                self.opened.send_signal(number, signal.SIGKILL, group=True)

    def interrupt(self, signal_number: int) -> None:
        self.is_interrupted = True
        with suppress(ServerGone):  # then its jobs end as well
            for number in self.running:
                self.opened.send_signal(number, signal_number, group=False)

    def kill(self) -> None:
        if self.server is None:
            return
        try:
            for number in self.running:
                self.server.send_signal(number, signal.SIGKILL, group=True)
            self.wait_for_killed()
        except ServerGone:
            self.end_orphans(0.0)

    def wait_for_killed(self) -> None:
        """Wait until the jobs are gone that have been killed; ServerGone if nobody tells."""
        end = time.monotonic() + KILL_SECONDS
        while self.running and time.monotonic() < end:
            for answer in self.opened.receive(POLL_SECONDS):
                if self.is_end(answer):
                    self.released(answer["ended"])

    def close(self) -> None:
        self.kill()
        if self.server is not None:
            self.server.close()
            self.server = None
        self.running.clear()

    def recover(self) -> list[Ended]:
        """Return the end of all jobs, whose fork server is gone, and start another one.

        Raises:
            DltrainError: It could not start, or it has been gone before.
        """
        server = self.opened
        printed = server.log()
        cause = end_of_process(server.close())
        self.server = None
        self.end_orphans(ORPHAN_GRACE_SECONDS)
        if self.restarts == MAX_RESTARTS:
            raise DltrainError(f"the process that starts the jobs has ended ({cause})\n{printed}")
        self.restarts += 1
        log.warning(f"the process that starts the jobs has ended ({cause}); it starts again")
        numbers = list(self.running)
        for number in numbers:
            self.released(number)
        self.warm_up()
        reason = f"ended with the process that had started it ({cause})"
        return [Ended(number, reason) for number in numbers]

    def end_orphans(self, seconds: float) -> None:
        """Wait until the jobs have ended, which notice that the fork server is gone; then kill."""
        groups = [job.pid for job in self.running.values() if job.pid]
        end = time.monotonic() + seconds
        while any(map(group_lives, groups)) and time.monotonic() < end:
            time.sleep(POLL_SECONDS)
        for group in groups:
            kill_group(group)


def end_of_process(code: int) -> str:
    """Return how a process has ended whose code is -N after signal N."""
    if code >= 0:
        return f"exited with code {code}"
    name = signal.Signals(-code).name
    if -code == signal.SIGKILL:
        return f"killed by {name} (out of memory?)"
    return f"killed by {name}"
