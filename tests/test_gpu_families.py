"""Every family of networks on a CUDA device, in every way to run it (`make test-gpu`).

DLTRAIN_TEST_DEVICE=cpu runs the same bodies on the CPU; an ordinary test does so for a few.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from dltrain.runs.folder import METRICS

DEVICE = os.environ.get("DLTRAIN_TEST_DEVICE", "cuda")
needs_device = pytest.mark.skipif(
    DEVICE == "cuda" and not torch.cuda.is_available(), reason="needs a CUDA device"
)
of_compiler = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"
)
SMALL = ("debug=smoke", "callbacks=quiet", "dataset.batch_size=4")
FAMILIES: dict[str, tuple[str, ...]] = {
    "perceptron": ("experiment=perceptron_mnist",),
    "mlp": ("experiment=mlp_mnist",),
    "cnn": ("experiment=cnn_mnist",),
    "resnet": ("experiment=resnet_small_cifar10",),
    "vgg": ("experiment=vgg_small_cifar10",),
    "autoencoder": ("experiment=autoencoder_mnist",),
    "vae": ("experiment=vae_mnist",),
    "gan": ("experiment=gan_mnist",),
    "dcgan": ("experiment=dcgan_mnist",),
    "dbn": ("experiment=dbn_mnist",),
    "lstm": ("experiment=lstm_imdb",),
    "fasttext": ("experiment=fasttext_imdb", "model.buckets=1000"),
    "word2vec": ("experiment=word2vec_imdb",),
    "charlm": ("experiment=charlm_transformer_shakespeare", "task.sample_tokens=4"),
    "seq2seq": ("experiment=seq2seq_reverse", "task.length_ratio=0.1"),
    "transformer": ("experiment=transformer_multi30k", "task.length_ratio=0.1"),
    "detection": ("experiment=rcnn_digits", "dataset.batch_size=1"),
    "timeseries": ("experiment=lstm_timeseries",),
    "tabular": ("experiment=mlp_diabetes",),
    "dqn": ("experiment=dqn_cartpole",),
    "q_table": ("experiment=qlearning_frozenlake",),
}
ACTING = ("dqn", "q_table")  # they need gymnasium, and their batches are no samples
PRECISIONS = ("fp32", "bf16", "fp16")
RECORDED = ("mlp", "cnn", "resnet", "autoencoder", "vae", "gan", "dbn", "charlm", "timeseries")
RECORDABLE = {"resnet": ("optimizer=adam",), "charlm": ("optimizer=adam",)}  # instead of Muon
CHECKED_ON_CPU = ("mlp", "timeseries")
TOLERANCE = 1e-3  # of a loss after a few steps: kernels differ in rounding


def train(dltrain: Callable[..., Any], family: str, *settings: str) -> list[dict[str, Any]]:
    """Return the records of a short run of a family; all its numbers are finite."""
    if family in ACTING:
        if importlib.util.find_spec("gymnasium") is None:
            pytest.skip("needs gymnasium")
        small: tuple[str, ...] = SMALL[:2]
    else:
        small = SMALL
    name = f"device.name={DEVICE}"
    outcome = dltrain(*small, *FAMILIES[family], name, *settings, "--json")
    assert outcome.code == 0, outcome.err
    text = (Path(outcome.json["run"]) / METRICS).read_text(encoding="utf-8")
    records = [json.loads(line) for line in text.splitlines()]
    assert records
    for record in records:
        assert None not in record.values(), record
    return records


def losses(records: list[dict[str, Any]]) -> list[float]:
    return [record["train/loss"] for record in records if "train/loss" in record]


@pytest.mark.gpu
@needs_device
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_trains(family: str, precision: str, dltrain: Callable[..., Any]) -> None:
    """Two steps a stage, with channels-last in half precision, give finite numbers."""
    if DEVICE == "cpu" and precision == "fp16":
        pytest.skip("half precision of fp16 is slow on a CPU")
    records = train(dltrain, family, f"device.precision={precision}")
    assert all(math.isfinite(loss) for loss in losses(records))


@pytest.mark.gpu
@needs_device
@of_compiler
@pytest.mark.parametrize("family", RECORDED)
def test_recorded_steps_equal_plain_ones(family: str, dltrain: Callable[..., Any]) -> None:
    """device.compile=step gives the losses of plain steps, within rounding."""
    own = RECORDABLE.get(family, ())
    steps = ("trainer.epochs=6", "trainer.stage_steps=6", "device.precision=fp32", *own)
    plain = losses(train(dltrain, family, *steps))
    recorded = losses(train(dltrain, family, *steps, "device.compile=step"))
    assert recorded == pytest.approx(plain, rel=TOLERANCE)


@pytest.mark.parametrize("family", CHECKED_ON_CPU)
def test_the_bodies_run_on_a_cpu(
    family: str, dltrain: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tests for a GPU cannot rot unseen."""
    monkeypatch.setitem(globals(), "DEVICE", "cpu")
    test_a_family_trains(family, "fp32", dltrain)
