"""A small network with data and a loss, for tests of single gradient steps."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from dltrain.config.groups import groups, read_option
from dltrain.experiment.instantiate import instantiate
from dltrain.optimizers.sgd import sgd
from dltrain.regularization.averaging import Averaging
from dltrain.regularization.ema import EMA
from dltrain.regularization.swa import SWA

OPTIMIZERS: dict[str, functools.partial[torch.optim.Optimizer]] = {
    name: instantiate(read_option("optimizer", name), "optimizer", {}, [])
    for name in groups()["optimizer"]
}
X = torch.randn(12, 3, generator=torch.Generator().manual_seed(5))
Y = torch.randn(12, 2, generator=torch.Generator().manual_seed(6))


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


def loss_of(net: nn.Module, x: Tensor = X, y: Tensor = Y) -> Tensor:
    return (net(x) - y).square().mean()


def plain(lr: float = 0.1, **settings: Any) -> Callable[..., torch.optim.Optimizer]:
    return functools.partial(sgd, lr=lr, **settings)


def weights(net: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in net.parameters()]


def assert_equal(a: list[Tensor], b: list[Tensor], atol: float = 0.0) -> None:
    torch.testing.assert_close(a, b, rtol=0, atol=atol)


def averager(
    regularizer: EMA | SWA | Averaging,
) -> Callable[[list[Tensor], list[Tensor], int, int], None]:
    average: Callable[[list[Tensor], list[Tensor], int, int], None] = regularizer.settings()[
        "optim.average"
    ]
    return average
