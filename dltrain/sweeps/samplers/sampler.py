"""The interface of samplers, which choose the values of each trial."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from dltrain.config.compose import Composed
from dltrain.sweeps.summary.ranking import Criterion, finished, watched_criteria
from dltrain.sweeps.trial import Row, Trial


@dataclass(frozen=True)
class Proposal:
    """The next trial: all overrides of its run, and what `restore` needs to know it again.

    `identity` is that of its configuration; `state` has values of JSON only.
    """

    overrides: list[str]
    identity: str
    state: dict[str, Any] = field(default_factory=dict)


class Sampler(ABC):
    """Chooses the values of each trial.

    The plan of a sweep calls `prepare` and `open` once, and `restore` if it is resumed. The
    coordinator calls `ask` for the trials by number, `refuse` before a job of theirs starts,
    `report` for each of their evaluations if `judges`, and `tell` at their end.

    Attributes:
        metric: The metric of the best trial, or several; None for the one that the runs watch.
        objectives: The same with their directions; () if only the results of the runs tell them.
        space: Values to sweep over, by key, in addition to those of the command line.
        first: A configuration of the sweep, whose settings of places are those of all of them.
        swept: The keys whose values differ between trials.
        judges: True if evaluations are reported, because trials may be pruned.
        adapts: True if the values of a trial depend on the results of earlier ones.
        is_exhaustive: True if every combination of the swept values is tried.
    """

    metric: str | list[str | None] | None = None
    objectives: Sequence[Criterion] = ()
    space: dict[str, Any]
    first: Composed
    swept: list[str]
    judges: bool = False
    adapts: bool = False
    is_exhaustive: bool = False

    def criteria(self, rows: Sequence[Row]) -> list[Criterion]:
        """Return what the trials with these results are compared by; [] if that is unknown."""
        return list(self.objectives) or watched_criteria(finished(rows))

    def prepare(self, base: Composed, typed: Sequence[str]) -> None:
        """Learn the configuration without the swept values, before `space` is read.

        `typed` are the overrides of all runs, as they were typed, swept values among them.
        """

    @abstractmethod
    def open(self, overrides: list[str]) -> None:
        """Read the overrides of all runs, with the swept values among them.

        Raises ConfigError or UsageError for values that cannot be swept, and for configurations
        that are wrong, before the first trial starts.
        """

    @abstractmethod
    def total(self) -> int:
        """Return the number of trials of the whole sweep."""

    @abstractmethod
    def key(self) -> str:
        """Return a text that is the same for sweeps with the same trials, for resume=auto."""

    @abstractmethod
    def ask(self, number: int) -> Proposal | None:
        """Return the trial with a number; None after the last, or until others end."""

    def refuse(self, trial: Trial) -> str:
        """Return why a trial cannot be trained at all, before its job starts; "" if it can."""
        return ""

    def restore(self, trials: list[Trial]) -> None:
        """Learn the trials of an earlier attempt at the sweep, ended or not, by number."""

    def report(self, trial: Trial, step: int, value: float) -> str:
        """Return why a trial is pruned after evaluation `step` (from 1) gave `value`, or ""."""
        return ""

    def tell(self, trial: Trial) -> None:
        """Learn the results of a trial, which are in its `row`."""
