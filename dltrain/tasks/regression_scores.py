"""Errors of a regression, gathered batch by batch in states of bounded size."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dltrain import metrics
from dltrain.losses import BatchSums
from dltrain.tasks.score_states import FLOAT_BYTES, SampledRows

MAX_KEPT_VALUES = 2**24  # outputs that are kept, and as many targets: 134 MB together
MAX_KEPT_ROWS = 2**22


def max_kept_rows(num_targets: int) -> int:
    """Return the number of samples whose outputs and targets are kept."""
    return max(2, min(MAX_KEPT_ROWS, MAX_KEPT_VALUES // num_targets))


class RegressionScores:
    """Gathers outputs and standardized targets (B, T) of a regression.

    Up to `max_kept_rows` samples are kept, and the errors are computed from them. The errors of
    more samples follow from sums, and a random sample of them is kept for a plot.
    """

    def __init__(self, num_targets: int) -> None:
        self.rows = SampledRows(max_kept_rows(num_targets))  # outputs and targets (R, T)
        self.sums = BatchSums()  # (4, T): squared and absolute errors, spread and its square
        self.first_target: Tensor | None = None  # (T,), from which the spread is measured

    @classmethod
    def state_bytes(cls, samples: int, num_targets: int) -> int:
        """Return the memory of the rows that are kept of some samples."""
        return 2 * FLOAT_BYTES * num_targets * min(samples, max_kept_rows(num_targets))

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Add a batch of outputs and standardized targets (B, T)."""
        outputs = outputs.float()
        targets = targets.float()
        if self.first_target is None:
            self.first_target = targets[0].clone()
        errors = outputs - targets
        spread = targets - self.first_target
        parts = [errors.square(), errors.abs(), spread, spread.square()]
        self.sums.add(torch.stack([part.sum(dim=0) for part in parts]))
        self.rows.keep(outputs, targets)

    def state_dict(self) -> dict[str, Any]:
        """Return the sums and the kept rows."""
        sums = self.sums.total()
        return {"sums": sums, "first_target": self.first_target, "rows": self.rows.state_dict()}

    def merge(self, state: dict[str, Any]) -> None:
        """Add the samples of another process, which come after those of this one.

        With a the first target of this process, b that of the other, and n of its samples, sum (y -
        a) = sum (y - b) + n (b - a) and sum (y - a)^2 = sum (y - b)^2 + 2 (b - a) sum (y - b) + n
        (b - a)^2.
        """
        shift = (state["first_target"] - self.first_target).cpu().double()
        samples = state["rows"]["total_rows"]
        squares, distances, spread, spread_squares = state["sums"]
        spread_squares = spread_squares + 2 * shift * spread + samples * shift.square()
        spread = spread + samples * shift
        total = torch.stack([squares, distances, spread, spread_squares])
        self.sums.merge({"total": total})
        self.rows.merge(state["rows"])

    @property
    def samples(self) -> int:
        """The number of samples that were added."""
        return self.rows.total_rows

    def kept(self, std: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
        """Return predictions and targets (R, T) of the kept samples in the unit of the data.

        `std` (T,) and `mean` (T,) are those by which the targets were standardized, in fp64.
        """
        outputs, targets = (self.rows.column(index).cpu() for index in (0, 1))
        return outputs * std + mean, targets * std + mean

    def figures(self, std: Tensor, mean: Tensor) -> dict[str, Tensor]:
        """Return MSE, MAE and R2 (T,) of each target; see `metrics.regression` and `kept`."""
        if self.rows.is_complete:
            return metrics.regression(*self.kept(std, mean))
        squares, distances, spread, spread_squares = self.sums.total() / self.samples
        variance = (spread_squares - spread.square()).clamp_min(0)
        # In single precision all targets are equal if their distance to the first is 0.
        explained = 1 - squares / variance.clamp_min(torch.finfo(variance.dtype).tiny)
        r2 = torch.where(spread_squares > 0, explained, (squares == 0).to(squares))
        return {"mse": squares * std.square(), "mae": distances * std, "r2": r2}
