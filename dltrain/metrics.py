"""Scores over a split: of a classifier from all its logits at once, of a regression, of images that were generated.

By torch alone: importing torchmetrics takes seconds and a quarter of a gigabyte (it imports torchvision and scipy). The
tests hold its figures against these.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

TOP_MISTAKES = 16
ROC_POINTS = 200
MOST_FEATURES = 1024  # of which a covariance is analysed: three times as many take ten seconds
PER_CLASS = ("precision", "recall", "f1", "roc auc", "support")


CLASSIFICATION: dict[
    str, Literal["max", "min"] | None
] = {  # which way each figure of a classifier is better
    "accuracy": "max",
    "precision": "max",
    "recall": "max",
    "f1": "max",
    "auroc": "max",
}


def classification(logits: Tensor, targets: Tensor, top_k: int = 5) -> dict[str, Tensor]:
    """Accuracy, top-k accuracy, precision, recall, F1, one-vs-rest ROC AUC; what they consist of by class.

    `logits` (N, K) and `targets` (N,). Precision, recall and F1 are means over the classes (macro) that occur in truth or
    answers, AUC one over the classes that have one. Top-k is left out for k classes or fewer, where it says nothing, and
    AUC where all samples are of one class. With them come `confusion` (K, K; rows: truth), `per_class` (K, 5) with the
    columns `PER_CLASS`, NaN where a class has no AUC, and `roc` (K, P): the true positive rates at `false_positive_rates()`.
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
    right: Tensor, support: Tensor, predicted: Tensor, auc: Tensor
) -> tuple[dict[str, Tensor], Tensor]:
    """Return the mean scores by name, and those of each class (K, 5) with the columns `PER_CLASS`.

    Each argument has a number for each class (K,): samples that were classified rightly, samples of
    the class, samples that were predicted to be of it, and the ROC AUC, NaN where there is none.
    """
    precision = right / predicted.clamp_min(1)
    recall = right / support.clamp_min(1)
    f1 = 2 * right / (support + predicted).clamp_min(1)
    occurs = support + predicted > 0
    has_auc = auc.isfinite()
    scores = {
        "accuracy": right.sum() / int(support.sum()),
        "precision": precision[occurs].mean(),
        "recall": recall[occurs].mean(),
        "f1": f1[occurs].mean(),
    }
    if has_auc.any():
        scores["auroc"] = auc[has_auc].mean()
    return scores, torch.stack([precision, recall, f1, auc, support.to(auc)], dim=1)


def false_positive_rates(device: torch.device | None = None) -> Tensor:
    """Where ROC curves are sampled, (P,) in 0..1: dense near 0, where those of good classifiers rise."""
    return torch.linspace(0, 1, ROC_POINTS, device=device).square()


def roc_curves(probabilities: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Of each class against the rest: true positive rates (K, P) at `false_positive_rates()`, and the area (K,).

    Both are NaN for a class without samples, or with nothing else. The area is exact: the trapezoids of the whole curve,
    in which equal scores are one point (Fawcett 2006, "An introduction to ROC analysis", algorithms 1 and 2).
    """
    at = false_positive_rates(probabilities.device)
    curves, areas = [], []
    for label, scores in enumerate(probabilities.unbind(dim=1)):
        scores, order = scores.sort(descending=True)
        hits = (targets[order] == label).cumsum(dim=0)
        last = torch.cat(
            [scores.diff() != 0, hits.new_ones(1, dtype=torch.bool)]
        )  # of each run of equal scores
        tp, fp = hits[last], (torch.arange(1, len(hits) + 1, device=hits.device) - hits)[last]
        tpr, fpr = (torch.cat([n.new_zeros(1), n]) / n[-1] for n in (tp, fp))
        areas.append(torch.trapezoid(tpr, fpr))
        tpr, fpr = (
            torch.cat([tpr, tpr[-1:]]),
            torch.cat([fpr, fpr[-1:] + 1]),
        )  # something beyond the last point
        right = torch.searchsorted(fpr, at, right=True).clamp(
            max=len(fpr) - 1
        )  # NaN is beyond everything
        left = right - 1
        curves.append(tpr[left].lerp(tpr[right], (at - fpr[left]) / (fpr[right] - fpr[left])))
    return torch.stack(curves), torch.stack(areas)


class WorstMistakes:
    """Keeps the wrong answers that the classifier was surest of, over the batches of an evaluation, and no others:
    what every batch leaves behind would lie between the blocks of memory that the next ones need."""

    def __init__(self, count: int = TOP_MISTAKES) -> None:
        self.count = count
        self.kept: tuple[
            Tensor, ...
        ] = ()  # surprise (M,), inputs (M, ...), targets (M,) and guesses (M,)

    def update(self, inputs: Tensor, logits: Tensor, targets: Tensor) -> None:
        """Look at one batch: inputs (B, ...), logits (B, K), targets (B,)."""
        guesses = logits.argmax(dim=1)
        surprise = torch.nn.functional.cross_entropy(logits.float(), targets, reduction="none")
        surprise = torch.where(guesses == targets, -1.0, surprise)  # a right answer is no mistake
        found = self.surest((surprise, inputs, targets, guesses))
        both = (
            tuple(torch.cat(pair) for pair in zip(self.kept, found, strict=True))
            if self.kept
            else found
        )
        self.kept = self.surest(both)

    def surest(self, columns: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Copies of the rows with the most surprise, which is the first column, in falling order."""
        worst = columns[0].topk(min(self.count, len(columns[0]))).indices
        return tuple(column[worst] for column in columns)

    def compute(self) -> tuple[Tensor, Tensor, Tensor]:
        """Inputs (M, ...), targets (M,) and guesses (M,) of at most `count` mistakes, the surest first."""
        surprise, inputs, targets, guesses = self.kept
        wrong = surprise >= 0
        return inputs[wrong], targets[wrong], guesses[wrong]


def regression(outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """MSE, MAE and R2 (T,) of each target of (N, T), in the unit of both.

    R2 is 1 - sum (y - a)^2 / sum (y - mean of y)^2: 0 for always predicting the mean, and where all y are the same (1 if they
    are predicted exactly).
    """
    errors = (outputs - targets).square().sum(dim=0)
    spread = (targets - targets.mean(dim=0)).square().sum(dim=0)
    varies = (targets != targets[:1]).any(
        dim=0
    )  # the mean of equal numbers may be off by a rounding
    r2 = torch.where(
        varies,
        1 - errors / spread.clamp_min(torch.finfo(spread.dtype).tiny),
        (errors == 0).to(errors),
    )
    return {"mse": errors / len(targets), "mae": (outputs - targets).abs().mean(dim=0), "r2": r2}


class LinearCodes:
    """The least squared error with which a linear code of `code_size` numbers can rebuild a set of samples.

    That is principal component analysis of the very samples: what the eigenvalues of their covariance sum to beyond the
    first `code_size` (Eckart and Young 1936). Sets are known by their first batch, and each is analysed once.
    """

    def __init__(self, code_size: int) -> None:
        self.code_size, self.known = code_size, dict[tuple[int, float], float]()
        self.begin()

    def begin(self) -> LinearCodes:
        """Start with another set, or the same one again."""
        self.key: tuple[int, float] | None = None
        self.count, self.sum, self.products = 0, torch.zeros(0), torch.zeros(0)
        return self

    def update(self, batch: Tensor) -> None:
        """Look at one batch (B, ...)."""
        x = batch.flatten(1)
        if self.key is None:
            self.key = len(x), float(x.sum(dtype=torch.float64))
            self.sum, self.products = x.new_zeros(x.shape[1]), x.new_zeros(x.shape[1], x.shape[1])
        if self.key not in self.known and x.shape[1] <= MOST_FEATURES:
            self.count += len(x)
            self.sum += x.sum(0)
            self.products.addmm_(x.T, x)

    def error(self) -> float | None:
        """The mean over the samples of the set; None where they have more than 1024 numbers each."""
        if self.key is not None and self.count:
            mean = (self.sum / self.count).double().cpu()
            covariance = self.products.double().cpu() / self.count - torch.outer(mean, mean)
            left = torch.linalg.eigvalsh(covariance)[
                : max(0, len(mean) - self.code_size)
            ]  # in rising order
            self.known[self.key] = float(left.clamp_min(0).sum())
        return self.known.get(self.key) if self.key else None


def frechet_distance(one: Tensor, other: Tensor) -> float:
    """Between normal distributions with the means and covariances of features (N, D) and (M, D).

    |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) (Dowson and Landau 1982), whatever network the features are of. The root's
    trace is the sum of the roots of C1 C2's eigenvalues, which are those of the symmetric C1^(1/2) C2 C1^(1/2).
    """
    one, other = one.double().cpu(), other.double().cpu()
    covariances = [
        torch.cov(x.T, correction=min(1, len(x) - 1)).reshape(x.shape[1], x.shape[1])
        for x in (one, other)
    ]
    values, vectors = torch.linalg.eigh(covariances[0])
    root = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
    shared = torch.linalg.eigvalsh(root @ covariances[1] @ root).clamp_min(0).sqrt().sum()
    apart = (one.mean(0) - other.mean(0)).square().sum()
    return float(
        (apart + covariances[0].trace() + covariances[1].trace() - 2 * shared).clamp_min(0)
    )
