"""Losses: each maps outputs (B, K) and targets to a scalar, the mean over the batch.

Targets are class numbers (B,), or floats shaped like the outputs: soft targets, the share of each
class where samples were mixed (`soft_targets` says which losses accept them), or the numbers of a
regression. Outputs are logits wherever a formula has probabilities p: the loss takes their softmax
or sigmoid itself, in logarithms, so that no p that rounds to 0 gives an infinity.

Batches differ in size, and in weight where samples have weights, so the mean over several batches
is not the mean of their means. `training_mean` and `evaluation_sum` give a batch's loss with its
weight. They also leave out the padding of sequences: each position is a sample, and a mask says
which ones count. The losses of this file then keep their static shapes, so that a GPU is not waited
for to learn the number of samples that are left.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any, ClassVar, Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dltrain.types import Fraction, NonNegative, PositiveFloat, PositiveInt

MAX_BATCH_SUMS = 4096  # sums of batches that are kept before they are added up
MAX_BLOCK_VALUES = 2**20  # outputs that an evaluation copies at once: 4 MB
ClassWeights: TypeAlias = tuple[PositiveFloat, ...] | Literal["balanced"] | None


def class_weight_tensor(
    class_weights: ClassWeights,
    num_classes: int | None,
    class_counts: Callable[[], tuple[int, ...]] | None,
) -> Tensor | None:
    """Return the weights (K,) of the classes; None without weights.

    Balanced weights are n / (K n_k) for a class k with n_k of n training samples.

    Raises:
        ValueError: The weights are not as many as the classes, or the counts are not known.
    """
    if class_weights == "balanced":
        class_weights = _balanced_weights(class_counts)
    if not class_weights:
        return None
    if num_classes and len(class_weights) != num_classes:
        raise ValueError(
            f"class_weights are {len(class_weights)} numbers; give one for each of {num_classes} "
            "classes"
        )
    return torch.tensor(class_weights, dtype=torch.float32)


def _balanced_weights(
    class_counts: Callable[[], tuple[int, ...]] | None,
) -> tuple[float, ...]:
    counts = class_counts() if class_counts else ()
    if not counts:
        raise ValueError(
            "class_weights=balanced: the data does not say how often each class occurs"
        )
    return tuple(sum(counts) / (len(counts) * max(1, count)) for count in counts)


def as_soft_targets(targets: Tensor, like: Tensor) -> Tensor:
    """Return soft targets like `like` (B, K); class numbers (B,) become one-hot."""
    if targets.is_floating_point():
        return targets
    return F.one_hot(targets, like.shape[1]).to(like)


def regression_pair(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return the two tensors whose difference a regression loss measures.

    They are the outputs and the targets; for class numbers the softmax and one-hot rows.
    """
    if targets.is_floating_point():
        return outputs, targets
    p = outputs.softmax(dim=1)
    return p, as_soft_targets(targets, p)


class SampleLoss(nn.Module):
    """The base of losses that are a mean over the losses of single samples."""

    @abstractmethod
    def each(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of each sample (B,), with its weight as a factor."""

    def weights(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the weight of each sample (B,) in the mean: 1, except where classes have one."""
        return torch.ones(len(targets), device=outputs.device)


class Weighted(SampleLoss):
    """The base of losses with class weights.

    A call returns the weighted mean over the batch, sum_i w_i l_i / sum_i w_i. Training divides the
    same sum by B times `mean_weight` instead: a sample then counts the same in every batch, also
    alone in one, and batches can be accumulated. Over the whole training set both are equal.
    """

    class_weights: Tensor | None  # (K,)

    def __init__(
        self,
        class_weights: ClassWeights,
        num_classes: int | None,
        class_counts: Callable[[], tuple[int, ...]] | None,
    ) -> None:
        super().__init__()
        weights = class_weight_tensor(class_weights, num_classes, class_counts)
        # Not in checkpoints: the configuration has the weights.
        self.register_buffer("class_weights", weights, persistent=False)
        self.class_weight_values: list[float] = []  # the same as numbers: no device is read
        if weights is not None:
            self.class_weight_values = weights.tolist()
        self.class_counts = class_counts

    @abstractmethod
    def sums(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sum of the weighted losses of a batch, and the sum of its weights, both ()."""

    def weights(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the weight of each sample (B,): that of its class, or of its share of classes."""
        if self.class_weights is None:
            return super().weights(outputs, targets)
        if targets.is_floating_point():
            return (targets * self.class_weights).sum(1)
        return self.class_weights[targets]

    @cached_property
    def mean_weight(self) -> float:
        """Return the mean weight of a training sample.

        Without counts all classes are assumed to be equally frequent.
        """
        if self.class_weights is None:
            return 1.0
        weights = self.class_weight_values
        counts = self.class_counts() if self.class_counts else ()
        if not sum(counts):
            return sum(weights) / len(weights)
        return sum(w * n for w, n in zip(weights, counts, strict=True)) / sum(counts)


def sample_weight(loss: nn.Module, targets: Tensor) -> Tensor | int:
    """Return the weight of a batch in a mean of the batch means of `loss`.

    It is the number of samples, except for losses of torch that ignore samples or weigh them by
    class.
    """
    if not isinstance(loss, nn.CrossEntropyLoss | nn.NLLLoss) or loss.reduction != "mean":
        return len(targets)
    if targets.is_floating_point():
        return len(targets)
    is_counted = targets.ne(loss.ignore_index)
    if not isinstance(loss.weight, Tensor):
        return is_counted.sum()
    return (loss.weight[targets.clamp(min=0)] * is_counted).sum()


def training_mean(
    loss: nn.Module, outputs: Tensor, targets: Tensor, counted: Tensor | None = None
) -> tuple[Tensor, Tensor | int]:
    """Return the loss of a training batch, and the batch's weight in an update of several batches.

    Args:
        loss: A loss of this file, of torch, or of the user that gives the mean over the batch.
        outputs: (B, K), or (B, T) of a regression.
        targets: Class numbers (B,), or floats shaped like the outputs.
        counted: A mask (B,) of the samples that count; the gradient of the others is zero. Without
            it all count.
    """
    if counted is not None:
        return _counted_mean(loss, outputs, targets, counted)
    if isinstance(loss, Weighted) and loss.class_weights is not None:
        total, _ = loss.sums(outputs, targets)
        return total / (len(targets) * loss.mean_weight), len(targets)
    weight = sample_weight(loss, targets)
    mean = loss(outputs, targets)
    if isinstance(weight, Tensor):  # the mean over nothing is NaN
        mean = torch.where(weight > 0, mean, 0)
    return mean, weight


def row_blocks(outputs: Tensor, *others: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Yield a batch of outputs (B, K) and other tensors (B, ...) in blocks of rows.

    A block has at most `MAX_BLOCK_VALUES` outputs, or one row, so that what is computed from it
    takes little memory beside a batch of many classes. Most batches are one block.
    """
    if outputs.numel() <= MAX_BLOCK_VALUES:
        yield outputs, *others
        return
    num_rows = max(1, MAX_BLOCK_VALUES // outputs[0].numel())
    yield from zip(*(tensor.split(num_rows) for tensor in (outputs, *others)), strict=True)


def _counted_mean(
    loss: nn.Module, outputs: Tensor, targets: Tensor, counted: Tensor
) -> tuple[Tensor, Tensor | int]:
    """Return what `training_mean` does, over the samples that are `counted` (B,)."""
    if not isinstance(loss, SampleLoss):
        return training_mean(loss, *only_counted(loss, outputs, targets, counted))
    total, weight = counted_sums(loss, outputs, targets, counted)
    number = counted.sum()
    if isinstance(loss, Weighted) and loss.class_weights is not None:
        weight = number * loss.mean_weight
    return total / torch.where(number > 0, weight, 1), number


def counted_sums(
    loss: SampleLoss, outputs: Tensor, targets: Tensor, counted: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the sums () of the losses and of the weights of the `counted` samples (B,)."""
    losses = loss.each(outputs, targets)
    weights = loss.weights(outputs, targets)
    return torch.where(counted, losses, 0).sum(), torch.where(counted, weights, 0).sum()


def counted_evaluation_sum(
    loss: SampleLoss, outputs: Tensor, targets: Tensor, counted: Tensor
) -> Tensor:
    """Return the `evaluation_sum` (2,) of the samples that are `counted` (B,), block by block."""
    total = outputs.new_zeros(2, dtype=torch.float32)
    for block in row_blocks(outputs, targets, counted):
        losses, weight = counted_sums(loss, *block)
        total = total + torch.stack([losses.detach().float(), weight.float()])
    return total


def only_counted(
    loss: nn.Module, outputs: Tensor, targets: Tensor, counted: Tensor
) -> tuple[Tensor, Tensor]:
    """Return outputs and targets with which `loss` leaves out the samples that are not `counted`.

    The losses of torch have a class number that they ignore. A loss of the user gets the other
    samples only, and a GPU is waited for to learn how many they are.
    """
    if isinstance(loss, nn.CrossEntropyLoss | nn.NLLLoss):
        return outputs, targets.masked_fill(~counted, loss.ignore_index)
    return outputs[counted], targets[counted]


def evaluation_sum(
    loss: nn.Module, outputs: Tensor, targets: Tensor, counted: Tensor | None = None
) -> Tensor:
    """Return (2,) on the device of `outputs`: the sums of a batch's losses and of its weights.

    `mean_over` computes the loss over a split from these, for batches of any sizes. The arguments
    are those of `training_mean`. A large batch is taken in blocks where the loss is known to be a
    weighted mean over its rows.
    """
    if counted is not None and isinstance(loss, SampleLoss):
        return counted_evaluation_sum(loss, outputs, targets, counted)
    if counted is not None:
        outputs, targets = only_counted(loss, outputs, targets, counted)
    if isinstance(loss, Weighted | nn.CrossEntropyLoss | nn.NLLLoss):
        blocks = row_blocks(outputs, targets)
        total = _evaluation_sum(loss, *next(blocks))
        for block in blocks:
            total = total + _evaluation_sum(loss, *block)
        return total
    return _evaluation_sum(loss, outputs, targets)


def _evaluation_sum(loss: nn.Module, outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the `evaluation_sum` (2,) of one block."""
    if isinstance(loss, Weighted) and loss.class_weights is not None:
        total, weight = loss.sums(outputs, targets)
    else:
        weight = torch.as_tensor(sample_weight(loss, targets), device=outputs.device)
        weighted = loss(outputs, targets) * weight
        total = torch.where(weight > 0, weighted, 0)  # the mean over nothing is NaN
    return torch.stack([total.detach().float(), weight.float()])


def mean_over(sums: Sequence[Tensor]) -> float:
    """Return the loss over a split from the `evaluation_sum` (2,) of each of its batches."""
    return weighted_mean(torch.stack(list(sums)).cpu().double().sum(dim=0))


def weighted_mean(sums: Tensor) -> float:
    """Return the quotient of a sum of losses and of weights (2,), NaN for a weight of 0."""
    total, weight = sums.tolist()
    return total / weight if weight else math.nan


class BatchSums:
    """The sum of a tensor over batches; its memory does not grow with them.

    The tensors of the last batches stay on their device, in memory that is allocated once: small
    tensors between batches would keep freed memory from being used again. The host waits for the
    device once in up to `MAX_BATCH_SUMS` batches.
    """

    def __init__(self) -> None:
        self.earlier: Tensor | None = None  # in double precision, on the CPU
        self.num_recent = 0
        self.recent = torch.zeros(0)  # (R, ...)

    def add(self, batch_sum: Tensor) -> None:
        """Add the tensor of a batch; all batches have one shape."""
        if not len(self.recent):
            rows = max(1, min(MAX_BATCH_SUMS, MAX_BLOCK_VALUES // batch_sum.numel()))
            self.recent = batch_sum.new_zeros(rows, *batch_sum.shape)
        self.recent[self.num_recent] = batch_sum
        self.num_recent += 1
        if self.num_recent == len(self.recent):
            self.earlier = self.total()
            self.num_recent = 0

    def total(self) -> Tensor:
        """Return the sum over all batches, in double precision on the CPU; there must be one."""
        recent = self.recent[: self.num_recent].cpu().double().sum(dim=0)
        if self.earlier is None:
            return recent
        return self.earlier + recent

    def state_dict(self) -> dict[str, Any]:
        """Return the total; see `dltrain.types.combining`."""
        return {"total": self.total()}

    def merge(self, state: dict[str, Any]) -> None:
        """Add the total of other batches; this must have some too."""
        self.earlier = self.total() + state["total"]
        self.num_recent = 0


class LossSums:
    """The loss over a split, of which batches are added; its memory does not grow with them."""

    def __init__(self) -> None:
        self.sums = BatchSums()

    def add(self, loss: nn.Module, outputs: Tensor, targets: Tensor) -> None:
        """Add a batch; the arguments are those of `evaluation_sum`."""
        self.sums.add(evaluation_sum(loss, outputs, targets))

    def state_dict(self) -> dict[str, Any]:
        """Return the sums; see `dltrain.types.combining`."""
        return self.sums.state_dict()

    def merge(self, state: dict[str, Any]) -> None:
        """Add the sums of other batches."""
        self.sums.merge(state)

    def mean(self) -> float:
        """Return the loss over all batches; there must be one."""
        return weighted_mean(self.sums.total())


def sample_losses(
    loss: nn.Module, outputs: Tensor, targets: Tensor
) -> tuple[list[float], list[float]]:
    """Return the loss of each sample of a batch, and its weight in the mean over a split.

    The weighted mean over all samples is what `mean_over` returns, for a loss that is a mean over
    samples. A sample of weight 0 has the loss NaN. The arguments are those of `training_mean`.
    """
    sums = [
        evaluation_sum(loss, outputs[row : row + 1], targets[row : row + 1])
        for row in range(len(targets))
    ]
    totals, weights = torch.stack(sums).cpu().double().unbind(1)
    losses: list[float] = (totals / weights).tolist()
    return losses, weights.tolist()


def weighs_samples(loss: nn.Module) -> bool:
    """Return whether samples count differently in the mean of a loss: it has class weights."""
    if isinstance(loss, Weighted):
        return loss.class_weights is not None
    return isinstance(loss, nn.CrossEntropyLoss | nn.NLLLoss) and loss.weight is not None


def total_weight(targets: Tensor, class_weights: Tensor | None, like: Tensor) -> Tensor:
    """Return the sum () of a batch's class weights, with the type and device of `like`."""
    if class_weights is None:
        return like.new_full((), len(targets))
    if targets.is_floating_point():
        return (targets * class_weights).sum().to(like)
    return class_weights[targets].sum().to(like)


class CrossEntropy(Weighted):
    """Cross-entropy -sum_k y_k log p_k of the softmax p: the negative log-likelihood of the class.

    With `label_smoothing` s the target is (1 - s) y + s / K (Szegedy et al. 2016, "Rethinking the
    Inception Architecture for Computer Vision", section 7). `class_weights` are factors of each
    y_k, and means are weighted (see `Weighted`). Balanced weights are n / (K n_k) for a class k
    with n_k of n training samples; `class_counts` is called for the n_k, and 0 counts as 1.

    Raises:
        ValueError: There are not `num_classes` weights.
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
        """Return the loss () of logits (B, K) and targets."""
        if self.class_weights is None or not targets.is_floating_point():
            return self._reduced(logits, targets, "mean")
        total, weight = self.sums(logits, targets)
        return total / weight

    def each(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of each sample (B,); see `SampleLoss.each`."""
        return self._reduced(outputs, targets, "none")

    def sums(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sums of weighted losses and of weights; see `Weighted.sums`."""
        return self._reduced(outputs, targets, "sum"), total_weight(
            targets, self.class_weights, outputs
        )

    def _reduced(self, logits: Tensor, targets: Tensor, reduction: str) -> Tensor:
        return F.cross_entropy(
            logits,
            targets,
            self.class_weights,
            reduction=reduction,
            label_smoothing=self.label_smoothing,
        )


class BinaryCrossEntropy(SampleLoss):
    """Binary cross-entropy -[y log s + (1 - y) log(1 - s)] of sigmoids s, the mean over outputs.

    Every output is a yes-or-no decision of its own. Class numbers become one-hot targets; soft
    targets are in 0..1.
    """

    soft_targets: ClassVar[bool] = True

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss () of outputs (B, K) and targets."""
        return F.binary_cross_entropy_with_logits(outputs, as_soft_targets(targets, outputs))

    def each(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of each sample (B,); see `SampleLoss.each`."""
        soft = as_soft_targets(targets, outputs)
        return F.binary_cross_entropy_with_logits(outputs, soft, reduction="none").mean(1)


class KLDivergence(SampleLoss):
    """KL divergence sum_k y_k (log y_k - log p_k) of the targets y from the softmax p.

    It is the cross-entropy minus the entropy of the targets, so that its minimum is 0 for any
    targets (Kullback and Leibler 1951, "On Information and Sufficiency").
    """

    soft_targets: ClassVar[bool] = True

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the loss () of logits (B, K) and targets."""
        log_p = logits.log_softmax(dim=1)
        return F.kl_div(log_p, as_soft_targets(targets, log_p), reduction="batchmean")

    def each(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of each sample (B,); see `SampleLoss.each`."""
        log_p = outputs.log_softmax(dim=1)
        return F.kl_div(log_p, as_soft_targets(targets, log_p), reduction="none").sum(1)


class Focal(Weighted):
    """Focal loss -sum_k y_k (1 - p_k)^gamma log p_k of the softmax p.

    Samples that are classified correctly with confidence count little; gamma = 0 is cross-entropy
    (Lin et al. 2017, "Focal Loss for Dense Object Detection", equation 4, there with a sigmoid).
    `class_weights` are factors of each y_k as in `CrossEntropy` (equation 5), and means are
    weighted (see `Weighted`).
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
        """Return the loss () of logits (B, K) and targets."""
        total, weight = self.sums(logits, targets)
        return total / weight

    def sums(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sums of weighted losses and of weights; see `Weighted.sums`."""
        total = -self._log_likelihoods(outputs, targets).sum()
        return total, total_weight(targets, self.class_weights, outputs)

    def each(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of each sample (B,); see `SampleLoss.each`."""
        return -self._log_likelihoods(outputs, targets).sum(1)

    def _log_likelihoods(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the weighted y (1 - p)^gamma log p (B, K) of each class."""
        log_p = outputs.log_softmax(dim=1)
        floor = torch.finfo(log_p.dtype).eps  # a power below 1 has an infinite slope at 0
        doubt = (-torch.expm1(log_p)).clamp_min(floor) ** self.gamma  # (1 - p)^gamma
        y = as_soft_targets(targets, log_p)
        if self.class_weights is not None:
            y = y * self.class_weights
        return y * doubt * log_p


class MSE(SampleLoss):
    """Mean squared error (a - y)^2, the mean over outputs a.

    For class numbers a is the softmax and y the one-hot class.
    """

    soft_targets: ClassVar[bool] = False  # it would treat them as the numbers of a regression

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss () of outputs (B, K) and targets."""
        return F.mse_loss(*regression_pair(outputs, targets))

    def each(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of each sample (B,); see `SampleLoss.each`."""
        pair = regression_pair(outputs, targets)
        return F.mse_loss(*pair, reduction="none").flatten(1).mean(1)


class MAE(SampleLoss):
    """Mean absolute error |a - y|, the mean over outputs; a as in `MSE`.

    Outliers weigh less than in the squared error.
    """

    soft_targets: ClassVar[bool] = False

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss () of outputs (B, K) and targets."""
        return F.l1_loss(*regression_pair(outputs, targets))

    def each(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of each sample (B,); see `SampleLoss.each`."""
        pair = regression_pair(outputs, targets)
        return F.l1_loss(*pair, reduction="none").flatten(1).mean(1)


class Huber(SampleLoss):
    """Huber loss: (a - y)^2 / 2 up to a distance `delta`, delta (|a - y| - delta / 2) beyond it.

    It is the mean over outputs; a as in `MSE` (Huber 1964, "Robust Estimation of a Location
    Parameter", section 3).
    """

    soft_targets: ClassVar[bool] = False

    def __init__(self, delta: PositiveFloat = 1.0) -> None:
        super().__init__()
        self.delta = delta

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss () of outputs (B, K) and targets."""
        return F.huber_loss(*regression_pair(outputs, targets), delta=self.delta)

    def each(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of each sample (B,); see `SampleLoss.each`."""
        pair = regression_pair(outputs, targets)
        return F.huber_loss(*pair, delta=self.delta, reduction="none").flatten(1).mean(1)


class Hinge(SampleLoss):
    """Multi-class hinge loss max(0, margin + max_{k != y} z_k - z_y) of logits z and class y.

    The multi-class support vector machine of Crammer and Singer 2001, "On the Algorithmic
    Implementation of Multiclass Kernel-based Vector Machines", section 3. The machine's penalty is
    `regularization=[l2]`.
    """

    soft_targets: ClassVar[bool] = False  # it needs the number of the true class

    def __init__(self, margin: PositiveFloat = 1.0) -> None:
        super().__init__()
        self.margin = margin

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the loss () of logits (B, K) and targets."""
        return self.each(logits, targets).mean()

    def each(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of each sample (B,); see `SampleLoss.each`."""
        true_logits = outputs.gather(1, targets.unsqueeze(1))  # (B, 1)
        others = 1 - as_soft_targets(targets, outputs)  # (B, K), 0 for the true class
        violations = outputs - true_logits + self.margin * others
        return torch.amax(violations, dim=1)


class PerceptronLoss(SampleLoss):
    """Perceptron loss max_k z_k - z_y of logits z and class y: 0 where the true class wins.

    An SGD step on one sample is Rosenblatt's rule for several classes (Crammer and Singer 2003,
    "Ultraconservative Online Algorithms for Multiclass Problems", section 3): add the input to the
    weights of the true class, subtract it from those of the wrong winner.
    """

    soft_targets: ClassVar[bool] = False

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the loss () of logits (B, K) and targets."""
        return self.each(logits, targets).mean()

    def each(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of each sample (B,); see `SampleLoss.each`."""
        true_logits = outputs.gather(1, targets.unsqueeze(1)).squeeze(1)  # (B,)
        return torch.amax(outputs, dim=1) - true_logits
