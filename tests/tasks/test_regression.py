"""Regression and forecasting: metrics in the data's unit, predictions, refusals."""

from __future__ import annotations

import functools
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dltrain import metrics
from dltrain.config.check import problems_of
from dltrain.config.compose import compose
from dltrain.config.settings import Trainer
from dltrain.data.fake import Fake
from dltrain.engine import Task
from dltrain.experiment import watch
from dltrain.experiment.experiment import Experiment
from dltrain.experiment.watch import watched_direction, watched_metric
from dltrain.losses import MAE, MSE, CrossEntropy, Hinge, Huber
from dltrain.optim import Optim
from dltrain.optimizers.adam import adam
from dltrain.schedules.plateau import Plateau
from dltrain.tasks.classification import Classification
from dltrain.tasks.forecasting import Forecasting
from dltrain.tasks.regression import Regression
from dltrain.types import Spec

TABLE = Spec(
    (3,),
    (),
    60,
    20,
    target_names=("price", "km/h"),
    target_mean=(100.0, -3.0),
    target_std=(20.0, 0.5),
)
SERIES = Spec(
    (6, 1), (), 60, 20, target_names=("t+1", "t+2"), target_mean=(5.0, 5.0), target_std=(3.0, 3.0)
)
CLASSES = Spec((3,), ("a", "b"), 60, 20)


def made(
    task: type[Any], spec: Spec, loss: nn.Module | None = None, model: nn.Module | None = None
) -> Any:
    model = model or nn.Sequential(
        nn.Flatten(), nn.Linear(math.prod(spec.input_shape), len(spec.target_names) or 2)
    )
    optim = lambda modules, steps: Optim(modules, functools.partial(adam, lr=0.01))  # noqa: E731
    return task(Fake(spec, 16, 0), model, loss or MSE(), optim, 2)


def test_metrics_match_scikit_learn_in_the_unit_of_the_data() -> None:
    from sklearn import metrics as reference

    task = made(Regression, TABLE)
    batches = list(task.data.test.epoch(0))
    with torch.no_grad():
        found = task.evaluate(iter(batches))
        predicted = task.predict(torch.cat([x for x, _ in batches])).double().numpy()
    truth = torch.cat([y for _, y in batches]).double().numpy() * [20, 0.5] + [100, -3]
    mse = reference.mean_squared_error(truth, predicted, multioutput="raw_values")
    r2 = reference.r2_score(truth, predicted, multioutput="raw_values")
    assert [found["mse_price"], found["mse_km_h"]] == pytest.approx(mse, rel=1e-4)
    assert [found["r2_price"], found["r2_km_h"]] == pytest.approx(r2, rel=1e-3)
    assert found["mse"] == pytest.approx(mse.mean(), rel=1e-4)
    assert found["rmse"] == pytest.approx(mse.mean() ** 0.5, rel=1e-4)
    assert found["mae"] == pytest.approx(reference.mean_absolute_error(truth, predicted), rel=1e-4)
    assert found["r2"] == pytest.approx(r2.mean(), rel=1e-3)
    plot = found["predictions"]
    assert plot.lines["sample"][0] == sorted(truth[:, 0].tolist())
    assert (plot.scattered, plot.square, bool(plot.diagonal)) == (("sample",), True, True), (
        "points, no zigzag line"
    )
    assert sorted(plot.lines["sample"][1]) == pytest.approx(
        sorted(predicted[:, 0].tolist()), abs=1e-3
    )


def test_many_targets_have_a_table_instead_of_metrics() -> None:
    """A horizon of 150 had 450 metrics, and as many lines in the terminal."""
    count = 150
    names = tuple(f"t+{i}" for i in range(1, count + 1))
    spec = Spec(
        (6, 1),
        (),
        60,
        20,
        target_names=names,
        target_mean=(5.0,) * count,
        target_std=(3.0,) * count,
    )
    found, few = (evaluated(made(Forecasting, s)) for s in (spec, SERIES))
    assert {name for name in found if name not in few} == {"per_target"}
    assert {name for name in few if name not in found} == {
        f"{figure}_t+{i}" for figure in ("rmse", "r2", "mse") for i in (1, 2)
    }
    table = found["per_target"]
    assert table.values.shape == (count, 4)
    assert table.values.mean(dim=0).tolist()[1:] == pytest.approx(
        [found[name] for name in ("r2", "mse", "mae")]
    )
    part = table.shown()
    assert part.note == "the 20 worst of 150 targets (lowest r2)"
    assert part.values[:, 1].tolist() == sorted(table.values[:, 1].tolist())[:20]


def evaluated(task: Any) -> dict[str, Any]:
    with torch.no_grad():
        found: dict[str, Any] = task.evaluate(task.data.test.epoch(0))
    return found


def test_large_values_lose_no_digits() -> None:
    """A mean of two million and errors of hundredths, which float32 would round away."""
    spec = Spec((3,), (), 60, 20, target_names=("year",), target_mean=(2e6,), target_std=(0.01,))
    with torch.no_grad():
        task = made(Regression, spec)
        x, y = next(task.data.test.epoch(0))
        error = float((task.model(x) - y).square().mean()) * 0.01**2
        assert task.evaluate([(x, y)])["mse"] == pytest.approx(error, rel=1e-3)


@pytest.mark.parametrize(("outputs", "r2"), [([2.0, 2.0], 1.0), ([2.0, 3.0], 0.0)])
def test_r2_of_equal_targets_is_finite(outputs: list[float], r2: float) -> None:
    column = torch.tensor([2.0, 2.0]).unsqueeze(1)
    assert float(metrics.regression(torch.tensor(outputs).unsqueeze(1), column)["r2"]) == r2


def test_an_empty_split_is_a_clear_error() -> None:
    with pytest.raises(ValueError, match="there is nothing to evaluate"):
        made(Regression, TABLE).evaluate(iter(()))


def test_predictions_are_named_and_in_the_unit_of_the_data() -> None:
    task = made(Regression, TABLE, model=nn.Sequential(nn.Linear(3, 2)))
    nn.init.zeros_(task.model[0].weight)
    nn.init.ones_(task.model[0].bias)
    assert (
        task.prediction_rows(task.predict(torch.zeros(2, 3)))
        == [{"price": 120.0, "km/h": -2.5}] * 2
    )
    forecasts = made(Forecasting, SERIES)
    assert [
        list(row) for row in forecasts.prediction_rows(forecasts.predict(torch.zeros(3, 6, 1)))
    ] == [["t+1", "t+2"]] * 3


def test_the_relative_error_compares_with_repeating_the_last_value() -> None:
    """A model that repeats the last value has 1, a perfect model 0."""

    class Last(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x[:, -1].expand(-1, 2)

    task = made(Forecasting, SERIES, model=nn.Sequential(Last(), nn.Identity()))
    batches = list(task.data.test.epoch(0))
    assert task.evaluate(iter(batches))["relative_error"] == pytest.approx(1, abs=1e-6)
    naive = torch.cat([(x[:, -1] - y) for x, y in batches]).square().mean().sqrt() * 3
    with torch.no_grad():
        learner = made(Forecasting, SERIES)
        found = learner.evaluate(iter(batches))
    assert found["relative_error"] == pytest.approx(found["rmse"] / float(naive), rel=1e-4)


@pytest.mark.parametrize("loss", [MSE(), MAE(), Huber(0.1)])
def test_losses_that_measure_a_distance_are_accepted(loss: nn.Module) -> None:
    assert made(Regression, TABLE, loss).loss is loss


@pytest.mark.parametrize(
    ("task", "spec", "loss", "message"),
    [
        (Regression, TABLE, CrossEntropy(), "does not measure a distance"),
        (
            Regression,
            Spec((3,), (), 6, 2, target_names=("a",)),
            CrossEntropy(),
            "does not measure a distance",
        ),
        (Regression, TABLE, Hinge(), "does not measure a distance"),
        (Regression, CLASSES, MSE(), "task=classification"),
        (Forecasting, TABLE, MSE(), "dataset=timeseries"),
        (Classification, TABLE, CrossEntropy(), "task=regression"),
    ],
)
def test_incompatible_settings_are_refused(
    task: Any, spec: Spec, loss: nn.Module, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        made(task, spec, loss)


# --- Defaults that a task or a model selects


@pytest.mark.parametrize(
    ("overrides", "chosen"),
    [
        (["dataset=diabetes"], ("mlp", "regression", "mse")),
        (["dataset=diabetes", "loss=huber"], ("mlp", "regression", "huber")),
        (["dataset=diabetes", "model=perceptron"], ("perceptron", "regression", "mse")),
        (["dataset=mackey_glass"], ("mlp", "forecasting", "mse")),
        (["dataset=tabular"], ("tabular_mlp", "classification", "cross_entropy")),
        (["dataset=tabular", "task=regression"], ("tabular_mlp", "regression", "mse")),
        (["experiment=mlp_diabetes", "dataset=wine"], ("mlp", "classification", "cross_entropy")),
        ([], ("cnn", "classification", "cross_entropy")),
    ],
    ids=str,
)
def test_data_and_tasks_choose_what_they_need_unless_the_user_does(
    overrides: list[str], chosen: tuple[str, ...]
) -> None:
    composed = compose(overrides)
    assert problems_of(composed) == []
    assert tuple(composed.choices[group] for group in ("model", "task", "loss")) == chosen


@pytest.mark.parametrize(
    ("overrides", "watched"),
    [
        ([], ("val/accuracy", "max")),
        (["dataset=diabetes"], ("val/mse", "min")),
        (["dataset=mackey_glass"], ("val/mse", "min")),
        (["dataset=diabetes", "trainer.watch=val/r2"], ("val/r2", "max")),
        (
            ["dataset=mackey_glass", "trainer.watch=val/relative_error"],
            ("val/relative_error", "min"),
        ),
        (["dataset=mackey_glass", "trainer.watch=val/mse_t+1"], ("val/mse_t+1", "min")),
        (["trainer.watch=val/loss"], ("val/loss", "min")),
        (["trainer.watch=val/loss", "trainer.mode=max"], ("val/loss", "max")),
        (["dataset=diabetes", "trainer.mode=max"], ("val/mse", "max")),
    ],
    ids=str,
)
def test_a_task_watches_its_own_metric_unless_the_user_names_one(
    overrides: list[str], watched: Any
) -> None:
    experiment = Experiment.on_fake_data(compose(overrides).config)
    stage = next(experiment.task.stages())
    assert (stage.watch, stage.mode) == watched


@pytest.mark.parametrize(("trainer", "way"), [(Trainer(), "min"), (Trainer(mode="max"), "max")])
def test_a_custom_task_declares_its_direction_by_a_default(
    trainer: Trainer, way: str, monkeypatch
) -> None:
    """The default of its argument `mode`, which trainer.mode overrides."""

    class Mine(Task):
        def __init__(self, watch: str = "val/steps", mode: str = "min") -> None:
            super().__init__()
            self.watch = watch

    monkeypatch.setattr(watch, "locate", lambda target, plugins: Mine)
    config = {"task": {"_target_": "mine.Mine"}, "plugins": []}
    assert watched_metric(config, trainer) == "val/steps"
    assert watched_direction(Mine(), config, trainer) == way


def test_a_plateau_schedule_uses_the_same_direction() -> None:
    experiment = Experiment.on_fake_data(compose(["dataset=diabetes", "schedule=plateau"]).config)
    schedule = next(experiment.task.stages()).optims[0].schedule
    assert isinstance(schedule, Plateau)
    assert schedule.sign == -1


# --- Whole runs


def test_a_run_predicts_better_than_the_mean(dltrain) -> None:
    """On diabetes: R2 above 0.3 after a few epochs, the best epoch by val/mse."""
    run = dltrain("dataset=diabetes", "trainer.epochs=8", "callbacks=quiet", "--json").json
    assert run["metrics"]["test/r2"] > 0.3
    lines = [
        json.loads(line) for line in (Path(run["run"]) / "metrics.jsonl").read_text().splitlines()
    ]
    assert run["best"]["value"] == min(line["val/mse"] for line in lines if "val/mse" in line)
    from sklearn.datasets import load_diabetes

    bunch = load_diabetes(scaled=False)
    rows = [",".join(map(str, row)) for row in bunch.data[:50].tolist()]
    Path("patients.csv").write_text("\n".join([",".join(bunch.feature_names), *rows]))
    outcome = dltrain("predict", run["run"], "patients.csv", "--json")
    assert outcome.code == 0, outcome.err
    predicted = [row["target"] for row in outcome.json["rows"]]
    assert np.corrcoef(predicted, bunch.target[:50])[0, 1] > 0.5
    assert 50 < np.mean(predicted) < 250


def test_overfit_passes_on_a_table(dltrain) -> None:
    outcome = dltrain("dataset=diabetes", "debug=overfit", "callbacks=quiet", "device.threads=1")
    assert outcome.code == 0, outcome.err


def test_the_terminal_shows_rmse_and_r2_and_a_note_on_the_loss(dltrain) -> None:
    """The MSE of prices has eleven digits; the loss beside it is of standardized targets."""
    pytest.importorskip("pyarrow")
    rows = [
        f"{i % 17},{i % 5},{100_000 + 9_000 * (i % 17) + 1_000 * (i % 5)}.5" for i in range(120)
    ]
    Path("prices.csv").write_text("\n".join(["area,rooms,price", *rows]) + "\n")
    settings = (
        "dataset.path=prices.csv",
        "dataset.target=price",
        "callbacks=default",
        "trainer.epochs=1",
    )
    outcome = dltrain(
        "dataset=tabular",
        "task=regression",
        "loss=mse",
        *settings,
        "callbacks.tensorboard=null",
        "--json",
    )
    assert outcome.code == 0, outcome.err
    lines = [line.strip() for line in outcome.out.splitlines()]
    (epoch,) = [line for line in lines if line.startswith("train 1/1")]
    assert re.search(r"val/loss [\d.]+  val/rmse [\d.,]+  val/r2 -?[\d.,]+", epoch)
    assert "val/mse" not in epoch
    names = [line.split()[0] for line in lines if line.startswith("test/")]
    assert names == ["test/rmse", "test/r2", "test/mae", "test/loss", "test/mse"]
    assert any(
        re.fullmatch(r"test/loss +[\d.]+  \(of standardized targets\)", line) for line in lines
    )
    assert any(
        re.fullmatch(r"best val/rmse +[\d.,]+, val/r2 -?[\d.,]+ \(epoch 1\)", line)
        for line in lines
    )
    assert outcome.json["best"]["metric"] == "val/mse"
    outcome = dltrain("evaluate", outcome.json["run"])
    assert "(of standardized targets)" in outcome.out
