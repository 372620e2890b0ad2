"""Two processes train as one does, in every family of tasks: figures and weights after 20 steps.

Both with whole networks in each process, and with networks that are divided among them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from test_golden import PROSE, REVERSAL

import dltrain
from dltrain.api.run import Run

LICENSE = Path(__file__).parents[2] / "LICENSE"
SGD = ("optimizer=sgd", "optimizer.lr=0.01")  # Adam makes steps of any gradient that is not 0
SYNC = "device.sync_batch_norm=true"
TIMEOUT = "device.process_timeout=20"
FAMILIES = {
    "classification": ("model=mlp", "regularization=[dropout]", "optimizer=adamw"),
    "accumulation": (
        *("model=lenet5", "optimizer=sgd", "trainer.accumulate=3", "regularization=[clip,l2]"),
        *("regularization.clip.norm=0.1",),
    ),
    "batch_norm": (  # small steps: a channel of nearly no variance magnifies rounding
        *("model=resnet_small", SYNC, "optimizer=sgd", "optimizer.lr=1e-4"),
    ),
    "mixed_samples": ("model=cnn", SYNC, *SGD, "regularization=[mixup,ema]"),
    "autoencoder": ("model=vae", *SGD),
    "deep_belief_net": (
        *("model=deep_belief_net", "dataset.scaling=unit", "model.hidden_sizes=[32,16]"),
    ),
    "persistent_chain": (
        *("model=deep_belief_net", "dataset.scaling=unit", "model.hidden_sizes=[32]"),
        *("task.method=persistent",),
    ),
    "distillation": (
        *("model=mlp", "model.hidden_sizes=[8]", "task=distillation", "task.labels=400", *SGD),
        *("task.teacher={_target_: dltrain.models.mlp.MLP, hidden_sizes: [12]}",),
        "task.features={1: 1}",
    ),
    "gan": ("model=dcgan", "model.channels=[32]", "task.judge=null", SYNC),
    "wasserstein_gan": (
        *("model=dcgan", "model.channels=[32]", "task.judge=null", "task.loss=wasserstein"),
        *(
            "task.discriminator_steps=2",
            "model.norm=layer",
            "model.discriminator_norm=layer",
        ),
    ),
    "recurrent": ("model=lstm",),
    "transformer": ("model=transformer", "model.dim=16", "model.dropout=0", *SGD),
    "language_model": ("model=transformer_lm", "model.dim=16", *PROSE),
    "seq2seq": ("model=seq2seq_attention", *REVERSAL),
    "word_vectors": (
        *("model=word2vec", "dataset=words", f"dataset.path={LICENSE}", "dataset.batch_size=512"),
    ),
    "tree_of_words": (
        *("model=word2vec", "model.output=hierarchical_softmax"),
        *("dataset=words", f"dataset.path={LICENSE}", "dataset.batch_size=512"),
    ),
    "dqn": (
        "experiment=dqn_cartpole",
        "task.learning_starts=64",
        "task.prioritized=true",
        "task.updates=1",
    ),
    "regression": ("model=mlp", "dataset=diabetes"),
    "pruned_channels": (
        *("model=mlp", "model.hidden_sizes=[16]", "task=pruning", "task.kind=channels"),
        *("task.sparsity=0.5", "task.compare_dense=true", *SGD),
    ),
    "table_of_values": ("experiment=qlearning_frozenlake",),
}


@contextmanager
def alone() -> Iterator[None]:
    """Train in this process alone within the block."""
    size = os.environ.pop("WORLD_SIZE", None)
    try:
        yield
    finally:
        if size is not None:
            os.environ["WORLD_SIZE"] = size


def weights_of(run: Run) -> dict[tuple[str, str], torch.Tensor]:
    """Return the weights of every checkpoint of a run, by checkpoint and name."""
    weights = {}
    for file in sorted(run.folder.glob("checkpoints/*/*.safetensors")):
        for name, value in safetensors.torch.load_file(file).items():
            weights[file.parent.name, name] = value
    return weights


def trained(words: tuple[str, ...], *more: str) -> Run:
    steps = (
        "trainer.stage_steps=20",
        "trainer.log_every=1",
        "dataset.epochs=20",
        TIMEOUT,
        "callbacks=quiet",
    )
    return dltrain.train(*words, *steps, *more)


def require_equal(one: Run, other: Run, tolerance: float = 1e-5) -> None:
    """Fail unless the training figures and the weights of two runs are equal up to rounding.

    Where two evaluations are nearly equal, rounding decides which checkpoint is the best one.
    """
    figures = [name for name in one.history if name.startswith("train/")]
    assert figures
    for name in figures:
        assert other.history[name] == pytest.approx(
            one.history[name], rel=10 * tolerance, abs=tolerance, nan_ok=True
        ), name
    expected, actual = weights_of(one), weights_of(other)
    common = expected.keys() & actual.keys()
    assert {max(expected)[0], max(actual)[0]} <= {step for step, _ in common}
    for key in common:
        torch.testing.assert_close(actual[key], expected[key], rtol=0, atol=tolerance, msg=str(key))


@pytest.mark.parametrize("family", FAMILIES)
def test_two_processes_train_as_one(family: str, torchrun: None) -> None:
    words: Any = FAMILIES[family]
    with alone():
        one = trained(words)
    require_equal(one, trained(words))
    if "ema" not in str(words):  # whose averages are not divided
        require_equal(one, trained(words, "device.parallel=fsdp"))


def test_two_processes_adapt_a_network_as_one(torchrun: None) -> None:
    with alone():
        base = trained(FAMILIES["language_model"])
        words = (*FAMILIES["language_model"], f"init.from='{base.folder}'", "lora.rank=2", *SGD)
        one = trained(words)
    require_equal(one, trained(words))
    with pytest.raises(dltrain.ConfigError, match=r"device\.parallel=ddp"):
        trained(words, "device.parallel=fsdp")
