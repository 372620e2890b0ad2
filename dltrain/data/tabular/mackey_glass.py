"""The Mackey-Glass series: chaos from a delay, made up from a seed."""

from __future__ import annotations

import numpy as np
import torch

from dltrain.data.tabular.table import Column, Request, Table
from dltrain.rng import keyed
from dltrain.types import PositiveInt

BETA, GAMMA, POWER = 0.2, 0.1, 10
STEPS = 10  # of the integration to a unit of time
TRANSIENT = 300  # units of time that are left out: the way to the attractor


class MackeyGlass:
    """`length` values, one a unit of time, of dx/dt = 0.2 x(t - tau) / (1 + x(t - tau)^10) - 0.1 x(t).

    Mackey and Glass 1977, "Oscillation and Chaos in Physiological Control Systems", equation 4b; with `tau` 17 it is mildly
    chaotic. Integrated by the fourth-order Runge-Kutta method in steps of 0.1, in which the delayed value moves in a line
    between those that are stored. It begins from a constant past of 1.2 plus at most 0.1 drawn from `seed`, and the first
    300 units are left out.
    """

    def __init__(self, length: PositiveInt = 3000, tau: PositiveInt = 17, seed: int = 0) -> None:
        self.length, self.tau, self.seed = length, tau, seed

    def read(self, request: Request) -> Table:
        """Return a table of the one column "x"."""
        name = f"mackey_glass length={self.length} tau={self.tau} seed={self.seed}"
        return Table(name, {"x": Column("x", self.series())}, lambda row: f"value {row}", name)

    def series(self) -> np.ndarray:
        start = 1.2 + 0.1 * float(torch.rand((), generator=keyed(self.seed)))
        delay, h = self.tau * STEPS, 1 / STEPS
        x = [start] * (delay + 1)

        def drift(value: float, delayed: float) -> float:
            return BETA * delayed / (1 + delayed**POWER) - GAMMA * value

        for _ in range((TRANSIENT + self.length - 1) * STEPS):
            now, late, later = x[-1], x[-1 - delay], x[-delay]
            middle = (late + later) / 2
            k1 = drift(now, late)
            k2 = drift(now + h / 2 * k1, middle)
            k3 = drift(now + h / 2 * k2, middle)
            k4 = drift(now + h * k3, later)
            x.append(now + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4))
        return np.array(x[delay + TRANSIENT * STEPS :: STEPS])
