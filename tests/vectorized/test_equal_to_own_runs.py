"""Runs trained as one program equal the same runs on their own."""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from outcome import Outcome
from torch import Tensor

from dltrain.runs.checkpoint import Store
from dltrain.vectorized.group import Outputs

TOLERANCE = 1e-4
BRIEF = ("callbacks=quiet", "dataset=digits", "trainer.epochs=2", "trainer.log_every=20")
CNN = ("model=cnn", "model.channels=[4,6]")
SMALL_STEPS = ("optimizer=sgd", "optimizer.lr=0.01")  # rounding may choose another maximum
SMOOTH = (*CNN, "model.activation=tanh", "model.pooling=average")  # rounding flips no unit
SWEEPS: dict[str, tuple[str, ...]] = {
    "seeds of an mlp": ("model=mlp", "seed=range(0,3)"),
    "seeds of lenet5": ("model=lenet5", "seed=range(0,3)"),
    "batch norm": (*CNN, "seed=range(0,3)"),
    "layer norm": (*CNN, "model.norm=layer", "seed=0,1"),
    "maximum": ("model=lenet5", "model.pooling=max", "seed=0,1", *SMALL_STEPS),
    "learning rates": ("model=mlp", "optimizer.lr=1e-3,1e-2,3e-2"),
    "decay of adamw": ("model=mlp", "optimizer=adamw", "optimizer.weight_decay=0.01,0.1"),
    "sgd": ("model=mlp", "optimizer=sgd", "optimizer.lr=0.1,0.01"),
    "momentum": ("model=mlp", "optimizer=momentum", "optimizer.momentum=0.5,0.9"),
    "nesterov": ("model=mlp", "optimizer=nesterov", "seed=0,1"),
    "rmsprop": ("model=mlp", "optimizer=rmsprop", "optimizer.lr=1e-3,1e-4"),
    "adagrad": ("model=mlp", "optimizer=adagrad", "seed=0,1"),
    "adadelta": ("model=mlp", "optimizer=adadelta", "seed=0,1"),
    "muon": ("model=mlp", "optimizer=muon", "optimizer.lr=5e-4", "seed=0,1"),
    "dropout": ("model=mlp", "model.dropout=0.1,0.5", "seed=0,1"),
    "dropout in a cnn": (*SMOOTH, "model.conv_dropout=0.2", "model.dropout=0.1,0.3"),
    "label smoothing": ("model=mlp", "loss.label_smoothing=0.0,0.1"),
    "l2": ("model=mlp", "regularization=[l2]", "regularization.l2.weight=1e-4,1e-2"),
    "l1 and clipping": ("model=mlp", "regularization=[l1,clip]", "seed=0,1"),
    "averages": (*CNN, "regularization=[ema]", "seed=0,1"),
    "swa": ("model=mlp", "regularization=[swa]", "seed=0,1"),
    "lookahead": ("model=mlp", "regularization=[lookahead]", "seed=0,1"),
    "mixup": ("model=mlp", "regularization=[mixup]", "seed=0,1"),
    "augmentation": (*CNN, "preprocessing=[random_crop]", "seed=0,1"),
    "onecycle": ("model=mlp", "schedule=onecycle", "optimizer.lr=1e-3,1e-2"),
    "plateau": ("model=mlp", "schedule=plateau", "seed=0,1"),
    "accumulation": ("model=mlp", "trainer.accumulate=3", "seed=0,1"),
    "evaluations within an epoch": ("model=mlp", "trainer.evaluate_every=7", "seed=0,1"),
    "skipped updates": ("model=mlp", "trainer.skip_nonfinite=3", "seed=0,1"),
    "regression": ("dataset=diabetes", "model=mlp", "seed=0,1"),
    "frozen layers": ("model=mlp", "freeze=['1.*']", "unfreeze_epoch=1", "seed=0,1"),
}


pytestmark = pytest.mark.usefixtures("quick_disk")


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def weights(folder: Path) -> dict[str, Tensor]:
    saved = Store(folder / "checkpoints").read("last")
    assert saved is not None
    return {name: w.float() for name, w in saved[1]["task"].items()}


def largest_difference(one: dict[str, Any], other: dict[str, Any]) -> float:
    """The largest difference of two figures; of those above 1 the relative one."""
    assert list(one) == list(other)
    same = [key for key, value in one.items() if not isinstance(value, float)]
    assert [one[key] for key in same] == [other[key] for key in same]
    figures = [key for key in one if key not in same]
    return max((abs(one[k] - other[k]) / max(1, abs(other[k])) for k in figures), default=0.0)


def assert_equal_runs(one: Path, other: Path) -> None:
    """Assert that two runs have the same lines in their logs, results and last weights."""
    lines = list(zip(records(one), records(other), strict=True))
    assert max(largest_difference(a, b) for a, b in lines) < TOLERANCE
    a, b = (json.loads((folder / "results.json").read_text()) for folder in (one, other))
    assert largest_difference(a["metrics"], b["metrics"]) < TOLERANCE
    assert a["status"] == b["status"]
    assert a["best"]["step"] == b["best"]["step"]
    saved, expected = weights(one), weights(other)
    assert sorted(saved) == sorted(expected)
    for name, weight in expected.items():
        torch.testing.assert_close(saved[name], weight, atol=TOLERANCE, rtol=TOLERANCE)


def both(dltrain: Callable[..., Outcome], *words: str) -> tuple[Outcome, int]:
    """Run a sweep as one program and one run after the other; return the first's outcome."""
    together = dltrain("-m", "launcher=vectorized", *words, "hydra.sweep.dir=together", "--json")
    alone = dltrain("-m", "launcher=inline", *words, "hydra.sweep.dir=alone", "--json")
    assert (together.code, alone.code) == (0, 0), together.err + together.out
    return together, len(alone.json["jobs"])


@pytest.mark.parametrize("name", SWEEPS)
def test_runs_of_a_program_equal_runs_on_their_own(
    dltrain: Callable[..., Outcome], name: str
) -> None:
    outcome, count = both(dltrain, *BRIEF, *SWEEPS[name])
    assert "are trained as one program" in outcome.out
    assert "each run makes its own steps" not in outcome.out
    for number in range(count):
        assert_equal_runs(Path("together", str(number)), Path("alone", str(number)))


@pytest.mark.parametrize(
    "task",
    [
        ("task=pruning", "task.sparsity=0.5", "task.rounds=1"),
        ("task=pruning", "task.kind=channels", "task.sparsity=0.5", "task.rounds=1"),
        ("task=distillation", "task.teacher={_target_: dltrain.models.mlp.MLP}"),
        ("task=ensemble", "task.members=2"),
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_tasks_that_copy_their_network(
    dltrain: Callable[..., Outcome], task: tuple[str, ...]
) -> None:
    words = ("model=mlp", "model.hidden_sizes=[16]", *SMALL_STEPS, "seed=0,1")
    both(dltrain, *BRIEF, *words, *task)
    for number in range(2):
        assert_equal_runs(Path("together", str(number)), Path("alone", str(number)))


def test_a_copy_of_a_network_is_no_part_of_its_group() -> None:
    model = torch.nn.Linear(2, 1)
    together: Any = threading.Lock()  # what a group has cannot be copied
    model.forward = Outputs(model, together)  # type: ignore[method-assign]
    copied = copy.deepcopy(model)
    with torch.no_grad():
        copied.weight.zero_()
    assert copied(torch.ones(1, 2)) == copied.bias
    assert not isinstance(copied.forward, Outputs)


def test_two_lanes_equal_runs_on_their_own(
    dltrain: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dltrain.vectorized.group.lanes_of", lambda requests, kinds: 2)
    words = (*SMOOTH, "model.dropout=0.2", "seed=range(0,5)")
    both(dltrain, *BRIEF, *words)
    for number in range(5):
        assert_equal_runs(Path("together", str(number)), Path("alone", str(number)))


def test_runs_that_stop_early_leave_the_others(dltrain: Callable[..., Outcome]) -> None:
    words = ("callbacks=quiet", "dataset=digits", "trainer.epochs=6", "model=mlp")
    stopping = ("regularization=[early_stopping]", "regularization.early_stopping.patience=1")
    rates = ("optimizer=sgd", "optimizer.lr=1e-6,0.01,0.1")
    _, count = both(dltrain, *words, *stopping, *rates, "seed=0,1")
    ends = []
    for number in range(count):
        assert_equal_runs(Path("together", str(number)), Path("alone", str(number)))
        ends.append(records(Path("together", str(number)))[-1]["step"])
    assert len(set(ends)) > 1


def test_a_run_that_diverges_does_not_disturb_the_others(dltrain: Callable[..., Outcome]) -> None:
    words = (*BRIEF, "model=mlp", "optimizer=sgd", "optimizer.lr=0.1,1e30,0.01")
    outcome = dltrain("-m", "launcher=vectorized", *words, "hydra.sweep.dir=together", "--json")
    alone = dltrain("-m", "launcher=inline", *words, "hydra.sweep.dir=alone", "--json")
    assert outcome.code == alone.code == 1
    statuses = [row["status"] for row in outcome.json["jobs"]]
    assert statuses == ["completed", "diverged", "completed"]
    assert outcome.json["jobs"][1]["reason"] == alone.json["jobs"][1]["reason"]
    for number in (0, 2):
        assert_equal_runs(Path("together", str(number)), Path("alone", str(number)))


def test_each_run_logs_only_its_own_messages(dltrain: Callable[..., Outcome]) -> None:
    words = (*BRIEF, "model=mlp", "optimizer=sgd", "optimizer.lr=0.1,1e30")
    dltrain("-m", "launcher=vectorized", *words, "hydra.sweep.dir=together")
    healthy, diverged = (Path("together", str(n), "train.log").read_text() for n in (0, 1))
    assert "together/0: " in healthy
    assert "together/1: " in diverged
    assert "diverged" in diverged
    assert "together/1" not in healthy
    assert "diverged" not in healthy


def test_steps_that_a_callback_looks_into_are_those_of_each_run(
    dltrain: Callable[..., Outcome],
) -> None:
    words = ("callbacks=diagnosis", *BRIEF[1:], "model=mlp", "seed=0,1")
    both(dltrain, *words)
    for number in (0, 1):
        one, other = (Path(sweep, str(number)) for sweep in ("together", "alone"))
        assert_equal_runs(one, other)
