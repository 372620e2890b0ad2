"""Scores of a classifier over a split, computed by torchmetrics from all its logits at once."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

TOP_MISTAKES = 16


def classification(logits: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """Accuracy, top-5 accuracy, precision, recall, F1 and one-vs-rest ROC AUC, and the confusion matrix (K, K).

    `logits` (N, K) and `targets` (N,). Precision, recall, F1 and AUC are means over the classes (macro). Top-5 is left
    out for five classes or fewer, where it says nothing.
    """
    import torchmetrics.functional.classification as tm  # seconds to import: only runs that evaluate pay

    k = logits.shape[1]
    probabilities = logits.float().softmax(dim=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a class without samples: its score counts as 0, and that is what is wanted
        scores = {
            "accuracy": tm.multiclass_accuracy(probabilities, targets, k, average="micro"),
            "precision": tm.multiclass_precision(probabilities, targets, k, average="macro"),
            "recall": tm.multiclass_recall(probabilities, targets, k, average="macro"),
            "f1": tm.multiclass_f1_score(probabilities, targets, k, average="macro"),
            "auroc": tm.multiclass_auroc(probabilities, targets, k, average="macro"),
            "confusion": tm.multiclass_confusion_matrix(probabilities, targets, k),
        }
        if k > 5:
            scores["top5"] = tm.multiclass_accuracy(probabilities, targets, k, average="micro", top_k=5)
    return scores


class WorstMistakes:
    """Keeps the wrong answers that the classifier was surest of, over the batches of an evaluation."""

    def __init__(self, count: int = TOP_MISTAKES) -> None:
        self.count = count
        self.surprise: list[Tensor] = []
        self.kept: list[tuple[Tensor, Tensor, Tensor]] = []

    def update(self, inputs: Tensor, logits: Tensor, targets: Tensor) -> None:
        """Look at one batch: inputs (B, ...), logits (B, K), targets (B,)."""
        guesses = logits.argmax(dim=1)
        surprise = torch.nn.functional.cross_entropy(logits.float(), targets, reduction="none")
        surprise = torch.where(guesses == targets, -1.0, surprise)  # a right answer is no mistake
        worst = surprise.topk(min(self.count, len(surprise))).indices
        self.surprise.append(surprise[worst])
        self.kept.append((inputs[worst], targets[worst], guesses[worst]))

    def compute(self) -> tuple[Tensor, Tensor, Tensor]:
        """Inputs (M, ...), targets (M,) and guesses (M,) of at most `count` mistakes, the surest first."""
        surprise = torch.cat(self.surprise)
        inputs, targets, guesses = (torch.cat(column) for column in zip(*self.kept, strict=True))
        order = surprise.argsort(descending=True)[: self.count]
        order = order[surprise[order] >= 0]
        return inputs[order], targets[order], guesses[order]
