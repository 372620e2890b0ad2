"""Golden losses: a refactor gives the same numbers. `DLTRAIN_GOLDEN=write` writes them anew, after a change that means to."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

LICENCE = Path(__file__).parents[1] / "LICENSE"  # a text that stays as it is
PROSE = (
    "dataset=language_modeling",
    f"dataset.path={LICENCE}",
    "dataset.length=16",
    "dataset.batch_size=4",
    "dataset.epochs=10",
    "task.sample_tokens=0",
)
REVERSAL = (
    "dataset=reversal",
    "dataset.batch_size=16",
    "dataset.pairs.train_samples=1000",
    "dataset.pairs.val_samples=32",
    "dataset.pairs.test_samples=32",
    "task.length_ratio=0.1",
)
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
    "deep_belief_net_digits": (
        "model=deep_belief_net",
        "dataset.scaling=unit",
        "model.hidden_sizes=[32]",
    ),
    "lstm_digits": ("model=lstm", "model.bidirectional=true", "regularization=[clip]"),
    "transformer_digits": ("model=transformer", "model.dim=16", "optimizer=adamw"),
    "gru_lm_licence": ("model=gru_lm", *PROSE, "dataset.stream=true"),
    "transformer_lm_licence": (
        "model=transformer_lm",
        "model.dim=16",
        "model.positions=rotary",
        *PROSE,
    ),
    "seq2seq_attention_reversal": ("model=seq2seq_attention", *REVERSAL),
    "dcgan_digits": ("model=dcgan", "model.channels=[32]", "task.judge=null"),
}


@pytest.mark.parametrize("name", RUNS)
def test_training_reproduces_its_golden_losses(name: str, dltrain) -> None:
    """To a thousandth: another processor or torch rounds differently, an error in the arithmetic differs by more."""
    outcome = dltrain(
        *RUNS[name], "trainer.steps=60", "trainer.log_every=5", "callbacks=quiet", "--json"
    )
    lines = (Path(outcome.json["run"]) / "metrics.jsonl").read_text().splitlines()
    losses = [
        record["train/loss"] for record in map(json.loads, lines) if record["split"] == "train"
    ]
    golden = Path(__file__).parent / "golden" / f"{name}.txt"
    if os.environ.get("DLTRAIN_GOLDEN") == "write":
        golden.parent.mkdir(exist_ok=True)
        golden.write_text("".join(f"{loss:.8f}\n" for loss in losses))
    expected = [float(line) for line in golden.read_text().split()]
    assert len(losses) >= 12
    assert losses == pytest.approx(expected, rel=1e-3, abs=1e-4)
