"""Quantization of a classifier: trained in float, calibrated, then converted to few bits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from dltrain.engine import Direction, Stage
from dltrain.losses import training_mean
from dltrain.optim import Optim
from dltrain.tasks.classification import Classification
from dltrain.tasks.compression.quantizing.conversion import Method
from dltrain.tasks.compression.quantizing.observing import Observer
from dltrain.tasks.compression.quantizing.quantizer import Quantizer, QuantizerSettings
from dltrain.tasks.compression.quantizing.restoring import restore_quantized
from dltrain.tasks.compression.quantizing.stages import (
    QuantizationStages,
    warn_of_endless_training,
)
from dltrain.tasks.directions import watch_direction
from dltrain.tasks.images.views import View, mean_logits
from dltrain.tasks.supervised import validation_split
from dltrain.types import Data, Ge, PositiveInt
from dltrain.weights.freezing import Freezing


class Quantization(Classification):
    """Trains a classifier, then gives its layers weights of few bits.

    The stages are "train" for `train_epochs` epochs (those of the trainer by default; 0 if
    `init.from` gives trained weights), "calibrate" on `calibration_batches` training batches, with
    `method=qat` "qat" for `qat_epochs` epochs, and "quantized", which scores the converted network.
    Averaged weights are the ones that are converted, where the regularization averages them.

    The methods are:

    * "dynamic": int8 weights of linear, recurrent and embedding layers; the inputs of a layer are
      rounded as they come.
    * "static": int8 weights of convolutions, linear and embedding layers; the ranges of inputs are
      fixed by the `observer`, batch norm and ReLU are folded into convolutions (Jacob et al. 2018,
      "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
      Inference").
    * "qat": as "static", after training with rounded weights and inputs (section 3 there).
    * "int4": int4 weights of linear and embedding layers, with a scale and an offset for each
      `group_size` inputs; inputs stay real.

    Layers whose name fits a pattern of `skip` stay as they are. `activation_bits=7` keeps sums of
    products exact on CPUs without VNNI instructions.

    Raises:
        ValueError: The method cannot quantize the network, or `skip` names no layer.
    """

    divisible = False
    several_processes = False
    networks = ("qat",)

    def __init__(  # noqa: PLR0913 - the keys of the configuration
        self,
        data: Data,
        model: nn.Module,
        loss: nn.Module,
        optim: Callable[..., Optim],
        epochs: int,
        method: Method = "static",
        train_epochs: Annotated[int, Ge(0)] | None = None,
        qat_epochs: PositiveInt = 1,
        calibration_batches: PositiveInt = 16,
        observer: Observer = "mse",
        activation_bits: Literal[7, 8] = 8,
        group_size: Literal[16, 32, 64, 128] = 32,
        skip: tuple[str, ...] = (),
        watch: str = "val/accuracy",
        mode: Direction | None = None,
        top_k: PositiveInt = 5,
        metrics: dict[str, Callable[[Tensor, Tensor], Tensor]] | None = None,
        views: tuple[View, ...] = (),
        freezing: Freezing | None = None,
    ) -> None:
        epochs = epochs if train_epochs is None else train_epochs
        super().__init__(
            data, model, loss, optim, epochs, watch, mode, top_k, metrics, views, freezing
        )
        self.quantizer = Quantizer(
            model, QuantizerSettings(method, observer, activation_bits, group_size, skip)
        )
        self.observers = self.quantizer.observers
        self.calibration_batches = calibration_batches
        self.aware_optim: Callable[[nn.Module, int], Optim] = partial(optim, network="qat")
        self.qat_epochs = qat_epochs if method == "qat" else 0
        self.register_load_state_dict_pre_hook(restore_quantized)

    def stages(self) -> Iterator[Stage]:
        """Yield the stages of the training, then those of the quantization."""
        warn_of_endless_training(self.epochs)
        if self.epochs:
            for stage in super().stages():
                # The layers change afterwards, so runs of a sweep are not trained as one program.
                yield replace(stage, objective=None)
            for optim in stage.optims:
                optim.use_averages()
        yield from self._quantization().stages()

    def _quantization(self) -> QuantizationStages:
        """Return how the trained network is quantized."""
        return QuantizationStages(
            quantizer=self.quantizer,
            data=self.data,
            batches=self.calibration_batches,
            loss_of=self._loss_of,
            answer=lambda model, inputs: mean_logits(model, inputs, self.views),
            evaluate=self.evaluate,
            scorer=lambda model: partial(self._correct, model),
            metric="accuracy",
            watch=self.watch,
            mode=watch_direction(self, self.watch, self.mode),
            aware=self._aware_stages,
        )

    def _aware_stages(self) -> Iterator[Stage]:
        """Yield the stage "qat", which trains with rounded weights and inputs."""
        if not self.qat_epochs:
            return
        self.quantizer.make_aware()
        training = self.supervised()
        training = replace(training, optim=self.aware_optim, epochs=self.qat_epochs)
        held_out = validation_split(self.data)
        yield training.stage("qat", self.qat_epochs, self.data.train, held_out)

    def _loss_of(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor | int]:
        """Return the loss of a batch, and the batch's weight."""
        inputs, targets = batch
        return training_mean(self.loss, self.model(inputs), targets)

    def _correct(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Return (2,): the samples of a batch that a network classifies correctly, and all."""
        inputs, targets = batch
        hits = mean_logits(model, inputs, self.views).argmax(dim=1) == targets
        return torch.stack([hits.sum(), torch.ones_like(hits).sum()])

    def directions(self) -> dict[str, Direction | None]:
        """Return the direction of each metric; see `Task.directions`."""
        figures: dict[str, Direction | None] = {
            "float_accuracy": "max",
            "accuracy_change": "max",
            "size_ratio": "min",
        }
        return {**super().directions(), **figures}
