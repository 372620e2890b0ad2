"""A terminal changes nothing: every family of task logs the same there as in a pipe, killed and
resumed there, to the byte.

The progress bar of a terminal is the only thing that acts there and not in a pipe. Here it draws
from every global generator each time, as rich does when it is imported;
`tests/faults/test_terminal.py` kills real processes on real terminals.
"""

from __future__ import annotations

import io
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dltrain.callbacks.progress import Progress
from dltrain.cli import main
from dltrain.engine import Engine
from dltrain.runs.folder import METRICS

SHORT = ("callbacks.tensorboard=null", "callbacks.explain=null", "callbacks.progress.refresh=1e-9")
SHORT += ("trainer.log_every=1", "trainer.save_every=3", "trainer.steps=8")
PROSE = (
    f"dataset.path={Path(__file__).parents[2] / 'LICENSE'}",
    "dataset.length=16",
    "dataset.batch_size=4",
)
WORDS = (
    f"dataset.source.path={Path(__file__).parents[2] / 'LICENSE'}",
    "dataset.batch_size=256",
    "model=word2vec",
)
FOUR = (
    "dataset.pairs.train_samples=64",
    "dataset.pairs.val_samples=4",
    "dataset.pairs.test_samples=4",
)
SCENES = (
    "dataset.digits=bundled",
    "dataset.image_size=32",
    "dataset.smallest=8",
    "dataset.largest=12",
)
SCENES += (
    "dataset.train_scenes=8",
    "dataset.val_scenes=1",
    "dataset.test_scenes=1",
    "dataset.batch_size=1",
)
LAKE = ("dataset=frozenlake", "dataset.batch_size=7", "dataset.per_epoch=56", "dataset.episodes=2")
POLE = ("dataset=cartpole", "dataset.batch_size=8", "dataset.per_epoch=64", "dataset.episodes=2")
POLE += (
    "model.hidden_sizes=[8]",
    "task.batch_size=8",
    "task.capacity=64",
    "task.learning_starts=8",
)
DIGITS = ("dataset=digits", "dataset.batch_size=512")
FAMILIES = {
    "classification": (
        *DIGITS,
        "model=mlp",
        "regularization=[dropout,mixup,ema]",
        "preprocessing=[flip]",
    ),
    "freezing": (
        *DIGITS,
        "model=cnn",
        "freeze=[*0*]",
        "unfreeze_epoch=1",
        "regularization=[ema]",
        "trainer.epochs=2",
    ),
    "regression": (
        "dataset=diabetes",
        "dataset.batch_size=64",
        "regularization=[dropout]",
        "model=mlp",
    ),
    "forecasting": (
        "dataset=mackey_glass",
        "dataset.batch_size=512",
        "model=mlp",
        "regularization=[dropout]",
    ),
    "language modeling": (
        "dataset=language_modeling",
        *PROSE,
        "model=gru_lm",
        "task.sample_tokens=2",
    ),
    "seq2seq": (
        "dataset=reversal",
        *FOUR,
        "dataset.batch_size=8",
        "model=seq2seq",
        "task.teacher_forcing=0.5",
        "task.length_ratio=0.1",
    ),
    "embedding": ("dataset=words", *WORDS),
    "autoencoding": (*DIGITS, "model=vae", "task.noise=0.1", "task.masking=0.1"),
    "adversarial": (
        *DIGITS,
        "model=gan",
        "task.judge=null",
        "model.generator_sizes=[16]",
        "model.discriminator_sizes=[16]",
    ),
    "deep belief": (
        *DIGITS,
        "model=deep_belief_net",
        "dataset.scaling=unit",
        "task.method=persistent",
    ),
    "detection": ("dataset=digit_scenes", *SCENES, "model=faster_rcnn"),
    "temporal difference": (*LAKE, "task.method=double_q_learning"),
    "side by side": (*LAKE, "dataset.envs=3", "task.policy=softmax"),
    "dqn": (*POLE, "task.prioritized=true"),
}


class Terminal(io.StringIO):
    """A screen to draw a bar on."""

    def isatty(self) -> bool:
        return True


class Killed(BaseException):
    """The end of a process, as far as a test in it can see."""


def on_terminal(monkeypatch: pytest.MonkeyPatch, *argv: str) -> str:
    """Return what a command drew."""
    screen = Terminal()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", screen)
        assert main(list(argv)) == 0
    return screen.getvalue()


@pytest.mark.usefixtures("quick_disk")
@pytest.mark.parametrize("family", FAMILIES)
def test_killed_and_resumed_on_a_terminal(
    family: str, dltrain: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = (*FAMILIES[family], *SHORT)
    whole = dltrain(*arguments, "--json")
    assert whole.code == 0, whole.err
    title = Progress.title

    def drawing(self: Progress, engine: Engine, epoch: int) -> str:
        if self.bar is not None:
            random.random(), np.random.random(), torch.rand(1)  # noqa: NPY002 - as a library might
        return title(self, engine, epoch)

    def killing(self: Engine, event: str) -> None:
        emit(self, event)
        if event == "step_end" and self.step == 5:
            raise Killed

    emit = Engine.emit
    monkeypatch.setattr(Progress, "title", drawing)
    with monkeypatch.context() as patch:
        patch.setattr(Engine, "emit", killing)
        with pytest.raises(Killed):
            on_terminal(monkeypatch, *arguments, "paths.output=killed")
    (run,) = tmp_path.glob("killed/*/*")
    assert "loss" in on_terminal(monkeypatch, "resume", str(run))
    assert (run / METRICS).read_bytes() == (Path(whole.json["run"]) / METRICS).read_bytes()
