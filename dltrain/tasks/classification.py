"""Supervised classification: one network, one loss, one stage."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dltrain import metrics
from dltrain.engine import Direction, Stage, Task
from dltrain.losses import evaluation_sum, mean_over
from dltrain.optim import Optim
from dltrain.tasks.classification_scores import (
    ClassificationScores,
    Ranking,
    confusion_table,
    per_class_table,
    roc_plot,
)
from dltrain.tasks.directions import better, own_direction
from dltrain.tasks.images.explanation import (
    CAM_SCALE,
    CAM_TITLE,
    NO_EVIDENCE,
    colored,
    feature_maps,
    first_filters,
    hires_cam,
    overlaid,
)
from dltrain.tasks.images.views import VIEWS, View, mean_logits
from dltrain.tasks.supervised import supervised
from dltrain.types import Data, Image, PositiveInt, Text, shortened
from dltrain.weights.freezing import Freezing

log = logging.getLogger("dltrain")
SAMPLE_IMAGES = 32
SHOWN_TOKENS = 60  # of a text
SHOWN_MAPS = 64  # of a layer
UNCLASSED = {  # whether the data is text
    False: "the data has numbers to predict, not classes: task=regression loss=mse, or, where a table's numbers are "
    "classes, dataset.kind=classification",
    True: "the texts have no classes: they are to be continued (task=language_modeling) or translated (task=seq2seq)",
}
SCORES = {"loss", "accuracy", "precision", "recall", "f1", "auroc"}
SCORES |= {"confusion", "per_class", "roc", "samples", "mistakes"}


class Classification(Task):
    """Learns to name the class of each input. Batches are (inputs (B, ...), targets (B,)); `model` gives logits (B, K).

    Every evaluation scores accuracy, top-k, precision, recall, F1, ROC AUC and loss, and shows the confusion matrix, the
    scores of each class, ROC curves, of images some samples, and of images and texts the worst mistakes. `metrics` of the
    user's own are called with all logits (N, K) and targets (N,) and give one number. Evaluation and prediction average the
    probabilities over `views` of each image (test-time augmentation); training sees the images alone.
    """

    def __init__(
        self,
        data: Data,
        model: nn.Module,
        loss: nn.Module,
        optim: Callable[[nn.Module, int], Optim],
        epochs: int,
        watch: str = "val/accuracy",
        mode: Direction | None = None,
        top_k: PositiveInt = 5,
        metrics: dict[str, Callable[[Tensor, Tensor], Tensor]] | None = None,
        views: tuple[View, ...] = (),
        freezing: Freezing | None = None,
    ) -> None:
        super().__init__()
        if not data.spec.class_names:
            raise ValueError(UNCLASSED[bool(data.spec.vocab_size)])
        if data.spec.boxes:
            raise ValueError(
                "the data has boxes around objects, not a class for each image: task=detection"
            )
        if any(hasattr(model, name) for name in ("decode", "generate", "begin")):
            raise ValueError(
                "this model gives no logits of classes; without task= it brings its own task"
            )
        self.model, self.loss = model, loss
        self.data, self.optim, self.epochs, self.watch, self.mode = data, optim, epochs, watch, mode
        self.metrics, self.freezing = metrics or {}, freezing
        self.top_k = top_k
        self.views: Sequence[str] = ()
        self.notes: set[str] = set()  # that were logged
        self.average_over(views)
        if taken := self.metrics.keys() & {*SCORES, f"top{top_k}"}:
            raise ValueError(
                f"metrics.{min(taken)}: there is a score of that name; give yours another"
            )

    def stages(self) -> Iterator[Stage]:
        yield from supervised(
            self.data.train,
            self.data.val,
            self.model,
            self.loss,
            self.optim,
            self.epochs,
            self.evaluate,
            self.watch,
            better(self, self.watch, self.mode),
            self.freezing,
        )

    def directions(self) -> dict[str, Direction | None]:
        own = {name: own_direction(metric) for name, metric in self.metrics.items()}
        top_k: dict[str, Direction | None] = {f"top{self.top_k}": "max"}
        if self.data.spec.num_classes <= self.top_k:  # always right
            top_k = {}
        return {**metrics.CLASSIFICATION, **top_k, "loss": "min", **own}

    def evaluate(self, batches: Iterable[tuple[Tensor, Tensor]]) -> dict[str, Any]:
        """Scores over all batches, and the pictures that explain them."""
        spec = self.data.spec
        gathered = ClassificationScores(
            spec.num_classes, self.top_k, keep_logits=bool(self.metrics)
        )
        losses: list[Tensor] = []
        samples: tuple[Tensor, Tensor, Tensor] | None = None
        mistakes, texts = metrics.WorstMistakes(), bool(spec.vocab_size)
        for x, y in batches:
            z = mean_logits(self.model, x, self.views)
            losses.append(evaluation_sum(self.loss, z, y))
            gathered.update(z, y)
            mistakes.update(
                x if not texts else nn.functional.pad(x, (0, SHOWN_TOKENS))[:, :SHOWN_TOKENS], z, y
            )
            samples = samples or (
                x[:SAMPLE_IMAGES],
                y[:SAMPLE_IMAGES],
                z[:SAMPLE_IMAGES].argmax(dim=1),
            )
        if samples is None:
            raise ValueError("there is nothing to evaluate: the split is empty")
        scores = gathered.compute()
        self._log_once(scores.note)
        return {
            "loss": mean_over(losses),
            **scores.figures,
            **self._own_metrics(gathered),
            "confusion": confusion_table(scores.confusion, spec.class_names),
            "per_class": per_class_table(scores.per_class, spec.class_names),
            "roc": roc_plot(scores, spec.class_names),
            **(
                {"samples": self._image(*samples), "mistakes": self._image(*mistakes.compute())}
                if spec.is_image
                else {}
            ),
            **({"mistakes": self._text(*mistakes.compute())} if texts else {}),
        }

    def _own_metrics(self, gathered: ClassificationScores) -> dict[str, float]:
        """Return the figures of the user's metrics, by name."""
        if not self.metrics:
            return {}
        logits, targets = gathered.all_logits()
        return {name: float(metric(logits, targets)) for name, metric in self.metrics.items()}

    def _log_once(self, note: str) -> None:
        """Log what an evaluation approximates, the first time that it does."""
        if note and note not in self.notes:
            log.warning(note)
            self.notes.add(note)

    def _image(self, inputs: Tensor, targets: Tensor, guesses: Tensor) -> Image:
        """Return images with the class of each, and where it is another, the predicted one."""
        names = [shortened(name) for name in self.data.spec.class_names]
        pairs = zip(targets.tolist(), guesses.tolist(), strict=True)
        captions = tuple(names[t] if t == g else f"{names[t]} → {names[g]}" for t, g in pairs)
        return Image(self._pixels(inputs).cpu(), captions, "class, or class → predicted class")

    def _pixels(self, inputs: Tensor) -> Tensor:
        """Inputs (B, C, H, W) as pixels in 0..1."""
        mean, std = (
            torch.tensor(v, device=inputs.device).view(1, -1, 1, 1)
            for v in (self.data.spec.mean, self.data.spec.std)
        )
        return ((inputs.float() * std + mean) / 255).clamp(0, 1)

    def _text(self, inputs: Tensor, targets: Tensor, guesses: Tensor) -> Text:
        """Return the class, the predicted class and the beginning of each text (M, T)."""
        names, decode = self.data.spec.class_names, self.data.spec.decode
        lines = ["| class | predicted | text |", "|---|---|---|"]
        for tokens, target, guess in zip(
            inputs.tolist(), targets.tolist(), guesses.tolist(), strict=True
        ):
            shown = decode(tokens) if decode else ""
            lines.append(
                f"| {names[target]} | {names[guess]} | {' '.join(shown.split()).replace('|', '/')} |"
            )
        return Text("\n".join(lines))

    def predict(self, batch: Tensor) -> Tensor:
        """Probabilities (B, K) of inputs (B, ...)."""
        return mean_logits(self.model, batch, self.views).softmax(dim=1)

    def average_over(self, views: Sequence[str]) -> None:
        """Evaluates and predicts by the mean over `views` from now on; ValueError for one that there is not, and for inputs
        that are no images."""
        if unknown := [name for name in views if name not in VIEWS]:
            raise ValueError(
                f"there is no view {unknown[0]!r}: expected some of {', '.join(VIEWS)}"
            )
        if views and not self.data.spec.is_image:
            raise ValueError("only images have views: these inputs are not images")
        self.views = tuple(views)

    def explain(self, inputs: Tensor) -> Image:
        """Return each image beside itself under the evidence for its predicted class: (B, 3, H, 2
        W).
        """
        if not self.data.spec.is_image:
            raise ValueError("only images are explained: these inputs are not images")
        pixels = colored(self._pixels(inputs))
        heat = hires_cam(self.model, inputs)
        captions = tuple(
            "" if found else NO_EVIDENCE for found in heat.amax(dim=(1, 2)).gt(0).tolist()
        )
        return Image(
            torch.cat([pixels, overlaid(pixels, heat)], dim=3), captions, CAM_TITLE, CAM_SCALE
        )

    def feature_images(self, inputs: Tensor) -> dict[str, Image]:
        """The first convolution's filters, and of one image the first and last maps."""
        if not self.data.spec.is_image:
            return {}
        try:
            first, last = (
                maps[0, :SHOWN_MAPS].unsqueeze(1).cpu()
                for maps in feature_maps(self.model, inputs[:1])
            )
            filters = first_filters(self.model)[:SHOWN_MAPS].cpu()
        except ValueError:
            return {}
        return {"filters": Image(filters), "first_maps": Image(first), "last_maps": Image(last)}

    def prediction_rows(self, outputs: Tensor) -> list[dict[str, Any]]:
        """The class of each input and how sure that is, by probabilities (B, K); all classes, the likeliest first."""
        probabilities, classes = outputs.float().cpu().sort(dim=1, descending=True)
        rows = [
            Ranking(self.data.spec.class_names, *row)
            for row in zip(classes, probabilities, strict=True)
        ]
        return [{**row[0], "top": row} for row in rows]
