"""The launcher that runs the jobs of a sweep on a Ray cluster, or on a Ray of this machine."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from dltrain.errors import UsageError, first_line
from dltrain.sweeps.jobs.job import INTERRUPTED, SweepJob, outcome_of
from dltrain.sweeps.launchers.launcher import Ended, Launcher, Site
from dltrain.types import NonNegative, PositiveFloat, PositiveInt

MISSING = 'launcher=ray needs ray: pip install "dltrain-cli[ray]"'
QUIET = {  # no statistics are sent, no copies of logs are printed
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS": "0",
}
PREFIXES = ("DLTRAIN_", "OMP_", "HYDRA_")  # of the variables that jobs get
KILL_SECONDS = 10.0  # for killed jobs to be gone


class Ray(Launcher):
    """Runs each job in a worker process of Ray, which ends with the job.

    A job that ends its process costs that job alone. On several machines the folder of the sweep,
    the data and the Python environment must be at the same place on all of them, such as on a
    shared file system.

    Args:
        address: The address of a Ray cluster, such as `auto` or `ray-head:6379`; None starts a Ray
            on this machine, which ends with the sweep.
        jobs: How many jobs run side by side; None is as many as there are CPUs and GPUs for. Set it
            on a cluster that grows when jobs wait.
        cpus: CPUs of each job; its threads are as many.
        gpus: GPUs of each job; 0.5 lets two jobs share one.
    """

    def __init__(
        self,
        address: str | None = None,
        jobs: PositiveInt | None = None,
        cpus: PositiveFloat = 1,
        gpus: NonNegative = 0,
    ) -> None:
        self.address = address
        self.jobs = jobs
        self.cpus = cpus
        self.gpus = gpus
        self.active: dict[int, tuple[SweepJob, Any]] = {}  # with Ray's reference to the task
        self.is_interrupted = False
        self.ray: Any = None  # the library, once it is connected

    def warm_up(self) -> None:
        imported_ray()

    def open(self, site: Site) -> None:
        self.ray = opened_ray(self.address)
        remote = self.ray.remote(
            num_cpus=self.cpus,
            num_gpus=self.gpus,
            max_retries=0,  # a resume continues the run
            max_calls=1,  # a process of its own for each job
        )
        self.perform = remote(perform_remotely)
        self.place = (str(Path.cwd()), list(sys.path), variables_of_jobs(os.environ))
        if self.capacity() == 0:
            raise UsageError(
                f"launcher=ray: no machine has launcher.cpus={self.cpus:g} and "
                f"launcher.gpus={self.gpus:g}; the cluster has {self.resource('CPU'):g} CPUs and "
                f"{self.resource('GPU'):g} GPUs"
            )

    def resource(self, name: str) -> float:
        """Return how many CPUs or GPUs the cluster has."""
        return float(self.ray.cluster_resources().get(name, 0))

    def capacity(self) -> int:
        """Return how many jobs the cluster has CPUs and GPUs for."""
        if self.jobs is not None:
            return self.jobs
        count = self.resource("CPU") // self.cpus
        if self.gpus:
            count = min(count, self.resource("GPU") // self.gpus)
        return int(count)

    def free(self) -> int:
        return self.capacity() - len(self.active)

    def start(self, job: SweepJob) -> None:
        self.active[job.number] = (job, self.perform.remote(job.as_json(), *self.place))

    def wait(self, seconds: float) -> list[Ended]:
        references = [reference for _, reference in self.active.values()]
        if not references:
            return []
        done, _ = self.ray.wait(references, num_returns=1, timeout=seconds)
        return [
            self.end(job, reference)
            for job, reference in list(self.active.values())
            if reference in done
        ]

    def end(self, job: SweepJob, reference: Any) -> Ended:
        """Forget a job that has ended; return it with the reason if it left no outcome."""
        del self.active[job.number]
        why = self.error_of(reference)
        outcome = outcome_of(job)
        if outcome.get("status") == INTERRUPTED and not self.is_interrupted:
            return Ended(job.number, f"{outcome['reason']}, which another program has sent")
        return Ended(job.number, "" if outcome else why)

    def error_of(self, reference: Any) -> str:
        """Return why the process of a task has ended early; "" if it has not."""
        exceptions = self.ray.exceptions
        try:
            self.ray.get(reference)
        except exceptions.TaskCancelledError:
            return "it was canceled"
        except exceptions.WorkerCrashedError:
            return "its process was killed, or ended itself"
        except exceptions.RayError as e:
            return f"{type(e).__name__}: {first_line(e)}"
        return "it left no results"

    def interrupt(self, signal_number: int) -> None:
        """Cancel the jobs: those that wait do not start, those that run get a SIGINT."""
        self.is_interrupted = True
        for _, reference in self.active.values():
            self.ray.cancel(reference, force=False)

    def kill(self) -> None:
        references = [reference for _, reference in self.active.values()]
        for reference in references:
            with suppress(ValueError):  # it has ended
                self.ray.cancel(reference, force=True)
        if references:
            self.ray.wait(references, num_returns=len(references), timeout=KILL_SECONDS)

    def close(self) -> None:
        if self.ray is None:
            return
        self.kill()
        self.active = {}
        self.ray.shutdown()
        self.ray = None


def imported_ray() -> Any:
    """Return the library; UsageError if it is not installed."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ModuleNotFoundError as e:
        raise UsageError(MISSING) from e
    return ray


def opened_ray(address: str | None) -> Any:
    """Return the library, connected to a cluster; UsageError if it cannot connect."""
    ray = imported_ray()
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    settings: dict[str, Any] = {}
    if address is None:
        settings["include_dashboard"] = False
    try:
        with kept_handler(signal.SIGTERM):
            ray.init(
                address=address or "local",
                log_to_driver=False,
                configure_logging=False,
                **settings,
            )
    except (ConnectionError, RuntimeError, ValueError) as e:
        raise UsageError(f"launcher.address={address}: {first_line(e)}") from e
    return ray


@contextmanager
def kept_handler(number: int) -> Iterator[None]:
    """Restore the handler of a signal after the block."""
    before = signal.getsignal(number)
    yield
    if threading.current_thread() is threading.main_thread():
        signal.signal(number, before)


def variables_of_jobs(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that decide about runs, which a worker on another machine lacks."""
    return {name: value for name, value in environment.items() if name.startswith(PREFIXES)}


def perform_remotely(text: str, folder: str, path: list[str], variables: dict[str, str]) -> None:
    """Perform a job in a worker process of Ray, in the folder where the sweep was started."""
    os.chdir(folder)
    sys.path[:] = [*path, *[entry for entry in sys.path if entry not in path]]
    os.environ.update(variables)
    from dltrain.host import Host, hosted_by
    from dltrain.sweeps.jobs.job import perform
    from dltrain.sweeps.jobs.output import logged_output
    from dltrain.sweeps.jobs.reports import Reporter

    job = SweepJob.from_json(text)
    with hosted_by(Host(shows_progress=False, ignores_second_signal=True)), logged_output(job):
        perform(job, Reporter(job).decide)
