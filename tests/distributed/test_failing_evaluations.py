"""An evaluation that processes share ends for all of them, whatever ends it."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

import dltrain
from dltrain.api.train import RunInterrupted
from dltrain.callbacks.signals import Signals
from dltrain.distributed.launching import Followers
from dltrain.engine import Engine
from dltrain.errors import DltrainError, Interrupted
from dltrain.tasks import classification

RUN = (
    *("model=mlp", "model.hidden_sizes=[32]", "dataset.eval_batch_size=25"),
    *("trainer.accumulate=4", "trainer.epochs=2", "trainer.log_every=1", "callbacks=quiet"),
)
TWO = ("device.processes=2", "device.process_timeout=30")


def at_batch(number: int, act: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Call `act` before process 0 scores the batch of that number, of all evaluations."""
    batches = 0

    def evaluation_step(self: Signals, engine: Engine) -> None:
        nonlocal batches
        batches += 1
        if batches == number:
            act()

    monkeypatch.setattr(Signals, "evaluation_step", evaluation_step)


def interrupt() -> None:
    raise Interrupted(signal.SIGINT)


def test_an_interruption_in_an_evaluation_is_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gradient of an incomplete step, which the others have parts of, is saved too."""
    whole = dltrain.train(*RUN)
    with monkeypatch.context() as patch:
        at_batch(3, interrupt, patch)
        with pytest.raises(RunInterrupted) as raised:
            dltrain.train(*RUN, *TWO)
    assert raised.value.run is not None
    continued = dltrain.resume(raised.value.run.folder, "device.processes=1")
    assert continued.metrics["val/loss"] == pytest.approx(whole.metrics["val/loss"], rel=1e-3)
    assert continued.metrics["test/loss"] == pytest.approx(whole.metrics["test/loss"], rel=1e-3)


def test_a_process_that_dies_in_an_evaluation_ends_the_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    followers: list[Followers] = []
    start = Followers._start

    def noted(self: Followers, rank: int, size: int) -> None:
        followers.append(self)
        start(self, rank, size)

    monkeypatch.setattr(Followers, "_start", noted)
    at_batch(2, lambda: os.kill(followers[0].processes[0].pid, signal.SIGKILL), monkeypatch)
    with pytest.raises(DltrainError, match="process 1 of 2 was killed by SIGKILL"):
        dltrain.train(*RUN, *TWO)


def test_an_evaluation_that_combines_nothing_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classification, "combined", lambda *states: True)
    with pytest.raises(DltrainError, match=r"Classification\.evaluate does not combine"):
        dltrain.train(*RUN, *TWO)
