"""Small deep belief nets and deep autoencoders, trained, and values that their tests compare."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import nn

from dltrain.config.compose import compose
from dltrain.engine import Callback, Engine
from dltrain.experiment.experiment import Experiment
from dltrain.models.rbm import RBM
from dltrain.runs.checkpoint import snapshot
from dltrain.tasks.images.deep_autoencoding import DeepAutoencoding
from dltrain.tasks.images.deep_belief import DeepBelief

DIGITS = ("dataset=digits", "dataset.scaling=unit", "device=cpu", "callbacks=quiet")
# An epoch is six batches.
SMALL = ("dataset.batch_size=256", "task.pretrain_epochs=2", "trainer.epochs=2")
NET = (*DIGITS, "model=deep_belief_net", "model.hidden_sizes=[16,12]")
CODER = (*DIGITS, "model=unrolled_autoencoder", "model.hidden_sizes=[16,12]", "model.code_size=3")
PERSISTENT = "task.method=persistent"
assert_same = functools.partial(torch.testing.assert_close, rtol=0, atol=0)


def net(*overrides: str) -> DeepBelief:
    task = Experiment.to_train(compose([*NET, *SMALL, *overrides]).config).task
    assert isinstance(task, DeepBelief)
    return task


def coder(*overrides: str) -> DeepAutoencoding:
    task = Experiment.to_train(compose([*CODER, *SMALL, *overrides]).config).task
    assert isinstance(task, DeepAutoencoding)
    return task


def rbms_of(task: Any) -> list[RBM]:
    return list(task.pretraining.rbms)


class Ends(Callback):
    """Records the scores and the task's state at the end of every stage, by the stage's name."""

    name = "ends"

    def __init__(self) -> None:
        self.scores: dict[str, dict[str, Any]] = {}
        self.states: dict[str, dict[str, Any]] = {}

    def stage_end(self, engine: Engine) -> None:
        self.scores[engine.stage.name] = dict(engine.scores)
        self.states[engine.stage.name] = snapshot(engine.task.state_dict())


def fitted(task: Any) -> Ends:
    Engine([ends := Ends()]).fit(task)
    return ends


@torch.no_grad()
def scored(task: Any, index: int, batches: Any) -> dict[str, Any]:
    scores: dict[str, Any] = task.pretraining.evaluate(index, batches)
    return scores


def is_unrolled(task: DeepAutoencoding) -> bool:
    """Return whether the decoder is the transposed encoder."""
    layers = [layer for layer in task.model.decoder if isinstance(layer, nn.Linear)]
    pairs = zip(layers, reversed(rbms_of(task)), strict=True)
    return all(
        torch.equal(layer.weight, rbm.linear.weight.T) and torch.equal(layer.bias, rbm.visible_bias)
        for layer, rbm in pairs
    )
