"""Quantized networks: saved and loaded, resumed, compared with the network before, refused."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from quantized_tasks import (
    CLASSIFIERS,
    CNN,
    TEXT,
    answers,
    built,
    classifier,
    inputs_of,
    trained,
)
from torch import nn
from toys import History

from dltrain import rng
from dltrain.callbacks.checkpoint import Checkpoint
from dltrain.engine import Callback, Engine, Resume
from dltrain.runs import checkpoint
from dltrain.runs.checkpoint import Store, snapshot
from dltrain.tasks.compression.quantized.layers import DynamicLinear
from dltrain.tasks.compression.quantizing.comparing import stored_bytes

INTEGERS = (torch.int8, torch.uint8, torch.int32)


@pytest.mark.parametrize("system", CLASSIFIERS)
def test_a_saved_network_loads_into_a_fresh_task(system: str) -> None:
    """The state is one of plain tensors, and a task that has trained nothing answers the same."""
    task = classifier(*CLASSIFIERS[system])
    trained(task)
    state = snapshot(task.state_dict())
    assert all(type(value) is torch.Tensor and not value.is_quantized for value in state.values())
    assert any(value.dtype in INTEGERS and value.numel() > 100 for value in state.values())
    fresh = classifier(*CLASSIFIERS[system])
    fresh.load_state_dict(state)
    fresh.eval()
    assert fresh.state_dict().keys() == state.keys()
    inputs = inputs_of(task)
    assert torch.equal(answers(task, inputs), answers(fresh, inputs))
    fresh.load_state_dict(state)  # a quantized task loads a state as well


@pytest.mark.parametrize("system", CLASSIFIERS)
def test_the_network_answers_as_before(system: str) -> None:
    """Rounding changes the logits a little, and the real path of the layers computes the same."""
    task = classifier(*CLASSIFIERS[system])
    trained(task)
    inputs = inputs_of(task)
    before = answers(task_of_reference(task), inputs)
    after = answers(task, inputs)
    spread = float(before.std())
    if "qat" not in system:  # which trains after the copy
        assert (after - before).abs().max() < 0.35 * spread
    with torch.no_grad():
        exported = torch.export.export(task.model, (inputs,), strict=False).module()
        assert (exported(inputs) - after).abs().max() < 0.1 * spread


def task_of_reference(task: Any) -> Any:
    """Return a stand-in for a task whose network is the one before quantization."""
    stand_in = copy.copy(task)
    stand_in.__dict__["_modules"] = {**task._modules, "model": task.quantizer.reference}
    return stand_in


def test_a_small_network_is_a_third_of_its_size() -> None:
    task = classifier("model=cnn", "model.channels=[16,32]")
    trained(task)
    assert stored_bytes(task.model) < 0.3 * stored_bytes(task.quantizer.reference)
    assert not list(task.model.parameters())


def test_batch_norm_and_relu_are_part_of_the_convolution() -> None:
    task = classifier(*CNN, "task.observer=minmax")
    trained(task)
    kinds = [type(layer).__name__ for layer in task.model]
    block = ["StaticConv2d", "Folded", "Folded", "IntegerMaxPool2d"]
    assert kinds == [*block, *block, "Flatten", "StaticLinear"]
    between = inputs_of(task)
    for layer in list(task.model)[:4]:
        between = layer(between)
    assert between.dtype == torch.uint8


def test_predictions_do_not_depend_on_the_batch() -> None:
    """Each input vector has its own scale, also beside much larger ones."""
    torch.manual_seed(0)
    layer = DynamicLinear(torch.randn(512, 512), torch.randn(512))
    inputs = torch.randn(8, 512) * 10.0 ** torch.arange(8).unsqueeze(1)
    outputs = layer(inputs)
    assert torch.equal(outputs[:1], layer(inputs[:1]))
    exact = inputs @ layer.weight.T + layer.bias
    assert float((outputs - exact)[0].abs().max()) < 0.02 * float(exact[0].abs().max())


def test_an_evaluation_compares_the_network_before_and_after() -> None:
    task = classifier(*CNN)
    engine = trained(task)
    scores = engine.test(task.data.test)
    change = scores["test/accuracy"] - scores["test/float_accuracy"]
    assert scores["test/accuracy_change"] == pytest.approx(change)
    assert 0 < scores["test/size_ratio"] < 1
    table = scores["test/quantization"]
    assert table.rows == ("float", "quantized")
    assert table.columns == ("accuracy", "bytes", "ms, batch 1", "ms, batch 64")
    assert bool((table.values[:, 1:] > 0).all())


@pytest.mark.parametrize("method", ["int4", "dynamic"])
def test_a_language_model_loads_again(method: str) -> None:
    overrides = ("model=transformer_lm", "model.dim=64", *TEXT, f"task.method={method}")
    task = built(*overrides)
    trained(task)
    fresh = built(*overrides)
    fresh.load_state_dict(snapshot(task.state_dict()))
    tokens = inputs_of(task)
    assert torch.equal(answers(task, tokens), answers(fresh.eval(), tokens))
    limit = {"int4": 0.2, "dynamic": 0.3}[method]
    assert stored_bytes(task.model) < limit * stored_bytes(task.quantizer.reference)


def test_a_recurrent_language_model_keeps_its_state() -> None:
    task = built("model=lstm_lm", "model.hidden_size=32", "dataset.stream=true", *TEXT)
    engine = trained(task)
    scores = engine.test(task.data.test)
    assert scores["test/loss_change"] == pytest.approx(0, abs=0.05)


def test_weights_of_a_run_need_no_training() -> None:
    task = classifier(*CNN, "task.train_epochs=0")
    assert next(task.stages()).name == "calibrate"


def test_averaged_weights_are_converted() -> None:
    """The copy before quantization has the averages, not the last weights."""
    task = classifier(*CNN, "regularization=[ema]", "regularization.ema.decay=0.9")
    stages = task.stages()
    rng.seed_all(1)
    stage = next(stages)
    for batch in stage.batches.epoch(0):
        stage.step(batch)
    optim = stage.optims[0]
    last = task.model[0].weight.detach().clone()
    next(stages)
    averaged = task.model[0].weight
    assert not torch.equal(averaged, last)
    assert torch.equal(averaged, optim.averages[0])


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("model=lstm", "task.method=static"), "set task.method=dynamic"),
        (("model=lstm", "task.method=qat"), "recurrent"),
        ((*CNN, "task.skip=[nothing]"), "no layer is called 'nothing'"),
        (("model=cnn", "task.method=dynamic", "task.skip=['9']"), "set task.method=static"),
    ],
    ids=str,
)
def test_what_cannot_be_quantized_is_refused(overrides: tuple[str, ...], words: str) -> None:
    with pytest.raises(Exception, match=words):
        classifier(*overrides)


def test_a_run_that_ends_before_the_quantization_is_warned_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    task = classifier(*CNN, "trainer.epochs=null", "trainer.steps=5")
    next(task.stages())
    assert "set trainer.epochs" in caplog.text


def test_skipped_layers_stay_as_they_are() -> None:
    task = classifier(*CNN, "task.skip=['0']")
    trained(task)
    assert type(task.model[0]) is nn.Conv2d
    assert list(task.model[0].parameters())


def run(task: Any, folder: Path, resume: Resume | None = None) -> tuple[Engine, History]:
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


def figures(scores: dict[str, Any]) -> dict[str, float]:
    """Return the numbers of an evaluation."""
    return {name: value for name, value in scores.items() if isinstance(value, float)}


@pytest.mark.usefixtures("quick_disk", "save_every_epoch")
@pytest.mark.parametrize("system", ["qat cnn", "dynamic lstm", "int4 transformer"])
def test_a_resume_is_bit_identical_in_every_stage(system: str, tmp_path: Path) -> None:
    """The same metrics, scores and weights from every other checkpoint."""
    overrides = CLASSIFIERS[system]
    whole, history = run(classifier(*overrides), tmp_path / "whole")
    store = Store(tmp_path / "whole")
    ends, resumed = store.stage_ends(), set()
    for number, folder in enumerate(store.steps()[::2]):
        state = checkpoint.load(folder)
        before = {i: end for i, end in ends.items() if i < state["index"]}
        task = classifier(*overrides)
        engine, again = run(task, tmp_path / str(number), Resume(state, before))
        late = {step: m for step, m in history.metrics.items() if step > state["step"]}
        assert again.metrics == late, folder.name
        scores = [
            (step, figures(scores))
            for step, scores in history.scores
            if step > state["step"] or (step == state["step"] and not state["settled"])
        ]
        assert [(step, figures(scores)) for step, scores in again.scores] == scores, folder.name
        ours, theirs = engine.task.state_dict(), whole.task.state_dict()
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours), folder.name
        resumed.add(state["index"])
    assert resumed == set(range(whole.index + 1))
