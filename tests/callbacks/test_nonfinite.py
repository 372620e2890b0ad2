"""Runs whose numbers stop being numbers: found by name and step, left out where that is asked for,
never saved.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from toys import Points

from dltrain.callbacks.checkpoint import Checkpoint
from dltrain.callbacks.metrics_log import MetricsLog
from dltrain.callbacks.nonfinite import NonFinite
from dltrain.engine import Callback, Engine, Stage, Task
from dltrain.errors import DivergedError
from dltrain.optim import Optim
from dltrain.optimizers.adam import adam
from dltrain.runs.checkpoint import Store
from dltrain.runs.folder import RunFolder
from dltrain.types import Interval

STEPS = 20


class Explosive(Task):
    """A network with batch norm whose batches at `bad` steps hold an infinite number."""

    def __init__(self, bad: Iterable[int], skip: bool = False, accumulate: int = 1) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 1))
        self.bad, self.skip, self.accumulate, self.steps = set(bad), skip, accumulate, 0

    def stages(self) -> Iterator[Stage]:
        make = functools.partial(adam, lr=0.01)
        self.optim = Optim(self.net, make, skip_nonfinite=self.skip, accumulate=self.accumulate)

        def evaluate(batches):
            return {"loss": float(self.net(torch.cat(list(batches))).square().mean())}

        yield Stage(
            "only",
            1,
            Points(STEPS),
            self.step,
            Points(1),
            evaluate,
            (self.optim,),
            "val/loss",
            "min",
        )

    def step(self, batch: Tensor) -> dict[str, Tensor]:
        self.steps += 1
        if self.steps in self.bad:
            batch = batch * math.inf
        loss = self.net(batch).square().mean()
        self.optim.update(loss)
        return {"loss": loss.detach()}

    def predict(self, batch: Any) -> Any:
        return self.net(batch)


def fit(task: Task, folder: Path, skips: int = 0, every: int = 5, *more: Callback) -> Engine:
    log = MetricsLog(RunFolder(folder), every)
    saver = Checkpoint(Store(folder / "checkpoints"), Interval(steps=2))
    engine = Engine([log, NonFinite(log, skips), *more, saver])
    try:
        engine.fit(task)
    finally:
        saver.finish()
    return engine


def test_the_first_bad_step_and_tensor_are_named(tmp_path: Path) -> None:
    """Not the step of the log line that shows it, and with the learning rate."""
    with pytest.raises(DivergedError) as caught:
        fit(Explosive([8]), tmp_path, 0, 5)
    message = str(caught.value)
    assert "the weights are not finite at step 8 (learning rate 0.01)" in message
    assert "first bad tensor: weight net.0.weight" in message
    with pytest.raises(DivergedError, match="train/loss is nan at step 7 "):
        fit(Explosive([7]), tmp_path, 0, 7)


def test_a_gradient_that_is_not_finite_ends_the_run(tmp_path: Path) -> None:
    """Even where the loss still is: the weights are lost with the step."""

    class Steep(Explosive):
        def step(self, batch: Tensor) -> dict[str, Tensor]:
            self.steps += 1
            loss = self.net(batch).square().mean()
            self.optim.update(loss * (math.inf if self.steps == 5 else 1))
            return {"loss": loss.detach()}

    log = MetricsLog(RunFolder(tmp_path), 5)
    with pytest.raises(
        DivergedError,
        match=r"the gradient is not finite \(train/grad_norm is (nan|inf)\) at step 5",
    ):
        Engine([log, NonFinite(log)]).fit(Steep([]))


@pytest.mark.parametrize("step", range(1, STEPS + 1, 3))
def test_nothing_that_is_not_finite_is_saved(step: int, tmp_path: Path) -> None:
    """Whenever it happens between two log lines: the newest checkpoint is of before."""
    with pytest.raises(DivergedError):
        fit(Explosive([step]), tmp_path, 0, 1000)
    store = Store(tmp_path / "checkpoints")
    assert [int(folder.name) for folder in store.steps()] == list(range(2, step, 2))[-2:]
    for pointer in ("last", "best"):
        found = store.read(pointer)
        assert found is None or all(v.isfinite().all() for v in found[1]["task"].values()), pointer


@pytest.mark.parametrize("accumulate", [1, 3])
def test_skipped_updates_leave_no_trace(accumulate: int, tmp_path: Path) -> None:
    """Weights, moments, schedule and the statistics of batch norm are those of a run without the
    bad batches' windows.
    """
    bad = [4, 5, 11]
    skipped, clean = Explosive(bad, True, accumulate), Explosive([], True, accumulate)
    fit(skipped, tmp_path / "skipped", 2)
    windows = {(step - 1) // accumulate for step in bad}
    batches = [b for i, b in enumerate(Points(STEPS).epoch(0)) if i // accumulate not in windows]
    for _ in clean.stages():
        clean.train()
        for batch in batches:
            clean.step(batch)
        clean.optim.flush()
    for (name, a), b in zip(
        skipped.net.state_dict().items(), clean.net.state_dict().values(), strict=True
    ):
        if "num_batches" not in name:
            torch.testing.assert_close(a, b, rtol=0, atol=0, msg=name)
    assert skipped.optim.updates == clean.optim.updates


def test_too_many_skips_in_a_row_end_the_run(tmp_path: Path) -> None:
    """Two are allowed here: three in a row end it, with the weights still whole; two and two do
    not.
    """
    fit(Explosive([3, 4, 6, 7], skip=True), tmp_path / "two", 2)
    with pytest.raises(DivergedError) as caught:
        fit(Explosive([3, 4, 5], skip=True), tmp_path / "three", 2)
    assert "the gradient of 3 updates in a row is not finite at step 5" in str(caught.value)
    assert "all weights are finite still" in str(caught.value)


def test_twenty_overflows_in_a_row_are_too_many_for_the_scaler(tmp_path: Path) -> None:
    """Under fp16 an infinite gradient is a matter of scale, which a step left out puts right,
    unless it never does.
    """

    class Scaled(Explosive):
        def __init__(self, backoff: float) -> None:
            super().__init__([])
            self.backoff = backoff

        def stages(self) -> Iterator[Stage]:
            for stage in super().stages():
                self.optim.scaler = torch.amp.GradScaler(
                    "cpu", init_scale=2.0**127, backoff_factor=self.backoff
                )
                yield stage

        def step(self, batch: Tensor) -> dict[str, Tensor]:
            return super().step(batch * 1e6)

    log = MetricsLog(RunFolder(tmp_path), STEPS)
    Engine([log, NonFinite(log)]).fit(few := Scaled(2.0**-40))
    assert int(few.optim.bad_in_a_row) == 0
    assert float(few.optim.scaler.get_scale()) < 2.0**127, "some were left out"
    log = MetricsLog(RunFolder(tmp_path), STEPS)
    with pytest.raises(DivergedError, match=f"{STEPS} updates in a row overflow"):
        Engine([log, NonFinite(log)]).fit(Scaled(0.999999))
