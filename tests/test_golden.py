"""Golden losses: a refactor reproduces them bit for bit.

On the machine that wrote the files the losses are compared exactly, elsewhere to a relative 1e-5.
`DLTRAIN_GOLDEN=write` writes them again, after a change that is meant to alter them.
"""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from typing import Any

import pytest
import torch

LICENSE = Path(__file__).parents[1] / "LICENSE"  # a text that stays as it is
PROSE = (
    "dataset=language_modeling",
    f"dataset.path={LICENSE}",
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
    "gru_lm_license": ("model=gru_lm", *PROSE, "dataset.stream=true"),
    "transformer_lm_license": (
        "model=transformer_lm",
        "model.dim=16",
        "model.positions=rotary",
        *PROSE,
    ),
    "seq2seq_attention_reversal": ("model=seq2seq_attention", *REVERSAL),
    "dcgan_digits": ("model=dcgan", "model.channels=[32]", "task.judge=null"),
}


GOLDEN = Path(__file__).parent / "golden"


def machine() -> str:
    """Return what decides how floating-point numbers are rounded: CPU, torch and threads."""
    cpu = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
        models = {line.partition(":")[2].strip() for line in lines if line.startswith("model name")}
        cpu = ", ".join(sorted(models)) or cpu
    capability = torch.backends.cpu.get_cpu_capability()
    return f"{cpu}, {capability}, torch {torch.__version__}, {torch.get_num_threads()} threads"


@pytest.mark.parametrize("name", RUNS)
def test_training_reproduces_its_golden_losses(name: str, dltrain: Any) -> None:
    outcome = dltrain(
        *RUNS[name], "trainer.steps=60", "trainer.log_every=5", "callbacks=quiet", "--json"
    )
    lines = (Path(outcome.json["run"]) / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    losses = [record["train/loss"] for record in records if record["split"] == "train"]
    assert len(losses) >= 12

    golden = GOLDEN / f"{name}.txt"
    if os.environ.get("DLTRAIN_GOLDEN") == "write":
        numbers = "".join(f"{loss!r}\n" for loss in losses)
        golden.write_text(f"# {machine()}\n{numbers}", encoding="utf-8")
    header, *numbers = golden.read_text(encoding="utf-8").splitlines()
    expected = [float(number) for number in numbers]
    if header == f"# {machine()}":
        assert losses == expected
    else:
        assert losses == pytest.approx(expected, rel=1e-5)
