"""On a CUDA device: precision, memory format and compilation through the command line (`make test-
gpu`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from dltrain.runs import checkpoint
from dltrain.runs.checkpoint import Store
from dltrain.runs.folder import METRICS

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    pytest.mark.filterwarnings(
        "ignore::DeprecationWarning", "ignore::FutureWarning"
    ),  # of torch's compiler
]
RUN = (
    "model=cnn",
    "dataset=synthetic",
    "trainer.epochs=2",
    "trainer.log_every=10",
    "callbacks=quiet",
    "device=cuda",
)
CHANCE = 0.1

SETTINGS = {
    "fp32": (),
    "fp16": ("device.precision=fp16",),
    "bf16": ("device.precision=bf16",),
    "channels-last": ("device.channels_last=true",),
    "channels-last bf16": ("device.channels_last=true", "device.precision=bf16"),
    "compile": ("device.compile=true",),
    "compile bf16": ("device.compile=true", "device.precision=bf16", "device.channels_last=true"),
    "accumulate fp16": (
        "device.precision=fp16",
        "trainer.accumulate=2",
        "regularization=[clip,ema]",
    ),
}


def losses(folder: Path) -> list[float]:
    records = map(json.loads, (folder / METRICS).read_text(encoding="utf-8").splitlines())
    return [record["train/loss"] for record in records if "train/loss" in record]


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_run_learns(setting: str, dltrain: Callable[..., Any]) -> None:
    """On the GPU, the loss falls, the test is far above chance, and the manifest says what was
    used.
    """
    outcome = dltrain(*RUN, *SETTINGS[setting], "--json")
    assert outcome.code == 0, outcome.err
    folder = Path(outcome.json["run"])
    found = losses(folder)
    assert all(math.isfinite(loss) for loss in found)
    assert found[-1] < found[0]
    assert outcome.json["metrics"]["test/accuracy"] > 3 * CHANCE
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["device"] == "cuda"
    assert manifest["precision"] == (setting.split()[-1] if "16" in setting else "fp32")


def test_fp16_scales_the_loss(dltrain: Callable[..., Any]) -> None:
    """The scaler is at work, and its state is in the checkpoint."""
    folder = Path(dltrain(*RUN, "device.precision=fp16", "--json").json["run"])
    state = checkpoint.load(Store(folder / "checkpoints").pointed("last"))
    assert state["optims"][0]["scaler"]["scale"] >= 1
    assert all(value.dtype != torch.float16 for value in state["task"].values())


def test_a_gpu_checkpoint_is_evaluated_on_the_cpu(dltrain: Callable[..., Any]) -> None:
    """Checkpoints carry no device: the CPU finds nearly the same figures."""
    outcome = dltrain(*RUN, "--json")
    again = dltrain("evaluate", outcome.json["run"], "device.name=cpu", "--json")
    assert again.code == 0, again.err
    for name in ("test/accuracy", "test/loss"):
        assert again.json["metrics"][name] == pytest.approx(outcome.json["metrics"][name], abs=0.02)


def test_a_finished_run_is_extended(dltrain: Callable[..., Any]) -> None:
    """`resume` puts weights, moments and generators back onto the device and continues."""
    outcome = dltrain(*RUN, "device.precision=fp16", "device.channels_last=true", "--json")
    longer = dltrain("resume", outcome.json["run"], "trainer.epochs=3", "--json")
    assert longer.code == 0, longer.err
    assert longer.json["epochs"] == 3
    assert longer.json["steps"] == outcome.json["steps"] * 3 // 2
