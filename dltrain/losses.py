"""Losses for the tasks: each maps outputs (B, K) and targets to a scalar, the mean over the batch.

Means of batches must not be averaged as they are: batches differ in size, and in weight where
samples have weights. `training_mean` and `evaluation_sum` say how a loss is averaged over several
batches.

Targets are class numbers (B,), or floats shaped like the outputs: shares of the classes, where
samples were mixed (`soft_targets` says which losses take them), or the numbers of a regression.
Outputs are logits wherever a loss speaks of probabilities p: it takes their softmax or sigmoid
itself, in logarithms, so that no p that rounds to 0 gives an infinity.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import ClassVar, Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dltrain.types import Fraction, NonNegative, PositiveFloat, PositiveInt

ClassWeights: TypeAlias = tuple[PositiveFloat, ...] | Literal["balanced"] | None


def weights_of(
    class_weights: ClassWeights,
    num_classes: int | None,
    class_counts: Callable[[], tuple[int, ...]] | None,
) -> Tensor | None:
    """Weights (K,) as they are, or balanced from how often each class occurs; ValueError for another number of them."""
    if class_weights == "balanced":
        counts = class_counts() if class_counts else ()
        if not counts:
            raise ValueError(
                "class_weights=balanced: the data does not say how often each class occurs"
            )
        class_weights = tuple(sum(counts) / (len(counts) * max(1, count)) for count in counts)
    if class_weights and num_classes and len(class_weights) != num_classes:
        raise ValueError(
            f"class_weights are {len(class_weights)} numbers; give one for each of {num_classes} classes"
        )
    return torch.tensor(class_weights, dtype=torch.float32) if class_weights else None


def shares(targets: Tensor, like: Tensor) -> Tensor:
    """Class numbers (B,) as one-hot rows of `like` (B, K); floats are shares of the classes already."""
    return targets if targets.is_floating_point() else F.one_hot(targets, like.shape[1]).to(like)


def compared(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """What a difference is taken of: outputs and targets as they are, or for class numbers softmax and one-hot rows."""
    if targets.is_floating_point():
        return outputs, targets
    p = outputs.softmax(dim=1)
    return p, shares(targets, p)


class Weighted(nn.Module):
    """A loss whose samples count differently: the base of losses with class weights.

    Called, it gives the weighted mean over the batch, sum_i w_i l_i / sum_i w_i. Training divides
    the same sum by B times `mean_weight` instead: a sample then counts the same in every batch,
    also alone in one, and batches can be accumulated. Over the whole training set both are equal.
    """

    class_weights: Tensor | None  # (K,)

    def __init__(
        self,
        class_weights: ClassWeights,
        num_classes: int | None,
        class_counts: Callable[[], tuple[int, ...]] | None,
    ) -> None:
        super().__init__()
        weights = weights_of(class_weights, num_classes, class_counts)
        self.register_buffer(
            "class_weights", weights, persistent=False
        )  # the configuration keeps them
        self.class_counts = class_counts

    @abstractmethod
    def sums(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sum of the weighted losses of a batch, and the sum of its weights, both ()."""

    @cached_property
    def mean_weight(self) -> float:
        """Return the mean weight of a training sample.

        Without counts of the classes they are taken to be equally frequent.
        """
        if self.class_weights is None:
            return 1.0
        weights = self.class_weights.tolist()
        counts = self.class_counts() if self.class_counts else ()
        if not sum(counts):
            return sum(weights) / len(weights)
        return sum(w * n for w, n in zip(weights, counts, strict=True)) / sum(counts)


def sample_weight(loss: nn.Module, targets: Tensor) -> Tensor | int:
    """Return how much a batch counts in a mean over several batches, for the mean that `loss`
    gives.

    That is its number of samples. The losses of torch that leave out samples or weigh them by class
    say so in their attributes.
    """
    if not isinstance(loss, nn.CrossEntropyLoss | nn.NLLLoss) or loss.reduction != "mean":
        return len(targets)
    if targets.is_floating_point():
        return len(targets)
    kept = targets.ne(loss.ignore_index)
    if not isinstance(loss.weight, Tensor):
        return kept.sum()
    return (loss.weight[targets.clamp(min=0)] * kept).sum()


def training_mean(loss: nn.Module, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor | int]:
    """Return the loss of a training batch, and how much the batch counts in an update of several.

    Parameters
    ----------
    loss
        A loss of this file, of torch, or of the user's own that gives the mean over the batch.
    outputs
        (B, K), or (B, T) of a regression.
    targets
        Class numbers (B,), or floats shaped like the outputs.
    """
    if isinstance(loss, Weighted) and loss.class_weights is not None:
        total, _ = loss.sums(outputs, targets)
        return total / (len(targets) * loss.mean_weight), len(targets)
    weight = sample_weight(loss, targets)
    mean = loss(outputs, targets)
    if isinstance(weight, Tensor):  # the mean over nothing is NaN
        mean = torch.where(weight > 0, mean, 0)
    return mean, weight


def evaluation_sum(loss: nn.Module, outputs: Tensor, targets: Tensor) -> Tensor:
    """Return (2,) on the device of `outputs`: the sum of a batch's losses, and that of its weights.

    `mean_over` makes the loss over a split of them, whatever the sizes of its batches. The
    arguments are those of `training_mean`.
    """
    if isinstance(loss, Weighted) and loss.class_weights is not None:
        total, weight = loss.sums(outputs, targets)
    else:
        weight = torch.as_tensor(sample_weight(loss, targets), device=outputs.device)
        total = torch.where(
            weight > 0, loss(outputs, targets) * weight, 0
        )  # the mean over nothing is NaN
    return torch.stack([total.detach().float(), weight.float()])


def mean_over(sums: Sequence[Tensor]) -> float:
    """Return the loss over a split from the `evaluation_sum` (2,) of each of its batches."""
    total, weight = torch.stack(list(sums)).cpu().double().sum(dim=0).tolist()
    return total / weight if weight else math.nan


def weight_of(targets: Tensor, class_weights: Tensor | None, like: Tensor) -> Tensor:
    """Return the sum of the weights of a batch, (), with the type and device of `like` (B, K)."""
    if class_weights is None:
        return like.new_tensor(len(targets))
    weights = targets * class_weights if targets.is_floating_point() else class_weights[targets]
    return weights.sum().to(like)


class CrossEntropy(Weighted):
    """-sum_k y_k log p_k with p the softmax: the negative log-likelihood of the right class.

    `label_smoothing` s trains towards (1 - s) y + s / K (Szegedy et al. 2016, "Rethinking the
    Inception Architecture", section 7). `class_weights`, one a class, weigh every y_k, and means
    are weighted (see `Weighted`); balanced ones are n / (K n_k), from how often each class k occurs
    among n training samples: `class_counts` says it when it is asked (a class that does not occur
    counts as once). ValueError unless they are `num_classes`.
    """

    soft_targets: ClassVar[bool] = True

    def __init__(
        self,
        label_smoothing: Fraction = 0.0,
        class_weights: ClassWeights = None,
        num_classes: PositiveInt | None = None,
        class_counts: Callable[[], tuple[int, ...]] | None = None,
    ) -> None:
        super().__init__(class_weights, num_classes, class_counts)
        self.label_smoothing = label_smoothing

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        if self.class_weights is None or not targets.is_floating_point():
            return self.reduced(logits, targets, "mean")
        total, weight = self.sums(logits, targets)
        return total / weight

    def sums(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        return self.reduced(outputs, targets, "sum"), weight_of(
            targets, self.class_weights, outputs
        )

    def reduced(self, logits: Tensor, targets: Tensor, reduction: str) -> Tensor:
        return F.cross_entropy(
            logits,
            targets,
            self.class_weights,
            reduction=reduction,
            label_smoothing=self.label_smoothing,
        )


class BinaryCrossEntropy(nn.Module):
    """-[y log s + (1 - y) log(1 - s)] with s the sigmoid of each output, the mean over outputs: each is a yes or no of
    its own.

    Targets are class numbers, taken as one yes among noes, or shares in 0..1 shaped like the outputs.
    """

    soft_targets: ClassVar[bool] = True

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(outputs, shares(targets, outputs))


class KLDivergence(nn.Module):
    """KL(y || p) = sum_k y_k (log y_k - log p_k) with p the softmax: cross-entropy less the targets' own entropy.

    It is 0 at its best whatever the targets, so what is left to learn can be read from it (Kullback and Leibler 1951).
    """

    soft_targets: ClassVar[bool] = True

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        log_p = logits.log_softmax(dim=1)
        return F.kl_div(log_p, shares(targets, log_p), reduction="batchmean")


class Focal(Weighted):
    """-sum_k y_k (1 - p_k)^gamma log p_k with p the softmax: samples that are right already count
    little.

    Lin et al. 2017, "Focal Loss for Dense Object Detection", equation 4, there with a sigmoid;
    gamma = 0 is cross-entropy. `class_weights` weigh every y_k as they do in `CrossEntropy`
    (equation 5), and means are weighted (see `Weighted`).
    """

    soft_targets: ClassVar[bool] = True

    def __init__(
        self,
        gamma: NonNegative = 2.0,
        class_weights: ClassWeights = None,
        num_classes: PositiveInt | None = None,
        class_counts: Callable[[], tuple[int, ...]] | None = None,
    ) -> None:
        super().__init__(class_weights, num_classes, class_counts)
        self.gamma = gamma

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        total, weight = self.sums(logits, targets)
        return total / weight

    def sums(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        log_p = outputs.log_softmax(dim=1)
        floor = torch.finfo(log_p.dtype).eps  # a power below 1 has an infinite slope at 0
        doubt = (-torch.expm1(log_p)).clamp_min(floor) ** self.gamma  # (1 - p)^gamma
        y = shares(targets, log_p)
        weighted = y if self.class_weights is None else y * self.class_weights
        total = -(weighted * doubt * log_p).sum()
        return total, weight_of(targets, self.class_weights, log_p)


class MSE(nn.Module):
    """(a - y)^2, the mean over outputs: a is the output of a regression, or the softmax against the one-hot class."""

    soft_targets: ClassVar[bool] = False  # it would take them for the numbers of a regression

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return F.mse_loss(*compared(outputs, targets))


class MAE(nn.Module):
    """|a - y|, the mean over outputs: outliers weigh less than with the square; a as for `MSE`."""

    soft_targets: ClassVar[bool] = False

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return F.l1_loss(*compared(outputs, targets))


class Huber(nn.Module):
    """(a - y)^2 / 2 up to a distance of `delta` and delta (|a - y| - delta / 2) beyond it, the mean over outputs.

    Huber 1964, "Robust Estimation of a Location Parameter", section 3; a as for `MSE`.
    """

    soft_targets: ClassVar[bool] = False

    def __init__(self, delta: PositiveFloat = 1.0) -> None:
        super().__init__()
        self.delta = delta

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return F.huber_loss(*compared(outputs, targets), delta=self.delta)


class Hinge(nn.Module):
    """max(0, margin + max_{k != y} z_k - z_y): how far the right class is from winning by `margin`.

    The multi-class support vector machine of Crammer and Singer 2001, "On the Algorithmic Implementation of Multiclass
    Kernel-based Vector Machines", section 3. The penalty of the machine is `regularization=[l2]`.
    """

    soft_targets: ClassVar[bool] = False  # it needs to know which class is right

    def __init__(self, margin: PositiveFloat = 1.0) -> None:
        super().__init__()
        self.margin = margin

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        right = logits.gather(1, targets.unsqueeze(1))  # (B, 1)
        ahead = (
            logits - right + self.margin * (1 - shares(targets, logits))
        )  # (B, K), 0 for the right class itself
        return torch.amax(ahead, dim=1).mean()


class PerceptronLoss(nn.Module):
    """How far the best wrong class scores above the right one, and 0 where the right one wins.

    One SGD step on it from a single sample is Rosenblatt's rule for several classes (Crammer and Singer 2003,
    "Ultraconservative Online Algorithms", section 3): add the input to the right class's weights, take it from the
    wrong winner's.
    """

    soft_targets: ClassVar[bool] = False

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        right = logits.gather(1, targets.unsqueeze(1)).squeeze(1)  # (B,)
        return (torch.amax(logits, dim=1) - right).mean()
