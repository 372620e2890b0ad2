"""Signals: a run ends at its step, and an interrupted run loses nothing."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import SMALL, At
from toys import Counting, Recorder

from dltrain.callbacks.signals import Signals
from dltrain.callbacks.timer import Timer
from dltrain.engine import Engine
from dltrain.errors import Interrupted
from dltrain.runs import checkpoint
from dltrain.runs.checkpoint import Store
from dltrain.runs.folder import METRICS
from dltrain.tasks.classification import Classification


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_end_at_the_step(number: signal.Signals, code: int) -> None:
    """The step under way is finished and seen by all; the handlers are gone after the context."""
    before = signal.getsignal(number)
    task = Counting((3, 4, 1))
    signals = Signals()
    engine = Engine(
        [At(6, lambda engine: os.kill(os.getpid(), number)), Recorder(task.calls), signals]
    )
    with signals:
        assert signal.getsignal(number) == signals.handle
        with pytest.raises(Interrupted) as caught:
            engine.fit(task)
    assert signal.getsignal(number) == before
    assert caught.value.exit_code == code
    assert (engine.step, task.calls[-1]) == (6, "step_end")


QUIET = ("callbacks=quiet", "trainer.accumulate=2")
AVERAGED = ("regularization=[dropout,ema]",)
STOPPING = (
    "regularization=[early_stopping]",
    "regularization.early_stopping.patience=2",
    "optimizer.lr=1e-9",
)
STEPS = 11  # of an epoch of digits in batches of 128

INTERRUPTIONS = {
    "in a window": ("step", 7, AVERAGED),
    "at the epoch's last step": ("step", STEPS, AVERAGED),
    "at the run's last step": ("step", 2 * STEPS, AVERAGED),
    "at a step that evaluates": ("step", 10, (*AVERAGED, "trainer.evaluate_every=5")),
    "in an evaluation within an epoch": ("evaluate", 2, (*AVERAGED, "trainer.evaluate_every=5")),
    "in an epoch's evaluation": ("evaluate", 1, AVERAGED),
    "in the last evaluation": ("evaluate", 2, AVERAGED),
    "at the last step of a limit": ("step", 15, ("trainer.steps=15",)),
    "in the evaluation at a limit": ("evaluate", 2, ("trainer.steps=15",)),
    "in the evaluation that stops early": ("evaluate", 3, ("trainer.evaluate_every=3", *STOPPING)),
    "in the evaluation after an early stop": (
        "evaluate",
        4,
        ("trainer.evaluate_every=3", *STOPPING),
    ),
}


def assert_same_end(one: Path, other: Path) -> None:
    """The same log to the last byte, the same results but for times, the same last weights."""
    assert (one / METRICS).read_text(encoding="utf-8") == (other / METRICS).read_text(
        encoding="utf-8"
    )
    results = [
        json.loads((folder / "results.json").read_text(encoding="utf-8")) for folder in (one, other)
    ]
    for key in ("status", "metrics", "best", "epochs", "steps"):
        assert results[0][key] == results[1][key], key
    weights, again = (
        checkpoint.load(Store(f / "checkpoints").pointed("last") or f)["task"] for f in (one, other)
    )
    assert weights.keys() == again.keys()
    assert all(torch.equal(value, again[name]) for name, value in weights.items())


@pytest.mark.parametrize("moment", INTERRUPTIONS)
def test_an_interrupted_run_is_resumed_to_the_same_end(
    moment: str, dltrain: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C saves and exits with 130; after `resume` log, results and weights are those of a run
    left alone.
    """
    kind, number, more = INTERRUPTIONS[moment]
    whole = dltrain(*SMALL, *QUIET, *more, "--json")
    assert whole.code == 0, whole.err
    owner: type = Timer if kind == "step" else Classification
    name = "step_end" if kind == "step" else "evaluate"
    original, calls = getattr(owner, name), []

    def interrupting(self: Any, given: Any) -> Any:
        calls.append(1)
        if len(calls) == number:
            os.kill(os.getpid(), signal.SIGINT)
        return original(self, given)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, interrupting)
        cut = dltrain(*SMALL, *QUIET, *more, "--json")
    assert cut.code == 130, cut.err
    assert cut.err.count("SIGINT") == 1
    assert cut.err.endswith("dltrain: interrupted by SIGINT\n")
    assert cut.json["reason"] == "interrupted by SIGINT"
    folder = max(tmp_path.glob("outputs/*/*"))
    assert (folder / "train.log").read_text(encoding="utf-8").count("interrupted by SIGINT") == 1
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    assert results["status"] == "interrupted"
    assert (
        results["steps"]
        == checkpoint.load(Store(folder / "checkpoints").pointed("last") or folder)["step"]
    )
    resumed = dltrain("resume", str(folder), "--json")
    assert resumed.code == 0, resumed.err
    assert_same_end(Path(whole.json["run"]), folder)


def test_the_same_seed_gives_the_same_log(dltrain: Callable[..., Any]) -> None:
    """Twice the same command: the same metrics.jsonl and weights, to the last bit; another seed,
    others.
    """
    runs = [
        Path(dltrain(*SMALL, *QUIET, *AVERAGED, f"seed={seed}", "--json").json["run"])
        for seed in (3, 3, 4)
    ]
    assert_same_end(runs[0], runs[1])
    assert (runs[0] / METRICS).read_bytes() != (runs[2] / METRICS).read_bytes()
