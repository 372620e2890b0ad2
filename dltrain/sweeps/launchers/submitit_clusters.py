"""The clusters that submitit submits to: SLURM, and processes of this machine for a trial of it."""

from __future__ import annotations

import getpass
import logging
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from submitit import Executor, Job, LocalExecutor, LocalJob, SlurmExecutor, SlurmJob

from dltrain.errors import UsageError

log = logging.getLogger("dltrain")
CHECK_SECONDS = 30.0  # between questions to SLURM, which many users ask
HASTY_CHECK_SECONDS = 2.0  # while the sweep ends
KILL_SECONDS = 5.0  # for processes that were killed
CONTROLLER = b"submitit.local._local"  # in the command of a local job's process
NO_NAME = re.compile(r"[^\w.-]+")
COMMANDS = ("sbatch", "srun", "squeue", "scancel")
STATES = {  # of SLURM: what a user reads
    "OUT_OF_MEMORY": "it ran out of memory; raise launcher.memory",
    "TIMEOUT": "its time ended; raise launcher.time",
    "NODE_FAIL": "its node failed",
    "CANCELLED": "it was canceled",
    "PREEMPTED": "it was preempted and not requeued",
}


class Cluster(ABC):
    """A place where submitit starts jobs.

    Attributes:
        name: Its name in `launcher.cluster`.
        poll_seconds: The time between two looks at the jobs.
        max_jobs: The number of jobs that it is given at most, without `launcher.jobs`.
    """

    name: str
    poll_seconds: float
    max_jobs: int

    @abstractmethod
    def executor(self, folder: Path, settings: Mapping[str, Any]) -> Executor:
        """Return submitit's executor, which writes its files into `folder`."""

    @abstractmethod
    def job(self, folder: Path, job_id: str) -> Job[None]:
        """Return a job that an earlier process submitted."""

    @contextmanager
    def submitting(self) -> Iterator[None]:
        """Surround submissions."""
        yield

    @abstractmethod
    def has_ended(self, job: Job[None]) -> bool:
        """Return True if a job that an earlier process submitted neither waits nor runs."""

    @abstractmethod
    def ended(self, jobs: Iterable[Job[None]]) -> list[Job[None]]:
        """Return the jobs that neither wait nor run."""

    @abstractmethod
    def reason(self, job: Job[None]) -> str:
        """Return why a job ended without a result."""

    @abstractmethod
    def interrupt(self, jobs: list[Job[None]]) -> None:
        """Ask running jobs to save and end, and remove those that wait."""

    @abstractmethod
    def kill(self, jobs: list[Job[None]]) -> None:
        """End jobs at once."""


def has_result(job: Job[None]) -> bool:
    """Return True if the function of a job has returned, or raised an error."""
    return bool(job.paths.result_pickle.exists())


def log_of(job: Job[None]) -> str:
    """Return submitit's log of a job, relative to the folder of the sweep."""
    path = job.paths.stdout
    return "/".join(path.parts[-3:])


class Slurm(Cluster):
    """SLURM: jobs are found by `squeue`, which needs no accounting."""

    name = "slurm"
    poll_seconds = 1.0
    max_jobs = 1000  # elements of an array by default

    def __init__(self) -> None:
        missing = [command for command in COMMANDS if shutil.which(command) is None]
        if missing:
            raise UsageError(
                f"launcher=submitit: {missing[0]} is not a command here; start the sweep on a "
                "machine of the SLURM cluster, or set launcher.cluster=local to run jobs here"
            )
        self.check_seconds = CHECK_SECONDS
        self.last_check = -CHECK_SECONDS
        self.missing: set[str] = set()  # the jobs that squeue did not have at the last check
        self.is_quiet = False

    def executor(self, folder: Path, settings: Mapping[str, Any]) -> Executor:
        executor = SlurmExecutor(folder, max_num_timeout=settings["requeues"])
        values = {
            "job_name": NO_NAME.sub("_", f"dltrain_{settings['name']}"),
            "time": settings["time"],
            "signal_delay_s": settings["grace"],
            "array_parallelism": settings["jobs"] or self.max_jobs,
            "gpus_per_node": settings["gpus"] or None,
            "cpus_per_task": settings["cpus"],
            "mem": gigabytes(settings["memory"]),
            "partition": settings["partition"],
            "account": settings["account"],
            "qos": settings["qos"],
            "constraint": settings["constraint"],
            "comment": settings["comment"],
            "stderr_to_stdout": True,
        }
        executor.update_parameters(**{k: value for k, value in values.items() if value is not None})
        return executor

    def job(self, folder: Path, job_id: str) -> Job[None]:
        return SlurmJob(folder, job_id)

    def has_ended(self, job: Job[None]) -> bool:
        known = self.known()
        return has_result(job) or (known is not None and job.job_id not in known)

    def ended(self, jobs: Iterable[Job[None]]) -> list[Job[None]]:
        """Return the jobs with a result, and those that squeue does not have twice in turn."""
        with_result = [job for job in jobs if has_result(job)]
        others = [job for job in jobs if job not in with_result]
        if time.monotonic() < self.last_check + self.check_seconds:
            return with_result
        self.last_check = time.monotonic()
        known = self.known()
        if known is None:
            return with_result
        missing = {job.job_id for job in others} - known
        gone = [job for job in others if job.job_id in missing & self.missing]
        self.missing = missing
        return [*with_result, *gone]

    def known(self) -> set[str] | None:
        """Return the ids of the user's jobs that wait or run; None if SLURM does not answer."""
        command = ["squeue", "--noheader", "--array", "--format=%i", f"--user={getpass.getuser()}"]
        try:
            answer = subprocess.run(command, capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError) as e:
            if not self.is_quiet:
                log.warning(f"squeue does not answer ({e}); the sweep waits")
            self.is_quiet = True
            return None
        self.is_quiet = False
        return set(answer.stdout.split())

    def reason(self, job: Job[None]) -> str:
        state = str(job.get_info(mode="force").get("State", "")).partition(" ")[0]
        why = STATES.get(state) or f"its process ended without results, see {log_of(job)}"
        return f"{why} (SLURM job {job.job_id}, {state or 'unknown to sacct'})"

    def interrupt(self, jobs: list[Job[None]]) -> None:
        """Remove the jobs that wait, and send SIGINT to those that run.

        SIGTERM would have them wait for a preemption.
        """
        self.check_seconds = HASTY_CHECK_SECONDS
        ids = [job.job_id for job in jobs]
        scancel("--state=PENDING", *ids)
        scancel("--signal=INT", *ids)

    def kill(self, jobs: list[Job[None]]) -> None:
        scancel(*[job.job_id for job in jobs])


def scancel(*words: str) -> None:
    """Run scancel; it complains about jobs that have ended, which is no error here."""
    subprocess.run(["scancel", "--quiet", *words], capture_output=True, check=False)


def gigabytes(count: float | None) -> str | None:
    """Return an amount of memory as SLURM reads it, in MB."""
    if count is None:
        return None
    return f"{round(count * 1024)}M"


class LocalProcesses(Cluster):
    """Processes of this machine, started as SLURM would start them, to try a sweep out."""

    name = "local"
    poll_seconds = 0.05
    max_jobs = 1

    def executor(self, folder: Path, settings: Mapping[str, Any]) -> Executor:
        executor = LocalExecutor(folder, max_num_timeout=settings["requeues"])
        executor.update_parameters(
            timeout_min=settings["time"],
            signal_delay_s=settings["grace"],
            gpus_per_node=settings["gpus"],
            stderr_to_stdout=True,
        )
        return executor

    def job(self, folder: Path, job_id: str) -> Job[None]:
        return LocalJob(folder, job_id)

    @contextmanager
    def submitting(self) -> Iterator[None]:
        """Have the processes ignore Ctrl-C, which a terminal sends to them as well.

        The coordinator asks them to save and end; submitit's own handler would kill them.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def has_ended(self, job: Job[None]) -> bool:
        return not is_running(job)

    def ended(self, jobs: Iterable[Job[None]]) -> list[Job[None]]:
        return [job for job in jobs if not is_running(job)]

    def reason(self, job: Job[None]) -> str:
        return f"its process was killed, or its time ended, see {log_of(job)}"

    def interrupt(self, jobs: list[Job[None]]) -> None:
        self.send(signal.SIGTERM, jobs)

    def kill(self, jobs: list[Job[None]]) -> None:
        """Kill the controllers of jobs; their processes then end by themselves."""
        self.send(signal.SIGKILL, jobs)
        end = time.monotonic() + KILL_SECONDS
        while self.ended(jobs) != jobs and time.monotonic() < end:
            time.sleep(self.poll_seconds)

    def send(self, number: signal.Signals, jobs: list[Job[None]]) -> None:
        """Send a signal to jobs that run; their ids are those of their processes."""
        for job in jobs:
            if is_running(job):
                with suppress(ProcessLookupError):
                    os.kill(int(job.job_id), number)


def is_running(job: Job[None]) -> bool:
    """Return True if the process of a local job runs, also if an earlier process started it.

    Where there is no /proc, a job of an earlier process is taken to have ended; if it still runs,
    the lock of its run keeps the next one waiting.
    """
    if job.get_info()["jobState"] == "RUNNING":
        return True
    try:
        command = Path(f"/proc/{job.job_id}/cmdline").read_bytes()
    except OSError:
        return False
    return CONTROLLER in command and os.fsencode(job.paths.folder) in command
