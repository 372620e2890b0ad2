"""Measure what the engine adds to a step, in microseconds.

    python -m benchmarks.overhead [--steps 20000] [--rounds 5]

A step that does nothing is called by a bare loop, by the engine alone, and by the engine with what
every run has: the guard against full memory, the log of metrics (`trainer.log_every=1000000`), the
timer, limits, checkpoints and signals, but no callback of `callbacks=default`. They take turns; the
figures are medians over the rounds. Objects from before the clock starts are not searched for
garbage: that one search would be a third of the time. The gradient step is measured by itself:
`Optim.update` of one small layer, against the same calls by hand.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.engine import quiet
from dltrain.config.compose import compose
from dltrain.engine import Engine, Metrics, Stage, Task
from dltrain.experiment.experiment import Experiment
from dltrain.experiment.session import open_session
from dltrain.optim import Optim
from dltrain.runs.folder import RunFolder

MICRO = 1e6


class Nothing:
    """Batches that hold nothing to compute."""

    batch_size = 1

    def __init__(self, steps: int) -> None:
        self.samples = steps
        self.batch = (torch.zeros(1), torch.zeros(1))

    def __len__(self) -> int:
        return self.samples

    def epoch(self, number: int, start: int = 0) -> Iterator[Any]:
        for _ in range(start, self.samples):
            yield self.batch

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load nothing."""


class Idle(Task):
    """One stage, whose step returns the same metric each time."""

    def __init__(self, batches: Nothing) -> None:
        super().__init__()
        self.batches = batches
        self.metrics = {"loss": torch.zeros(())}

    def step(self, batch: Any) -> Metrics:
        return self.metrics

    def stages(self) -> Iterator[Stage]:
        yield Stage(name="train", epochs=1, batches=self.batches, step=self.step)

    def predict(self, batch: Any) -> Any:
        return batch


def bare(steps: int) -> float:
    """Return the seconds of a loop over the batches that only calls the step."""
    task = Idle(Nothing(steps))
    start = time.perf_counter()
    for batch in task.batches.epoch(0):
        task.step(batch)
    return time.perf_counter() - start


def engine_alone(steps: int) -> float:
    task = Idle(Nothing(steps))
    engine = Engine()
    start = time.perf_counter()
    engine.fit(task)
    return time.perf_counter() - start


def engine_of_a_run(steps: int) -> float:
    """Return the seconds of the engine as a run with `callbacks=quiet` uses it."""
    composed = compose(["dataset=digits", "callbacks=quiet", "trainer.log_every=1000000"])
    assert not composed.problems, composed.problems
    built = Experiment.to_train(composed.config)
    with tempfile.TemporaryDirectory() as folder:
        engine = open_session(built, RunFolder(Path(folder)), "benchmark").engine
        engine.listeners["epoch_end"] = []  # the save at the end belongs to no step
        engine.listeners["stage_end"] = engine.listeners["run_end"] = []
        task = Idle(Nothing(steps))
        gc.freeze()
        start = time.perf_counter()
        engine.fit(task)
        return time.perf_counter() - start


def by_optim(layer: nn.Module, inputs: Tensor) -> Callable[[], None]:
    """Return a step that is made by `Optim.update`."""
    optim = Optim(layer, lambda params: torch.optim.SGD(params, lr=0.1, fused=True))

    def step() -> None:
        optim.update(layer(inputs).mean())

    return step


def by_hand(layer: nn.Module, inputs: Tensor) -> Callable[[], None]:
    """Return the same step by hand."""
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1, fused=True)

    def step() -> None:
        optimizer.zero_grad()
        layer(inputs).mean().backward()
        optimizer.step()

    return step


def update_step(make: Callable[[nn.Module, Tensor], Callable[[], None]], steps: int) -> float:
    """Return the seconds of some gradient steps of a small layer."""
    torch.manual_seed(0)
    step = make(nn.Linear(4, 4), torch.zeros(2, 4))
    start = time.perf_counter()
    for _ in range(steps):
        step()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    steps = arguments.steps
    sides: dict[str, Callable[[], float]] = {
        "a bare loop": lambda: bare(steps),
        "the engine": lambda: engine_alone(steps),
        "the engine of a run": lambda: engine_of_a_run(steps),
        "an update by hand": lambda: update_step(by_hand, steps),
        "Optim.update": lambda: update_step(by_optim, steps),
    }
    times: dict[str, list[float]] = {name: [] for name in sides}
    with quiet():
        for _ in range(arguments.rounds):
            for name, side in sides.items():
                times[name].append(side() / steps * MICRO)
    found = {name: statistics.median(values) for name, values in times.items()}
    for name, microseconds in found.items():
        print(f"{name:24}{microseconds:8.2f} microseconds a step")
    added = found["the engine of a run"] - found["a bare loop"]
    update = found["Optim.update"] - found["an update by hand"]
    print(f"added by the engine of a run: {added:.2f}, by Optim.update: {update:.2f}")


if __name__ == "__main__":
    main()
