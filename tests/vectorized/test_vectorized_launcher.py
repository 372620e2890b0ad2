"""The launcher of runs in one program: its groups, what it cannot group, signals and resumes."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from outcome import Outcome

import dltrain as library
from dltrain.config.compose import compose
from dltrain.engine import Callback, Engine
from dltrain.sweeps.journal import read_journal
from dltrain.vectorized.alike import likeness, reason_apart

BRIEF = ("callbacks=quiet", "dataset=digits", "trainer.epochs=1")
TOGETHER = "launcher=vectorized"

pytestmark = pytest.mark.usefixtures("quick_disk")


def configuration(*words: str) -> dict[str, Any]:
    config: dict[str, Any] = compose([*BRIEF, *words]).config
    return config


@pytest.mark.parametrize(
    ("one", "other", "are_alike"),
    [
        (["seed=1"], ["seed=2"], True),
        (["optimizer.lr=0.1"], ["optimizer.lr=1"], True),
        (["optimizer.beta1=0.5"], ["optimizer.beta1=0.8"], True),
        (["loss.label_smoothing=0"], ["loss.label_smoothing=0.1"], True),
        (["model=mlp", "model.dropout=0.5"], ["model=mlp", "model.dropout=0.1"], True),
        (["name=a"], ["name=b"], True),
        (["model=mlp"], ["model=perceptron"], False),
        (["model=mlp"], ["model=mlp", "model.hidden_sizes=[3]"], False),
        (["optimizer=momentum"], ["optimizer=nesterov"], False),
        (["trainer.epochs=1"], ["trainer.epochs=2"], False),
        (["dataset.batch_size=2"], ["dataset.batch_size=4"], False),
        (["regularization=[l2]"], ["regularization=[l1]"], False),
    ],
    ids=str,
)
def test_runs_are_alike_if_they_differ_in_seeds_and_numbers(
    one: list[str], other: list[str], are_alike: bool
) -> None:
    assert (likeness(configuration(*one)) == likeness(configuration(*other))) == are_alike


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ((), ""),
        (("trainer.max_seconds=5",), "trainer.max_seconds"),
        (("device.compile=model",), "device.compile"),
        (("device.precision=fp16",), "device.precision=fp16"),
        (("device=fast",), "device=fast"),
        (("debug=profile",), "debug=profile"),
    ],
    ids=str,
)
def test_some_settings_leave_a_run_alone(words: tuple[str, ...], reason: str) -> None:
    found = reason_apart(configuration(*words))
    assert found.startswith(reason)
    assert bool(found) == bool(reason)


def test_runs_of_several_models_make_several_programs(dltrain: Callable[..., Outcome]) -> None:
    words = (*BRIEF, "model=mlp,perceptron", "seed=0,1,2", "launcher.runs=2", "trainer.steps=3")
    outcome = dltrain("-m", TOGETHER, *words, "hydra.sweep.dir=sweep", "--json")
    assert outcome.code == 0, outcome.err
    for trials in ("0, 1", "3, 4"):
        assert f"trials {trials} are trained as one program" in outcome.out
    assert [row["status"] for row in outcome.json["jobs"]] == ["completed"] * 6


def test_a_run_with_a_time_limit_is_trained_alone(dltrain: Callable[..., Outcome]) -> None:
    words = (*BRIEF, "model=perceptron", "seed=0,1", "trainer.max_seconds=60")
    outcome = dltrain("-m", TOGETHER, *words)
    assert outcome.code == 0
    assert "trial 0 is trained alone: trainer.max_seconds limits its time" in outcome.out


def test_tasks_without_one_loss_are_trained_one_by_one(dltrain: Callable[..., Outcome]) -> None:
    words = ("callbacks=quiet", "model=gan", "dataset=digits", "seed=0,1", "debug=smoke")
    outcome = dltrain("-m", TOGETHER, *words, "--json")
    assert outcome.code == 0, outcome.err
    reason = "the steps of Adversarial are not those of one loss"
    assert f"1 other trial cannot be trained together: {reason}" in outcome.out
    assert [row["status"] for row in outcome.json["jobs"]] == ["completed"] * 2


def test_a_network_without_rules_for_vmap_makes_its_own_steps(
    dltrain: Callable[..., Outcome],
) -> None:
    words = (*BRIEF, "model=lstm", "seed=0,1", "trainer.steps=4", "trainer.log_every=1")
    outcome = dltrain("-m", TOGETHER, *words, "hydra.sweep.dir=together", "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.out.count("each run makes its own steps: ") == 1
    assert dltrain("-m", "launcher=inline", *words, "hydra.sweep.dir=alone").code == 0
    for number in ("0", "1"):
        logs = [
            Path(sweep, number, "metrics.jsonl").read_bytes() for sweep in ("together", "alone")
        ]
        assert logs[0] == logs[1]


def test_a_run_of_a_program_is_evaluated_by_the_usual_command(
    dltrain: Callable[..., Outcome],
) -> None:
    words = (*BRIEF, "model=mlp", "seed=0,1", "hydra.sweep.dir=sweep")
    rows = dltrain("-m", TOGETHER, *words, "--json").json["jobs"]
    for row in rows:
        metrics = dltrain("evaluate", row["run"], "--json").json["metrics"]
        assert metrics["test/loss"] == pytest.approx(row["metrics"]["test/loss"], abs=1e-5)


def test_python_sweeps_train_runs_together() -> None:
    handlers = signal.getsignal(signal.SIGINT)
    threads = threading.active_count()
    sweep = library.sweep(*BRIEF, "model=perceptron", TOGETHER, "seed=range(0,3)")
    assert [row["status"] for row in sweep.rows] == ["completed"] * 3
    assert signal.getsignal(signal.SIGINT) is handlers
    assert threading.active_count() == threads


def test_pruned_runs_leave_the_others(dltrain: Callable[..., Outcome]) -> None:
    pytest.importorskip("optuna")
    words = ("callbacks=quiet", "dataset=digits", "model=mlp", "trainer.epochs=3", "sweep=random")
    pruner = ("sweep.trials=6", "sweep.pruner=halving", "launcher.runs=6")
    outcome = dltrain("-m", TOGETHER, *words, *pruner, "optimizer.lr=interval(1e-6,1e-1)", "--json")
    assert outcome.code == 0, outcome.err
    statuses = {row["status"] for row in outcome.json["jobs"]}
    assert statuses == {"completed", "pruned"}


@pytest.fixture
def interrupted(dltrain: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch) -> Outcome:
    """A sweep that gets SIGTERM in step 30 of 81 of its runs."""
    from dltrain.callbacks.limits import Limits

    step_end = Limits.step_end

    def with_signal(self: Callback, engine: Engine) -> None:
        if engine.step == 30 and os.environ.get("SIGNALED") is None:
            monkeypatch.setenv("SIGNALED", "1")
            os.kill(os.getpid(), signal.SIGTERM)
        step_end(self, engine)  # type: ignore[arg-type]

    monkeypatch.setattr(Limits, "step_end", with_signal)
    words = (*BRIEF, "model=mlp", "seed=range(0,4)", "launcher.runs=3", "hydra.sweep.dir=sweep")
    return dltrain("-m", TOGETHER, *words)


def test_a_signal_saves_every_run_of_a_program(interrupted: Outcome) -> None:
    assert interrupted.code == 128 + signal.SIGTERM
    for number in range(3):
        results = json.loads(Path("sweep", str(number), "results.json").read_text())
        assert results["status"] == "interrupted"
        assert Path("sweep", str(number), "checkpoints", "last").exists()
    assert not Path("sweep", "3").exists()


@pytest.mark.parametrize("launcher", [TOGETHER, "launcher=inline"])
def test_a_resume_continues_the_runs_of_a_program(
    dltrain: Callable[..., Outcome], interrupted: Outcome, launcher: str
) -> None:
    resumed = dltrain("resume", "sweep", launcher, "--json")
    assert resumed.code == 0, resumed.err
    words = (*BRIEF, "model=mlp", "seed=range(0,4)", "hydra.sweep.dir=alone")
    rows = dltrain("-m", "launcher=inline", *words, "--json").json["jobs"]
    for row, expected in zip(resumed.json["jobs"], rows, strict=True):
        assert row["status"] == "completed"
        assert row["metrics"] == pytest.approx(expected["metrics"], abs=1e-4)
    events = [one["event"] for one in read_journal(Path("sweep"))]
    assert events.count("resume") == 1
