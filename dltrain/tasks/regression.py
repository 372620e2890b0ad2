"""Supervised regression: one network, one loss, one stage; metrics in the unit of the data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from dltrain.engine import Direction, Stage, Task
from dltrain.losses import LossSums, sample_losses
from dltrain.optim import Optim
from dltrain.tasks.directions import watch_direction
from dltrain.tasks.many_classes import MAX_WHOLE_TABLE, lowest
from dltrain.tasks.outputs import Expected, require_outputs
from dltrain.tasks.regression_scores import RegressionScores
from dltrain.tasks.score_states import FLOAT_BYTES
from dltrain.tasks.supervised import Supervised, validation_split
from dltrain.types import Data, Plot, Spec, Table
from dltrain.types.combining import Combinable, combined
from dltrain.types.own_code import is_of_library
from dltrain.weights.freezing import Freezing

MAX_POINTS = 200  # of the plot of predictions
TARGETS = "targets"
PER_TARGET = ("rmse", "r2", "mse", "mae")
SHOWN_AS = {
    "mse": ("rmse", "r2")
}  # RMSE has the unit of the data, R2 is a fraction of the variance
NOTES = {"loss": "of standardized targets", "mse": "in the unit of the data, squared"}


class Regression(Task):
    """Learns to predict numbers, with outputs (B, T) of `model`.

    Batches are (inputs (B, ...), standardized targets (B, T)). Every evaluation gives the loss, and
    MSE, RMSE, MAE and R2 in the unit of the data. With several targets these are means over the
    targets, and each target's RMSE, R2 and MSE are given by its name too.

    Raises:
        ValueError: The data has classes, or the loss does not grow with the distance to the target.
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
        check_targets_and_loss(data.spec, loss)
        self.model = model
        self.loss = loss
        self.unit = Unit(data.spec)
        self.data = data
        self.optim = optim
        self.epochs = epochs
        self.watch = watch
        self.mode = mode
        self.freezing = freezing

    def stages(self) -> Iterator[Stage]:
        """Yield the stage "train", after "frozen" where layers are frozen at first."""
        yield from self.supervised().stages(self.data.train, validation_split(self.data))

    def supervised(self) -> Supervised:
        """Return how the network is trained by the loss of its outputs."""
        return Supervised(
            model=self.model,
            loss=self.loss,
            optim=self.optim,
            epochs=self.epochs,
            evaluate=self.evaluate,
            watch=self.watch,
            mode=watch_direction(self, self.watch, self.mode),
            expected=Expected(len(self.data.spec.target_names), TARGETS, self.data, False),
            freezing=self.freezing,
            combines_scores=True,
        )

    def directions(self) -> dict[str, Direction | None]:
        """Return the direction of each metric; see `Task.directions`."""
        return directions(self.data.spec)

    def evaluate(self, batches: Iterable[tuple[Tensor, Tensor]]) -> dict[str, Any]:
        """Return the scores over all batches, and a plot of predictions against targets."""
        return scores(self.model, self.loss, batches, self.data.spec)

    def sample_rows(self, batches: Iterable[tuple[Tensor, Tensor]]) -> Iterator[dict[str, Any]]:
        """Yield targets, predictions and loss of each sample; see `sample_rows`."""
        yield from sample_rows(self.model, self.loss, batches, self.data.spec)

    def evaluation_bytes(self, samples: int, batch_size: int) -> tuple[int, int]:
        """Return the bytes of an evaluation's states, and of a batch's outputs."""
        return evaluation_bytes(self.data.spec, samples, batch_size)

    def predict(self, batch: Tensor) -> Tensor:
        """Return predictions (B, T) in the unit of the data."""
        outputs = self.model(batch)
        require_outputs(self.model, batch, outputs, len(self.data.spec.target_names), TARGETS)
        predictions: Tensor = self.unit(outputs)
        return predictions

    def prediction_rows(self, outputs: Tensor) -> list[dict[str, float]]:
        """Return the predictions of each input by the names of the targets."""
        names = self.data.spec.target_names
        return [dict(zip(names, row, strict=True)) for row in outputs.tolist()]


class Unit(nn.Module):
    """Converts standardized values (B, T) into the unit of the data."""

    mean: Tensor
    std: Tensor

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        # Not in checkpoints: the data's description has both.
        self.register_buffer("mean", torch.tensor(spec.target_mean), persistent=False)
        self.register_buffer("std", torch.tensor(spec.target_std), persistent=False)

    def forward(self, values: Tensor) -> Tensor:
        """Return the values (B, T) in the unit of the data."""
        return values.float() * self.std + self.mean


def check_targets_and_loss(spec: Spec, loss: nn.Module) -> None:
    """Raise ValueError if the targets are not numbers, or `loss` is not a distance to numbers."""
    if not spec.target_names:
        raise ValueError(
            "the targets are classes, not numbers: set task=classification loss=cross_entropy, or, "
            "if the target of a table is numbers, dataset.kind=regression"
        )
    targets = torch.ones(2, len(spec.target_names))
    try:
        is_distance = float(loss(targets, targets)) == 0 < float(loss(targets + 1, targets))
    except (RuntimeError, IndexError):  # the loss expects class numbers
        if not is_of_library(loss):
            raise
        is_distance = False
    if not is_distance:
        raise ValueError(
            "this loss does not measure a distance between numbers: loss=mse, mae or huber does"
        )


def directions(spec: Spec) -> dict[str, Direction | None]:
    """Return the direction of each of the `scores` that is a number."""
    of_metrics: dict[str, Direction | None] = {
        "loss": "min",
        "mse": "min",
        "rmse": "min",
        "mae": "min",
        "r2": "max",
    }
    if 1 < len(spec.target_names) <= MAX_WHOLE_TABLE:
        for name in map(metric_name, spec.target_names):
            of_metrics[f"rmse_{name}"] = "min"
            of_metrics[f"r2_{name}"] = "max"
            of_metrics[f"mse_{name}"] = "min"
    return of_metrics


def metric_name(target: str) -> str:
    """Return a target's name for use in names of metrics, where a slash would end the split."""
    return target.replace("/", "_")


def scores(
    model: nn.Module,
    loss: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    spec: Spec,
    *states: Combinable,
) -> dict[str, Any]:
    """Return the evaluation of `model` over `batches`: metrics by name, and a plot or a table.

    It is {} in another than the first of several processes. `states` are further ones that the
    caller adds the batches to, and that are combined too.

    Raises:
        ValueError: There are no batches.
    """
    gathered = RegressionScores(len(spec.target_names))
    losses = LossSums()
    for inputs, targets in batches:
        outputs = model(inputs)
        require_outputs(model, inputs, outputs, len(spec.target_names), TARGETS)
        losses.add(loss, outputs, targets)
        gathered.update(outputs, targets)
    if not gathered.samples:
        raise ValueError("there is nothing to evaluate: the split is empty")
    if not combined(losses, gathered, *states):
        return {}
    mean = torch.tensor(spec.target_mean, dtype=torch.float64)
    std = torch.tensor(spec.target_std, dtype=torch.float64)
    figures = gathered.figures(std, mean)
    figures["rmse"] = figures["mse"].sqrt()
    means = {name: float(values.mean()) for name, values in figures.items()}
    evaluation: dict[str, Any] = {
        "rmse": means["mse"] ** 0.5,
        "r2": means["r2"],
        "mae": means["mae"],
        "loss": losses.mean(),
        "mse": means["mse"],
    }
    if len(spec.target_names) > MAX_WHOLE_TABLE:
        evaluation["per_target"] = per_target_table(figures, spec.target_names)
    elif len(spec.target_names) > 1:
        for name in ("rmse", "r2", "mse"):
            for target, value in zip(spec.target_names, figures[name].tolist(), strict=True):
                evaluation[f"{name}_{metric_name(target)}"] = value
    predictions, truth = gathered.kept(std, mean)
    evaluation["predictions"] = prediction_plot(
        predictions[:, 0], truth[:, 0], spec.target_names[0]
    )
    return evaluation


def evaluation_bytes(spec: Spec, samples: int, batch_size: int) -> tuple[int, int]:
    """Return the bytes of the states of `scores`, and of a batch's outputs; see `KeepsStates`."""
    num_targets = len(spec.target_names)
    states = RegressionScores.state_bytes(samples, num_targets)
    return states, FLOAT_BYTES * batch_size * num_targets


def sample_rows(
    model: nn.Module, loss: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], spec: Spec
) -> Iterator[dict[str, Any]]:
    """Yield a row for each sample: target and prediction in the unit of the data, and the loss.

    Of several targets each has columns with its name, such as label_t+1.
    """
    mean = torch.tensor(spec.target_mean, dtype=torch.float64)
    std = torch.tensor(spec.target_std, dtype=torch.float64)
    suffixes = [""]
    if len(spec.target_names) > 1:
        suffixes = [f"_{name}" for name in spec.target_names]
    for inputs, targets in batches:
        outputs = model(inputs)
        losses, _ = sample_losses(loss, outputs, targets)
        truth = (targets.cpu() * std + mean).tolist()
        predictions = (outputs.float().cpu() * std + mean).tolist()
        for labels, predicted, value in zip(truth, predictions, losses, strict=True):
            row = {f"label{suffix}": label for suffix, label in zip(suffixes, labels, strict=True)}
            for suffix, prediction in zip(suffixes, predicted, strict=True):
                row[f"prediction{suffix}"] = prediction
            yield {**row, "loss": value}


def per_target_table(figures: dict[str, Tensor], names: tuple[str, ...]) -> Table:
    """Return a table of the metrics (T,) of many targets, too many for a metric by each name."""
    values = torch.stack([figures[name] for name in PER_TARGET], dim=1)
    worst = lowest(figures["r2"], torch.ones(len(names)))
    return Table(values, names, PER_TARGET, "target", "figure", worst=worst, rule="lowest r2")


def prediction_plot(predictions: Tensor, targets: Tensor, name: str) -> Plot:
    """Return a plot of predictions (N,) over targets (N,), at most `MAX_POINTS` of them.

    The points are spread evenly over the ranks of the targets.
    """
    order = targets.argsort()
    count = min(MAX_POINTS, len(order))
    chosen = order[torch.linspace(0, len(order) - 1, count).round().long()]
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
