"""The log of training metrics, which stay on the device between log steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from dltrain.engine import Callback, Engine, Mean, Metrics
from dltrain.runs.folder import METRICS, RunFolder

Record = dict[str, Any]


class MetricsLog(Callback):
    """Writes metrics.jsonl, and passes every record to its subscribers.

    Every `every` steps it logs the mean of each training metric over the samples since the last
    record, learning rates and gradient norms; after every evaluation its results. Between log steps
    nothing leaves the device.
    """

    name = "metrics"
    draws = False

    def __init__(self, run: RunFolder, every: int) -> None:
        self.run = run
        self.every = every
        self.window: list[Metrics] = []  # the steps since the last record
        self.subscribers: list[Callable[[Engine, Record], None]] = []
        self.latest: Record = {}
        self.lines = 0
        self.sums: dict[str, list[Any]] = {}  # over the epoch: weighted sum and weight of a metric
        self.epoch_means: dict[str, float] = {}
        self.first_bad = 0  # the first step of the last window whose loss was not finite

    def subscribe(self, subscriber: Callable[[Engine, Record], None]) -> None:
        """Call `subscriber` with the engine and every record; it may raise to end the run."""
        self.subscribers.append(subscriber)

    def step_end(self, engine: Engine) -> None:
        self.window.append(engine.metrics)
        if engine.step % self.every == 0:
            self.flush(engine)
        if (engine.step + 1) % self.every == 0:
            for optim in engine.stage.optims:
                optim.record_grad_norm = True

    def flush(self, engine: Engine) -> None:
        """Write the record of the steps since the last one."""
        values = {**self._means(engine), **optimizer_values(engine)}
        self.write(engine, "train", values)

    def _means(self, engine: Engine) -> dict[str, float]:
        """Return the mean of each metric over the window, and empty the window."""
        means: dict[str, float] = {}
        names = dict.fromkeys(name for metrics in self.window for name in metrics)
        for name in names:
            of_steps = [metrics[name] for metrics in self.window if name in metrics]
            mean, weight = mean_and_weight(of_steps)
            if not math.isfinite(mean):
                mean = self._finite_mean(engine, name, mean)
            means[f"train/{name}"] = mean
            total, total_weight = self.sums.get(name, [0.0, 0.0])
            self.sums[name] = [total + mean * weight, total_weight + weight]
        self.window = []
        return means

    def _finite_mean(self, engine: Engine, name: str, mean: float) -> float:
        """Note the first step of the window whose value is not finite, and return the mean to log.

        Where such steps are skipped it is the mean of the others, otherwise the `mean` as it is.
        """
        first_step = engine.step - len(self.window) + 1
        finite = []
        bad_steps = []
        for step, metrics in enumerate(self.window, first_step):
            if name in metrics:
                value = float(metrics[name])
                if math.isfinite(value):
                    finite.append(value)
                else:
                    bad_steps.append(step)
        self.first_bad = bad_steps[0]
        are_skipped = any(optim.skip_nonfinite for optim in engine.stage.optims)
        if finite and are_skipped:
            return sum(finite) / len(finite)
        return mean

    def epoch_end(self, engine: Engine) -> None:
        if self.window and (engine.position == 0 or engine.halted):
            self.flush(engine)
        self.epoch_means = {
            name: total / count for name, (total, count) in self.sums.items() if count
        }
        self.sums = {}

    def evaluation_end(self, engine: Engine) -> None:
        figures = {name: v for name, v in engine.scores.items() if isinstance(v, float)}
        self.write(engine, "val", figures)

    def write(self, engine: Engine, split: str, values: dict[str, float]) -> None:
        """Append one record and pass it on; a subscriber may raise to end the run."""
        epoch = engine.epoch  # the number of those that are complete
        is_within_epoch = engine.position > 0 or not engine.settled
        if is_within_epoch:
            epoch += 1
        where = {"step": engine.step, "epoch": epoch, "stage": engine.stage.name, "split": split}
        finite = {name: value for name, value in values.items() if math.isfinite(value)}
        self.run.append(METRICS, {**where, **dict.fromkeys(values), **finite})  # null for others
        self.lines += 1
        # after a skipped step the last good values are shown; an evaluation replaces them all
        self.latest.update(finite if split == "train" else values)
        self.show(engine, {**where, **values})

    def show(self, engine: Engine, record: Record) -> None:
        """Pass a record to the subscribers without writing it: details and pictures."""
        for subscriber in self.subscribers:
            subscriber(engine, record)

    def resumed(self, engine: Engine) -> None:
        """Drop the records that were written after the checkpoint, also those of its own step."""
        self.run.keep(METRICS, self.lines)

    def state_dict(self) -> dict[str, Any]:
        window = [{name: as_pair(v) for name, v in metrics.items()} for metrics in self.window]
        return {
            "window": window,
            "latest": self.latest,
            "lines": self.lines,
            "sums": self.sums,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        window = state.get("window", [])
        self.window = [{name: from_pair(v) for name, v in metrics.items()} for metrics in window]
        self.latest = dict(state.get("latest", {}))
        self.lines = state.get("lines", self.lines)
        self.sums = {name: list(pair) for name, pair in state.get("sums", {}).items()}


def optimizer_values(engine: Engine) -> dict[str, float]:
    """Return learning rates and new gradient norms of the stage's optimizers, by name."""
    optims = engine.stage.optims
    values: dict[str, float] = {}
    for number, optim in enumerate(optims):
        suffix = f"_{number}" if len(optims) > 1 else ""
        values[f"train/lr{suffix}"] = optim.lrs[0]
        if optim.grad_norm is not None:
            values[f"train/grad_norm{suffix}"] = float(optim.grad_norm)
            optim.grad_norm = None  # each is logged once
    return values


def mean_and_weight(values: Sequence[Tensor | Mean]) -> tuple[float, float]:
    """Return the weighted mean of a metric over several steps, and the sum of the weights.

    Unless all values have weights, each counts as 1.
    """
    column = torch.stack([value.value if isinstance(value, Mean) else value for value in values])
    weights = [value.weight for value in values if isinstance(value, Mean)]
    if len(weights) < len(values):
        return float(column.mean()), float(len(values))
    if are_one_number(weights):
        return float(column.mean()), float(sum(weights))
    counts = stacked_weights(weights, column.device).to(column)
    total = float(counts.sum())
    if total == 0:  # batches without a word pair
        return float(column.mean()), 0.0
    return float((column * counts).sum() / counts.sum()), total


def are_one_number(weights: Sequence[float | Tensor]) -> bool:
    """Return whether all weights are numbers, and the same."""
    if any(isinstance(weight, Tensor) for weight in weights):
        return False
    return len(set(weights)) == 1


def stacked_weights(weights: Sequence[float | Tensor], device: torch.device) -> Tensor:
    """Return weights (N,) on a device, in the type of the tensors among them if there are any."""
    if any(isinstance(weight, Tensor) for weight in weights):
        return torch.stack([torch.as_tensor(weight, device=device) for weight in weights])
    return torch.tensor(weights, device=device)


def as_pair(value: Tensor | Mean) -> Any:
    """Return a metric in plain types, for a checkpoint."""
    return [value.value, value.weight] if isinstance(value, Mean) else value


def from_pair(saved: Any) -> Tensor | Mean:
    """Return the metric of which `as_pair` made a pair; checkpoints of version 0.1 have tensors."""
    return Mean(*saved) if isinstance(saved, list | tuple) else saved
