"""The log of training metrics: kept on the device between log steps, then written once for everyone."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from dltrain.engine import Callback, Engine, Mean, Metrics
from dltrain.runs.folder import METRICS, Run

Record = dict[str, Any]


class MetricsLog(Callback):
    """Writes metrics.jsonl, and hands every record to its subscribers.

    Every `every` steps: the mean of each training metric over the samples since the last time,
    learning rates and gradient norms. After every evaluation: its figures. Between log steps
    nothing leaves the device.
    """

    name = "metrics"
    draws = False

    def __init__(self, run: Run, every: int) -> None:
        self.run, self.every = run, every
        self.window: list[Metrics] = []
        self.subscribers: list[Callable[[Engine, Record], None]] = []
        self.latest: Record = {}
        self.lines = 0
        self.sums: dict[
            str, list[Any]
        ] = {}  # over the epoch: weighted sum and weight of each metric
        self.epoch_means: dict[str, float] = {}
        self.first_bad = 0  # the first step of the window just written whose loss was not finite

    def subscribe(self, subscriber: Callable[[Engine, Record], None]) -> None:
        self.subscribers.append(subscriber)

    def step_end(self, engine: Engine) -> None:
        self.window.append(engine.metrics)
        if engine.step % self.every == 0:
            self.flush(engine)
        if (engine.step + 1) % self.every == 0:
            for optim in engine.stage.optims:
                optim.record_grad_norm = True

    def flush(self, engine: Engine) -> None:
        """Write what has gathered since the last record."""
        values: dict[str, float] = {}
        for name in dict.fromkeys(name for metrics in self.window for name in metrics):
            mean, weight = mean_and_weight(
                [metrics[name] for metrics in self.window if name in metrics]
            )
            if not math.isfinite(mean):
                mean = self.look_closer(engine, name, mean)
            values[f"train/{name}"] = mean
            total, so_far = self.sums.get(name, [0.0, 0.0])
            self.sums[name] = [total + mean * weight, so_far + weight]
        self.window = []
        for i, optim in enumerate(engine.stage.optims):
            suffix = f"_{i}" if len(engine.stage.optims) > 1 else ""
            values[f"train/lr{suffix}"] = optim.lrs[0]
            if optim.grad_norm is not None:
                values[f"train/grad_norm{suffix}"] = float(optim.grad_norm)
                optim.grad_norm = None  # each is logged once
        self.write(engine, "train", values)

    def look_closer(self, engine: Engine, name: str, mean: float) -> float:
        """Find the first step of the window whose value is not finite; the mean of those that are, where such are skipped."""
        steps = range(engine.step - len(self.window) + 1, engine.step + 1)
        found = {
            s: float(metrics[name])
            for s, metrics in zip(steps, self.window, strict=True)
            if name in metrics
        }
        self.first_bad = next(s for s, value in found.items() if not math.isfinite(value))
        good = [value for value in found.values() if math.isfinite(value)]
        skipping = any(optim.skip_nonfinite for optim in engine.stage.optims)
        return sum(good) / len(good) if good and skipping else mean

    def epoch_end(self, engine: Engine) -> None:
        if self.window and (engine.position == 0 or engine.halted):
            self.flush(engine)
        self.epoch_means = {
            name: total / count for name, (total, count) in self.sums.items() if count
        }
        self.sums = {}

    def evaluation_end(self, engine: Engine) -> None:
        self.write(
            engine,
            "val",
            {name: value for name, value in engine.scores.items() if isinstance(value, float)},
        )

    def write(self, engine: Engine, split: str, values: dict[str, float]) -> None:
        """Append one record and pass it on; a subscriber may raise to end the run."""
        epoch = (
            engine.epoch if engine.settled and engine.position == 0 else engine.epoch + 1
        )  # counted from 1
        where = {"step": engine.step, "epoch": epoch, "stage": engine.stage.name, "split": split}
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
        self.run.append(METRICS, {**where, **finite})
        self.lines += 1
        if split == "train":  # a step that is skipped leaves the last good figures
            self.latest.update({name: v for name, v in values.items() if math.isfinite(v)})
        else:  # a figure that is undefined now is not what it was before
            self.latest.update(values)
        self.show(engine, {**where, **values})

    def show(self, engine: Engine, record: Record) -> None:
        """Pass on what is to be seen but not written down: details that would flood the file, and pictures."""
        for subscriber in self.subscribers:
            subscriber(engine, record)

    def resumed(self, engine: Engine) -> None:
        """Drop what was written after the checkpoint, at its own step too."""
        self.run.keep(METRICS, self.lines)

    def state_dict(self) -> dict[str, Any]:
        return {
            "window": [
                {name: as_pair(value) for name, value in metrics.items()} for metrics in self.window
            ],
            "latest": self.latest,
            "lines": self.lines,
            "sums": self.sums,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        window = state.get("window", [])
        self.window = [
            {name: from_pair(value) for name, value in metrics.items()} for metrics in window
        ]
        self.latest = dict(state.get("latest", {}))
        self.lines = state.get("lines", self.lines)
        self.sums = {name: list(pair) for name, pair in state.get("sums", {}).items()}


def mean_and_weight(values: Sequence[Tensor | Mean]) -> tuple[float, float]:
    """Return the mean of the metric of several steps, each counted by its weight, and the sum of
    the weights.

    Values without weights count as one each, and so do all values of which one has no weight.
    """
    column = torch.stack([value.value if isinstance(value, Mean) else value for value in values])
    weights = [value.weight for value in values if isinstance(value, Mean)]
    if len(weights) < len(values):
        return float(column.mean()), float(len(values))
    if any(isinstance(weight, Tensor) for weight in weights):
        counted = torch.stack(
            [torch.as_tensor(weight, device=column.device) for weight in weights]
        ).to(column)
    elif len(set(weights)) == 1:
        return float(column.mean()), float(sum(weights))
    else:
        counted = torch.tensor(weights, device=column.device).to(column)
    total = float(counted.sum())
    if total == 0:  # batches without a word pair
        return float(column.mean()), 0.0
    return float((column * counted).sum() / counted.sum()), total


def as_pair(value: Tensor | Mean) -> Any:
    """Return a metric in plain types, for a checkpoint."""
    return [value.value, value.weight] if isinstance(value, Mean) else value


def from_pair(saved: Any) -> Tensor | Mean:
    """Return what `as_pair` made a pair of; checkpoints of version 0.1 hold tensors alone."""
    return Mean(*saved) if isinstance(saved, list | tuple) else saved
