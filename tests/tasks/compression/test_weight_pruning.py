"""Unstructured pruning: schedules, masks, rewinding, refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pruned import CNN, DIGITS, masks_of, pruning, zeros_of

from dltrain.config.compose import compose
from dltrain.engine import Callback, Engine
from dltrain.errors import ConfigError
from dltrain.experiment.experiment import Experiment
from dltrain.runs.checkpoint import snapshot
from dltrain.tasks.compression.pruned.selection import fractions, highest

OPTIMIZERS = {
    "momentum": ("optimizer=momentum",),
    "adam with weight decay": ("optimizer=adamw", "optimizer.weight_decay=0.1"),
    "muon": ("optimizer=muon",),
    "averaged": ("optimizer=adam", "regularization=[ema]"),
    "swa and l2": ("optimizer=momentum", "regularization=[swa,l2]"),
    "lookahead": ("optimizer=adam", "regularization=[lookahead]"),
    "accumulating": ("optimizer=adam", "trainer.accumulate=4", "regularization=[clip]"),
}


class EveryStep(Callback):
    """Checks after each step that removed weights, and their averages, are exactly zero."""

    name = "every step"

    def __init__(self) -> None:
        self.sparsities: dict[str, set[float]] = {}

    def step_end(self, engine: Engine) -> None:
        task: Any = engine.task
        removed = sum(int((~mask).sum()) for mask in masks_of(task).values())
        zeros = sum(int(zero.sum()) for zero in zeros_of(task).values())
        weights = sum(mask.numel() for mask in masks_of(task).values())
        assert zeros >= removed
        for name, mask in masks_of(task).items():
            assert not task.model.get_parameter(name)[~mask].any()
        with engine.stage.optims[0].averaged():
            for name, mask in masks_of(task).items():
                assert not task.model.get_parameter(name)[~mask].any()
        self.sparsities.setdefault(engine.stage.name, set()).add(removed / weights)


@pytest.mark.parametrize("case", OPTIMIZERS)
def test_removed_weights_stay_at_exactly_zero(case: str) -> None:
    task = pruning("task.rounds=2", *OPTIMIZERS[case])
    seen = EveryStep()
    Engine([seen]).fit(task)
    assert list(seen.sparsities) == ["train", "prune_1", "prune_2"]
    assert seen.sparsities["train"] == {0.0}
    (last,) = seen.sparsities["prune_2"]
    assert last == pytest.approx(0.9, abs=5e-3)
    assert last >= 0.9


def test_removed_weights_have_no_moments() -> None:
    """So they do not count in the norm of the gradient, nor in what an optimizer learns from it."""
    task = pruning("optimizer=adam")
    stages = task.stages()
    next(stages)
    stage = next(stages)
    for batch in stage.batches.epoch(0):
        stage.step(batch)
    moments = stage.optims[0].optimizer.state
    for name, mask in masks_of(task).items():
        of_weight = moments[task.model.get_parameter(name)]
        assert of_weight["exp_avg_sq"][mask].any()
        for moment in ("exp_avg", "exp_avg_sq"):
            assert not of_weight[moment][~mask].any(), name


def test_what_is_left_is_trained() -> None:
    task = pruning("task.scope=layer")
    stages = task.stages()
    next(stages)
    stage = next(stages)
    before = snapshot(task.state_dict())
    for batch in stage.batches.epoch(0):
        stage.step(batch)
    for name, mask in masks_of(task).items():
        changed = task.model.get_parameter(name) != before[f"model.{name}"]
        assert changed[mask].float().mean() > 0.5, name
        assert not changed[~mask].any(), name


def test_the_smallest_weights_of_all_layers_or_of_each_are_removed() -> None:
    for scope in ("global", "layer"):
        task = pruning(f"task.scope={scope}", "task.sparsity=0.6")
        stages = task.stages()
        next(stages)
        before = {name: p.detach().clone() for name, p in task.model.named_parameters()}
        next(stages)
        groups = [list(masks_of(task))]
        if scope == "layer":
            groups = [[name] for name in masks_of(task)]
        for names in groups:
            magnitudes = torch.cat([before[name].abs().flatten() for name in names])
            mask = torch.cat([masks_of(task)[name].flatten() for name in names])
            assert magnitudes[~mask].max() <= magnitudes[mask].min()
            assert float((~mask).float().mean()) == pytest.approx(0.6, abs=0.02)


def test_biases_norms_skipped_and_frozen_layers_keep_everything() -> None:
    config = compose([*DIGITS, *CNN, "task.skip=[0]", "freeze=[4]"]).config
    names = list(masks_of(Experiment.to_train(config).task))
    every = list(masks_of(pruning()))
    assert set(every) - set(names) == {"0.weight", "4.weight"}
    assert all(name.endswith("weight") for name in every)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("linear", [0.2, 0.4, 0.6, 0.8]),
        ("cubic", [0.8 * (1 - 0.75**3), 0.7, 0.8 * (1 - 0.25**3), 0.8]),
        ("geometric", [1 - 0.2**0.25, 1 - 0.2**0.5, 1 - 0.2**0.75, 0.8]),
    ],
)
def test_schedules(schedule: Any, expected: list[float]) -> None:
    assert fractions(schedule, 0.8, 4) == pytest.approx(expected)
    assert fractions(schedule, 0.8, 1) == [0.8]


def test_a_fraction_removes_at_least_so_many_and_keeps_one() -> None:
    scores = torch.tensor([3.0, 1.0, 2.0, 1.0])
    assert highest(scores, 0.5).tolist() == [True, False, True, False]
    assert highest(scores, 0.25).tolist() == [True, False, True, True]  # the earlier of equal ones
    assert highest(scores, 0.99).tolist() == [True, False, False, False]
    assert int((~highest(torch.rand(10), 0.9)).sum()) == 9


def test_an_evaluation_reports_the_sparsity_of_each_layer() -> None:
    task = pruning("task.compare_dense=true", "task.sparsity=0.8")
    engine = Engine()
    engine.fit(task)
    scores = engine.score(task.data.test, "test")
    parameters = sum(p.numel() for p in task.model.parameters())
    nonzero = sum(int((p != 0).sum()) for p in task.model.parameters())
    assert scores["test/nonzero_parameters"] == pytest.approx(nonzero, abs=2)
    assert scores["test/parameter_sparsity"] == pytest.approx(1 - nonzero / parameters, abs=1e-3)
    assert scores["test/sparsity"] == pytest.approx(0.8, abs=1e-3)
    drop = scores["test/dense_accuracy"] - scores["test/accuracy"]
    assert scores["test/accuracy_drop"] == pytest.approx(drop)
    table = scores["test/per_layer"]
    assert table.rows == (*task.pruner.names, "all")
    for name, (weights, left, sparsity) in zip(task.pruner.names, table.values, strict=False):
        assert left == int((task.model.get_parameter(name) != 0).sum())
        assert sparsity == pytest.approx(1 - float(left / weights))


def test_the_dense_network_is_scored_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    task = pruning("task.compare_dense=true")
    accuracies = {}

    class Ends(Callback):
        name = "ends"

        def stage_end(self, engine: Engine) -> None:
            accuracies[engine.stage.name] = dict(engine.scores)

    Engine([Ends()]).fit(task)
    dense = accuracies["train"]["val/accuracy"]
    assert accuracies["prune_1"]["val/dense_accuracy"] == pytest.approx(dense)
    assert dense != accuracies["prune_1"]["val/accuracy"]


# --- Rewinding


@pytest.mark.parametrize("rewind", ["initial", "step:2"])
def test_what_is_left_returns_to_earlier_weights(rewind: str) -> None:
    task = pruning(f"task.rewind={rewind}", "task.rounds=2", "task.train_epochs=1")
    stages = task.stages()
    stage = next(stages)
    wanted = snapshot(task.model.state_dict())
    for number, batch in enumerate(stage.batches.epoch(0), start=1):
        stage.step(batch)
        if rewind == f"step:{number}":
            wanted = snapshot(task.model.state_dict())
    trained = snapshot(task.model.state_dict())
    stage = next(stages)
    for name, mask in masks_of(task).items():
        weight = task.model.get_parameter(name)
        assert torch.equal(weight, wanted[name] * mask)
        assert not torch.equal(weight, trained[name] * mask)
    bias = task.model.state_dict()["9.bias"]
    assert torch.equal(bias, wanted["9.bias"])
    for batch in stage.batches.epoch(0):
        stage.step(batch)
    next(stages)
    for name, mask in masks_of(task).items():
        assert torch.equal(task.model.get_parameter(name), wanted[name] * mask)


# --- Refusals


@pytest.mark.parametrize(
    ("overrides", "why"),
    [
        (["task.sparsity=1.0"], "sparsity"),
        (["task.sparsity=0"], "sparsity"),
        (["task.skip=[nowhere]"], "nowhere matches no parameter"),
        (["task.skip=['*']"], "skip leaves no weights to prune"),
        (["task.rewind=step:0"], "expected none, initial, or step:N"),
        (["task.rewind=step:3", "task.train_epochs=0"], "nothing is trained before pruning"),
        (["task.kind=channels", "task.rewind=initial"], "rewind is for weights"),
    ],
)
def test_settings_are_refused(overrides: list[str], why: str, dltrain) -> None:
    outcome = dltrain(*DIGITS, *CNN, *overrides, "debug=smoke")
    assert outcome.code == 2
    assert why in outcome.err, outcome.err


@pytest.mark.parametrize("kind", ["weights", "channels"])
def test_networks_that_predict_numbers_are_pruned(kind: str, dltrain) -> None:
    settings = ("dataset=diabetes", "model=mlp", "task=regression_pruning", "callbacks=quiet")
    epochs = ("task.train_epochs=2", "trainer.epochs=1", "task.sparsity=0.5", "task.rounds=2")
    outcome = dltrain(*settings, *epochs, f"task.kind={kind}", "--json")
    assert outcome.code == 0, outcome.err
    metrics = outcome.json["metrics"]
    assert metrics["test/sparsity"] == pytest.approx(0.5, abs=0.01)
    again = dltrain("evaluate", outcome.json["run"], "--json")
    assert again.code == 0, again.err
    assert again.json["metrics"]["test/mse"] == pytest.approx(metrics["test/mse"])
    assert again.json["network"]["nonzero_parameters"] <= metrics["test/nonzero_parameters"]
    assert dltrain("resume", outcome.json["run"], "trainer.epochs=2").code == 0


def test_numbers_are_refused(dltrain) -> None:
    outcome = dltrain("dataset=diabetes", "model=mlp", "task=pruning", "debug=smoke")
    assert outcome.code == 2
    assert "the targets are numbers, not classes" in outcome.err


def test_a_step_after_the_end_of_training_is_refused() -> None:
    task = pruning("task.rewind=step:7")
    with pytest.raises(ConfigError, match="the stage train has 6 updates"):
        next(task.stages())


def test_a_layer_without_weights_is_refused() -> None:
    task = pruning("task.sparsity=0.9", "task.scope=global")
    stages = task.stages()
    next(stages)
    with torch.no_grad():
        task.model.get_parameter("0.weight").mul_(1e-6)
    with pytest.raises(ConfigError, match=r"leaves 0.weight without weights"):
        next(stages)


# --- Runs


def test_pruning_continues_from_a_run(dltrain) -> None:
    """The weights of init.from are pruned without a dense stage; masks of a pruned run count."""
    brief = ("dataset=digits", *CNN, "callbacks=quiet", "device=cpu", "dataset.batch_size=256")
    first = dltrain(*brief, "trainer.epochs=1", "--json")
    assert first.code == 0, first.err
    run = first.json["run"]
    settings = ("task=pruning", "task.train_epochs=0", "trainer.epochs=1")
    second = dltrain(*brief, *settings, f"init.from={run}", "task.sparsity=0.5", "--json")
    assert second.code == 0, second.err
    third_settings = (f"init.from={second.json['run']}", "task.sparsity=0.7", "--json")
    third = dltrain(*brief, *settings, *third_settings)
    assert third.code == 0, third.err
    assert third.json["metrics"]["test/sparsity"] == pytest.approx(0.7, abs=2e-3)
    again = dltrain("evaluate", third.json["run"], "--json")
    assert again.code == 0, again.err
    for name in ("accuracy", "loss", "sparsity"):
        metric = f"test/{name}"
        assert again.json["metrics"][metric] == pytest.approx(third.json["metrics"][metric])
    assert "per_layer" in again.json
    assert Path(third.json["run"], "checkpoints").exists()
