"""Supervised classification: one network, one loss, one stage."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

from dltrain import metrics
from dltrain.engine import Direction, Stage, Task
from dltrain.losses import LossSums, sample_losses, weighs_samples
from dltrain.optim import Optim
from dltrain.tasks.calibration.temperature import (
    LogitCalibration,
    NoCalibration,
    TemperatureScaling,
)
from dltrain.tasks.classification_scores import (
    ClassificationScores,
    Ranking,
    confusion_table,
    per_class_table,
    roc_plot,
    state_bytes,
)
from dltrain.tasks.directions import custom_direction, watch_direction
from dltrain.tasks.images.explanation import (
    CAM_SCALE,
    CAM_TITLE,
    NO_EVIDENCE,
    evaluating,
    feature_maps,
    first_filters,
    hires_cam,
    overlaid,
    three_channels,
)
from dltrain.tasks.images.views import VIEWS, View, mean_logits
from dltrain.tasks.outputs import Expected, require_outputs
from dltrain.tasks.score_states import FLOAT_BYTES
from dltrain.tasks.supervised import Supervised, validation_split
from dltrain.types import (
    Data,
    EncoderDecoder,
    GeneratorAndDiscriminator,
    Image,
    ImageCoder,
    LanguageModel,
    PositiveInt,
    Text,
    shortened,
)
from dltrain.types.combining import Combinable, combined
from dltrain.weights.freezing import Freezing

log = logging.getLogger("dltrain")
SAMPLE_IMAGES = 32
SHOWN_TOKENS = 60  # of a text
CLASSES = "classes"
SHOWN_MAPS = 64  # of a layer
NUMBERS_TO_PREDICT = (
    "the targets are numbers, not classes: set task=regression loss=mse, or, if the numbers of a "
    "table are classes, dataset.kind=classification"
)
TEXTS_WITHOUT_CLASSES = (
    "the texts have no classes: set task=language_modeling to continue them, or task=seq2seq to "
    "translate them"
)
OTHER_TASKS = (ImageCoder, GeneratorAndDiscriminator, EncoderDecoder, LanguageModel)
SCORES = {"loss", *metrics.CLASSIFICATION}
SCORES |= {"confusion", "per_class", "roc", "reliability", "samples", "mistakes"}
NO_VALIDATION = (
    "the validation split has no samples: set dataset.val_fraction=0.1, or leave this out"
)
Outputs: TypeAlias = Iterable[tuple[Tensor, Tensor, Tensor]]
"""Batches of inputs (B, ...), targets (B,) and the logits (B, K) for the inputs."""


class Classification(Task):
    """Learns to predict the class of each input, with logits (B, K) of `model`.

    Batches are (inputs (B, ...), targets (B,)). Every evaluation gives the loss, accuracy, top-k
    accuracy, precision, recall, F1, ROC AUC, and the calibration of the probabilities. It shows the
    confusion matrix, the scores of each class, ROC curves, a reliability diagram, samples (for
    images) and the worst mistakes (for images and texts). The user's own `metrics` are called with
    all logits (N, K) and targets (N,), and return a number. Evaluation and prediction average the
    probabilities over `views` of each image (test-time augmentation); training uses the images as
    they are. With `calibrate`, a temperature is fitted to the validation samples after training.

    Raises:
        ValueError: The data has no classes, the model belongs to another task, one of `metrics` has
            the name of a built-in score, or there are no validation samples to calibrate by.
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
        calibrate: Literal["temperature"] | None = None,
    ) -> None:
        super().__init__()
        if not data.spec.class_names:
            raise ValueError(TEXTS_WITHOUT_CLASSES if data.spec.vocab_size else NUMBERS_TO_PREDICT)
        if data.spec.boxes:
            raise ValueError(
                "the data has boxes around objects, not a class for each image: "
                "model=faster_rcnn, with task=detection, finds them"
            )
        if isinstance(model, OTHER_TASKS):
            raise ValueError(
                "this model does not output class logits; leave out task= to use its own task"
            )
        self.model = model
        self.loss = loss
        self.data = data
        self.optim = optim
        self.epochs = epochs
        self.watch = watch
        self.mode = mode
        self.metrics = metrics or {}
        self.freezing = freezing
        self.top_k = top_k
        self.views: Sequence[str] = ()
        self.logged_notes: set[str] = set()
        self.average_over(views)
        self.calibration = calibration_of(data, calibrate)
        if used_names := self.metrics.keys() & {*SCORES, f"top{top_k}"}:
            raise ValueError(
                f"metrics.{min(used_names)}: a built-in score has this name; choose another one"
            )

    def stages(self) -> Iterator[Stage]:
        """Yield the stage "train", after "frozen" where layers are frozen at first.

        With `calibrate` the stage "calibrate" follows.
        """
        training = self.supervised(self.freezing)
        stages = training.stages(self.data.train, validation_split(self.data))
        yield from self.calibration.stages(stages, self.trained_logits)

    def supervised(self, freezing: Freezing | None = None) -> Supervised:
        """Return how the network is trained."""
        return Supervised(
            model=self.model,
            loss=self.loss,
            optim=self.optim,
            epochs=self.epochs,
            evaluate=self.evaluate,
            watch=self.watch,
            mode=watch_direction(self, self.watch, self.mode),
            expected=Expected(self.data.spec.num_classes, CLASSES, self.data, are_classes=True),
            freezing=freezing,
            combines_scores=True,
        )

    def directions(self) -> dict[str, Direction | None]:
        """Return the direction of each metric; see `Task.directions`."""
        directions: dict[str, Direction | None] = dict(metrics.CLASSIFICATION)
        if self.data.spec.num_classes > self.top_k:  # else every prediction is a hit
            directions[f"top{self.top_k}"] = "max"
        directions["loss"] = "min"
        for name, metric in self.metrics.items():
            directions[name] = custom_direction(metric)
        return directions

    def evaluate(self, batches: Iterable[tuple[Tensor, Tensor]]) -> dict[str, Any]:
        """Return the scores over all batches, and pictures that explain them.

        They are {} in another than the first of several processes.

        Raises:
            ValueError: There are no batches.
        """
        return self.scores_of(self.outputs(batches))

    def outputs(self, batches: Iterable[tuple[Tensor, Tensor]]) -> Outputs:
        """Yield inputs (B, ...), targets (B,) and logits (B, K) of each batch."""
        for inputs, targets in batches:
            yield inputs, targets, self.logits(inputs)

    def logits(self, inputs: Tensor) -> Tensor:
        """Return the calibrated logits (B, K) of inputs (B, ...), averaged over the views."""
        logits = mean_logits(self.model, inputs, self.views)
        require_outputs(self.model, inputs, logits, self.data.spec.num_classes, CLASSES)
        return self.calibration(logits)

    @torch.no_grad()
    def trained_logits(self, inputs: Tensor) -> Tensor:
        """Return the logits (B, K) of inputs (B, ...) as an evaluation has them."""
        with evaluating(self):
            return self.logits(inputs)

    def scores_of(self, outputs: Outputs, *others: Combinable) -> dict[str, Any]:
        """Return what `evaluate` does, from logits that any networks gave.

        `others` are further states, which have the outputs when all batches are read. States of
        several processes are combined; the scores are {} in another than the first of them.

        Raises:
            ValueError: There are no batches.
        """
        spec = self.data.spec
        gathered = ClassificationScores(
            spec.num_classes, self.top_k, keep_logits=bool(self.metrics)
        )
        losses = LossSums()
        mistakes = metrics.WorstMistakes()
        samples: tuple[Tensor, Tensor, Tensor] | None = None
        for inputs, targets, logits in outputs:
            losses.add(self.loss, logits, targets)
            gathered.update(logits, targets)
            if self._shows_mistakes:
                mistakes.update(self._shown_inputs(inputs), logits, targets)
            if samples is None:
                samples = (
                    inputs[:SAMPLE_IMAGES],
                    targets[:SAMPLE_IMAGES],
                    logits[:SAMPLE_IMAGES].argmax(dim=1),
                )
            del logits  # of many classes, those of two batches would need twice the memory
        if samples is None:
            raise ValueError("there is nothing to evaluate: the split is empty")
        if not combined(losses, gathered, mistakes, *others):
            return {}
        scores = gathered.compute()
        self._log_once(scores.note)
        evaluation = {
            "loss": losses.mean(),
            **scores.figures,
            **self._custom_metrics(gathered),
            "confusion": confusion_table(scores.confusion, spec.class_names),
            "per_class": per_class_table(scores.per_class, spec.class_names),
            "roc": roc_plot(scores, spec.class_names),
            "reliability": scores.calibration.plot(),
        }
        if spec.is_image:
            evaluation["samples"] = self._image(*samples)
            evaluation["mistakes"] = self._image(*mistakes.compute())
        if spec.vocab_size:
            evaluation["mistakes"] = self._text(*mistakes.compute())
        return evaluation

    @property
    def _shows_mistakes(self) -> bool:
        """True for images and texts, of which the worst mistakes are shown."""
        return self.data.spec.is_image or bool(self.data.spec.vocab_size)

    def evaluation_bytes(self, samples: int, batch_size: int) -> tuple[int, int]:
        """Return the bytes of an evaluation's states, and of a batch's logits; see `KeepsStates`.

        All logits are among the states if the user's own metrics need them.
        """
        num_classes = self.data.spec.num_classes
        states = state_bytes(samples, num_classes, keep_logits=bool(self.metrics))
        return states, FLOAT_BYTES * batch_size * num_classes

    def _shown_inputs(self, inputs: Tensor) -> Tensor:
        """Return the inputs to show for mistakes: only `SHOWN_TOKENS` tokens of texts (B, T)."""
        if not self.data.spec.vocab_size:
            return inputs
        return nn.functional.pad(inputs, (0, SHOWN_TOKENS))[:, :SHOWN_TOKENS]

    def _custom_metrics(self, gathered: ClassificationScores) -> dict[str, float]:
        """Return the values of the user's metrics, by name."""
        if not self.metrics:
            return {}
        logits, targets = gathered.all_logits()
        return {name: float(metric(logits, targets)) for name, metric in self.metrics.items()}

    def _log_once(self, note: str) -> None:
        """Log what an evaluation approximates, unless that was logged before."""
        if note and note not in self.logged_notes:
            log.warning(note)
            self.logged_notes.add(note)

    def _image(self, inputs: Tensor, targets: Tensor, predictions: Tensor) -> Image:
        """Return images with the class of each, and the predicted class where it differs."""
        names = [shortened(name) for name in self.data.spec.class_names]
        captions = []
        for target, predicted in zip(targets.tolist(), predictions.tolist(), strict=True):
            if target == predicted:
                captions.append(names[target])
            else:
                captions.append(f"{names[target]} → {names[predicted]}")
        pixels = self._pixels(inputs).cpu()
        return Image(pixels, tuple(captions), "class, or class → predicted class")

    def _pixels(self, inputs: Tensor) -> Tensor:
        """Return inputs (B, C, H, W) as pixels in 0..1."""
        spec = self.data.spec
        mean = torch.tensor(spec.mean, device=inputs.device).view(1, -1, 1, 1)
        std = torch.tensor(spec.std, device=inputs.device).view(1, -1, 1, 1)
        return ((inputs.float() * std + mean) / 255).clamp(0, 1)

    def _text(self, inputs: Tensor, targets: Tensor, predictions: Tensor) -> Text:
        """Return a table of the class, the predicted class and the first words of texts (M, T)."""
        names = self.data.spec.class_names
        decode = self.data.spec.decode
        lines = ["| class | predicted | text |", "|---|---|---|"]
        rows = zip(inputs.tolist(), targets.tolist(), predictions.tolist(), strict=True)
        for tokens, target, predicted in rows:
            text = decode(tokens) if decode else ""
            cell = " ".join(text.split()).replace("|", "/")
            lines.append(f"| {names[target]} | {names[predicted]} | {cell} |")
        return Text("\n".join(lines))

    def sample_rows(self, batches: Iterable[tuple[Tensor, Tensor]]) -> Iterator[dict[str, Any]]:
        """Yield class, predicted class with its probability, and loss of each sample.

        Of a loss with class weights also the weight.
        """
        return self.rows_of(self.outputs(batches))

    def rows_of(self, outputs: Outputs) -> Iterator[dict[str, Any]]:
        """Yield what `sample_rows` does, from logits that any networks gave."""
        names = self.data.spec.class_names
        has_weights = weighs_samples(self.loss)
        for _, targets, logits in outputs:
            losses, weights = sample_losses(self.loss, logits, targets)
            probabilities, predicted = logits.float().softmax(dim=1).max(dim=1)
            labels = zip(targets.tolist(), predicted.tolist(), strict=True)
            numbers = zip(probabilities.tolist(), losses, weights, strict=True)
            for (target, label), (probability, loss, weight) in zip(labels, numbers, strict=True):
                row = {
                    "label": names[target],
                    "prediction": names[label],
                    "probability": probability,
                    "loss": loss,
                }
                if has_weights:
                    row["weight"] = weight
                yield row

    def predict(self, batch: Tensor) -> Tensor:
        """Return the probabilities (B, K) of the classes of inputs (B, ...)."""
        return self.logits(batch).softmax(dim=1)

    def average_over(self, views: Sequence[str]) -> None:
        """Average over `views` in evaluation and prediction from now on.

        Raises:
            ValueError: A view is unknown, or the inputs are not images.
        """
        unknown = [name for name in views if name not in VIEWS]
        if unknown:
            raise ValueError(
                f"unknown view {unknown[0]!r}: expected one or more of {', '.join(VIEWS)}"
            )
        if views and not self.data.spec.is_image:
            raise ValueError("only images have views: these inputs are not images")
        self.views = tuple(views)

    def explain(self, inputs: Tensor) -> Image:
        """Return each image next to a copy with the evidence for its predicted class on top.

        The pictures are (B, 3, H, 2 W); the evidence is that of `hires_cam`.
        """
        if not self.data.spec.is_image:
            raise ValueError("only images are explained: these inputs are not images")
        pixels = three_channels(self._pixels(inputs))
        evidence = self.evidence(inputs)
        has_evidence = evidence.amax(dim=(1, 2)).gt(0).tolist()
        captions = tuple("" if positive else NO_EVIDENCE for positive in has_evidence)
        pairs = torch.cat([pixels, overlaid(pixels, evidence)], dim=3)
        return Image(pairs, captions, CAM_TITLE, CAM_SCALE)

    def evidence(self, inputs: Tensor) -> Tensor:
        """Return the evidence (B, H, W) in images (B, C, H, W) for their predicted classes."""
        return hires_cam(self.model, inputs)

    def feature_images(self, inputs: Tensor) -> dict[str, Image]:
        """Return the filters of the first convolution, and the first and last maps of one image."""
        if not self.data.spec.is_image:
            return {}
        try:
            first, last = feature_maps(self.model, inputs[:1])
            filters = first_filters(self.model)[:SHOWN_MAPS].cpu()
        except ValueError:  # a network without convolutions
            return {}
        return {
            "filters": Image(filters),
            "first_maps": Image(first[0, :SHOWN_MAPS].unsqueeze(1).cpu()),
            "last_maps": Image(last[0, :SHOWN_MAPS].unsqueeze(1).cpu()),
        }

    def prediction_rows(self, outputs: Tensor) -> list[dict[str, Any]]:
        """Return the predicted class of each input and its probability, from outputs (B, K).

        `top` ranks all classes, the likeliest first.
        """
        probabilities, classes = outputs.float().cpu().sort(dim=1, descending=True)
        rows = []
        for ranked, ranked_probabilities in zip(classes, probabilities, strict=True):
            ranking = Ranking(self.data.spec.class_names, ranked, ranked_probabilities)
            rows.append({**ranking[0], "top": ranking})
        return rows


def calibration_of(data: Data, method: Literal["temperature"] | None) -> LogitCalibration:
    """Return how logits are calibrated; ValueError if that needs validation samples in vain."""
    if method is None:
        return NoCalibration()
    if not data.val.samples:
        raise ValueError(f"calibrate={method}: {NO_VALIDATION}")
    return TemperatureScaling(data.val)
