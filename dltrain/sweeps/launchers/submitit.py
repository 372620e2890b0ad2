"""The launcher that submits the jobs of a sweep to SLURM, through the submitit library."""

from __future__ import annotations

import json
import logging
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge

from dltrain.errors import UsageError
from dltrain.files import replace_file, to_json
from dltrain.sweeps.jobs.job import INTERRUPTED, JOB_FILES, SweepJob, outcome_of
from dltrain.sweeps.launchers.launcher import Ended, Launcher, Site
from dltrain.types import PositiveFloat, PositiveInt

if TYPE_CHECKING:
    from submitit import Job

    from dltrain.sweeps.launchers.submitit_clusters import Cluster

log = logging.getLogger("dltrain")
MISSING = 'launcher=submitit needs submitit: pip install "dltrain-cli[slurm]"'
FOLDER = "submitit"  # in the folder of the files of jobs
RETRY_SECONDS = 30.0  # after a submission that failed while other jobs run
NAME = re.compile(r"[\w.,:/@+-]+")  # of a partition, an account, a quality of service
CONSTRAINT = re.compile(r"[\w.,:/@+&|!*()\[\]-]+")


class Submitit(Launcher):
    """Submits each job to SLURM, or starts it on this machine as SLURM would.

    The process of the sweep waits on the machine where it was started. If it is killed, the jobs
    continue, and `dltrain resume` waits for them instead of submitting them again. A job that is
    preempted, or whose time ends, saves a checkpoint, is requeued and continues its run.

    There is no setting for shell commands or further lines of a batch file: a configuration file
    must not be able to run code. Start the sweep from a shell that has what the jobs need, such as
    loaded modules; SLURM copies its environment.

    Args:
        cluster: `slurm`, or `local` to try the sweep on this machine.
        jobs: How many run side by side; None is as many as SLURM lets run, and one locally. A grid
            is submitted as one array. Samplers that learn from results need a number.
        time: The time limit of an attempt at a job, in minutes.
        grace: The seconds before the end of the time at which the job saves and is requeued.
        requeues: How often a job is requeued because its time ended.
        partition: The partition; None is the cluster's default, also for the following.
        account: The account that is charged.
        qos: The quality of service.
        constraint: Features that the node must have, such as `a100|h100`.
        gpus: GPUs of each job.
        cpus: CPU cores of each job.
        memory: Memory of each job in GB.
        comment: A comment that SLURM shows with the jobs.
    """

    def __init__(  # noqa: PLR0913
        self,
        cluster: Literal["slurm", "local"] = "slurm",
        jobs: PositiveInt | None = None,
        time: PositiveInt = 60,
        grace: PositiveInt = 90,
        requeues: Annotated[int, Ge(0)] = 3,
        partition: str | None = None,
        account: str | None = None,
        qos: str | None = None,
        constraint: str | None = None,
        gpus: Annotated[int, Ge(0)] = 0,
        cpus: PositiveInt | None = None,
        memory: PositiveFloat | None = None,
        comment: str | None = None,
    ) -> None:
        names = {"partition": partition, "account": account, "qos": qos}
        for key, value in names.items():
            require_plain(key, value, NAME)
        require_plain("constraint", constraint, CONSTRAINT)
        if comment is not None and not comment.isprintable():
            raise ValueError("comment: expected one line of text")
        if grace >= time * 60:
            raise ValueError(
                f"grace={grace} seconds are not less than time={time} minutes; set a smaller grace"
            )
        self.cluster_name = cluster
        self.jobs = jobs
        self.time = time
        self.settings: dict[str, Any] = {
            **names,
            "jobs": jobs,
            "time": time,
            "grace": grace,
            "requeues": requeues,
            "constraint": constraint,
            "gpus": gpus,
            "cpus": cpus,
            "memory": memory,
            "comment": comment,
        }
        self.batch: list[SweepJob] = []  # started, and submitted at the next `wait`
        self.active: dict[int, tuple[SweepJob, Job[None]]] = {}
        self.is_interrupted = False
        self.next_look = 0.0
        self.submit_at = 0.0  # not before this time, after a submission that failed

    def warm_up(self) -> None:
        self.cluster: Cluster = cluster_called(self.cluster_name)

    def open(self, site: Site) -> None:
        self.site = site
        if site.adapts and self.jobs is None and self.cluster_name == "slurm":
            raise UsageError(
                "the sampler chooses trials by the results of earlier ones, so they cannot all be "
                "submitted at once: set how many run side by side, such as launcher.jobs=4"
            )
        self.folder = (site.folder / JOB_FILES / FOLDER).absolute()
        require_submittable(self.folder)
        settings = {**self.settings, "name": site.folder.name}
        self.executor = self.cluster.executor(self.folder, settings)

    def free(self) -> int:
        """Return how many more jobs may be started.

        A first array has all trials, since SLURM itself limits how many of them run; later ones
        only what may run beside it.
        """
        limit = self.jobs or self.cluster.max_jobs
        if not self.active and not self.site.adapts:
            limit = max(limit, self.cluster.max_jobs)
        return limit - len(self.active) - len(self.batch)

    def start(self, job: SweepJob) -> None:
        before = self.submitted_before(job)
        if before is None:
            self.batch.append(job)
        else:
            log.info(f"  it is running already, as job {before.job_id}")
            self.active[job.number] = (job, before)

    def submitted_before(self, job: SweepJob) -> Job[None] | None:
        """Return the job that an earlier process submitted, if it still waits or runs."""
        try:
            record = json.loads(record_of(job).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        if record.get("cluster") != self.cluster_name:
            return None
        earlier = self.cluster.job(self.folder, str(record["id"]))
        return None if self.cluster.has_ended(earlier) else earlier

    def wait(self, seconds: float) -> list[Ended]:
        self.submit()
        end = time.monotonic() + seconds
        while True:
            ended = self.look()
            now = time.monotonic()
            if ended or now >= end:
                return ended
            time.sleep(max(0.0, min(end, self.next_look) - now))

    def submit(self) -> None:
        """Submit the jobs that were started, as one array.

        If that fails while others run, it is tried again later. Raises UsageError if none runs.
        """
        if not self.batch or time.monotonic() < self.submit_at:
            return
        from submitit.core.utils import UncompletedJobError

        from dltrain.sweeps.launchers.submitit_job import SubmittedJob

        jobs = self.batch
        self.batch = []
        calls = [SubmittedJob(job.as_json(), self.time) for job in jobs]
        try:
            with self.cluster.submitting():
                submitted = self.executor.submit_array(calls)
        except (UncompletedJobError, RuntimeError, OSError) as e:
            if not self.active:
                raise UsageError(f"the jobs cannot be submitted: {e}") from e
            log.warning(f"{len(jobs)} jobs cannot be submitted now, and are tried again: {e}")
            self.batch = jobs
            self.submit_at = time.monotonic() + RETRY_SECONDS
            return
        for job, handle in zip(jobs, submitted, strict=True):
            self.active[job.number] = (job, handle)
            self.note_submission(job, handle)

    def note_submission(self, job: SweepJob, handle: Job[None]) -> None:
        """Write as what a job was submitted, so that a resume does not submit it again."""
        record = {"cluster": self.cluster_name, "id": handle.job_id}
        try:
            replace_file(record_of(job), f"{to_json(record)}\n".encode())
        except OSError as e:
            log.warning(f"{record_of(job)} cannot be written: {e.strerror or e}")

    def look(self) -> list[Ended]:
        """Return the jobs that have ended, if it is time to look at them."""
        if time.monotonic() < self.next_look:
            return []
        self.next_look = time.monotonic() + self.cluster.poll_seconds
        gone = self.cluster.ended([handle for _, handle in self.active.values()])
        return [
            self.end(job, handle)
            for job, handle in list(self.active.values())
            if any(handle is one for one in gone)
        ]

    def end(self, job: SweepJob, handle: Job[None]) -> Ended:
        """Forget a job that has ended; return it with the reason if it left no outcome."""
        del self.active[job.number]
        record_of(job).unlink(missing_ok=True)
        outcome = outcome_of(job)
        if not outcome:
            return Ended(job.number, self.cluster.reason(handle))
        if outcome.get("status") == INTERRUPTED and not self.is_interrupted:
            return Ended(job.number, f"{outcome['reason']}, which another program has sent")
        return Ended(job.number)

    def interrupt(self, signal_number: int) -> None:
        self.is_interrupted = True
        self.batch = []
        self.cluster.interrupt(self.handles)

    @property
    def handles(self) -> list[Job[None]]:
        """The jobs that wait or run."""
        return [handle for _, handle in self.active.values()]

    def kill(self) -> None:
        self.batch = []
        if self.active:
            self.cluster.kill(self.handles)

    def close(self) -> None:
        self.kill()
        for job, _ in self.active.values():
            record_of(job).unlink(missing_ok=True)
        self.active = {}


def require_plain(key: str, value: str | None, pattern: re.Pattern[str]) -> None:
    """Raise ValueError unless a value may stand in a batch file, which is a shell script."""
    if value is not None and not pattern.fullmatch(value):
        raise ValueError(f"{key}={value!r}: expected a name of SLURM, without spaces or quotes")


def require_submittable(folder: Path) -> None:
    """Raise UsageError for a folder that submitit or a batch file would read as something else."""
    text = str(folder)
    if "%" in text or not text.isprintable():
        raise UsageError(
            f"launcher=submitit: the folder {text!r} has a % or a line break in its name; set "
            "another paths.output"
        )


def record_of(job: SweepJob) -> Path:
    """Return the file that says as what a job was submitted."""
    return job.outcome.with_suffix(".submitit")


def cluster_called(name: str) -> Cluster:
    """Return the cluster of a name; UsageError if submitit is not installed."""
    try:
        from dltrain.sweeps.launchers.submitit_clusters import LocalProcesses, Slurm
    except ModuleNotFoundError as e:
        raise UsageError(MISSING) from e
    logging.getLogger("submitit").setLevel(logging.ERROR)
    return Slurm() if name == Slurm.name else LocalProcesses()
