"""Rules that combine the predictions of several classifiers.

Legend of the shapes: M members, B inputs, K classes, N validation samples.
"""

from __future__ import annotations

import math
from typing import Literal, Protocol, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MAX_ITERATIONS = 200  # of L-BFGS
Combine: TypeAlias = Literal["mean", "vote", "stacking", "soup"]


class Combiner(Protocol):
    """A rule that combines predictions."""

    def __call__(self, logits: Tensor) -> Tensor:
        """Return the logits (B, K) of the ensemble for those of its members (M, B, K)."""


def mean_of_probabilities(logits: Tensor) -> Tensor:
    """Return the logarithms (B, K) of the mean probabilities of logits (M, B, K).

    For one member they are its own logits.
    """
    if len(logits) == 1:
        return logits[0]
    return logits.float().log_softmax(dim=2).logsumexp(dim=0) - math.log(len(logits))


def majority_vote(logits: Tensor) -> Tensor:
    """Return logits (B, K) whose highest is the class with the most votes of logits (M, B, K).

    With v_k votes and the mean probability p_k, class k has the probability (v_k + p_k) / (M + 1).
    So the mean probability decides between classes with equally many votes, and no probability is
    0. For one member they are its own logits.
    """
    if len(logits) == 1:
        return logits[0]
    votes = F.one_hot(logits.argmax(dim=2), logits.shape[2]).sum(dim=0)  # (B, K)
    mean = logits.float().softmax(dim=2).mean(dim=0)
    return (votes + mean).log() - math.log(len(logits) + 1)


class Stacking(nn.Module):
    """A linear model of the members' log-probabilities (Wolpert 1992, "Stacked Generalization").

    It is fitted to validation samples, which no member was trained on: to training samples it would
    learn to trust the members that have memorized them. Until then it averages the logarithms.
    """

    averaging: Tensor  # (M, K, K), the weights that average logarithms
    weight: Tensor  # (M, K, K)
    bias: Tensor  # (K,)

    def __init__(self, num_members: int, num_classes: int, penalty: float) -> None:
        super().__init__()
        self.penalty = penalty
        averaging = torch.eye(num_classes).expand(num_members, -1, -1) / num_members
        self.register_buffer("averaging", averaging.clone(), persistent=False)
        self.register_buffer("weight", averaging.clone())
        self.register_buffer("bias", torch.zeros(num_classes))

    def forward(self, logits: Tensor) -> Tensor:
        """Return the logits (B, K) of the linear model for those of the members (M, B, K)."""
        return linear(logits.float(), self.weight, self.bias)

    def fit(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Fit the model to logits (M, N, K) and targets (N,), and return its loss ().

        L-BFGS minimizes the mean negative log-likelihood plus `penalty` times the squared
        distance of the weights from those that average the members.
        """
        weight, bias = fitted(logits, targets, self.averaging, self.penalty)
        self.weight.copy_(weight)
        self.bias.copy_(bias)
        return F.cross_entropy(self(logits), targets)


def linear(logits: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return sum_m log_softmax(l_m) W_m + b, (B, K), for logits (M, B, K)."""
    return torch.bmm(logits.log_softmax(dim=2), weight).sum(dim=0) + bias


def fitted(
    logits: Tensor, targets: Tensor, averaging: Tensor, penalty: float
) -> tuple[Tensor, Tensor]:
    """Return weight (M, K, K) and bias (K,) of stacking, computed in double precision."""
    with torch.inference_mode(False), torch.enable_grad():
        logits = logits.detach().double().cpu()
        targets = targets.cpu()
        start = averaging.double().cpu()
        weight = start.clone().requires_grad_()
        bias = torch.zeros(start.shape[2], dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.LBFGS(
            [weight, bias], max_iter=MAX_ITERATIONS, line_search_fn="strong_wolfe"
        )

        def loss() -> Tensor:
            optimizer.zero_grad()
            distance = (weight - start).square().sum() + bias.square().sum()
            likelihood = F.cross_entropy(linear(logits, weight, bias), targets)
            value = likelihood + penalty * distance
            value.backward()
            return value

        optimizer.step(loss)
    return weight.detach(), bias.detach()
