"""Supervised regression: one network, one loss, one stage; figures in the data's own unit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from dltrain import metrics
from dltrain.engine import Direction, Stage, Task
from dltrain.losses import evaluation_sum, mean_over
from dltrain.optim import Optim
from dltrain.tasks.directions import better
from dltrain.tasks.many_classes import MAX_WHOLE_TABLE, lowest
from dltrain.tasks.supervised import supervised
from dltrain.types import Data, Plot, Spec, Table
from dltrain.weights.freezing import Freezing

POINTS = 200  # of the picture
PER_TARGET = ("rmse", "r2", "mse", "mae")
SHOWN_AS = {"mse": ("rmse", "r2")}  # in the unit of the data, and of the variance
NOTES = {"loss": "of standardized targets", "mse": "in the unit of the data, squared"}


class Regression(Task):
    """Learns to predict numbers. Batches are (inputs (B, ...), targets (B, T) standardized); `model` gives (B, T).

    Every evaluation scores MSE, RMSE, MAE and R2 in the unit of the data, with several targets the mean over them and
    MSE and R2 of each by its name too, and the loss as it is trained on. ValueError for data with classes, and for a loss
    that does not grow with the distance to the target.
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
        freezing: Freezing | None = None,
    ) -> None:
        super().__init__()
        check(data.spec, loss)
        self.model, self.loss, self.unit = model, loss, Unit(data.spec)
        self.data, self.optim, self.epochs, self.watch, self.mode = data, optim, epochs, watch, mode
        self.freezing = freezing

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
            self.freezing,
        )

    def directions(self) -> dict[str, Direction | None]:
        return directions(self.data.spec)

    def evaluate(self, batches: Iterable[tuple[Tensor, Tensor]]) -> dict[str, Any]:
        """Scores over all batches, and predictions against the truth."""
        return scores(self.model, self.loss, batches, self.data.spec)

    def predict(self, batch: Tensor) -> Tensor:
        """Predictions (B, T) in the unit of the data."""
        predictions: Tensor = self.unit(self.model(batch))
        return predictions

    def prediction_rows(self, outputs: Tensor) -> list[dict[str, float]]:
        """What `predict` gave for each input, by the targets' names."""
        names = self.data.spec.target_names
        return [dict(zip(names, row, strict=True)) for row in outputs.tolist()]


class Unit(nn.Module):
    """Standardized values (B, T) in the unit of the data."""

    mean: Tensor
    std: Tensor

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.register_buffer(
            "mean", torch.tensor(spec.target_mean), persistent=False
        )  # the data's description has them
        self.register_buffer("std", torch.tensor(spec.target_std), persistent=False)

    def forward(self, values: Tensor) -> Tensor:
        return values.float() * self.std + self.mean


def check(spec: Spec, loss: nn.Module) -> None:
    """ValueError if there are no numbers to predict, or `loss` does not measure how far from them a prediction is."""
    if not spec.target_names:
        raise ValueError(
            "the data has classes, not numbers to predict: task=classification loss=cross_entropy, or, where a table's "
            "target is numbers that were read as classes, dataset.kind=regression"
        )
    targets = torch.ones(2, len(spec.target_names))
    try:
        fits = float(loss(targets, targets)) == 0 < float(loss(targets + 1, targets))
    except (RuntimeError, IndexError):  # it wants class numbers
        fits = False
    if not fits:
        raise ValueError(
            "this loss does not measure a distance between numbers: loss=mse, mae or huber does"
        )


def directions(spec: Spec) -> dict[str, Direction | None]:
    """Return which way each of the `scores` is better."""
    better: dict[str, Direction | None] = {
        "loss": "min",
        "mse": "min",
        "rmse": "min",
        "mae": "min",
        "r2": "max",
    }
    for name in map(
        metric_name, spec.target_names if 1 < len(spec.target_names) <= MAX_WHOLE_TABLE else ()
    ):
        better |= {f"rmse_{name}": "min", f"r2_{name}": "max", f"mse_{name}": "min"}
    return better


def metric_name(target: str) -> str:
    """Return the name of a target as it stands in the names of metrics, where a slash ends the
    split.
    """
    return target.replace("/", "_")


def scores(
    model: nn.Module, loss: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], spec: Spec
) -> dict[str, Any]:
    """What an evaluation of `model` over `batches` gives; ValueError if there are none."""
    outputs, targets, losses = [], [], []
    for x, y in batches:
        z = model(x)
        losses.append(evaluation_sum(loss, z, y))
        outputs.append(z.float())
        targets.append(y)
    if not targets:
        raise ValueError("there is nothing to evaluate: the split is empty")
    mean, std = (torch.tensor(v, dtype=torch.float64) for v in (spec.target_mean, spec.target_std))
    z, y = (torch.cat(values).cpu() * std + mean for values in (outputs, targets))  # (N, T) float64
    figures = metrics.regression(z, y)
    figures["rmse"] = figures["mse"].sqrt()
    means = {name: float(values.mean()) for name, values in figures.items()}
    found: dict[str, Any] = {"rmse": means["mse"] ** 0.5, "r2": means["r2"], "mae": means["mae"]}
    found |= {"loss": mean_over(losses), "mse": means["mse"]}
    if len(spec.target_names) > MAX_WHOLE_TABLE:
        found["per_target"] = per_target(figures, spec.target_names)
    elif len(spec.target_names) > 1:
        for name in ("rmse", "r2", "mse"):
            own = zip(spec.target_names, figures[name].tolist(), strict=True)
            found |= {f"{name}_{metric_name(target)}": value for target, value in own}
    return found | {"predictions": picture(z[:, 0], y[:, 0], spec.target_names[0])}


def per_target(figures: dict[str, Tensor], names: tuple[str, ...]) -> Table:
    """Return a table of the figures (T,) of many targets, of which a metric each would be
    thousands.
    """
    values = torch.stack([figures[name] for name in PER_TARGET], dim=1)
    worst = lowest(figures["r2"], torch.ones(len(names)))
    return Table(values, names, PER_TARGET, "target", "figure", worst=worst, rule="lowest r2")


def picture(predictions: Tensor, targets: Tensor, name: str) -> Plot:
    """Return predictions (N,) over the truth (N,) as points: at most `POINTS`, evenly from the
    least to the greatest.
    """
    order = targets.argsort()
    chosen = order[torch.linspace(0, len(order) - 1, min(POINTS, len(order))).round().long()]
    points = (targets[chosen].tolist(), predictions[chosen].tolist())
    return Plot(
        {"sample": points},
        f"{name}: prediction over truth",
        "truth",
        "prediction",
        scattered=("sample",),
        square=True,
        diagonal="prediction = truth",
    )
