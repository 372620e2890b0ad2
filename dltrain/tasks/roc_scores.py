"""ROC curves and AUC of a classifier from states of bounded size, gathered batch by batch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from dltrain import metrics
from dltrain.losses import row_blocks
from dltrain.tasks.score_states import FLOAT_BYTES, INDEX_BYTES, SampledRows

MAX_CURVE_CLASSES = 1000  # classes up to which all ROC curves are computed while all rows are kept
MAX_KEPT_VALUES = 2**26  # probabilities that are kept: 268 MB
MAX_KEPT_ROWS = 2**20  # samples whose probabilities of all classes are kept
MAX_TRUE_SCORES = 2**22  # samples whose probability of the true class is kept: 50 MB
MAX_BLOCK_VALUES = 2**20  # probabilities that are sorted at once


def max_kept_rows(num_classes: int) -> int:
    """Return the number of samples whose probabilities of all classes are kept."""
    return max(2, min(MAX_KEPT_ROWS, MAX_KEPT_VALUES // num_classes))


class RocScores:
    """Gathers the probabilities from which the ROC AUC of each of K classes follows.

    Those of all classes are kept for at most `MAX_KEPT_ROWS` samples and `MAX_KEPT_VALUES` numbers.
    While all samples fit, every AUC is exact. Of more samples a random sample is kept (the same in
    every evaluation), and the AUC of a class compares all samples of this class, up to
    `MAX_TRUE_SCORES` over all classes, with the kept samples of the other classes.
    """

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        # Probabilities (R, K) and targets (R,).
        self.rows = SampledRows(max_kept_rows(num_classes))
        # Probabilities of the true class (R,), and targets (R,).
        self.true_scores = SampledRows(MAX_TRUE_SCORES)
        self.own_scores: tuple[list[Tensor], Tensor] | None = None
        self.all_curves: tuple[Tensor, Tensor] | None = None  # curves (K, P) and areas (K,)

    @classmethod
    def state_bytes(cls, samples: int, num_classes: int) -> int:
        """Return the memory of what is kept of some samples."""
        rows = min(samples, max_kept_rows(num_classes))
        scores = min(samples, MAX_TRUE_SCORES)
        row_bytes = FLOAT_BYTES * num_classes + INDEX_BYTES
        return rows * row_bytes + scores * (FLOAT_BYTES + INDEX_BYTES)

    def update(self, logits: Tensor, targets: Tensor) -> None:
        """Add a batch of logits (B, K) and targets (B,); a large batch is never copied."""
        for block_logits, block_targets in row_blocks(logits, targets):
            probabilities = block_logits.float().softmax(dim=1)  # (R, K)
            own = probabilities.gather(1, block_targets.unsqueeze(1)).squeeze(1)
            self.true_scores.keep(own, block_targets)
            self.rows.keep(probabilities, block_targets)

    def state_dict(self) -> dict[str, Any]:
        """Return the kept probabilities."""
        rows = self.rows.state_dict()
        return {"rows": rows, "true_scores": self.true_scores.state_dict()}

    def merge(self, state: dict[str, Any]) -> None:
        """Add the samples of another process, which come after those of this one."""
        self.rows.merge(state["rows"])
        self.true_scores.merge(state["true_scores"])

    @property
    def has_all_curves(self) -> bool:
        """True if the curve of every class is computed, not only of some classes."""
        return self.num_classes <= MAX_CURVE_CLASSES and self.rows.is_complete

    @property
    def is_exact(self) -> bool:
        """True while every sample is kept."""
        return self.rows.is_complete and self.true_scores.is_complete

    def areas(self) -> Tensor:
        """Return the area (K,) under the ROC curve of each class against the rest.

        It is NaN for a class without samples, or without samples of other classes.
        """
        if self.has_all_curves:
            return self._all_curves()[1]
        return self._compared_areas()

    def curves(self, classes: Tensor) -> Tensor:
        """Return the ROC curves (M, P) of some classes (M,), which must have an area."""
        if self.has_all_curves:
            return self._all_curves()[0][classes]
        if not len(classes):
            return torch.zeros(0, metrics.ROC_POINTS)
        return torch.cat([self._curve(k) for k in classes.tolist()])

    def bytes(self) -> int:
        """Return the memory of what is kept."""
        return self.rows.bytes() + self.true_scores.bytes()

    def _all_curves(self) -> tuple[Tensor, Tensor]:
        """Return the curves (K, P) and the areas (K,) of all classes."""
        if self.all_curves is None:
            targets = self.rows.column(1)
            results = [
                metrics.roc_curves(self._columns(block), targets - block.start)
                for block in self._blocks()
            ]
            curves = torch.cat([curves for curves, _ in results]).cpu()
            areas = torch.cat([areas for _, areas in results]).cpu()
            self.all_curves = (curves, areas)
        return self.all_curves

    def _blocks(self) -> Iterator[slice]:
        """Yield the classes in blocks of which the probabilities are few."""
        size = max(1, MAX_BLOCK_VALUES // self.rows.num_kept)
        for first in range(0, self.num_classes, size):
            yield slice(first, min(first + size, self.num_classes))

    def _columns(self, classes: slice) -> Tensor:
        """Return the probabilities (R, M) of some classes for all kept rows."""
        return torch.cat([part[:, classes] for part in self.rows.parts(0)])

    def _compared_areas(self) -> Tensor:
        """Return the areas (K,) as shares of pairs of a sample of the class and one of the rest.

        The area is the share of pairs in which the former has the higher probability; equal ones
        count half (Hanley and McNeil 1982, "The meaning and use of the area under a receiver
        operating characteristic (ROC) curve").
        """
        own_scores, own_counts = self._own_scores()
        row_targets = self.rows.column(1).cpu()
        rest_counts = len(row_targets) - torch.bincount(row_targets, minlength=self.num_classes)
        below = [self._below(block, row_targets, own_scores) for block in self._blocks()]
        twice_won = torch.cat(below).cpu().double()
        twice_pairs = 2.0 * own_counts * rest_counts
        return torch.where(twice_pairs > 0, twice_won / twice_pairs, torch.nan).float()

    def _own_scores(self) -> tuple[list[Tensor], Tensor]:
        """Return the probabilities of each class for its own samples, and their numbers (K,)."""
        if self.own_scores is None:
            targets = self.true_scores.column(1)
            order = targets.argsort(stable=True)
            counts = torch.bincount(targets.cpu(), minlength=self.num_classes)
            scores = self.true_scores.column(0)[order]
            self.own_scores = (list(scores.split(counts.tolist())), counts)
        return self.own_scores

    def _below(self, classes: slice, row_targets: Tensor, own_scores: list[Tensor]) -> Tensor:
        """Return twice the pairs (M,) that the samples of each class win; ties count once."""
        rest = self._columns(classes).T.contiguous()  # (M, R)
        device = rest.device
        row_class = row_targets - classes.start
        is_here = (row_class >= 0) & (row_class < len(rest))
        rows = is_here.nonzero().squeeze(1)
        # Samples of the class itself are not compared: infinity is above every probability.
        rest[row_class[rows].to(device), rows.to(device)] = torch.inf
        rest = rest.sort(dim=1).values
        won = []
        for probabilities, own in zip(rest, own_scores[classes], strict=True):
            below = torch.searchsorted(probabilities, own)
            won.append((below + torch.searchsorted(probabilities, own, right=True)).sum())
        return torch.stack(won)

    def _curve(self, label: int) -> Tensor:
        """Return the ROC curve (1, P) of one class: its samples against those of other classes."""
        own = self._own_scores()[0][label]
        is_other = self.rows.column(1) != label
        rest = self._columns(slice(label, label + 1)).squeeze(1)[is_other]
        # Class 0 are the samples of the class, class 1 the others.
        targets = torch.cat([torch.zeros_like(own), torch.ones_like(rest)]).long()
        scores = torch.cat([own, rest]).unsqueeze(1)
        return metrics.roc_curves(scores, targets)[0].cpu()
