"""Supervised classification: one network, one loss, one stage."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal

import torch
from torch import Tensor, nn

from dltrain import metrics
from dltrain.engine import Stage, Task
from dltrain.optim import Optim
from dltrain.types import Data, Image, Table

SAMPLE_IMAGES = 32


class Classification(Task):
    """Learns to name the class of each input. Batches are (inputs (B, ...), targets (B,)); `model` gives logits (B, K).

    Every evaluation scores accuracy, top-5, precision, recall, F1, ROC AUC and loss, and shows the confusion matrix,
    some samples and the worst mistakes.
    """

    def __init__(
        self,
        data: Data,
        model: nn.Module,
        loss: nn.Module,
        optim: Callable[[nn.Module, int], Optim],
        epochs: int,
        watch: str = "val/accuracy",
        mode: Literal["max", "min"] = "max",
    ) -> None:
        super().__init__()
        self.model, self.loss = model, loss
        self.data, self.optim, self.epochs, self.watch, self.mode = data, optim, epochs, watch, mode

    def stages(self) -> Iterator[Stage]:
        optim = self.optim(self.model, self.epochs * len(self.data.train))

        def step(batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
            inputs, targets = batch
            loss = self.loss(self.model(inputs), targets)
            optim.update(loss)
            return {"loss": loss.detach()}

        yield Stage(
            name="train",
            epochs=self.epochs,
            batches=self.data.train,
            step=step,
            held_out=self.data.val if self.data.val.samples else None,
            evaluate=self.evaluate,
            optims=(optim,),
            watch=self.watch,
            mode=self.mode,
        )

    def evaluate(self, batches: Iterable[tuple[Tensor, Tensor]]) -> dict[str, Any]:
        """Scores over all batches, and the pictures that explain them."""
        logits, targets, losses = [], [], []
        samples: tuple[Tensor, Tensor, Tensor] | None = None
        mistakes = metrics.WorstMistakes()
        for x, y in batches:
            z = self.model(x)
            losses.append(self.loss(z, y).detach() * len(y))
            logits.append(z.float())
            targets.append(y)
            mistakes.update(x, z, y)
            samples = samples or (x[:SAMPLE_IMAGES], y[:SAMPLE_IMAGES], z[:SAMPLE_IMAGES].argmax(dim=1))
        if samples is None:
            raise ValueError("there is nothing to evaluate: the split is empty")
        truth = torch.cat(targets)
        scores: dict[str, Any] = metrics.classification(torch.cat(logits), truth)
        names = self.data.spec.class_names
        confusion = scores.pop("confusion").cpu()
        return {
            "loss": float(torch.stack(losses).sum() / len(truth)),
            **{name: float(value) for name, value in scores.items()},
            "confusion": Table(confusion, names, names, "true class", "predicted class"),
            "samples": self._image(*samples),
            "mistakes": self._image(*mistakes.compute()),
        }

    def _image(self, inputs: Tensor, targets: Tensor, guesses: Tensor) -> Image:
        spec = self.data.spec
        mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (spec.mean, spec.std))
        pixels = inputs.float().cpu() * std + mean
        names = spec.class_names
        pairs = zip(targets.tolist(), guesses.tolist(), strict=True)
        captions = tuple(names[t] if t == g else f"{names[t]} taken for {names[g]}" for t, g in pairs)
        return Image((pixels / 255).clamp(0, 1), captions)

    def predict(self, batch: Tensor) -> Tensor:
        """Probabilities (B, K) of inputs (B, ...)."""
        probabilities: Tensor = self.model(batch).softmax(dim=1)
        return probabilities
