"""Golden losses: a refactor gives the same numbers. `DLTRAIN_GOLDEN=write` writes them anew, after a change that means to."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

RUNS = {
    "cnn_digits": (),
    "mlp_digits_dropout_adamw_onecycle": (
        "model=mlp",
        "regularization=[dropout]",
        "optimizer=adamw",
        "schedule=onecycle",
    ),
    "lenet5_digits_sgd_accumulate_clip": (
        *(
            "model=lenet5",
            "optimizer=sgd",
            "optimizer.momentum=0.9",
            "trainer.accumulate=2",
            "regularization=[clip,l2]",
        ),
    ),
    "vae_digits": ("model=vae", "task.loss=cross_entropy"),
    "deep_belief_net_digits": ("model=deep_belief_net", "dataset.scaling=unit", "model.hidden_sizes=[32]"),
    "dcgan_digits": ("model=dcgan", "model.channels=[32]", "task.judge=null"),
}


@pytest.mark.parametrize("name", RUNS)
def test_training_reproduces_its_golden_losses(name: str, dltrain) -> None:
    """To a thousandth: another processor or torch rounds differently, an error in the arithmetic differs by more."""
    outcome = dltrain(*RUNS[name], "trainer.steps=60", "trainer.log_every=5", "callbacks=quiet", "--json")
    lines = (Path(outcome.json["run"]) / "metrics.jsonl").read_text().splitlines()
    losses = [record["train/loss"] for record in map(json.loads, lines) if record["split"] == "train"]
    golden = Path(__file__).parent / "golden" / f"{name}.txt"
    if os.environ.get("DLTRAIN_GOLDEN") == "write":
        golden.parent.mkdir(exist_ok=True)
        golden.write_text("".join(f"{loss:.8f}\n" for loss in losses))
    expected = [float(line) for line in golden.read_text().split()]
    assert len(losses) == 12
    assert losses == pytest.approx(expected, rel=1e-3, abs=1e-4)
