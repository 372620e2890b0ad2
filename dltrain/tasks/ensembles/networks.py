"""Ensembles as networks: several classifiers that give the logits of one.

Legend of the shapes: M members, B inputs, K classes.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from dltrain.tasks.ensembles.combiners import Combiner


class Ensembled(Protocol):
    """A network of several members."""

    members: nn.ModuleList

    def __call__(self, inputs: Tensor) -> Tensor:
        """Return the logits (B, K) of the ensemble for inputs (B, ...)."""

    def combined(self, inputs: Tensor, logits: Tensor) -> Tensor:
        """Return the same, given the logits (M, B, K) of the members."""


class CombinedOutputs(nn.Module):
    """Classifiers whose outputs are combined by a rule."""

    def __init__(self, members: Sequence[nn.Module], combine: Combiner) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.combine = combine

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the combined logits (B, K) for inputs (B, ...)."""
        return self.combined(inputs, member_logits(self.members, inputs))

    def combined(self, inputs: Tensor, logits: Tensor) -> Tensor:
        """Return the combined logits (B, K) for logits (M, B, K) of the members."""
        return self.combine(logits)


class Soup(nn.Module):
    """One network with averaged weights of members that have the same layers.

    It costs as much as one member (Wortsman et al. 2022, "Model soups: averaging weights of
    multiple fine-tuned models improves accuracy without increasing inference time"). The members
    stay, so that they can be compared with it. Until `stir` it has the weights of the first member.
    """

    chosen: Tensor  # (M,), the members whose weights are averaged

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.mixture = copy.deepcopy(members[0])
        self.register_buffer("chosen", torch.zeros(len(members), dtype=torch.bool))

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the logits (B, K) of the averaged network for inputs (B, ...)."""
        logits: Tensor = self.mixture(inputs)
        return logits

    def combined(self, inputs: Tensor, logits: Tensor) -> Tensor:
        """Return the same: the logits of the members are not needed."""
        return self(inputs)

    def stir(self, score: Callable[[], float], adapt: Callable[[nn.Module], None]) -> float:
        """Choose members greedily (algorithm 1), and return the score of their mean.

        Args:
            score: Returns the validation accuracy of the averaged network.
            adapt: Computes the statistics of its batch norms for new weights.
        """
        ranked = sorted(range(len(self.members)), key=lambda i: -self._score_of([i], score, adapt))
        best = self._score_of(ranked[:1], score, adapt)
        chosen = ranked[:1]
        for candidate in ranked[1:]:
            value = self._score_of([*chosen, candidate], score, adapt)
            if value >= best:
                best = value
                chosen.append(candidate)
        self._average(chosen, adapt)
        self.chosen.zero_()
        self.chosen[chosen] = True
        return best

    def _score_of(
        self, chosen: list[int], score: Callable[[], float], adapt: Callable[[nn.Module], None]
    ) -> float:
        """Return the score of the mean of some members."""
        self._average(chosen, adapt)
        return score()

    def _average(self, chosen: list[int], adapt: Callable[[nn.Module], None]) -> None:
        """Let the averaged network have the mean weights of some members."""
        states = [self.members[i].state_dict() for i in chosen]
        self.mixture.load_state_dict(mean_state(states))
        if len(chosen) > 1:
            adapt(self.mixture)


def member_logits(members: Iterable[nn.Module], inputs: Tensor) -> Tensor:
    """Return the logits (M, B, K) of all members for inputs (B, ...)."""
    return torch.stack([member(inputs) for member in members])


def mean_state(states: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the mean of each floating-point tensor of some states; others are the first's."""
    mean = dict(states[0])
    for name, value in states[0].items():
        if value.is_floating_point():
            values = torch.stack([state[name] for state in states])
            mean[name] = values.mean(dim=0)
    return mean
