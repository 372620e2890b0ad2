"""Distillation: a small network learns from the predictions of larger ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dltrain.engine import Direction, Mean, Metrics, Stage
from dltrain.losses import training_mean
from dltrain.optim import Optim
from dltrain.tasks.classification import CLASSES, Classification
from dltrain.tasks.compression.features import FeatureMatching, captured, layer_shapes
from dltrain.tasks.compression.partly_labeled import PartlyLabeled
from dltrain.tasks.directions import watch_direction
from dltrain.tasks.images.views import View
from dltrain.tasks.labeled_subset import LabeledSubset
from dltrain.tasks.outputs import Expected, OutputCheck
from dltrain.tasks.supervised import validation_split
from dltrain.types import (
    Data,
    DataSplit,
    FinishedRuns,
    Ge,
    Le,
    NonNegative,
    PositiveFloat,
    PositiveInt,
    TrainedNetwork,
)

TEACHERS = "task.teachers"


class Distillation(Classification):
    """Trains a classifier, the student, on the predictions of teachers.

    The loss of a batch is that of Hinton et al. 2015, "Distilling the Knowledge in a Neural
    Network", section 2:

        (1 - weight) loss(z, labels) + weight T^2 KL(p || softmax(z / T))

    with the student's logits z, the `temperature` T, and the mean p of softmax(v / T) over the
    teachers' logits v. T^2 keeps the size of the gradient as T changes. With `weight` 1 no label is
    used, and with 0 this is plain classification. Where only some `labels` count, the student
    learns from the teachers' predictions on all samples. `feature_weight` times the distance of
    layers is added for `features` (see `FeatureMatching`).

    Teachers are the networks of the finished runs `teachers`, or the network `teacher`, which the
    stage "teacher" trains first, by the settings `optimizers.teacher`. They see the inputs that the
    student sees: augmented, and mixed by mixup. The checkpoints hold `teacher` and the student, but
    not the networks of other runs, which only training needs. Scores are those of a classification.

    Args:
        data: The data set.
        model: The student.
        loss: The loss of the labels.
        optim: Makes an `Optim`.
        epochs: The epochs of the student.
        finished_runs: Opens the networks of `teachers`.
        teacher: A network that is trained before the student.
        teachers: Names of finished runs of classifiers on the same classes.
        teacher_epochs: The epochs of `teacher`; None: as many as those of the student.
        temperature: The temperature T.
        weight: The weight of the teachers' predictions, from 0 to 1.
        labels: The number of training samples whose labels count, for `teacher` too; None: all.
        features: The teacher's layers, by those of the student that learn to give the same.
        feature_weight: The weight of `features`.
        feature_sizes: The number of channels of each layer of a teacher from a run.
        watch: The metric that decides which checkpoint is the best.
        mode: Which way it is better.
        top_k: See `Classification`.
        metrics: See `Classification`.
        views: See `Classification`.

    Raises:
        ValueError: There is no teacher, or a layer of `features` does not exist.
    """

    divisible = False
    networks = ("teacher",)
    run_keys = ("teachers",)

    def __init__(  # noqa: PLR0913 - the keys of the configuration
        self,
        data: Data,
        model: nn.Module,
        loss: nn.Module,
        optim: Callable[..., Optim],
        epochs: int,
        finished_runs: FinishedRuns,
        teacher: nn.Module | None = None,
        teachers: tuple[str | int, ...] = (),
        teacher_epochs: PositiveInt | None = None,
        temperature: PositiveFloat = 4.0,
        weight: Annotated[float, Ge(0), Le(1)] = 0.9,
        labels: PositiveInt | None = None,
        features: dict[str | int, str | int] | None = None,
        feature_weight: NonNegative = 1.0,
        feature_sizes: tuple[PositiveInt, ...] = (),
        watch: str = "val/accuracy",
        mode: Direction | None = None,
        top_k: PositiveInt = 5,
        metrics: dict[str, Callable[[Tensor, Tensor], Tensor]] | None = None,
        views: tuple[View, ...] = (),
    ) -> None:
        super().__init__(data, model, loss, optim, epochs, watch, mode, top_k, metrics, views)
        self.finished_runs = finished_runs
        self.run_names = teachers
        self.temperature = temperature
        self.weight = weight
        self.labels = labels
        self.feature_weight = feature_weight
        self.teaching: Classification | None = None
        if teacher is not None:
            own_optim = partial(optim, network="teacher")
            own_epochs = teacher_epochs or epochs
            self.teaching = Classification(
                data, teacher, loss, own_optim, own_epochs, watch, mode, top_k
            )
        self.matching: FeatureMatching | None = None
        if features and feature_weight:
            layers = {str(own): str(name) for own, name in features.items()}
            sizes = self._teacher_sizes(layers, feature_sizes)
            self.matching = FeatureMatching(model, layers, sizes, data.spec)
        if self.learns_from_teachers and not self.num_teachers:
            raise ValueError(
                'there is no teacher: name finished runs, "task.teachers=[RUN]", or a network that '
                'is trained first, "task.teacher={_target_: dltrain.models.images.cnn.CNN}"; '
                "task.weight=0 needs none"
            )

    @property
    def num_teachers(self) -> int:
        """The number of teachers."""
        return len(self.run_names) + (self.teaching is not None)

    @property
    def learns_from_teachers(self) -> bool:
        """True unless the student is trained by labels alone."""
        return self.weight > 0 or self.matching is not None

    def _teacher_sizes(self, features: dict[str, str], sizes: Sequence[int]) -> Sequence[int]:
        """Return the number of channels of the teacher's layers; ValueError if it is not known."""
        if self.num_teachers != 1:
            raise ValueError(
                f"task.features compares layers with those of one teacher, and there are "
                f"{self.num_teachers}"
            )
        if self.teaching is not None:
            shapes = layer_shapes(
                self.teaching.model, list(features.values()), self.data.spec, "the teacher"
            )
            return [shape[1] if len(shape) == 4 else shape[-1] for shape in shapes]
        if len(sizes) != len(features):
            raise ValueError(
                f"task.features names {len(features)} layers of a run: task.feature_sizes needs "
                f"the number of channels of each, and has {len(sizes)}"
            )
        return sizes

    @cached_property
    def teachers(self) -> tuple[TrainedNetwork, ...]:
        """The teachers, opened when the first batch needs them."""
        networks = [self.finished_runs.network(TEACHERS, name) for name in self.run_names]
        if self.teaching is not None:
            model = self.teaching.model
            class_names = self.data.spec.class_names
            networks.append(TrainedNetwork("teacher", model, model, class_names))
        return tuple(networks)

    @cached_property
    def batch_loss(self) -> Callable[[Any, Tensor], tuple[Tensor, Tensor | int]]:
        """The function of outputs and targets that gives the loss of the labels, and its weight."""
        return self.supervised().batch_loss()

    def stages(self) -> Iterator[Stage]:
        """Yield the stage "teacher" if a teacher is trained, then the stage "train"."""
        train: DataSplit = self.data.train
        labeled: DataSplit = train
        held_out = validation_split(self.data)
        if self.labels is not None:
            labeled = LabeledSubset(train, self.labels)
            train = PartlyLabeled(train, self.labels)
        if not self.learns_from_teachers:
            yield from self.supervised().stages(labeled, held_out)
            return
        if self.teaching is not None:
            for stage in self.teaching.supervised().stages(labeled, held_out):
                yield replace(stage, name="teacher")
        yield self._student_stage(train, held_out)

    def _student_stage(self, train: DataSplit, held_out: DataSplit | None) -> Stage:
        """Return the stage "train" of the student."""
        optim = self.optim(self._trained_modules(), self.epochs * len(train))
        expected = Expected(self.data.spec.num_classes, CLASSES, self.data, are_classes=True)
        check = OutputCheck(self.model, self.loss, expected)
        own_layers = list(self.matching.layers) if self.matching is not None else []

        def step(batch: tuple[Tensor, ...]) -> Metrics:
            inputs, targets, *counted = batch
            with captured(self.model, own_layers) as features:
                outputs = self.model(inputs)
            check.require_outputs(inputs, outputs, targets)
            logits = outputs[0] if isinstance(outputs, tuple) else outputs
            value = self._label_loss(outputs, targets, *counted)
            value = value + self._teacher_loss(inputs, logits, features)
            check.require_gradient(value)
            optim.update(value, weight=len(inputs))
            return {"loss": Mean(value.detach(), len(inputs))}

        return Stage(
            name="train",
            epochs=self.epochs,
            batches=train,
            step=step,
            held_out=held_out,
            evaluate=self.evaluate,
            optims=(optim,),
            watch=self.watch,
            mode=watch_direction(self, self.watch, self.mode),
            replayable=True,
            combines_scores=True,
        )

    def _trained_modules(self) -> nn.Module:
        """Return the student, with the adapters of its features if there are any."""
        if self.matching is None:
            return self.model
        return nn.ModuleDict({"model": self.model, "matching": self.matching})

    def _label_loss(self, outputs: Any, targets: Tensor, counted: Tensor | None = None) -> Tensor:
        """Return 1 - `weight` times the loss of the labels; 0 where no label is used.

        Where some samples are `counted` (B,), it is their sum over the expected number of them in a
        batch, so that each counts the same in every batch.
        """
        if self.weight == 1:
            return torch.zeros((), device=targets.device)
        if counted is None:
            value, _ = self.batch_loss(outputs, targets)
            return (1 - self.weight) * value
        assert self.labels is not None
        mean, number = training_mean(self.loss, outputs, targets, counted)
        labeled = min(self.labels, self.data.train.samples) / self.data.train.samples
        return (1 - self.weight) * mean * number / (labeled * len(targets))

    def _teacher_loss(self, inputs: Tensor, logits: Tensor, features: dict[str, Tensor]) -> Tensor:
        """Return what the loss has of the teachers: predictions, and features of layers."""
        teacher_layers = []
        if self.matching is not None and not self.teachers[0].is_fake:
            teacher_layers = list(self.matching.layers.values())
        with torch.no_grad(), captured(self.teachers[0].network, teacher_layers) as wanted:
            probabilities = mean_probabilities(self.teachers, inputs, self.temperature)
        value = self.weight * soft_target_loss(logits, probabilities, self.temperature)
        if self.matching is not None:
            distance = self.matching.loss(features, self.teachers[0], wanted)
            value = value + self.feature_weight * distance
        return value


def mean_probabilities(
    teachers: Sequence[TrainedNetwork], inputs: Tensor, temperature: float
) -> Tensor:
    """Return the mean (B, K) of the teachers' probabilities at a temperature.

    The engine puts all networks of a task into training mode; teachers only predict.
    """
    total = torch.zeros(())
    for index, teacher in enumerate(teachers):
        if teacher.network.training:
            teacher.network.eval()
        probabilities = (teacher.model(inputs).float() / temperature).softmax(dim=1)
        total = probabilities if index == 0 else total + probabilities
    return total / len(teachers)


def soft_target_loss(logits: Tensor, probabilities: Tensor, temperature: float) -> Tensor:
    """Return T^2 KL(p || softmax(z / T)), the mean over the batch, of logits z and p (B, K)."""
    log_p = (logits.float() / temperature).log_softmax(dim=1)
    divergence = F.kl_div(log_p, probabilities, reduction="batchmean")
    return temperature**2 * divergence
