"""Learning rates of gradient steps: curves against torch's own, warm-up, and what comes after the
end.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from descent import loss_of, network, plain

from dltrain.optim import Optim
from dltrain.schedules.constant import Constant
from dltrain.schedules.cosine import Cosine
from dltrain.schedules.onecycle import OneCycle
from dltrain.schedules.schedule import Schedule


def rates(schedule: Schedule, updates: int, lr: float = 0.2) -> list[float]:
    """The learning rate of every update."""
    net = network()
    optim = Optim(net, plain(lr), schedule)
    found = []
    for _ in range(updates):
        optim.update(0 * loss_of(net))
        found.append(optim.lrs[0])
    return found


def torchs(
    make: Callable[[torch.optim.Optimizer], Any], updates: int, lr: float = 0.2
) -> list[float]:
    optimizer = torch.optim.SGD(network().parameters(), lr=lr)
    scheduler = make(optimizer)
    found = []
    for _ in range(updates):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


@pytest.mark.parametrize("floor", [0.0, 0.1])
def test_cosine_equals_torchs(floor: float) -> None:
    """CosineAnnealingLR's rates."""
    annealing = functools.partial(
        torch.optim.lr_scheduler.CosineAnnealingLR, T_max=20, eta_min=floor * 0.2
    )
    assert rates(Cosine(20, floor=floor), 20) == pytest.approx(torchs(annealing, 20), rel=1e-9)


@pytest.mark.parametrize("total", [10, 100])
@pytest.mark.parametrize("rise", [0.3, 0.5])
def test_onecycle_equals_torchs(total: int, rise: float) -> None:
    """OneCycleLR's rates, update by update."""
    cycle = functools.partial(
        torch.optim.lr_scheduler.OneCycleLR,
        max_lr=0.2,
        total_steps=total,
        pct_start=rise,
        cycle_momentum=False,
    )
    assert rates(OneCycle(total, rise=rise), total) == pytest.approx(torchs(cycle, total), rel=1e-6)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (Constant(10), [0.2] * 10),
        (Constant(10, warmup=4), [0.05, 0.1, 0.15, 0.2] + [0.2] * 6),
        (Constant(10, warmup=0.4), [0.05, 0.1, 0.15, 0.2] + [0.2] * 6),
        (
            Cosine(6, warmup=2),
            [0.1, 0.2] + [0.1 * (1 + math.cos(math.pi * i / 4)) for i in range(4)],
        ),
        (
            Cosine(4, floor=0.5),
            [
                0.2,
                0.2 * (0.5 + 0.25 * (1 + math.sqrt(0.5))),
                0.15,
                0.2 * (0.75 - 0.25 * math.sqrt(0.5)),
            ],
        ),
    ],
)
def test_warmup_and_shapes(schedule: Schedule, expected: list[float]) -> None:
    """A line up to the full rate, then the curve over what is left."""
    assert rates(schedule, len(expected)) == pytest.approx(expected)


def test_schedules_stay_at_their_end() -> None:
    """A run that continues beyond its plan keeps the last rate."""
    assert rates(Cosine(5, floor=0.1), 9)[5:] == pytest.approx([0.02] * 4)


def test_the_watched_metric_reaches_the_schedule() -> None:
    """`observe` hands the schedule what plateau schedules react to."""

    class Plateau(Constant):
        seen: float | None = None

        def observe(self, metric: float) -> None:
            self.seen = metric

    schedule = Plateau(3)
    Optim(network(), plain(), schedule).observe(0.25)
    Optim(network(), plain()).observe(0.5)
    assert schedule.seen == 0.25
