"""Every schedule option: warm-up, range, the factors of torch, plateaus, and a needed end."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler

from dltrain.config.check import problems_of
from dltrain.config.compose import compose
from dltrain.config.groups import groups
from dltrain.experiment.experiment import Experiment
from dltrain.experiment.instantiate import instantiate
from dltrain.schedules.plateau import Plateau
from dltrain.schedules.polynomial import Polynomial
from dltrain.schedules.schedule import Schedule
from dltrain.schedules.step import Step
from dltrain.schedules.triangular import Triangular

OPTIONS = groups()["schedule"]
ENDLESS = {"constant", "plateau"}


@functools.cache
def node(name: str) -> dict[str, Any]:
    chosen: dict[str, Any] = compose([f"schedule={name}"]).config["schedule"]
    return chosen


def option(name: str, total: int, **settings: Any) -> Schedule:
    """The schedule as its file has it, with `settings` over it."""
    schedule: Schedule = instantiate({**node(name), **settings}, "schedule", {"mode": "max"}, [])(
        total_updates=total
    )
    return schedule


def factors(schedule: Schedule, updates: int) -> list[float]:
    return [schedule.factor(update) for update in range(updates)]


def torchs(make: Callable[[torch.optim.Optimizer], Any], updates: int) -> list[float]:
    """The factors of a scheduler of torch's."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = make(optimizer)
    found = []
    for _ in range(updates):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("warmup", [4, 0.2])
def test_every_schedule_rises_in_a_line_and_then_is_itself(name: str, warmup: float) -> None:
    """A warm-up of 4 of 20 updates, then what the schedule is over 16."""
    found = factors(option(name, 20, warmup=warmup), 20)
    assert found[:4] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert found[4:] == factors(option(name, 16, warmup=0), 16)


@pytest.mark.parametrize("name", OPTIONS)
def test_every_factor_is_a_share_of_the_full_rate(name: str) -> None:
    """From 0 to 1, reaching 1; also beyond the end, where a resumed run may go."""
    found = factors(option(name, 30), 40)
    assert min(found) >= 0
    assert max(found) == pytest.approx(1, abs=0.02)
    assert len(set(found[30:])) == 1


@pytest.mark.parametrize("name", OPTIONS)
def test_every_schedules_state_continues_the_same(name: str) -> None:
    """A loaded schedule does what the original does; a state of another schedule is no obstacle."""
    metrics = [0.1, 0.3, 0.2, 0.2, 0.3, 0.1, 0.2, 0.1, 0.4, 0.1, 0.1]
    schedule, again = option(name, 20), option(name, 20)
    for metric in metrics[:7]:
        schedule.observe(metric)
    again.load_state_dict(schedule.state_dict())
    for update, metric in enumerate(metrics[7:]):
        assert again.factor(update) == schedule.factor(update)
        schedule.observe(metric), again.observe(metric)
    assert again.state_dict() == schedule.state_dict()
    option(name, 20).load_state_dict({})


@pytest.mark.parametrize("name", OPTIONS)
def test_only_schedules_over_the_whole_run_need_its_end(name: str) -> None:
    overrides = [
        f"schedule={name}",
        "schedule.warmup=0",
        "trainer.epochs=null",
        "trainer.max_seconds=5",
    ]
    assert [why.split(":")[0] for _, why in problems_of(compose(overrides))] == (
        [] if name in {*ENDLESS, "warmup"} else ["this schedule needs to know the end"]
    )


@pytest.mark.parametrize("name", sorted(ENDLESS))
def test_a_warmup_that_is_a_share_needs_the_end(name: str) -> None:
    overrides = [
        f"schedule={name}",
        "schedule.warmup=0.1",
        "trainer.epochs=null",
        "trainer.max_seconds=5",
    ]
    assert "needs to know the end" in problems_of(compose(overrides))[0][1]


def test_swa_needs_the_end_under_any_schedule() -> None:
    endless = ["schedule=constant", "trainer.epochs=null", "trainer.max_seconds=5"]
    found = problems_of(compose([*endless, "regularization=[swa]"]))
    assert [why.split(":")[0] for _, why in found] == ["regularization.swa needs to know the end"]
    assert problems_of(compose([*endless, "regularization=[ema]"])) == []


@pytest.mark.parametrize(
    ("milestones", "at"), [((0.5, 0.75), [10, 15]), ((0.3,), [6]), ((), []), ((0.9, 0.1), [2, 18])]
)
@pytest.mark.parametrize("gamma", [0.1, 0.5])
def test_step_equals_torchs_multi_step(
    milestones: tuple[float, ...], at: list[int], gamma: float
) -> None:
    theirs = torchs(functools.partial(lr_scheduler.MultiStepLR, milestones=at, gamma=gamma), 20)
    assert factors(Step(20, milestones=milestones, gamma=gamma), 20) == pytest.approx(theirs)


@pytest.mark.parametrize("power", [1.0, 0.9, 2.0])
def test_polynomial_equals_torchs(power: float) -> None:
    theirs = torchs(functools.partial(lr_scheduler.PolynomialLR, total_iters=20, power=power), 20)
    assert factors(Polynomial(20, power=power), 20) == pytest.approx(theirs)


def test_triangular_is_two_lines() -> None:
    found = factors(Triangular(10, rise=0.4, begin=0.2, floor=0.1), 12)
    assert found[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert found[5:] == pytest.approx([0.85, 0.7, 0.55, 0.4, 0.25, 0.1, 0.1])
    assert factors(Triangular(4, rise=0.0), 4) == pytest.approx([1.0, 0.75, 0.5, 0.25])


def test_polynomial_ends_at_its_floor() -> None:
    assert factors(Polynomial(4, floor=0.2), 6) == pytest.approx([1, 0.8, 0.6, 0.4, 0.2, 0.2])


@pytest.mark.parametrize("mode", ["max", "min"])
@pytest.mark.parametrize("patience", [0, 1, 3])
@pytest.mark.parametrize("min_delta", [0.0, 0.1])
def test_plateau_equals_torchs(mode: Any, patience: int, min_delta: float) -> None:
    """Compare with ReduceLROnPlateau over sixty evaluations that improve, then vary; one is NaN."""
    noise = torch.rand(60, generator=torch.Generator().manual_seed(3))
    metrics = (noise + torch.linspace(0, 2, 60).clamp(max=1)).tolist()
    metrics[7] = float("nan")
    metrics = metrics if mode == "max" else [-metric for metric in metrics]
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    settings = {"factor": 0.5, "patience": patience}
    torchs = lr_scheduler.ReduceLROnPlateau(
        optimizer, mode, **settings, threshold=min_delta, threshold_mode="abs", min_lr=0.01, eps=0
    )
    schedule = Plateau(1, mode, **settings, min_delta=min_delta, floor=0.01)
    seen = set()
    for metric in metrics:
        torchs.step(metric)
        schedule.observe(metric)
        assert schedule.factor(5) == pytest.approx(optimizer.param_groups[0]["lr"])
        seen.add(schedule.factor(5))
    assert len(seen) > 3
    assert min(seen) == 0.01


def test_plateau_learns_from_the_trainer_which_way_is_better() -> None:
    for watch, factor in (("val/accuracy", 0.1), ("val/loss", 1.0)):
        config = compose(
            ["schedule=plateau", "schedule.patience=0", f"trainer.watch={watch}"]
        ).config
        optim = Experiment.on_fake_data(config).task.optim(torch.nn.Linear(1, 1), 10)
        for metric in (0.5, 0.4):  # less: worse for an accuracy, better for a loss
            optim.observe(metric)
        assert optim.schedule.factor(0) == pytest.approx(factor)


def test_a_run_slows_down_on_a_plateau_and_a_resume_remembers(dltrain) -> None:
    """Without improvement every evaluation but the first lowers the rate, also after a resume."""
    plateau = (
        "schedule=plateau",
        "schedule.patience=0",
        "schedule.min_delta=1",
        "schedule.factor=0.5",
    )
    small = (
        "dataset=synthetic",
        "dataset.source.train_samples=160",
        "model=perceptron",
        "callbacks=quiet",
    )
    first = dltrain(*plateau, *small, "trainer.epochs=3", "trainer.log_every=1", "--json")
    assert first.code == 0, first.err
    again = dltrain("resume", first.json["run"], "trainer.epochs=5")
    assert again.code == 0, again.err
    lines = (Path(first.json["run"]) / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    rates = {r["epoch"]: r["train/lr"] for r in map(json.loads, lines) if "train/lr" in r}
    assert list(rates.values()) == pytest.approx([1e-3, 1e-3, 5e-4, 2.5e-4, 1.25e-4])
