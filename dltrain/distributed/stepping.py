"""Runs the steps of one of several processes, and combines their metrics."""

from __future__ import annotations

import zlib
from typing import Any

import torch

from dltrain import rng
from dltrain.distributed.feeding import DividingFeed
from dltrain.distributed.processes import Processes
from dltrain.engine import Mean, Metrics, Stage, StepRunner
from dltrain.optim import positive
from dltrain.types.rows import dividing


class DividedStepRunner:
    """Runs a step on this process's rows by `runner`, whose metrics are means with weights.

    The metrics are those of the whole batch. What layers draw that know no rows, such as the masks
    of a recurrent layer's dropout, is a function of (seed, stage, step, process).
    """

    def __init__(self, runner: StepRunner, group: Processes, feed: DividingFeed, seed: int) -> None:
        self.runner = runner
        self.group = group
        self.feed = feed
        self.seed = seed
        self.steps = 0
        self.before = nothing
        self.after = nothing

    def run(self, stage: Stage, batch: Any) -> Metrics:
        """Return the metrics of one step of `stage` on `batch`, over all processes."""
        self.before()
        stage_number = zlib.crc32(stage.name.encode())
        own_seed = rng.number(self.seed, stage_number, self.steps, self.group.rank)
        group = self.group
        with dividing(self.feed.step_rows, group.device, own_seed, group.sum):
            metrics = self.runner.run(stage, batch)
        self.steps += 1
        self.after()
        return self._combined(metrics)

    def _combined(self, metrics: Metrics) -> Metrics:
        """Return the weighted means of the metrics over the processes."""
        if not metrics:
            return metrics
        means = {name: as_mean(metric) for name, metric in metrics.items()}
        counts = not self.feed.step_rows.is_empty
        rows = []
        for mean in means.values():
            value = mean.value.detach().double()
            weight = torch.as_tensor(mean.weight, dtype=torch.float64, device=value.device)
            rows.append(torch.stack([value * weight, weight]) * counts)
        sums = self.group.sum(torch.stack(rows).to(self.group.device))
        return {
            name: Mean((total / positive(weight)).float(), weight.float())
            for name, (total, weight) in zip(means, sums, strict=True)
        }

    def release(self) -> None:
        """Free what `runner` keeps for the steps of a stage."""
        self.runner.release()

    def state_dict(self) -> dict[str, Any]:
        """Return the state of `runner`, and the number of steps."""
        return {**self.runner.state_dict(), "steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load a state, which may be that of a run of one process."""
        self.runner.load_state_dict(state)
        self.steps = state.get("steps", 0)


def nothing() -> None:
    """Do nothing before and after a step."""


def as_mean(metric: Any) -> Mean:
    """Return a metric as a mean; one without a weight counts as one sample."""
    return metric if isinstance(metric, Mean) else Mean(metric, 1.0)
