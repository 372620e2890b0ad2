"""The Mackey-Glass series: chaos from a delay, generated from a seed."""

from __future__ import annotations

import numpy as np
import torch

from dltrain.data.tabular.table import Column, Request, Table
from dltrain.rng import keyed
from dltrain.types import PositiveInt

BETA, GAMMA, POWER = 0.2, 0.1, 10  # of equation 4b
STEPS = 10  # of the integration in a unit of time
TRANSIENT = 300  # units of time that are left out, until the series is near the attractor


class MackeyGlass:
    """`length` values, one a unit of time, of the Mackey-Glass equation.

    dx/dt = 0.2 x(t - tau) / (1 + x(t - tau)^10) - 0.1 x(t) is equation 4b of Mackey and Glass 1977,
    "Oscillation and Chaos in Physiological Control Systems"; with `tau` 17 it is mildly chaotic.
    The fourth-order Runge-Kutta method integrates it in steps of 0.1 and interpolates the delayed
    value linearly between those that are stored. The series begins from a constant past of 1.2 plus
    at most 0.1 drawn from `seed`, and the first 300 units are left out.
    """

    def __init__(self, length: PositiveInt = 3000, tau: PositiveInt = 17, seed: int = 0) -> None:
        self.length = length
        self.tau = tau
        self.seed = seed

    def read(self, request: Request) -> Table:
        """Return a table of the one column "x"."""
        name = f"mackey_glass length={self.length} tau={self.tau} seed={self.seed}"
        return Table(name, {"x": Column("x", self.series())}, lambda row: f"value {row}", name)

    def series(self) -> np.ndarray:
        """Return the values (length,)."""
        start = 1.2 + 0.1 * float(torch.rand((), generator=keyed(self.seed)))
        delay = self.tau * STEPS
        h = 1 / STEPS
        x = [start] * (delay + 1)
        for _ in range((TRANSIENT + self.length - 1) * STEPS):
            x.append(runge_kutta_step(x[-1], x[-1 - delay], x[-delay], h))
        return np.array(x[delay + TRANSIENT * STEPS :: STEPS])


def runge_kutta_step(x: float, delayed: float, delayed_next: float, h: float) -> float:
    """Return the value a step `h` after `x`.

    The delayed value moves from `delayed` to `delayed_next`.
    """
    middle = (delayed + delayed_next) / 2
    k1 = drift(x, delayed)
    k2 = drift(x + h / 2 * k1, middle)
    k3 = drift(x + h / 2 * k2, middle)
    k4 = drift(x + h * k3, delayed_next)
    return x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


def drift(x: float, delayed: float) -> float:
    """Return dx/dt of the equation."""
    return BETA * delayed / (1 + delayed**POWER) - GAMMA * x
