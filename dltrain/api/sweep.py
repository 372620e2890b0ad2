"""`dltrain.sweep`: train every combination of several values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from dltrain.api.opening import options_for
from dltrain.api.overrides import overrides_of, plugins_in
from dltrain.api.process import isolated
from dltrain.api.run import Run
from dltrain.api.train import RunInterrupted, text_of
from dltrain.config.groups import config_dir as options_in
from dltrain.config.policy import MAIN
from dltrain.errors import Interrupted, UsageError
from dltrain.options import Options
from dltrain.runs.comparison.groups import OVER, RunGroup
from dltrain.runs.folder import CONFIG, FINISHED
from dltrain.sweeps.coordinator import interruption
from dltrain.sweeps.jobs.job import ENDED
from dltrain.sweeps.run import run_sweep
from dltrain.sweeps.summary.csv_file import RESULTS_CSV
from dltrain.sweeps.summary.groups import groups_of, keys_that_differ
from dltrain.sweeps.summary.ranking import Criterion
from dltrain.sweeps.trial import Row


class Sweep:
    """The runs of a sweep.

    Attributes:
        folder: The sweep's folder, which has those of its runs.
        rows: The results of each run as dictionaries: job, overrides, status, metrics, run.
        best_jobs: The numbers of the best runs by what the sweep compares them by: one, or several
            if that are several metrics (`sweep.metric`) and none of the runs is the best in all.
    """

    def __init__(
        self,
        folder: Path,
        rows: list[Row],
        plugins: tuple[str, ...] = (),
        best: Sequence[int] = (),
    ) -> None:
        self.folder = folder
        self.rows = rows
        self.plugins = plugins
        self.best_jobs = list(best)

    @property
    def runs(self) -> list[Run]:
        """The runs that have a folder, in the order of the jobs."""
        folders = [self.folder / str(row["job"]) for row in self.rows]
        made = [folder for folder in folders if (folder / CONFIG).is_file()]
        return [Run(folder, plugins=self.plugins) for folder in made]

    @property
    def failed(self) -> list[dict[str, Any]]:
        """The rows of the runs that did not finish and were not pruned, each with its reason."""
        return [row for row in self.rows if row["status"] not in ENDED]

    def best(self, metric: str | None = None, mode: Literal["max", "min"] | None = None) -> Run:
        """Return the finished run with the best value of a metric.

        Without `metric`, it is the one of the sweep (`sweep.metric`), or else the metric that the
        runs watched. Of the watched metric the best evaluation counts. `mode` says whether the
        highest or the lowest value is the best.

        Raises:
            UsageError: No run has the metric, the runs watched different ones, or `mode` is missing
                for a metric that the runs did not watch; or several runs are the best by the
                several metrics of the sweep.
        """
        if metric is None and self.best_jobs:
            return self.the_best()
        values = {job: value_in(row, metric) for job, row in self.finished.items()}
        known = {job: value for job, value in values.items() if value is not None}
        if not known:
            raise UsageError(f"no run of {self.folder} has {metric or 'watched a metric'}")
        is_max = (mode or self.direction(metric)) == "max"
        job = sorted(known, key=known.__getitem__, reverse=is_max)[0]
        return Run(self.finished[job]["run"], plugins=self.plugins)

    def the_best(self) -> Run:
        """Return the run that the sweep calls the best; UsageError if there are several."""
        if len(self.best_jobs) > 1:
            raise UsageError(
                f"runs {', '.join(map(str, self.best_jobs))} of {self.folder} are each the best in "
                "a way; name one metric: best('val/accuracy')"
            )
        return Run(self.finished[self.best_jobs[0]]["run"], plugins=self.plugins)

    @property
    def table(self) -> Path:
        """The file with the results as a table: results.csv."""
        return self.folder / RESULTS_CSV

    def groups(self, over: Sequence[str] = OVER) -> list[RunGroup]:
        """Return the groups of runs that differ only in their seed or fold.

        Each has `label`, `settings`, `started`, `n` (the runs that finished) and `metrics`:
        summaries by name with `n`, `mean`, `std`, and `low` and `high`, the ends of the 95 %
        interval. `best val/...` is the best evaluation of the metric that the runs watched.

        Args:
            over: The keys that make no other group.
        """
        return groups_of(self.rows, keys_that_differ(self.rows), over)

    @property
    def finished(self) -> dict[int, dict[str, Any]]:
        """The rows of the runs that finished, by the number of the job."""
        return {row["job"]: row for row in self.rows if row["status"] in FINISHED}

    def direction(self, metric: str | None) -> str:
        """Return whether the watched metric is to be high or low; UsageError for another metric."""
        evaluations = [row["best"] for row in self.finished.values() if row.get("best")]
        watched = {(score_name(best["metric"]), best["mode"]) for best in evaluations}
        if metric is not None:
            watched = {pair for pair in watched if pair[0] == score_name(metric)}
        if len(watched) == 1:
            _, mode = watched.pop()
            return str(mode)
        raise UsageError(
            f"best({metric!r}): the runs did not all watch this metric; say which values are "
            "better, mode='max' or mode='min'"
        )

    def __repr__(self) -> str:
        return f"Sweep({str(self.folder)!r}, {len(self.rows)} runs, {len(self.failed)} failed)"


def score_name(metric: str) -> str:
    """Return a metric without its split: test/loss and val/loss are the same score."""
    return metric.partition("/")[2]


def value_in(row: dict[str, Any], metric: str | None) -> float | None:
    """Return the value of a metric in a run's results, as the table of the sweep has it.

    It is None if there is no finite one. `metric` None is the metric that the run watched.
    """
    best = row.get("best") or {}
    return Criterion(metric or best.get("metric", ""), mode="max").value(row)


def sweep(
    *overrides: str | Mapping[str, Any],
    verbose: bool = False,
    config_dir: str | Path | None = None,
    **settings: Any,
) -> Sweep:
    """Train every combination of the swept values, each in a process of its own.

    Values to sweep over are written as on the command line, separated by commas:
    `sweep("model=cnn,mlp", "seed=range(0,3)")`. A run that fails does not end the sweep; it is in
    `failed`, with its reason.

    Runs that use classes of this script or notebook itself, as in `model=Net`, are trained in this
    process, one after the other (launcher=inline): no other process can import the classes.

    Args:
        overrides: Settings, as `dltrain.train` takes them; a text may have several values.
        verbose: Print messages and show the progress.
        config_dir: A folder with options of one's own, as --config-dir.
        settings: Further settings by name, with one value each.

    Raises:
        ConfigError: Something is wrong with the settings of a run; no run has started.
        RunInterrupted: Ctrl-C, a KeyboardInterrupt; the run that it ended can be resumed.
    """
    typed = overrides_of(overrides, settings)
    options = options_for("-m", with_launcher(typed))
    with options_in(text_of(config_dir)), isolated(verbose), ending_sweep():
        rows = run_sweep(options)
    return sweep_of(options, rows)


def sweep_of(options: Options, rows: list[Row]) -> Sweep:
    """Return the sweep of a command that has run; RunInterrupted if a signal ended it."""
    best = [one["job"] for one in options.outcome["best"]]
    folder = Path(options.outcome["sweep"])
    result = Sweep(folder, rows, plugins_in(options.overrides), best)
    if interruption(rows):
        reason = f"the sweep was interrupted; dltrain.resume({str(folder)!r}) continues it"
        raise RunInterrupted(reason, last_of(result.runs), result)
    return result


@contextmanager
def ending_sweep() -> Iterator[None]:
    """Raise RunInterrupted for a signal that arrived while no run was trained."""
    try:
        yield
    except Interrupted as e:
        raise RunInterrupted(f"the sweep was {e}", None) from e


def with_launcher(overrides: list[str]) -> list[str]:
    """Return overrides with launcher=inline, if they use the program's classes and set none."""
    keys = {override.partition("=")[0].lstrip("+") for override in overrides}
    if MAIN in plugins_in(overrides) and "launcher" not in keys:
        return ["launcher=inline", *overrides]
    return overrides


def last_of(runs: list[Run]) -> Run | None:
    """Return the last run; None if there is none."""
    return runs[-1] if runs else None
