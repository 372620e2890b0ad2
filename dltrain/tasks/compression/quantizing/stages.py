"""The stages that quantize a trained network, for any task with one network."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dltrain.engine import Batches, Direction, Mean, Metrics, Stage
from dltrain.tasks.compression.quantizing.comparing import comparison, described, stored_bytes
from dltrain.tasks.compression.quantizing.first_batches import FirstBatches
from dltrain.tasks.compression.quantizing.quantizer import Quantizer
from dltrain.tasks.supervised import validation_split
from dltrain.types import Data

log = logging.getLogger("dltrain")
CHECKED_BATCHES = 4  # training batches that the quantized network runs on
Loss = tuple[Tensor, Tensor | int]
Scorer = Callable[[Any], Tensor]
"""Returns (2,) for a batch: the sum of a score over it, and its weight."""


def warn_of_endless_training(epochs: int) -> None:
    """Log a warning if the training has no last epoch, after which the network is quantized."""
    if epochs == sys.maxsize:
        log.warning(
            "the network is quantized after the last epoch of its training, and trainer.epochs is "
            "null: the run ends before that; set trainer.epochs"
        )


@dataclass
class QuantizationStages:
    """Calibrates and converts the network of a task, and scores it before and after.

    Args:
        quantizer: Converts the network.
        data: The data of the task.
        batches: Number of training batches of the calibration.
        loss_of: Returns the loss of a batch, and its weight.
        answer: Returns the outputs of a network for inputs (B, ...).
        evaluate: Returns the scores of the network over batches.
        scorer: Returns what scores a network by `metric`, batch after batch.
        metric: The score that is compared before and after.
        watch: The metric that decides which evaluation is the best.
        mode: Its better direction.
        aware: Yields the stage that trains with rounded numbers, if there is one.
    """

    quantizer: Quantizer
    data: Data
    batches: int
    loss_of: Callable[[Any], Loss]
    answer: Callable[[nn.Module, Tensor], Tensor]
    evaluate: Callable[[Iterable[Any]], dict[str, Any]]
    scorer: Callable[[nn.Module], Scorer]
    metric: str
    watch: str
    mode: Direction
    aware: Callable[[], Iterator[Stage]]

    def stages(self) -> Iterator[Stage]:
        """Yield the stages "calibrate" and "quantized", with that of `aware` between them."""
        quantizer = self.quantizer
        quantizer.prepare(lambda: self.answer(quantizer.model, self._example()))
        calibration = FirstBatches(self.data.train, self.batches)
        yield self._stage("calibrate", calibration, quantizer.observing, self.evaluate)
        quantizer.keep_reference()
        for stage in self.aware():
            yield stage
            for optim in stage.optims:
                optim.use_averages()
        real = quantizer.convert()
        if real:
            log.info(f"quantization leaves as they are: {', '.join(real)}")
        checked = FirstBatches(self.data.train, CHECKED_BATCHES)
        yield self._stage("quantized", checked, nullcontext, self.evaluate_both)

    def _example(self) -> Tensor:
        """Return inputs (2, ...) of the network, without values that mean anything."""
        spec = self.data.spec
        dtype = torch.int64 if spec.vocab_size else torch.float32
        device = next(self.quantizer.model.parameters()).device
        return torch.ones((2, *spec.input_shape), dtype=dtype, device=device)

    def _stage(
        self,
        name: str,
        batches: Batches,
        context: Callable[[], AbstractContextManager[None]],
        evaluate: Callable[[Iterable[Any]], dict[str, Any]],
    ) -> Stage:
        """Return a stage that trains nothing: a step passes a batch through the network."""

        def step(batch: Any) -> Metrics:
            self.quantizer.model.eval()
            with torch.no_grad(), context():
                loss, weight = self.loss_of(batch)
            return {"loss": Mean(loss, weight)}

        return Stage(
            name=name,
            epochs=1,
            batches=batches,
            step=step,
            held_out=validation_split(self.data),
            evaluate=evaluate,
            watch=self.watch,
            mode=self.mode,
        )

    def evaluate_both(self, batches: Iterable[Any]) -> dict[str, Any]:
        """Return the scores of the quantized network, and beside them those of the one before.

        The table `quantization` compares the score, the bytes and the latency of both.
        """
        reference = self.quantizer.reference
        if reference is None:
            return self.evaluate(batches)
        scored = ScoredBatches(batches, self.scorer(reference))
        scores = self.evaluate(scored)
        before = scored.mean()
        models = {"float": reference, "quantized": self.quantizer.model}
        ratio = stored_bytes(self.quantizer.model) / stored_bytes(reference)
        table = comparison(
            models,
            {"float": {self.metric: before}, "quantized": {self.metric: scores[self.metric]}},
            scored.first,
            self.answer,
        )
        log.info(f"quantization: {described(table)}")
        change = scores[self.metric] - before
        figures = {
            f"float_{self.metric}": before,
            f"{self.metric}_change": change,
            "size_ratio": ratio,
        }
        return {**scores, **figures, "quantization": table}


class ScoredBatches:
    """Batches that are scored by a second network as they pass; `first` has the first inputs."""

    first: Tensor

    def __init__(self, batches: Iterable[Any], scorer: Scorer) -> None:
        self.batches = batches
        self.scorer = scorer
        self.sums: list[Tensor] = []

    def __iter__(self) -> Iterator[Any]:
        for batch in self.batches:
            if not self.sums:
                self.first = batch[0]
            self.sums.append(self.scorer(batch))
            yield batch

    def mean(self) -> float:
        """Return the mean of the score over all batches, in single precision as other scores."""
        total, weight = torch.stack(self.sums).double().sum(0)
        return float((total / weight).float())
