"""Groups of runs that differ only in their seed or fold, and their figures."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dltrain.runs.identity import FOLD_KEY
from dltrain.statistics import Summary, summarize

SEED = "seed"
OVER = (SEED, FOLD_KEY)  # the keys whose values make the runs of a group
BEST = "best "  # before the watched metric: its best evaluation counts, not the last
LEARNING = "mean train/return"  # over the whole training: what an agent got while it learned
INSTEAD = {"test/mse": ("test/rmse", "test/r2")}  # in the unit of the data, if a run has them

Unit = Hashable  # the seed of a run, its fold, or both


@dataclass(frozen=True)
class RunGroup:
    """Runs that differ only in their seed or fold.

    Attributes:
        label: What the runs have in common, such as `model=cnn lr=0.001`.
        settings: The same as {key: value}.
        started: How many runs there are; those that failed or did not end are among them.
        scores: For each metric the value of each run that finished, by seed or fold.
        unit: "seed", "fold" or "run": what one value belongs to.
        overlap: Test over training samples of folds, 1 / (k - 1); 0 for seeds.
    """

    label: str
    settings: Mapping[str, str] = field(default_factory=dict)
    started: int = 0
    scores: Mapping[str, Mapping[Unit, float]] = field(default_factory=dict)
    unit: str = SEED
    overlap: float = 0.0

    @property
    def metrics(self) -> dict[str, Summary]:
        """The summary of each metric; the best of the watched one is `best val/...`."""
        return {metric: self.summary(metric) for metric in self.scores}

    @property
    def n(self) -> int:
        """The number of runs that finished."""
        return max((summary.n for summary in self.metrics.values()), default=0)

    def summary(self, metric: str) -> Summary:
        """Return the summary of a metric; of one that no run has, it is empty."""
        return summarize(self.scores.get(metric, {}).values(), self.overlap)


def unit_name(over: Sequence[str]) -> str:
    """Return what one value of a group belongs to: a seed, a fold, or a run if it is both."""
    if len(over) > 1:
        return "run"
    return over[0].rpartition(".")[2]


def overlap_of(held_out: int, folds: Any = None) -> float:
    """Return test over training samples of folds, 1 / (k - 1); 0 for fewer than two of them.

    Args:
        held_out: The number of different folds that runs held out.
        folds: k, the setting dataset.folds of the runs; if it is unknown, all folds were held out.
    """
    if held_out < 2:
        return 0.0
    is_known = isinstance(folds, int) and folds > held_out
    return 1 / ((folds if is_known else held_out) - 1)


def by_metric(runs: Mapping[Unit, Mapping[str, float]]) -> dict[str, dict[Unit, float]]:
    """Return the scores {unit: {metric: value}} as {metric: {unit: value}}."""
    scores: dict[str, dict[Unit, float]] = {}
    for unit, metrics in runs.items():
        for metric, value in metrics.items():
            scores.setdefault(metric, {})[unit] = value
    return scores


def main_metrics(watched: str, known: Collection[str], folds: bool = False) -> list[str]:
    """Return the main metrics among the known ones: those of the test, then the best watched one.

    Of agents the mean return while they learned follows. Those of the test are the watched metric
    on the test samples, or `INSTEAD` of it. With `folds` the watched one is first: over all folds
    it is of samples that no run was trained on.
    """
    test = f"test/{watched.partition('/')[2]}"
    shown = [name for name in INSTEAD.get(test, (test,)) if name in known]
    names = [*(shown or [test]), f"{BEST}{watched}", LEARNING]
    if folds:
        names.reverse()
    return [name for name in names if name in known]
