"""`debug=profile`: phases that sum to the total, the verdict, and no wrapping without it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from toys import GAN, Points

from dltrain.callbacks.limits import Limits
from dltrain.callbacks.timer import Timer
from dltrain.config.check import problems_of
from dltrain.config.compose import compose
from dltrain.device import Device
from dltrain.engine import Engine, Feed, PlainStepRunner, Stage, Task
from dltrain.optim import Optim
from dltrain.optimizers.adam import adam
from dltrain.profiling.advice import Shares, settings_for, verdict
from dltrain.profiling.clock import Clock, Ledger
from dltrain.profiling.kernels import usual_seconds, within_steps
from dltrain.profiling.profile import TRACED_UNTIL, WARMUP_STEPS
from dltrain.profiling.session import NoProfiling, PhaseProfiling, profiling_of
from dltrain.profiling.timed import STEP
from dltrain.runs.folder import RunFolder

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:torch.profiler")
PAUSE_SECONDS = 0.01
TINY_OPERATIONS = 1000
WIDE = 700


class SlowPoints(Points):
    """Batches that have to be waited for."""

    def epoch(self, number: int, start: int = 0) -> Iterator[Tensor]:
        for batch in super().epoch(number, start):
            time.sleep(PAUSE_SECONDS)
            yield batch


class Working(Task):
    """A linear layer, with the work of `work` in every step."""

    def __init__(self, batches: Points, work: Any, stages: int = 1) -> None:
        super().__init__()
        self.net = nn.Linear(2, 2)
        self.batches = batches
        self.work = work
        self.count = stages

    def stages(self) -> Iterator[Stage]:
        for number in range(self.count):
            self.optim = Optim(self.net, adam)
            yield Stage(
                f"stage {number}",
                1,
                self.batches,
                self.step,
                held_out=Points(3),
                evaluate=lambda batches: {"count": float(len(list(batches)))},
                optims=(self.optim,),
            )

    def step(self, batch: Tensor) -> dict[str, Tensor]:
        self.work()
        loss = self.net(batch).square().mean()
        self.optim.update(loss)
        return {"loss": loss.detach()}

    def predict(self, batch: Any) -> Any:
        return self.net(batch)


def nothing() -> None:
    """Do no work."""


def tiny_operations() -> None:
    """Compute many sums of single numbers."""
    one = torch.ones(1)
    for _ in range(TINY_OPERATIONS):
        one = one + 1


def large_product() -> None:
    """Multiply two large matrices."""
    matrix = torch.ones(WIDE, WIDE)
    for _ in range(3):
        matrix @ matrix


def profiled(task: Task, folder: Path, steps: int = TRACED_UNTIL + 5) -> dict[str, Any]:
    """Train a task with profiling; return its table."""
    run = RunFolder(folder)
    device = Device(name="cpu")
    profiling = PhaseProfiling(run, dict(compose([]).config), device)
    limits = Limits(Timer(run), None, None, steps)
    runner = profiling.step_runner(PlainStepRunner())
    engine = Engine([limits, *profiling.callbacks()], profiling.feed(Feed()), step_runner=runner)
    profiling.time(engine)
    engine.fit(task)
    return profiling.results()["profile"]


@pytest.mark.parametrize(
    ("batches", "work", "bound"),
    [
        (SlowPoints(200), nothing, "data"),
        (Points(200), tiny_operations, "Python"),
        (Points(200), large_product, "arithmetic"),
    ],
)
def test_a_run_is_bound_by_what_is_slow(
    tmp_path: Path, batches: Points, work: Any, bound: str
) -> None:
    table = profiled(Working(batches, work), tmp_path)
    assert table["bound_by"] == bound
    assert table["verdict"].startswith(f"bound by {bound}: ")


def test_phases_sum_to_the_total_and_are_written(tmp_path: Path) -> None:
    table = profiled(Working(Points(200), large_product), tmp_path)
    seconds = {row["phase"]: row["seconds"] for row in table["phases"]}
    assert sum(seconds.values()) == pytest.approx(table["seconds"], rel=0.05)
    assert sum(row["percent"] for row in table["phases"]) == pytest.approx(100, abs=5)
    for phase in ("data", "forward", "backward", "optimizer", "evaluation"):
        assert seconds[phase] > 0, phase
    assert seconds["forward"] > seconds["backward"]  # the matrices are not part of the loss
    assert table["steps"] == TRACED_UNTIL + 5 - WARMUP_STEPS - 10  # ten are traced
    assert json.loads((tmp_path / "profile.json").read_text()) == table
    assert table["verdict"] in (tmp_path / "profile.txt").read_text()
    assert (tmp_path / "trace.json").stat().st_size > 1000


def test_stages_follow_one_another(tmp_path: Path) -> None:
    table = profiled(Working(Points(200), nothing, stages=2), tmp_path)
    assert [stage["stage"] for stage in table["stages"]] == ["stage 0", "stage 1"]
    assert [stage["trace"] for stage in table["stages"]] == ["trace.json", "trace-2.json"]
    steps = {stage["steps"] for stage in table["stages"]}
    assert steps == {TRACED_UNTIL + 5 - WARMUP_STEPS - 10}


def test_a_run_that_ends_early_shows_its_first_steps(tmp_path: Path) -> None:
    table = profiled(Working(Points(3), nothing), tmp_path)
    assert table["steps"] == 3
    assert table["part"].startswith("the first ones")
    assert "enough steps" in table["verdict"]


def test_two_optimizers_are_timed(tmp_path: Path) -> None:
    table = profiled(GAN(), tmp_path, steps=5)
    seconds = {row["phase"]: row["seconds"] for row in table["phases"]}
    assert seconds["backward"] > 0
    assert seconds["optimizer"] > 0


def test_nothing_is_timed_without_profiling(tmp_path: Path) -> None:
    profiling = profiling_of(RunFolder(tmp_path), compose([]).config, Device(name="cpu"))
    assert isinstance(profiling, NoProfiling)
    feed = Feed()
    runner = PlainStepRunner()
    assert profiling.feed(feed) is feed
    assert profiling.step_runner(runner) is runner
    assert profiling.callbacks() == []
    engine = Engine(step_runner=runner)
    profiling.time(engine)
    assert "score" not in vars(engine)


def test_phases_within_an_evaluation_are_the_evaluation() -> None:
    clock = Clock()
    ledger = Ledger()
    clock.switch(ledger)
    with clock.phase("evaluation"), clock.phase("data"):
        time.sleep(0.001)
    clock.switch(Ledger())
    assert "data" not in ledger.seconds
    assert ledger.seconds["evaluation"] >= 0.001
    assert sum(ledger.seconds.values()) == pytest.approx(ledger.total)


@pytest.mark.parametrize("bound", ["data", "Python", "arithmetic"])
def test_advice_passes_the_check_and_is_not_set_already(bound: str) -> None:
    shares = {
        "data": Shares(0.8, 0.1, 0.0),
        "Python": Shares(0.0, 0.1, 0.5),
        "arithmetic": Shares(0.0, 0.9, 0.0),
    }[bound]
    overrides = ["dataset=image_folder", "dataset.workers=1", "dataset.root=x"]
    config = compose(overrides).config
    settings = settings_for(shares, config, Device(name="cpu"), learns=True)
    typed = [setting for setting in settings if "=" in setting]
    assert typed
    assert not problems_of(compose([*overrides, *typed]))
    assert all(setting in verdict(shares, settings) for setting in settings)
    again = settings_for(shares, compose([*overrides, *typed]).config, Device(name="cpu"), True)
    assert "dataset.workers=0" not in again


def test_operations_outside_of_steps_are_no_kernels() -> None:
    with torch.profiler.profile() as trace:
        torch.ones(2) + 1
        with torch.profiler.record_function(STEP):
            torch.ones(2) * 2
    events = trace.events()
    steps = [(e.time_range.start, e.time_range.end) for e in events if e.name == STEP]
    names = {event.name for _, event in within_steps(events, steps)}
    assert "aten::mul" in names
    assert "aten::add" not in names


def test_an_interrupted_operation_counts_for_nothing() -> None:
    usual = [0.1, 1.0]
    assert usual_seconds([usual, [9.0, 1.0], usual], fixed=0.2) == pytest.approx(0.8)
    assert usual_seconds([usual, [1.0], [9.0, 1.0]], fixed=0.2) == pytest.approx(0.8)
    assert usual_seconds([], fixed=0.2) == 0
