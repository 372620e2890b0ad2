"""Losses for the tasks: each maps (logits (B, K), targets (B,)) to a scalar, the mean over the batch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dltrain.types import Fraction


class CrossEntropy(nn.Module):
    """Negative log-likelihood of the softmax; `label_smoothing` mixes the target with the uniform distribution.

    Label smoothing: Szegedy et al. 2016, "Rethinking the Inception Architecture", section 7.
    """

    def __init__(self, label_smoothing: Fraction = 0.0) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(logits, targets, label_smoothing=self.label_smoothing)


class PerceptronLoss(nn.Module):
    """How far the best wrong class scores above the right one, and 0 where the right one wins.

    One SGD step on it from a single sample is Rosenblatt's rule for several classes (Crammer and Singer 2003,
    "Ultraconservative Online Algorithms", section 3): add the input to the right class's weights, take it from the
    wrong winner's.
    """

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        right = logits.gather(1, targets.unsqueeze(1)).squeeze(1)  # (B,)
        return (torch.amax(logits, dim=1) - right).mean()
