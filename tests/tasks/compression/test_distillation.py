"""Distillation: the loss, its limits, label-free training, layers, refusals, resume."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from toys import History

from dltrain import rng
from dltrain.callbacks.checkpoint import Checkpoint
from dltrain.config.compose import compose
from dltrain.engine import Callback, Engine, Resume
from dltrain.experiment.experiment import Experiment
from dltrain.runs import checkpoint
from dltrain.runs.checkpoint import Store, snapshot
from dltrain.tasks.compression.distillation import (
    Distillation,
    mean_probabilities,
    soft_target_loss,
)
from dltrain.tasks.compression.features import FeatureMatching, adapter, resized_like
from dltrain.tasks.compression.partly_labeled import PartlyLabeled
from dltrain.tasks.labeled_subset import LabeledSubset
from dltrain.types import Spec, TrainedNetwork

DATA = ("dataset=digits", "dataset.batch_size=256", "device=cpu", "callbacks=quiet")
SMALL = (*DATA, "model=mlp", "model.hidden_sizes=[12]", "trainer.epochs=2")
MLP = "task.teacher={_target_: dltrain.models.mlp.MLP, hidden_sizes: [20]}"
CNN = "task.teacher={_target_: dltrain.models.images.cnn.CNN, channels: [4, 6]}"
Command = Callable[..., Any]


def distilled(*overrides: str) -> Distillation:
    composed = compose([*SMALL, "task=distillation", *overrides])
    assert not composed.problems
    task = Experiment.to_train(composed.config).task
    assert isinstance(task, Distillation)
    return task


def fixed(*logits: list[float]) -> TrainedNetwork:
    """Return a network that gives the same logits (B, K) for every batch."""

    class Fixed(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            return torch.tensor(logits)

    network = Fixed()
    return TrainedNetwork("fixed", network, network, ())


# --- The loss


def test_the_loss_is_the_papers() -> None:
    logits = torch.tensor([[1.0, -2.0, 0.5], [0.0, 3.0, 1.0]])
    teacher = [[2.0, 0.0, -1.0], [1.0, 1.0, 0.0]]
    p = mean_probabilities([fixed(*teacher)], torch.zeros(2, 1), 3.0)
    torch.testing.assert_close(p, (torch.tensor(teacher) / 3).softmax(1))
    q = (logits / 3).softmax(1)
    by_hand = 9 * (p * (p.log() - q.log())).sum(1).mean()
    torch.testing.assert_close(soft_target_loss(logits, p, 3.0), by_hand)


def test_several_teachers_give_the_mean_of_their_probabilities() -> None:
    one, other = [[4.0, 0.0]], [[0.0, 1.0]]
    p = mean_probabilities([fixed(*one), fixed(*other)], torch.zeros(1, 1), 2.0)
    by_hand = sum((torch.tensor(v) / 2).softmax(1) for v in (one, other)) / 2
    torch.testing.assert_close(p, by_hand)


def test_a_high_temperature_matches_logits() -> None:
    """Section 2.1 of the paper: the gradient becomes (z - v) / K for logits of mean 0."""
    z = torch.tensor([[1.0, -2.0, 1.0]], dtype=torch.float32, requires_grad=True)
    v = torch.tensor([[2.0, 0.0, -2.0]])
    temperature = 300.0
    p = (v / temperature).softmax(1)
    soft_target_loss(z, p, temperature).backward()
    assert z.grad is not None
    torch.testing.assert_close(z.grad, (z.detach() - v) / 3, atol=5e-3, rtol=0)


@pytest.mark.parametrize("override", ["task.temperature=0", "task.temperature=-1", "task.weight=2"])
def test_impossible_settings_are_refused(override: str, dltrain: Command) -> None:
    outcome = dltrain(*SMALL, "task=distillation", MLP, override)
    assert outcome.code == 2
    assert override in outcome.err


def test_without_a_teacher_there_is_nothing_to_learn_from(dltrain: Command) -> None:
    outcome = dltrain(*SMALL, "task=distillation")
    assert outcome.code == 2
    assert "task.teachers" in outcome.err


def test_a_weight_of_zero_is_plain_classification(dltrain: Command) -> None:
    """Bit for bit, with dropout and averages."""
    words = (*SMALL, "regularization=[dropout,ema]", "--json")
    lines = []
    for task in (["task=classification"], ["task=distillation", "task.weight=0"]):
        outcome = dltrain(*words, *task)
        assert outcome.code == 0, outcome.err
        lines.append((Path(outcome.json["run"]) / "metrics.jsonl").read_text())
    assert lines[0] == lines[1]


# --- Stages


def test_the_teacher_is_trained_first_and_then_only_predicts() -> None:
    task = distilled(CNN, "task.teacher_epochs=3")
    assert task.teaching is not None
    teacher = task.teaching.model
    before = snapshot(teacher.state_dict())
    states: dict[str, Any] = {}
    modes: list[bool] = []

    class Ends(Callback):
        name = "ends"

        def step_end(self, engine: Engine) -> None:
            if engine.stage.name == "train":
                modes.append(teacher.training)

        def stage_end(self, engine: Engine) -> None:
            states[engine.stage.name] = (engine.stage.epochs, snapshot(teacher.state_dict()))

    Engine([Ends()]).fit(task)
    assert [(name, epochs) for name, (epochs, _) in states.items()] == [
        ("teacher", 3),
        ("train", 2),
    ]
    assert not any(modes)
    (_, trained), (_, last) = states["teacher"], states["train"]
    assert any(not torch.equal(before[name], value) for name, value in trained.items())
    for name, value in trained.items():  # statistics of batch norm, too
        assert torch.equal(value, last[name]), name


def test_the_student_follows_a_teacher_without_any_label() -> None:
    """With wrong labels and weight 1 the student still agrees with its teacher."""
    task = distilled(MLP, "task.weight=1", "optimizer.lr=0.02", "trainer.epochs=8")
    stages = task.stages()
    Engine([]).fit(StagesOf(task, [next(stages)]))
    stage = next(stages)
    step = stage.step

    def shuffled(batch: Any) -> Any:
        inputs, targets = batch
        return step((inputs, (targets + 1) % 10))

    vars(stage)["step"] = shuffled
    Engine([]).fit(StagesOf(task, [stage]))
    inputs = torch.cat([images for images, _ in task.data.test.epoch(0)])
    task.eval()
    assert task.teaching is not None
    with torch.no_grad():
        agreed = task.predict(inputs).argmax(1) == task.teaching.model(inputs).argmax(1)
    assert agreed.float().mean() > 0.8


class StagesOf(nn.Module):
    """A task with given stages of another."""

    def __init__(self, task: Distillation, stages: list[Any]) -> None:
        super().__init__()
        self.task = task
        self.given = stages

    def stages(self) -> Any:
        yield from self.given


# --- Labels


def test_labels_count_for_the_samples_of_a_labeled_subset() -> None:
    task = distilled(MLP, "task.labels=100")
    train = task.data.train
    split = PartlyLabeled(train, 100)
    stored, _ = LabeledSubset(train, 100).stored
    counted = torch.cat([inputs[mask] for inputs, _, mask in split.epoch(3)])
    assert len(counted) == 100
    assert {tuple(row) for row in counted.flatten(1).tolist()} == {
        tuple(row) for row in stored.flatten(1).tolist()
    }
    whole = list(split.epoch(2))
    for one, other in zip(whole[1:], split.epoch(2, start=1), strict=True):
        assert all(map(torch.equal, one, other))


def test_labels_that_do_not_count_have_no_gradient() -> None:
    task = distilled(MLP, "task.labels=100", "task.weight=0.5")
    torch.manual_seed(0)
    logits = torch.randn(4, 10, requires_grad=True)
    counted = torch.tensor([True, False, False, True])
    value = task._label_loss(logits, torch.tensor([1, 2, 3, 4]), counted)
    value.backward()
    assert logits.grad is not None
    assert (logits.grad.abs().sum(1) > 0).tolist() == counted.tolist()
    losses = nn.functional.cross_entropy(logits, torch.tensor([1, 2, 3, 4]), reduction="none")
    expected = 4 * 100 / task.data.train.samples  # labeled samples of a batch
    torch.testing.assert_close(value, 0.5 * losses[counted].sum() / expected)


def test_labels_of_mixed_samples_are_refused(dltrain: Command) -> None:
    words = (*SMALL, "task=distillation", MLP, "task.labels=100", "regularization=[mixup]")
    outcome = dltrain(*words)
    assert outcome.code == 2
    assert "task.labels" in outcome.err


# --- Layers


def test_layers_of_different_widths_and_sizes_are_compared() -> None:
    assert isinstance(adapter((2, 4, 8, 8), 4), nn.Identity)
    assert isinstance(adapter((2, 4, 8, 8), 6), nn.Conv2d)
    assert isinstance(adapter((2, 5), 6), nn.Linear)
    features = torch.arange(16.0).view(1, 1, 4, 4)
    assert resized_like(features, torch.zeros(1, 1, 2, 2)).flatten().tolist() == [
        2.5,
        4.5,
        10.5,
        12.5,
    ]
    with pytest.raises(ValueError, match="same kind"):
        resized_like(features, torch.zeros(1, 16))


def test_the_distance_is_that_of_the_adapted_layer() -> None:
    student = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    spec = Spec((3,), ("a", "b"), 10, 10)
    matching = FeatureMatching(student, {"0": "1"}, [6], spec)
    own, other = torch.randn(5, 4), torch.randn(5, 6)
    distance = matching.loss({"0": own}, fixed(), {"1": other})
    expected = (matching.adapters[0](own) - other).square().mean()
    torch.testing.assert_close(distance, expected)


def test_layers_learn_to_give_what_the_teachers_give() -> None:
    layers = ("task.features={1: 1}", "task.weight=0", "task.feature_weight=10")
    task = distilled(MLP, *layers, "trainer.epochs=6")
    assert task.matching is not None
    adapters = snapshot(task.matching.state_dict())
    engine = Engine([history := History()])
    engine.fit(task)
    losses = [metrics["loss"] for metrics in history.metrics.values()]
    student = losses[len(losses) // 2 :]  # after the teacher's
    assert float(student[-1]) < float(student[0])
    assert not torch.equal(
        adapters["adapters.0.weight"], task.matching.state_dict()["adapters.0.weight"]
    )


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ([MLP, "task.features={nope: nope}"], "has no layer 'nope'"),
        (["task.teachers=[a]", "task.features={1: 1}"], "task.feature_sizes"),
        ([MLP, "task.teachers=[a]", "task.features={1: 1}"], "one teacher"),
    ],
    ids=["name", "sizes", "teachers"],
)
def test_layers_that_cannot_be_compared_are_refused(
    overrides: list[str], words: str, dltrain: Command
) -> None:
    outcome = dltrain(*SMALL, "task=distillation", "debug=smoke", *overrides)
    assert outcome.code == 2
    assert words in outcome.err


# --- Together with the rest


@pytest.mark.parametrize(
    "overrides",
    [
        ["regularization=[mixup]"],
        ["device.precision=bf16"],
        ["regularization=[ema,label_smoothing]", "trainer.accumulate=2"],
        ["loss=focal", "task.views=[flip]"],
        ["freeze=[1]"],
    ],
    ids=lambda overrides: overrides[0],
)
def test_it_trains_with_other_choices(overrides: list[str], dltrain: Command) -> None:
    outcome = dltrain(*SMALL, "task=distillation", MLP, *overrides, "debug=smoke", "--json")
    assert outcome.code == 0, outcome.err


def test_a_teacher_of_a_run_and_one_of_the_run_teach_together(dltrain: Command) -> None:
    run = dltrain(*SMALL, "--json").json["run"]
    outcome = dltrain(*SMALL, "task=distillation", MLP, f"task.teachers=['{run}']", "--json")
    assert outcome.code == 0, outcome.err
    manifest = json.loads((Path(outcome.json["run"]) / "manifest.json").read_text())
    assert manifest["initial_runs"] == {"task.teachers": [str(Path(run).absolute())]}


SYSTEMS = {
    "predictions": [CNN],
    "layers": [MLP, "task.features={1: 1}"],
    "few labels": [MLP, "task.labels=300", "regularization=[ema,dropout]"],
}


@pytest.mark.usefixtures("quick_disk", "save_every_epoch")
@pytest.mark.parametrize("system", SYSTEMS)
def test_resume_is_bit_identical_in_both_stages(system: str, tmp_path: Path) -> None:
    overrides = SYSTEMS[system]
    whole, history = trained(distilled(*overrides), tmp_path / "whole")
    store = Store(tmp_path / "whole")
    ends, resumed = store.stage_ends(), set()
    for number, folder in enumerate(store.steps()[1::4]):
        state = checkpoint.load(folder)
        before = {i: end for i, end in ends.items() if i < state["index"]}
        engine, again = trained(
            distilled(*overrides), tmp_path / str(number), Resume(state, before)
        )
        later = {s: m for s, m in history.metrics.items() if s > state["step"]}
        assert again.metrics == later, folder.name
        for name, value in whole.task.state_dict().items():
            assert torch.equal(value, engine.task.state_dict()[name]), (folder.name, name)
        resumed.add(state["name"])
    assert resumed == {"teacher", "train"}


def trained(task: Any, folder: Path, resume: Resume | None = None) -> tuple[Engine, History]:
    """Fit with history and, of a whole run, a checkpoint at every step; seeds the generators."""
    rng.seed_all(3)
    store, history = Store(folder), History()
    store.prune = lambda keep: None  # type: ignore[method-assign]  # keep all of them
    saver = Checkpoint(store)

    class EveryStep(Callback):
        def step_end(self, engine: Engine) -> None:
            saver.save(engine)

    engine = Engine([history, saver, *([] if resume else [EveryStep()])])
    engine.fit(task, resume)
    return engine, history


def test_with_few_labels_a_teacher_sees_no_other_label() -> None:
    """Without a teacher's weight the labeled samples are the whole training set."""
    task = distilled(MLP, "task.labels=200")
    teacher, student = list(task.stages())
    assert teacher.batches.samples == 200
    assert student.batches.samples == task.data.train.samples
    (alone,) = distilled(MLP, "task.labels=200", "task.weight=0").stages()
    assert alone.name == "train"
    assert alone.batches.samples == 200
