"""Scores of a split: of a classifier from all logits at once, of a regression, of generated images.

They use torch alone, since importing torchmetrics takes seconds and a quarter of a gigabyte (it
imports torchvision and scipy). The tests compare them with those of torchmetrics.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from dltrain.losses import row_blocks

TOP_MISTAKES = 16
ROC_POINTS = 200
MAX_FEATURES = 1024  # of which a covariance is analyzed; three times as many take ten seconds
PER_CLASS = ("precision", "recall", "f1", "roc auc", "support")
CLASSIFICATION: dict[str, Literal["max", "min"] | None] = {  # the direction of each score
    "accuracy": "max",
    "precision": "max",
    "recall": "max",
    "f1": "max",
    "auroc": "max",
    "ece": "min",
    "brier": "min",
    "nll": "min",
}


def classification(logits: Tensor, targets: Tensor, top_k: int = 5) -> dict[str, Tensor]:
    """Return the scores of logits (N, K) for targets (N,).

    Precision, recall and F1 are means over the classes (macro) that occur among targets or
    predictions, the one-vs-rest ROC AUC is the mean over the classes that have one. Top-k accuracy
    is left out for k classes or fewer, where it is always 1, and the AUC where all samples are of
    one class.

    Returns:
        Numbers () by name, and three more: `confusion` (K, K), rows by true class; `per_class` (K,
        5) with the columns `PER_CLASS`, NaN where a class has no AUC; `roc` (K, P), the true
        positive rates at `false_positive_rates()`.
    """
    k = logits.shape[1]
    confusion = torch.bincount(targets * k + logits.argmax(dim=1), minlength=k * k).view(k, k)
    roc, auc = roc_curves(logits.float().softmax(dim=1), targets)
    scores, per_class = scores_by_class(
        confusion.diagonal(), confusion.sum(dim=1), confusion.sum(dim=0), auc
    )
    if k > top_k:
        hits = (logits.topk(top_k).indices == targets.unsqueeze(1)).any(dim=1)
        scores[f"top{top_k}"] = hits.float().mean()
    return scores | {"confusion": confusion, "per_class": per_class, "roc": roc}


def scores_by_class(
    correct: Tensor, support: Tensor, predicted: Tensor, auc: Tensor
) -> tuple[dict[str, Tensor], Tensor]:
    """Return the mean scores by name, and those of each class (K, 5) with the columns `PER_CLASS`.

    Each argument has a number for each class (K,): samples that were classified correctly, samples
    of the class, samples that were predicted to be of it, and the ROC AUC, NaN where there is none.
    """
    precision = correct / predicted.clamp_min(1)
    recall = correct / support.clamp_min(1)
    f1 = 2 * correct / (support + predicted).clamp_min(1)
    occurs = support + predicted > 0
    has_auc = auc.isfinite()
    scores = {
        "accuracy": correct.sum() / int(support.sum()),
        "precision": precision[occurs].mean(),
        "recall": recall[occurs].mean(),
        "f1": f1[occurs].mean(),
    }
    if has_auc.any():
        scores["auroc"] = auc[has_auc].mean()
    return scores, torch.stack([precision, recall, f1, auc, support.to(auc)], dim=1)


def false_positive_rates(device: torch.device | None = None) -> Tensor:
    """Return the false positive rates (P,) in 0..1 at which ROC curves are sampled.

    They are dense near 0, where the curves of good classifiers rise.
    """
    return torch.linspace(0, 1, ROC_POINTS, device=device).square()


def roc_curves(probabilities: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return the ROC curve of each class against the rest, from probabilities (N, K), targets (N,).

    The area is exact: the trapezoids under the whole curve, in which equal probabilities are one
    point (Fawcett 2006, "An introduction to ROC analysis", algorithms 1 and 2).

    Returns:
        True positive rates (K, P) at `false_positive_rates()`, and areas (K,). Both are NaN for a
        class without samples, or with all samples.
    """
    sampled_at = false_positive_rates(probabilities.device)
    curves: list[Tensor] = []
    areas: list[Tensor] = []
    for label, scores in enumerate(probabilities.unbind(dim=1)):
        scores, order = scores.sort(descending=True)
        positives = (targets[order] == label).cumsum(dim=0)
        negatives = torch.arange(1, len(positives) + 1, device=positives.device) - positives
        # The last of each run of equal scores.
        is_last = torch.cat([scores.diff() != 0, positives.new_ones(1, dtype=torch.bool)])
        tpr = _rates(positives[is_last])
        fpr = _rates(negatives[is_last])
        areas.append(torch.trapezoid(tpr, fpr))
        curves.append(_interpolated(tpr, fpr, sampled_at))
    return torch.stack(curves), torch.stack(areas)


def _rates(counts: Tensor) -> Tensor:
    """Return cumulated counts (M,) as rates (M + 1,) from 0 to 1; NaN where the last count is 0."""
    return torch.cat([counts.new_zeros(1), counts]) / counts[-1]


def _interpolated(tpr: Tensor, fpr: Tensor, sampled_at: Tensor) -> Tensor:
    """Return the true positive rates (P,) of a curve (M,) at false positive rates (P,)."""
    tpr = torch.cat([tpr, tpr[-1:]])  # a point beyond the end, to interpolate towards
    fpr = torch.cat([fpr, fpr[-1:] + 1])
    # The clamp is for NaN, which sorts beyond everything.
    right = torch.searchsorted(fpr, sampled_at, right=True).clamp(max=len(fpr) - 1)
    left = right - 1
    return tpr[left].lerp(tpr[right], (sampled_at - fpr[left]) / (fpr[right] - fpr[left]))


class WorstMistakes:
    """Keeps the wrong predictions with the highest loss, over the batches of an evaluation.

    Other samples are not kept, not even as views of a batch: their memory would lie between the
    blocks that the next batches need.
    """

    def __init__(self, count: int = TOP_MISTAKES) -> None:
        self.count = count
        # Losses (M,), inputs (M, ...), targets (M,) and predictions (M,), by falling loss.
        self.kept: tuple[Tensor, ...] = ()

    def update(self, inputs: Tensor, logits: Tensor, targets: Tensor) -> None:
        """Add a batch of inputs (B, ...), logits (B, K) and targets (B,)."""
        predictions = logits.argmax(dim=1)
        losses = torch.cat(
            [
                cross_entropy(part.float(), truth, reduction="none")
                for part, truth in row_blocks(logits, targets)
            ]
        )
        losses = torch.where(predictions == targets, -1.0, losses)  # below every mistake's
        self._add(self._highest((losses, inputs, targets, predictions)))

    def state_dict(self) -> dict[str, Any]:
        """Return the kept samples; see `dltrain.types.combining`."""
        return {"kept": self.kept}

    def merge(self, state: dict[str, Any]) -> None:
        """Add the kept samples of other batches."""
        if state["kept"]:
            self._add(state["kept"])

    def _add(self, columns: tuple[Tensor, ...]) -> None:
        """Keep the worst of the kept samples and of others, as `kept`."""
        if self.kept:
            columns = tuple(torch.cat(pair) for pair in zip(self.kept, columns, strict=True))
        self.kept = self._highest(columns)

    def _highest(self, columns: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return copies of the rows with the highest values of the first column, falling."""
        rows = columns[0].topk(min(self.count, len(columns[0]))).indices
        return tuple(column[rows] for column in columns)

    def compute(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return inputs (M, ...), targets (M,) and predictions (M,), the worst mistakes first."""
        losses, inputs, targets, predictions = self.kept
        is_wrong = losses >= 0
        return inputs[is_wrong], targets[is_wrong], predictions[is_wrong]


def regression(outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """Return MSE, MAE and R2 (T,) of each target of outputs and targets (N, T), in their unit.

    R2 is 1 - sum (y - a)^2 / sum (y - mean of y)^2: 0 for always predicting the mean. Where all y
    are equal it is 1 if they are predicted exactly, else 0.
    """
    errors = (outputs - targets).square().sum(dim=0)
    spread = (targets - targets.mean(dim=0)).square().sum(dim=0)
    # Compared with the first, since the mean of equal numbers may be off by a rounding.
    varies = (targets != targets[:1]).any(dim=0)
    explained = 1 - errors / spread.clamp_min(torch.finfo(spread.dtype).tiny)
    r2 = torch.where(varies, explained, (errors == 0).to(errors))
    return {"mse": errors / len(targets), "mae": (outputs - targets).abs().mean(dim=0), "r2": r2}


class LinearCodes:
    """The lowest squared error with which a linear code can reconstruct a set of samples.

    The best linear code of `code_size` numbers is principal component analysis of the same samples;
    its error is the sum of the covariance's eigenvalues beyond the first `code_size` (Eckart and
    Young 1936, "The Approximation of One Matrix by Another of Lower Rank"). A set is recognized by
    the size and the sum of its first batch. On a CPU a known set is not analyzed again; another
    device analyzes it, since reading the sum would make it wait.
    """

    def __init__(self, code_size: int) -> None:
        self.code_size = code_size
        self.known_errors = dict[tuple[int, float], float]()
        self.begin()

    def begin(self) -> LinearCodes:
        """Start with another set, or with the same one again."""
        self.first: tuple[int, Tensor] | None = None  # size and sum () of the first batch
        self.is_known = False
        self.count = 0
        self.sum = torch.zeros(0)
        self.products = torch.zeros(0)
        return self

    def update(self, batch: Tensor) -> None:
        """Add a batch (B, ...)."""
        x = batch.flatten(1)  # (B, F)
        num_features = x.shape[1]
        if self.first is None:
            self.first = len(x), x.sum(dtype=torch.float64)
            self.is_known = x.is_cpu and self._key(self.first) in self.known_errors
            self.sum = x.new_zeros(num_features)
            self.products = x.new_zeros(num_features, num_features)
        if not self.is_known and num_features <= MAX_FEATURES:
            self.count += len(x)
            self.sum += x.sum(0)
            self.products.addmm_(x.T, x)

    @staticmethod
    def _key(first: tuple[int, Tensor]) -> tuple[int, float]:
        """Return what recognizes a set, from the size and the sum () of its first batch."""
        size, total = first
        return size, float(total)

    def error(self) -> float | None:
        """Return the mean error over the samples; None for more than 1024 features."""
        if self.first is None:
            return None
        key = self._key(self.first)
        if self.count and key not in self.known_errors:
            mean = (self.sum / self.count).double().cpu()
            covariance = self.products.double().cpu() / self.count - torch.outer(mean, mean)
            num_lost = max(0, len(mean) - self.code_size)
            lost = torch.linalg.eigvalsh(covariance)[:num_lost]  # eigenvalues rise
            self.known_errors[key] = float(lost.clamp_min(0).sum())
        return self.known_errors.get(key)


def frechet_distance(one: Tensor, other: Tensor) -> float:
    """Return the Frechet distance between normal distributions fitted to features (N, D), (M, D).

    It is |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) (Dowson and Landau 1982, "The Frechet Distance
    between Multivariate Normal Distributions"), for features of any network. The root's trace is
    the sum of the roots of C1 C2's eigenvalues, which are those of the symmetric C1^(1/2) C2
    C1^(1/2).
    """
    one = one.double().cpu()
    other = other.double().cpu()
    covariance = _covariance(one)
    other_covariance = _covariance(other)
    eigenvalues, vectors = torch.linalg.eigh(covariance)
    root = (vectors * eigenvalues.clamp_min(0).sqrt()) @ vectors.T
    products = torch.linalg.eigvalsh(root @ other_covariance @ root)
    root_trace = products.clamp_min(0).sqrt().sum()
    mean_distance = (one.mean(0) - other.mean(0)).square().sum()
    traces = mean_distance + covariance.trace() + other_covariance.trace()
    return float((traces - 2 * root_trace).clamp_min(0))


def _covariance(features: Tensor) -> Tensor:
    """Return the covariance (D, D) of features (N, D); zeros for one sample."""
    size = features.shape[1]
    correction = min(1, len(features) - 1)
    return torch.cov(features.T, correction=correction).reshape(size, size)
