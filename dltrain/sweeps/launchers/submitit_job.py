"""A job of a sweep in a process of submitit: it saves and is requeued when it is preempted."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

from submitit import JobEnvironment
from submitit.core.utils import UncompletedJobError
from submitit.helpers import DelayedSubmission

from dltrain.host import Host, hosted_by
from dltrain.sweeps.jobs.job import SweepJob, outcome_of, perform, unfinished, write_outcome
from dltrain.sweeps.jobs.output import logged_output
from dltrain.sweeps.jobs.reports import Reporter

CLUSTER_JOB = Host(shows_progress=False, ignores_second_signal=True)
SLURM = "slurm"
NOTICE_SECONDS = 600.0  # after SIGTERM: the longest wait for what SLURM does next
POLL_SECONDS = 0.1


class SubmittedJob:
    """Performs a job of a sweep in a process that submitit starts.

    SLURM announces that it takes a job's node away, or that its time ends, by a signal (SIGUSR2 in
    submitit). The run then saves a checkpoint at its next step and ends; after that submitit
    requeues the job, and the next process continues the run in the same folder.

    submitit pickles this object, so it has plain values only.

    Args:
        text: The job as JSON.
        minutes: The time limit, for messages.
    """

    def __init__(self, text: str, minutes: int) -> None:
        self.text = text
        self.minutes = minutes

    def checkpoint(self) -> DelayedSubmission:
        """Return what submitit calls after the job has been requeued."""
        return DelayedSubmission(SubmittedJob(self.text, self.minutes))

    def __call__(self) -> None:
        """Perform the job to its end, or until it is requeued, which ends the process."""
        job = SweepJob.from_json(self.text)
        job.outcome.unlink(missing_ok=True)
        environment = JobEnvironment()
        is_slurm = environment.cluster == SLURM
        if not is_slurm:
            end_with(int(environment.job_id))  # the process that has started this one
        with Notices() as notices:
            interrupted_by = performed(job, notices)
            if is_slurm and interrupted_by == signal.SIGTERM:
                job.outcome.unlink(missing_ok=True)
                notices.wait_for_preemption()
        if interrupted_by and notices.preempted:
            job.outcome.unlink(missing_ok=True)
            self.requeue(job, notices)

    def requeue(self, job: SweepJob, notices: Notices) -> None:
        """Have submitit requeue the job; a job with too many attempts has failed."""
        try:
            notices.requeue(notices.number, None)
        except UncompletedJobError:
            reason = f"its time of {self.minutes} minutes ended too often (launcher.requeues)"
            write_outcome(job, unfinished("failed", reason))


class Notices:
    """Receives the signals that announce the end of the process, within `with notices:`.

    In training, `dltrain.callbacks.signals` handles SIGTERM, so a preemption raises that too.

    Attributes:
        number: The number of the signal that announces a preemption.
        preempted: Whether it has arrived.
        ended: Whether SIGTERM has arrived before or after the run.
        requeue: submitit's handler of the signal, which requeues the job and ends the process.
    """

    def __init__(self) -> None:
        self.number = signal.Signals[f"SIG{JobEnvironment.USR_SIG}"]
        self.preempted = False
        self.ended = False
        self.requeue: Callable[[int, FrameType | None], Any]

    def __enter__(self) -> Notices:
        self.handler_of_end = signal.signal(signal.SIGTERM, self.handle_end)
        self.requeue = signal.signal(self.number, self.handle_preemption)  # type: ignore[assignment]
        return self

    def __exit__(self, *exc: object) -> None:
        signal.signal(signal.SIGTERM, self.handler_of_end)
        signal.signal(self.number, self.requeue)

    def handle_end(self, number: int, frame: FrameType | None) -> None:
        """Remember SIGTERM."""
        self.ended = True

    def handle_preemption(self, number: int, frame: FrameType | None) -> None:
        """Ask the run to save and end."""
        self.preempted = True
        signal.raise_signal(signal.SIGTERM)

    def wait_for_preemption(self) -> None:
        """Wait for what follows SIGTERM, which SLURM sends first.

        It sends SIGUSR2 if the job is to be requeued, or requeues and kills the job itself. A job
        that ends before that counts as completed. SLURM kills it as well if it is canceled.
        """
        end = time.monotonic() + NOTICE_SECONDS
        while not self.preempted and time.monotonic() < end:
            time.sleep(POLL_SECONDS)


def performed(job: SweepJob, notices: Notices) -> int:
    """Perform a job; return the number of the signal that ended it, 0 if none did."""
    if notices.ended or notices.preempted:
        return int(signal.SIGTERM)
    try:
        with hosted_by(CLUSTER_JOB), logged_output(job):
            perform(job, Reporter(job).decide)
    except KeyboardInterrupt:  # a signal that arrived while another one ended the run
        return int(signal.SIGTERM)
    return int(outcome_of(job).get("signal", 0))


def end_with(controller: int) -> None:
    """End this process when its parent ends, which is killed in its place."""
    threading.Thread(target=watch_parent, args=(controller,), daemon=True).start()


def watch_parent(parent: int) -> None:
    """Wait until `parent` is no longer the parent of this process, then end it."""
    while os.getppid() == parent:
        time.sleep(POLL_SECONDS)
    os._exit(128 + signal.SIGKILL)
