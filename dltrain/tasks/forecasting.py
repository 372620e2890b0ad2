"""Forecasting: regression from a window of a series to its next values."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from dltrain.engine import Direction, Stage, Task
from dltrain.losses import BatchSums
from dltrain.optim import Optim
from dltrain.tasks.directions import watch_direction
from dltrain.tasks.outputs import Expected, require_outputs
from dltrain.tasks.regression import (
    NOTES,
    SHOWN_AS,
    TARGETS,
    Unit,
    check_targets_and_loss,
    directions,
    evaluation_bytes,
    sample_rows,
    scores,
)
from dltrain.tasks.regression_scores import max_kept_rows
from dltrain.tasks.score_states import FLOAT_BYTES, SampledRows
from dltrain.tasks.supervised import Supervised, validation_split
from dltrain.types import Data


class Forecasting(Task):
    """Learns to continue a series, with outputs (B, horizon) of `model`.

    Batches are (windows (B, window, F), targets (B, horizon)). Windows and targets are standardized
    alike, and the targets continue the first of the F series. Every evaluation gives the scores of
    a regression, and `relative_error`: the RMSE divided by that of the naive forecast, which
    repeats the last value of the window (Hyndman and Koehler 2006, "Another look at measures of
    forecast accuracy", section 2.4). Below 1 the model beats the naive forecast.

    Raises:
        ValueError: The data is not a series, or the loss does not measure a distance.
    """

    predicts: ClassVar[Literal["numbers"]] = "numbers"
    shown_as: Mapping[str, Sequence[str]] = SHOWN_AS
    notes: Mapping[str, str] = NOTES

    def __init__(
        self,
        data: Data,
        model: nn.Module,
        loss: nn.Module,
        optim: Callable[[nn.Module, int], Optim],
        epochs: int,
        watch: str = "val/mse",
        mode: Direction | None = None,
    ) -> None:
        super().__init__()
        check_targets_and_loss(data.spec, loss)
        if len(data.spec.input_shape) != 2:
            raise ValueError(
                "the data is not a series of windows: dataset=timeseries, or task=regression"
            )
        self.model = model
        self.loss = loss
        self.unit = Unit(data.spec)
        self.data = data
        self.optim = optim
        self.epochs = epochs
        self.watch = watch
        self.mode = mode

    def stages(self) -> Iterator[Stage]:
        """Yield the stage "train"."""
        training = Supervised(
            model=self.model,
            loss=self.loss,
            optim=self.optim,
            epochs=self.epochs,
            evaluate=self.evaluate,
            watch=self.watch,
            mode=watch_direction(self, self.watch, self.mode),
            expected=Expected(len(self.data.spec.target_names), TARGETS, self.data, False),
            combines_scores=True,
        )
        yield from training.stages(self.data.train, validation_split(self.data))

    def directions(self) -> dict[str, Direction | None]:
        """Return the direction of each metric; see `Task.directions`."""
        return {**directions(self.data.spec), "relative_error": "min"}

    def evaluate(self, batches: Iterable[tuple[Tensor, Tensor]]) -> dict[str, Any]:
        """Return the scores over all batches, and the error relative to the naive forecast's."""
        naive = NaiveErrors(len(self.data.spec.target_names))

        def recorded() -> Iterator[tuple[Tensor, Tensor]]:
            for window, target in batches:
                naive.update(window[:, -1, :1] - target)
                yield window, target

        evaluation = scores(self.model, self.loss, recorded(), self.data.spec, naive)
        if not evaluation:  # process 0 has the scores
            return {}
        std = torch.tensor(self.data.spec.target_std, dtype=torch.float64)
        naive_rmse = naive.rmse(std)
        relative = evaluation["rmse"] / naive_rmse if naive_rmse > 0 else math.nan
        return {**evaluation, "relative_error": relative}

    def sample_rows(self, batches: Iterable[tuple[Tensor, Tensor]]) -> Iterator[dict[str, Any]]:
        """Yield the values that follow each window, their forecasts, and the loss."""
        yield from sample_rows(self.model, self.loss, batches, self.data.spec)

    def evaluation_bytes(self, samples: int, batch_size: int) -> tuple[int, int]:
        """Return the bytes of an evaluation's states, and of a batch's forecasts.

        The errors of the naive forecasts are among the states.
        """
        states, outputs = evaluation_bytes(self.data.spec, samples, batch_size)
        num_targets = len(self.data.spec.target_names)
        return states + NaiveErrors.state_bytes(samples, num_targets), outputs

    def predict(self, batch: Tensor) -> Tensor:
        """Return forecasts (B, horizon) in the unit of the data."""
        outputs = self.model(batch)
        require_outputs(self.model, batch, outputs, len(self.data.spec.target_names), TARGETS)
        forecasts: Tensor = self.unit(outputs)
        return forecasts

    def prediction_rows(self, outputs: Tensor) -> list[dict[str, float]]:
        """Return the forecasts of each window by the names of the targets."""
        names = self.data.spec.target_names
        return [dict(zip(names, row, strict=True)) for row in outputs.tolist()]


class NaiveErrors:
    """The errors of forecasts that repeat the last value; only so many are kept, then their sum."""

    def __init__(self, num_targets: int) -> None:
        self.rows = SampledRows(max_kept_rows(num_targets))  # errors (R, T)
        self.squares = BatchSums()  # (T,)

    @classmethod
    def state_bytes(cls, samples: int, num_targets: int) -> int:
        """Return the memory of the errors that are kept of some samples."""
        return FLOAT_BYTES * num_targets * min(samples, max_kept_rows(num_targets))

    def update(self, errors: Tensor) -> None:
        """Add standardized errors (B, T)."""
        self.squares.add(errors.square().sum(dim=0))
        self.rows.keep(errors)

    def state_dict(self) -> dict[str, Any]:
        """Return the kept errors and the sum."""
        return {"squares": self.squares.state_dict(), "rows": self.rows.state_dict()}

    def merge(self, state: dict[str, Any]) -> None:
        """Add the errors of another process, which come after those of this one."""
        self.squares.merge(state["squares"])
        self.rows.merge(state["rows"])

    def rmse(self, std: Tensor) -> float:
        """Return the root of the mean squared error, for standard deviations (T,) in fp64."""
        if self.rows.is_complete:
            return float((self.rows.column(0).cpu() * std).square().mean().sqrt())
        squares = self.squares.total() * std.square()
        return float((squares.mean() / self.rows.total_rows).sqrt())
