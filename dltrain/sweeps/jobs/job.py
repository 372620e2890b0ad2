"""One job of a sweep: a run that is trained, or continued if an earlier attempt began it."""

from __future__ import annotations

import json
import logging
import signal
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dltrain.callbacks.latency import Latency
from dltrain.callbacks.pruning import Pruning
from dltrain.config.check import raise_all
from dltrain.config.compose import compose
from dltrain.config.groups import config_dir
from dltrain.engine import Callback
from dltrain.errors import (
    ConfigError,
    DivergedError,
    DltrainError,
    InputError,
    Interrupted,
    PrunedError,
    StoppedBySignal,
)
from dltrain.experiment.session import start
from dltrain.files import replace_file, to_json
from dltrain.interrupts import raised_signals
from dltrain.options import Options
from dltrain.runs.automatic import surrounding_overrides
from dltrain.runs.continuation import continue_run
from dltrain.runs.folder import CONFIG, FINISHED, MANIFEST, RESULTS, RunFolder
from dltrain.runs.identity import identity, requested_config
from dltrain.runs.lock import is_locked
from dltrain.user_code import user_errors_explained

log = logging.getLogger("dltrain")
JOB_FILES = "jobs"  # the folder of the files of single jobs, in that of the sweep
PRUNED = "pruned"
ENDED = (*FINISHED, PRUNED)  # statuses of jobs that a resume of the sweep leaves alone
INTERRUPTED = "interrupted"
IMPOSSIBLE = "impossible"  # in the results of a trial that no attempt could train
LOCK_WAIT_SECONDS = 60.0  # for a process of an earlier attempt that is still saving
LOCK_POLL_SECONDS = 0.05

Decide = Callable[[int, float], str]
"""Called with (number of the evaluation, value); returns why the run is pruned, or ""."""


@dataclass(frozen=True)
class SweepJob:
    """A run of a sweep, in values that another process can be given.

    Attributes:
        number: The number of the trial, from 0.
        overrides: All overrides of the run, without the settings of the sweep.
        sweep: The folder of the sweep.
        swept: The keys whose values differ between jobs.
        title: The name of the run in TensorBoard.
        config_dir: The folder with the user's own options, if any.
        identity: The identity of the configuration (`dltrain.runs.identity`).
        reports: Whether evaluations are judged, so that the run may be pruned.
        metric: The metric that is judged; None for the one that the run watches.
        measures_latency: Whether the time of a prediction is measured at the end.
        debug: Whether messages have tracebacks.
    """

    number: int
    overrides: tuple[str, ...]
    sweep: str
    swept: tuple[str, ...] = ()
    title: str = ""
    config_dir: str | None = None
    identity: str = ""
    reports: bool = False
    metric: str | None = None
    measures_latency: bool = False
    debug: bool = False

    @property
    def folder(self) -> Path:
        """The folder of the run."""
        return Path(self.sweep) / str(self.number)

    @property
    def outcome(self) -> Path:
        """The file with the results of the last attempt, written when it has ended."""
        return Path(self.sweep) / JOB_FILES / f"{self.number}.json"

    @property
    def log(self) -> Path:
        """The file with all that the job prints."""
        return Path(self.sweep) / JOB_FILES / f"{self.number}.log"

    def as_json(self) -> str:
        """Return the job as JSON."""
        return to_json(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> SweepJob:
        """Return the job that `as_json` wrote."""
        fields = json.loads(text)
        fields["overrides"] = tuple(fields["overrides"])
        fields["swept"] = tuple(fields["swept"])
        return cls(**fields)


def perform(job: SweepJob, decide: Decide, more: Sequence[Callback] = ()) -> None:
    """Run a job to its end, whatever happens to it, and write its outcome.

    `more` are callbacks in addition to the usual ones.
    """
    write_outcome(job, run_job(job, decide, more))


def write_outcome(job: SweepJob, results: dict[str, Any]) -> None:
    """Write the results of an attempt, or why there are none."""
    try:
        replace_file(job.outcome, f"{to_json(results, indent=1, default=str)}\n".encode())
    except OSError as e:  # a full disk: the coordinator reads the run's own results
        log.warning(f"{job.outcome} cannot be written: {e.strerror or e}")


def run_job(job: SweepJob, decide: Decide, more: Sequence[Callback] = ()) -> dict[str, Any]:
    """Run a job; return its results, or its status and reason if it failed."""
    try:
        with raised_signals(), config_dir(job.config_dir), user_errors_explained():
            return trained(job, decide, more)
    except StoppedBySignal as e:
        return {**unfinished(INTERRUPTED, "interrupted"), "signal": e.number}
    except KeyboardInterrupt:
        return {**unfinished(INTERRUPTED, "interrupted"), "signal": int(signal.SIGINT)}
    except Interrupted as e:
        return {**unfinished(INTERRUPTED, str(e)), "signal": e.exit_code - 128}
    except PrunedError as e:
        return {**results_of(job), "status": PRUNED, "reason": str(e)}
    except DivergedError as e:
        log.warning(str(e))
        return unfinished("diverged", str(e))
    except ConfigError as e:  # of the data, which the checks before the first job do not read
        log.warning(str(e))
        return unfinished("failed", "; ".join(": ".join(problem) for problem in e.problems))
    except DltrainError as e:
        log.warning(str(e))
        return unfinished("failed", str(e))
    except Exception as e:  # the other jobs still run, whatever is wrong with this one
        reason = f"{type(e).__name__}: {e}"
        log.warning(traceback.format_exc() if job.debug else reason)
        return unfinished("failed", reason)


def outcome_of(job: SweepJob) -> dict[str, Any]:
    """Return the results that the last attempt at a job has left; {} if it has left none."""
    try:
        return RunFolder(job.outcome.parent).read_json(job.outcome.name)
    except InputError:
        return {}


def unfinished(status: str, reason: str) -> dict[str, Any]:
    """Return the results of a job that did not finish: why, and no metrics."""
    return {"status": status, "reason": reason, "metrics": {}}


def impossible(reason: str) -> dict[str, Any]:
    """Return the results of a trial that cannot be trained, which a resume leaves alone."""
    return {**unfinished("failed", reason), IMPOSSIBLE: True}


def is_over(results: Mapping[str, Any]) -> bool:
    """Tell if a resume of the sweep leaves a trial with these results alone.

    It is finished, or pruned, or cannot be trained.
    """
    return results.get("status") in ENDED or bool(results.get(IMPOSSIBLE))


def results_of(job: SweepJob) -> dict[str, Any]:
    """Return what the job's run wrote into its results.json, and its folder; {} without one.

    A run of another configuration does not count, nor does a damaged file.
    """
    run = RunFolder(job.folder)
    try:
        results = run.read_json(RESULTS)
        if not isinstance(results.get("metrics"), dict) or not is_of_job(run, job):
            return {}
    except InputError:
        return {}
    return {**results, "run": str(job.folder)}


def is_of_job(run: RunFolder, job: SweepJob) -> bool:
    """Tell if a run has the job's configuration; InputError if its manifest is damaged."""
    return identity(requested_config(run.read_json(MANIFEST))) == job.identity


def trained(job: SweepJob, decide: Decide, more: Sequence[Callback] = ()) -> dict[str, Any]:
    """Train the job's run to its end, or continue it, and return its results."""
    overrides = list(job.overrides)
    options = Options(argv=overrides, overrides=overrides, debug=job.debug)
    if job.measures_latency:
        more = [Latency(), *more]
    if job.reports:
        more = [Pruning(job.metric, decide), *more]
    composed = compose(overrides)
    raise_all(composed)
    if not (job.folder / CONFIG).is_file():
        return start(composed, options, job.folder, job.swept, job.title, more=more)
    wait_until_free(job.folder)
    finished = results_of(job)
    if finished.get("status") in FINISHED:
        return finished
    run = RunFolder(job.folder)
    require_same_identity(job, run)
    with run.locked():
        continue_run(run, surrounding_overrides(overrides), options, more)
    return dict(options.outcome)


def wait_until_free(folder: Path) -> None:
    """Wait while a process of an earlier attempt still writes into a run's folder."""
    end = time.monotonic() + LOCK_WAIT_SECONDS
    while is_locked(folder) and time.monotonic() < end:
        time.sleep(LOCK_POLL_SECONDS)


def require_same_identity(job: SweepJob, run: RunFolder) -> None:
    """Raise InputError if the job's folder holds a run of another configuration."""
    if not is_of_job(run, job):
        raise InputError(f"{run.folder} holds another run than job {job.number} of this sweep")
