"""The loop of a sweep: it asks the sampler for trials, and gives them to the launcher as jobs.

Only the coordinator writes the journal. It knows no sampler and no launcher by name.
"""

from __future__ import annotations

import logging
import signal
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from dltrain.report.text import counted_noun
from dltrain.runs.folder import LATENCY
from dltrain.sweeps.jobs.failures import print_last_words
from dltrain.sweeps.jobs.job import (
    ENDED,
    INTERRUPTED,
    JOB_FILES,
    SweepJob,
    impossible,
    outcome_of,
    results_of,
    unfinished,
)
from dltrain.sweeps.jobs.reports import Mailbox
from dltrain.sweeps.journal import Journal
from dltrain.sweeps.launchers.launcher import Ended, Launcher, Site
from dltrain.sweeps.names import title_of
from dltrain.sweeps.samplers.sampler import Sampler
from dltrain.sweeps.stopping import Stopping
from dltrain.sweeps.trial import Row, Trial

log = logging.getLogger("dltrain")
WAIT_SECONDS = 0.5  # for the end of a job, before signals are looked at
JUDGING_SECONDS = 0.02  # the same while jobs wait for answers to their reports
GRACE_SECONDS = 60.0  # for jobs that are asked to save and end


class Observer(Protocol):
    """Learns what happens in a sweep, to show it."""

    def started(self, trial: Trial) -> None:
        """Learn that a job of a trial starts."""

    def ended(self, rows: list[Row], row: Row) -> None:
        """Learn all rows so far, and the one that has just been added or replaced."""

    def waiting(self) -> None:
        """Do what is due while jobs run; called several times a second, or between jobs."""


class Coordinator:
    """Runs the trials of a sweep.

    Args:
        folder: The folder of the sweep, locked by this process.
        sampler: The sampler, opened, and restored if `trials` were begun before.
        launcher: The launcher.
        trials: The trials of an earlier attempt, by number.
        config_dir: The folder with the user's own options, if any.
        debug: Whether messages of jobs have tracebacks.
        observer: Learns when jobs start and end.
    """

    def __init__(
        self,
        folder: Path,
        sampler: Sampler,
        launcher: Launcher,
        trials: dict[int, Trial],
        config_dir: str | None,
        debug: bool,
        observer: Observer,
    ) -> None:
        self.folder = folder
        self.sampler = sampler
        self.launcher = launcher
        self.trials = trials
        self.config_dir = config_dir
        self.debug = debug
        self.observer = observer
        self.journal = Journal(folder)
        self.mailbox = Mailbox(folder)
        self.running: set[int] = set()
        self.waiting: deque[Trial] = deque()
        self.is_interrupted = False  # a signal ended a job, so the sweep ends as well
        self.signal = 0  # the number of the signal that ends the sweep

    def run(self) -> list[Row]:
        """Run the trials that are not done, and return the rows of all, by number.

        After an interruption no further trial starts, and the rows of those that ran say so.
        """
        (self.folder / JOB_FILES).mkdir(exist_ok=True)
        self.adopt_finished()
        self.waiting.extend(trial for trial in self.ordered() if not trial.is_done)
        self.launcher.open(Site(self.folder, self.decide, self.sampler.adapts))
        try:
            with Stopping() as stopping:
                self.work(stopping)
        except BaseException:
            self.launcher.kill()
            raise
        finally:
            self.launcher.close()
        return self.rows()

    def ordered(self) -> list[Trial]:
        """Return the trials by number."""
        return [self.trials[number] for number in sorted(self.trials)]

    def rows(self) -> list[Row]:
        """Return the results of the trials that have ended, by number."""
        return [trial.row for trial in self.ordered() if trial.row is not None]

    def adopt_finished(self) -> None:
        """Note the end of trials that finished while no coordinator was alive."""
        for trial in self.ordered():
            if not trial.is_done:
                results = results_of(self.job(trial))
                if results.get("status") in ENDED:
                    self.end(trial, results)

    def work(self, stopping: Stopping) -> None:
        """Start jobs and note their ends until none is left, or a signal arrives."""
        while not stopping.count and not self.is_interrupted:
            self.start_jobs()
            if not self.running:
                return
            self.note_reports()
            self.observer.waiting()
            all_ended = self.launcher.wait(self.wait_seconds)
            self.signal = stopping.number  # which may have ended these jobs as well
            for ended in all_ended:
                self.note_end(ended)
        self.stop(stopping)

    @property
    def wait_seconds(self) -> float:
        """The time to wait for the end of a job before something else is done."""
        return JUDGING_SECONDS if self.sampler.judges else WAIT_SECONDS

    def start_jobs(self) -> None:
        """Start as many jobs as the launcher takes."""
        while self.launcher.free() > 0:
            trial = self.next_trial()
            if trial is None:
                return
            reason = self.sampler.refuse(trial)
            if reason:
                self.end(trial, impossible(reason))
            else:
                self.start(trial)

    def next_trial(self) -> Trial | None:
        """Return the next trial to start, or None."""
        if self.waiting:
            return self.waiting.popleft()
        number = len(self.trials)
        proposal = self.sampler.ask(number)
        if proposal is None:
            return None
        trial = Trial(number, proposal.overrides, proposal.identity, proposal.state)
        self.trials[number] = trial
        self.journal.append(
            "trial",
            number=number,
            overrides=trial.overrides,
            identity=trial.identity,
            state=trial.state,
        )
        return trial

    def start(self, trial: Trial) -> None:
        """Start a job for a trial."""
        job = self.job(trial)
        job.outcome.unlink(missing_ok=True)
        self.mailbox.begin(trial.number)
        trial.attempts += 1
        trial.row = None
        self.journal.append("start", number=trial.number)
        self.observer.started(trial)
        self.running.add(trial.number)
        self.launcher.start(job)

    def job(self, trial: Trial) -> SweepJob:
        """Return the job of a trial."""
        swept = self.sampler.swept
        return SweepJob(
            number=trial.number,
            overrides=tuple(trial.overrides),
            sweep=str(self.folder),
            swept=tuple(swept),
            title=title_of(trial.number, trial.overrides, swept),
            config_dir=self.config_dir,
            identity=trial.identity,
            reports=self.sampler.judges,
            metric=self.judged_metric(),
            measures_latency=self.measures_latency(),
            debug=self.debug,
        )

    def judged_metric(self) -> str | None:
        """Return the metric by which trials are pruned; None for the one that they watch."""
        objectives = self.sampler.objectives
        return objectives[0].metric if objectives else None

    def measures_latency(self) -> bool:
        """Tell if trials are compared by the time of a prediction."""
        return any(one.metric == LATENCY for one in self.sampler.objectives)

    def note_reports(self) -> None:
        """Answer the evaluations that jobs of other processes have reported."""
        if not self.sampler.judges:
            return
        for number, step, value in self.mailbox.new_reports():
            self.mailbox.answer(number, step, self.decide(number, step, value))

    def decide(self, number: int, step: int, value: float) -> str:
        """Return why a trial is pruned after an evaluation, or "".

        A resumed run repeats the evaluations after its checkpoint: they get the same answers.
        """
        trial = self.trials[number]
        if step not in trial.answers:
            reason = self.sampler.report(trial, step, value)
            trial.reports[step] = value
            trial.answers[step] = reason
            self.journal.append("report", number=number, step=step, value=value, reason=reason)
        return trial.answers[step]

    def note_end(self, ended: Ended) -> None:
        """Note the results of a job."""
        trial = self.trials[ended.number]
        self.running.discard(ended.number)
        self.mailbox.end(ended.number)
        self.end(trial, self.results(trial, ended))
        if ended.reason and trial.status == "failed":
            print_last_words(self.job(trial))

    def results(self, trial: Trial, ended: Ended) -> dict[str, Any]:
        """Return the results that a job left, or why there are none.

        A run that finished or was pruned counts, even if its process died afterwards.
        """
        job = self.job(trial)
        with_folder = results_of(job)
        if with_folder.get("status") in ENDED:
            return with_folder
        if ended.reason and self.signal:
            return {**unfinished(INTERRUPTED, ended.reason), "signal": self.signal}
        if ended.reason:
            return unfinished("failed", ended.reason)
        return outcome_of(job) or with_folder or unfinished("failed", "it left no results")

    def end(self, trial: Trial, results: dict[str, Any]) -> None:
        """Write the end of a trial into the journal, and tell the sampler and the observer."""
        trial.row = {"job": trial.number, "overrides": trial.overrides, **results}
        if self.signal and "signal" in trial.row:  # a launcher may send another one
            trial.row["signal"] = self.signal
        self.journal.append("end", number=trial.number, row=trial.row)
        self.is_interrupted |= trial.status == INTERRUPTED
        self.sampler.tell(trial)
        self.observer.ended(self.rows(), trial.row)

    def stop(self, stopping: Stopping) -> None:
        """Ask the running jobs to save and end, and note that they were interrupted."""
        self.signal = stopping.number or interruption(self.rows())
        if self.running:
            jobs = counted_noun(len(self.running), "running job")
            log.info(f"waiting for {jobs} to save and end; another signal kills what runs")
        self.launcher.interrupt(self.signal)
        end = time.monotonic() + GRACE_SECONDS
        while self.running and stopping.count < 2 and time.monotonic() < end:
            self.note_reports()  # a job that waits for an answer does not save
            for ended in self.launcher.wait(self.wait_seconds):
                self.note_end(ended)
        self.launcher.kill()
        for number in sorted(self.running):
            self.note_end(Ended(number, INTERRUPTED))


def interruption(rows: Sequence[Row]) -> int:
    """Return the number of the signal that interrupted a sweep; 0 if none did."""
    numbers = (row.get("signal", signal.SIGINT) for row in rows if row["status"] == INTERRUPTED)
    return int(next(numbers, 0))
