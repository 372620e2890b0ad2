"""The trials of a sweep, as its journal tells them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dltrain.errors import InputError
from dltrain.sweeps.jobs.job import is_over
from dltrain.sweeps.journal import JOURNAL, Event

OF_TRIALS = ("start", "report", "end")  # events of a trial that has begun
Row = dict[str, Any]  # the results of a job, with its number and overrides


@dataclass
class Trial:
    """A trial of a sweep.

    Attributes:
        number: Its number, from 0.
        overrides: All overrides of its run.
        identity: The identity of its configuration.
        state: What the sampler needs to rebuild it, in values of JSON.
        reports: The values of its evaluations, by number from 1; None is not a finite number.
        answers: Why it was pruned after an evaluation, by number; "" where it continued.
        attempts: The number of times that it was started.
        row: Its results, once an attempt has ended: job, overrides, status, metrics and more.
    """

    number: int
    overrides: list[str]
    identity: str = ""
    state: dict[str, Any] = field(default_factory=dict)
    reports: dict[int, float | None] = field(default_factory=dict)
    answers: dict[int, str] = field(default_factory=dict)
    attempts: int = 0
    row: Row | None = None

    @property
    def status(self) -> str:
        """The status of the last attempt that ended; "" before that."""
        return self.row["status"] if self.row is not None else ""

    @property
    def is_done(self) -> bool:
        """True if a resume leaves the trial alone: it is finished, pruned or impossible."""
        return self.row is not None and is_over(self.row)


def trials_of(events: list[Event], folder: Path) -> dict[int, Trial]:
    """Return the trials of the journal of a sweep in `folder`, by number.

    Raises InputError for an event of a trial that has not begun before it, and for a trial whose
    number is not the next one.
    """
    trials: dict[int, Trial] = {}
    for line, event in enumerate(events, start=1):
        number = event.get("number")
        if event["event"] in OF_TRIALS and number not in trials:
            raise InputError(
                f"{folder / JOURNAL}:{line}: trial {number} has not begun before this line"
            )
        if event["event"] == "trial":
            if number != len(trials):
                raise InputError(
                    f"{folder / JOURNAL}:{line}: trial {number} is not the next one, which is "
                    f"{len(trials)}"
                )
            trials[event["number"]] = Trial(
                event["number"], event["overrides"], event["identity"], event["state"]
            )
        elif event["event"] == "start":
            trial = trials[event["number"]]
            trial.attempts += 1
            trial.row = None
        elif event["event"] == "report":
            trial = trials[event["number"]]
            trial.reports[event["step"]] = event["value"]
            trial.answers[event["step"]] = event.get("reason", "")
        elif event["event"] == "end":
            trial = trials[event["number"]]
            trial.row = row_of(trial, event["row"], folder)
    return trials


def row_of(trial: Trial, results: Row, folder: Path) -> Row:
    """Return the row of a trial with results, in the present `folder` of its sweep.

    A sweep may be moved.
    """
    row = {**results, "job": trial.number, "overrides": trial.overrides}
    if "run" in row:
        row["run"] = str(folder / str(trial.number))
    return row
