"""Forecasting: regression from a window of a series to what follows, against the forecast that nothing will change."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from dltrain.engine import Direction, Stage, Task
from dltrain.optim import Optim
from dltrain.tasks.directions import better
from dltrain.tasks.regression import NOTES, SHOWN_AS, Unit, check, directions, scores
from dltrain.tasks.supervised import supervised
from dltrain.types import Data


class Forecasting(Task):
    """Learns to continue a series. Batches are (windows (B, window, F), targets (B, horizon)); `model` gives (B, horizon).

    Windows and targets are standardized alike, and the targets continue the first of the F series. Every evaluation scores
    what a regression's does, and `relative_error`: the RMSE over that of the naive forecast, which repeats the last value
    of the window (Hyndman and Koehler 2006, "Another look at measures of forecast accuracy", section 2.4). Below 1 the
    model is of use.
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
        check(data.spec, loss)
        if len(data.spec.input_shape) != 2:
            raise ValueError(
                "the data is no series of windows: dataset=timeseries, or task=regression"
            )
        self.model, self.loss, self.unit = model, loss, Unit(data.spec)
        self.data, self.optim, self.epochs, self.watch, self.mode = data, optim, epochs, watch, mode

    def stages(self) -> Iterator[Stage]:
        yield from supervised(
            self.data.train,
            self.data.val,
            self.model,
            self.loss,
            self.optim,
            self.epochs,
            self.evaluate,
            self.watch,
            better(self, self.watch, self.mode),
        )

    def directions(self) -> dict[str, Direction | None]:
        return {**directions(self.data.spec), "relative_error": "min"}

    def evaluate(self, batches: Iterable[tuple[Tensor, Tensor]]) -> dict[str, Any]:
        """Scores over all batches, and the error relative to the naive forecast's."""
        last, truth = [], []

        def seen() -> Iterator[tuple[Tensor, Tensor]]:
            for x, y in batches:
                last.append(x[:, -1, :1])
                truth.append(y)
                yield x, y

        found = scores(self.model, self.loss, seen(), self.data.spec)
        std = torch.tensor(self.data.spec.target_std, dtype=torch.float64)
        naive = (torch.cat(last) - torch.cat(truth)).cpu() * std  # (N, horizon)
        naive_rmse = float(naive.square().mean().sqrt())
        relative = found["rmse"] / naive_rmse if naive_rmse > 0 else math.nan
        return {**found, "relative_error": relative}

    def predict(self, batch: Tensor) -> Tensor:
        """Forecasts (B, horizon) in the unit of the data."""
        forecasts: Tensor = self.unit(self.model(batch))
        return forecasts

    def prediction_rows(self, outputs: Tensor) -> list[dict[str, float]]:
        """What `predict` gave for each window, by the targets' names."""
        names = self.data.spec.target_names
        return [dict(zip(names, row, strict=True)) for row in outputs.tolist()]
