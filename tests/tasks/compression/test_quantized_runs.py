"""Runs of quantized networks by the commands: from a finished run, evaluated, refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from quantized_tasks import CNN

from dltrain.runs.checkpoint import Store

DIGITS = ("dataset=digits", *CNN, "trainer.epochs=1", "callbacks=quiet", "device.threads=1")


@pytest.fixture
def float_run(dltrain: Any) -> dict[str, Any]:
    """The results of a run in float."""
    results: dict[str, Any] = dltrain(*DIGITS, "--json").json
    return results


def quantized(dltrain: Any, run: str, *more: str) -> Any:
    """Quantize the network of a finished run."""
    start = ("task=quantization", "task.train_epochs=0", f"init.from={run}")
    return dltrain(*DIGITS, *start, *more, "--json")


def test_a_finished_run_is_quantized_and_evaluated(dltrain: Any, float_run: dict[str, Any]) -> None:
    """The score before is that of the run; the size counts the stored integers."""
    outcome = quantized(dltrain, float_run["run"])
    assert outcome.code == 0, outcome.err
    metrics = outcome.json["metrics"]
    assert metrics["test/float_accuracy"] == float_run["metrics"]["test/accuracy"]
    assert metrics["test/accuracy_change"] == pytest.approx(0, abs=0.02)
    run = outcome.json["run"]
    again = dltrain("evaluate", run, "--json").json
    assert again["metrics"]["test/accuracy"] == metrics["test/accuracy"]
    assert again["metrics"]["test/size_ratio"] == metrics["test/size_ratio"]
    before = dltrain("evaluate", float_run["run"], "--json").json["network"]
    after = again["network"]
    norms = 2 * (4 + 8) - (4 + 8)  # factors are part of the weights, offsets are biases
    assert after["parameters"] == before["parameters"] - norms
    assert 0 < after["weight_bytes"] < before["weight_bytes"]
    assert after["flops"] == before["flops"]
    folder = Store(Path(run) / "checkpoints").pointed("best")
    assert folder is not None
    stored = (folder / "task.safetensors").stat().st_size
    assert stored < before["weight_bytes"] + 4000  # the names of the tensors


def test_training_does_not_begin_with_quantized_weights(
    dltrain: Any, float_run: dict[str, Any]
) -> None:
    run = quantized(dltrain, float_run["run"]).json["run"]
    outcome = dltrain(*DIGITS, f"init.from={run}")
    assert outcome.code == 3
    assert "are quantized, and training cannot begin with them" in outcome.err


def test_several_processes_are_refused(dltrain: Any) -> None:
    outcome = dltrain(*DIGITS, "task=quantization", "device.processes=2")
    assert outcome.code == 2
    assert "this task trains in one process; set device.processes=1" in outcome.err


def test_the_metrics_are_the_same_each_time(dltrain: Any) -> None:
    """Latencies are in no metric."""
    texts = [
        (Path(dltrain(*DIGITS, "task=quantization", "--json").json["run"]) / "metrics.jsonl")
        for _ in range(2)
    ]
    assert texts[0].read_text() == texts[1].read_text()


def test_runs_of_a_vectorized_sweep_train_on_their_own(dltrain: Any) -> None:
    """Their layers are replaced, which the program of several networks could not follow."""
    sweep = (*DIGITS, "task=quantization", "launcher=vectorized", "seed=0,1")
    outcome = dltrain("-m", *sweep, "--json")
    assert outcome.code == 0, outcome.err
    alone = dltrain(*DIGITS, "task=quantization", "--json").json["metrics"]
    together = outcome.json["jobs"][0]["metrics"]
    for name in ("test/accuracy", "test/float_accuracy", "test/loss"):
        assert together[name] == pytest.approx(alone[name], abs=1e-6)
