"""Temperature scaling: one number, fitted to validation data, that calibrates a classifier.

Guo et al. 2017, "On Calibration of Modern Neural Networks", section 4.2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dltrain.engine import Metrics, Stage
from dltrain.tasks.calibration.final_stages import on_device_of, one_step_stage, with_averages
from dltrain.types import DataSplit

LOWEST, HIGHEST = 0.01, 100.0  # temperature; without a wrong prediction the best one would be 0
MAX_ITERATIONS = 100  # of L-BFGS
LogitsOf = Callable[[Tensor], Tensor]
"""Returns the logits (B, K) of inputs (B, ...)."""


class LogitCalibration(Protocol):
    """A change of a classifier's logits before they are used, and the stages that learn it."""

    def __call__(self, logits: Tensor) -> Tensor:
        """Return the calibrated logits (B, K)."""

    def stages(self, training: Iterator[Stage], logits_of: LogitsOf) -> Iterator[Stage]:
        """Yield the stages of `training`, and after them those that learn to calibrate."""


class NoCalibration:
    """Leaves the logits as they are."""

    def __call__(self, logits: Tensor) -> Tensor:
        """Return the logits (B, K)."""
        return logits

    def stages(self, training: Iterator[Stage], logits_of: LogitsOf) -> Iterator[Stage]:
        """Yield the stages of `training`."""
        yield from training


class TemperatureScaling(nn.Module):
    """Divides logits by a temperature, which is fitted to the samples of `held_out`.

    The temperature minimizes their negative log-likelihood. It is 1 until it is fitted, in a stage
    "calibrate" after the others. That stage keeps the weights with which training ended.
    """

    temperature: Tensor

    def __init__(self, held_out: DataSplit) -> None:
        super().__init__()
        self.held_out = held_out
        self.register_buffer("temperature", torch.ones(()))

    def forward(self, logits: Tensor) -> Tensor:
        """Return the calibrated logits (B, K)."""
        return scaled(logits, self.temperature)

    def stages(self, training: Iterator[Stage], logits_of: LogitsOf) -> Iterator[Stage]:
        """Yield the stages of `training`, then "calibrate", which has one step."""
        for stage in training:
            yield from with_averages(stage)
        yield one_step_stage(stage, "calibrate", lambda: self.fit(logits_of))

    def fit(self, logits_of: LogitsOf) -> Metrics:
        """Fit the temperature to the held-out samples; return it, and their loss with it."""
        self.temperature.fill_(1)
        batches = on_device_of(self.temperature, self.held_out.epoch(0))
        logits, targets = gathered(batches, logits_of)
        self.temperature.fill_(best_temperature(logits, targets))
        loss = F.cross_entropy(self(logits.float()), targets)
        return {"loss": loss, "temperature": self.temperature.clone()}


def scaled(logits: Tensor, temperature: Tensor | float) -> Tensor:
    """Return logits (B, K) divided by a temperature, with 0 as the highest of each row.

    The difference to the highest one is divided, because then no rounding can change which class
    has it.
    """
    highest = logits.amax(dim=1, keepdim=True)
    return (logits - highest) / temperature


@torch.no_grad()
def gathered(
    batches: Iterable[tuple[Tensor, Tensor]], logits_of: LogitsOf
) -> tuple[Tensor, Tensor]:
    """Return the logits (N, K) and the targets (N,) of all batches."""
    logits, targets = zip(*((logits_of(x), y) for x, y in batches), strict=True)
    return torch.cat(logits), torch.cat(targets)


def best_temperature(logits: Tensor, targets: Tensor) -> float:
    """Return the temperature with the lowest negative log-likelihood of logits (N, K).

    L-BFGS finds it in double precision. The likelihood is a concave function of 1 / T, so there is
    one maximum.

    Raises:
        ValueError: The logits are not finite.
    """
    if not bool(logits.isfinite().all()):
        raise ValueError("a temperature cannot be fitted: the validation logits are not finite")
    with torch.inference_mode(False), torch.enable_grad():
        logits = logits.detach().double().cpu()
        targets = targets.cpu()
        log_inverse = torch.zeros((), dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.LBFGS(
            [log_inverse],
            max_iter=MAX_ITERATIONS,
            tolerance_grad=1e-10,
            tolerance_change=1e-12,
            line_search_fn="strong_wolfe",
        )

        def loss() -> Tensor:
            optimizer.zero_grad()
            value = F.cross_entropy(logits * log_inverse.exp(), targets)
            value.backward()
            return value

        optimizer.step(loss)
    return min(max(float(torch.exp(-log_inverse.detach())), LOWEST), HIGHEST)
