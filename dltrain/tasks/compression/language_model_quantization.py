"""Quantization of a language model: trained in float, then converted to int8 or int4 weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Literal

from torch import Tensor, nn

from dltrain.engine import Direction, Stage
from dltrain.losses import evaluation_sum, training_mean
from dltrain.optim import Optim
from dltrain.tasks.compression.quantizing.quantizer import Quantizer, QuantizerSettings
from dltrain.tasks.compression.quantizing.restoring import restore_quantized
from dltrain.tasks.compression.quantizing.stages import (
    QuantizationStages,
    Scorer,
    warn_of_endless_training,
)
from dltrain.tasks.directions import watch_direction
from dltrain.tasks.text.language_modeling import Batch, LanguageModeling
from dltrain.types import Data, Ge, Gt, Le, NonNegative, PositiveInt


class LanguageModelQuantization(LanguageModeling):
    """Trains a language model, then gives its layers weights of 4 or 8 bits.

    The stages are "train" for `train_epochs` epochs (those of the trainer by default; 0 if
    `init.from` gives trained weights), "calibrate" on `calibration_batches` training batches, and
    "quantized", which scores the converted network. With `method=int4`, linear and embedding layers
    get int4 weights with a scale and an offset for each `group_size` inputs. The range of a group
    is the one with the smallest error of the layer's output on the calibration batches. Recurrent
    layers get int8 weights. `method=dynamic` is int8 everywhere; see `Quantization`.

    Raises:
        ValueError: The network has no layer that can be quantized, or `skip` names no layer.
    """

    divisible = False
    several_processes = False

    def __init__(  # noqa: PLR0913 - the keys of the configuration
        self,
        data: Data,
        model: nn.Module,
        loss: nn.Module,
        optim: Callable[[nn.Module, int], Optim],
        epochs: int,
        method: Literal["int4", "dynamic"] = "int4",
        train_epochs: Annotated[int, Ge(0)] | None = None,
        calibration_batches: PositiveInt = 16,
        group_size: Literal[16, 32, 64, 128] = 32,
        skip: tuple[str, ...] = (),
        sample_tokens: Annotated[int, Ge(0)] = 200,
        temperature: NonNegative = 0.8,
        top_p: Annotated[float, Gt(0), Le(1)] = 0.95,
        watch: str = "val/loss",
        mode: Direction | None = None,
    ) -> None:
        epochs = epochs if train_epochs is None else train_epochs
        super().__init__(
            data, model, loss, optim, epochs, sample_tokens, temperature, top_p, watch, mode
        )
        self.quantizer = Quantizer(
            model, QuantizerSettings(method, group_size=group_size, skip=skip)
        )
        self.observers = self.quantizer.observers
        self.calibration_batches = calibration_batches
        self.register_load_state_dict_pre_hook(restore_quantized)

    def stages(self) -> Iterator[Stage]:
        """Yield the stage of the training, then those of the quantization."""
        warn_of_endless_training(self.epochs)
        if self.epochs:
            for stage in super().stages():
                yield stage
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
            answer=lambda model, tokens: model(tokens, None)[0],
            evaluate=self.evaluate,
            scorer=self._scorer,
            metric="loss",
            watch=self.watch,
            mode=watch_direction(self, self.watch, self.mode),
            aware=lambda: iter(()),
        )

    def _loss_of(self, batch: Batch) -> tuple[Tensor, Tensor | int]:
        """Return the loss of a batch, without the state before it, and the batch's weight."""
        tokens, following, _ = batch
        logits, _ = self.next_logits(tokens)
        return training_mean(self.loss, logits.flatten(0, 1), following.flatten())

    def _scorer(self, model: nn.Module) -> Scorer:
        """Return what sums the loss of a network; its state continues with the next batch."""
        state: Tensor | None = None

        def score(batch: Batch) -> Tensor:
            nonlocal state
            tokens, following, starts = batch
            logits, state = model(tokens, self.carried(state, starts))
            return evaluation_sum(self.loss, logits.flatten(0, 1), following.flatten())

        return score

    def directions(self) -> dict[str, Direction | None]:
        """Return the direction of each metric; see `Task.directions`."""
        figures: dict[str, Direction | None] = {
            "float_loss": "min",
            "loss_change": "min",
            "size_ratio": "min",
        }
        return {**super().directions(), **figures}
