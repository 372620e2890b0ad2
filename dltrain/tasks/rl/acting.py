"""Policies, exploration schedules and scores of episodes, shared by the tasks that act."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from dltrain import rng
from dltrain.engine import Direction
from dltrain.types import Grid, Spec

NORMAL_QUANTILE_975 = 1.959964  # 95 % of a normal distribution lie within so many deviations
STREAM = "acting"  # the run's generators that actions are drawn from
MIN_DECAYED = 1e-12  # an exponential decay cannot reach 0
Row = list[float]
"""The values of the actions in a state."""


@runtime_checkable
class EnvironmentData(Protocol):
    """Data that is an environment to act in."""

    @property
    def spec(self) -> Spec:
        """The states and actions."""

    @property
    def train(self) -> Any:
        """Batches of steps to take; see dltrain.data.rl.experience."""

    @property
    def val(self) -> Any:
        """Batches of episodes to play."""

    def exact_return(self, policy: Tensor) -> float | None:
        """Return the expected return of a policy (S,); None where transitions are not known."""

    def picture(self, values: Tensor, policy: Tensor) -> Grid | None:
        """Return a picture of values (S,) and a policy (S,); None outside of a grid world."""


@dataclass(frozen=True)
class Decay:
    """A setting that goes from `start` to `end` over the first `fraction` of training, then stays.

    It changes linearly, or by the same factor in every step.
    """

    start: float
    end: float
    fraction: float
    kind: Literal["linear", "exponential"] = "linear"

    @classmethod
    def from_settings(
        cls,
        start: float,
        end: float | None,
        fraction: float,
        kind: Literal["linear", "exponential"],
    ) -> Decay:
        """Return the decay of a pair of settings; without an `end` it is constant."""
        return cls(start, start if end is None else end, fraction, kind)

    def at(self, progress: float) -> float:
        """Return the value after `progress` of the training, in 0..1."""
        done = min(1.0, progress / self.fraction) if self.fraction else 1.0
        if self.kind == "linear":
            return self.start + done * (self.end - self.start)
        return self.start * (max(self.end, MIN_DECAYED) / max(self.start, MIN_DECAYED)) ** done


def greedy_action(row: Row, generator: random.Random) -> int:
    """Return the best action; one of them at random where several are equally good."""
    best = max(row)
    if row.count(best) == 1:
        return row.index(best)
    return generator.choice([action for action, value in enumerate(row) if value == best])


def greedy_actions(rows: Tensor) -> Tensor:
    """Return the best action (N,) of each row (N, A); one at random of equally good ones."""
    best = rows == rows.amax(1, keepdim=True)
    return (torch.rand(rows.shape, generator=rng.torch_stream(STREAM)) * best).argmax(1)


class EpsilonGreedy:
    """Takes any action with probability epsilon, else the best (Sutton and Barto, section 2.2)."""

    def __init__(self, epsilon: float, generator: random.Random) -> None:
        self.epsilon = epsilon
        self.generator = generator

    def choose(self, row: Row) -> int:
        """Draw an action, given the values of all."""
        if self.generator.random() < self.epsilon:
            return int(self.generator.random() * len(row))
        return greedy_action(row, self.generator)

    def probabilities(self, row: Row) -> Row:
        """Return the probability of each action, given the values of all."""
        best = max(row)
        exploring = self.epsilon / len(row)
        greedy = (1 - self.epsilon) / row.count(best)
        return [greedy + exploring if value == best else exploring for value in row]

    def choose_batch(self, rows: Tensor) -> Tensor:
        """Draw an action (N,) for each row of action values (N, A)."""
        generator = rng.torch_stream(STREAM)
        random_actions = torch.randint(rows.shape[1], rows.shape[:1], generator=generator)
        explores = torch.rand(len(rows), generator=generator) < self.epsilon
        return torch.where(explores, random_actions, greedy_actions(rows))

    def batch_probabilities(self, rows: Tensor) -> Tensor:
        """Return the probability of each action (N, A), given the values (N, A)."""
        best = rows == rows.amax(1, keepdim=True)
        exploring = self.epsilon / rows.shape[1]
        return exploring + (1 - self.epsilon) * best / best.sum(1, keepdim=True)


class Softmax:
    """Draws actions in proportion to exp(value / temperature) (Sutton and Barto, equation 13.2)."""

    def __init__(self, temperature: float, generator: random.Random) -> None:
        self.temperature = temperature
        self.generator = generator

    def choose(self, row: Row) -> int:
        """Draw an action, given the values of all."""
        return self.generator.choices(range(len(row)), self._weights(row))[0]

    def probabilities(self, row: Row) -> Row:
        """Return the probability of each action, given the values of all."""
        weights = self._weights(row)
        total = sum(weights)
        return [weight / total for weight in weights]

    def choose_batch(self, rows: Tensor) -> Tensor:
        """Draw an action (N,) for each row of action values (N, A)."""
        generator = rng.torch_stream(STREAM)
        return torch.multinomial(self.batch_probabilities(rows), 1, generator=generator)[:, 0]

    def batch_probabilities(self, rows: Tensor) -> Tensor:
        """Return the probability of each action (N, A), given the values (N, A)."""
        return (rows / self.temperature).softmax(1)

    def _weights(self, row: Row) -> Row:
        best = max(row)
        return [math.exp((value - best) / self.temperature) for value in row]


Policy = EpsilonGreedy | Softmax


def episode_scores(episodes: Sequence[tuple[float, int]]) -> dict[str, float]:
    """Return the scores of episodes, each a (return, length).

    They are the mean and the standard deviation of the returns, the normal 95 % confidence interval
    of the mean, and the mean length in steps.
    """
    returns = [episode_return for episode_return, _ in episodes]
    count = len(returns)
    mean = math.fsum(returns) / count
    squares = math.fsum((episode_return - mean) ** 2 for episode_return in returns)
    std = math.sqrt(squares / max(1, count - 1))
    half_width = NORMAL_QUANTILE_975 * std / math.sqrt(count)
    return {
        "return": mean,
        "return_std": std,
        "return_95_low": mean - half_width,
        "return_95_high": mean + half_width,
        "length": sum(length for _, length in episodes) / count,
    }


EPISODE_DIRECTIONS: dict[str, Direction | None] = {
    "return": "max",
    "return_std": None,
    "return_95_low": "max",
    "return_95_high": "max",
    "length": None,
}


def score_episodes(batches: Iterable[Any], act: Callable[[Tensor], list[int]]) -> dict[str, float]:
    """Play all episodes of `batches` with the policy `act` and return their scores.

    Raises:
        ValueError: There are no batches.
    """
    episodes = [episode for batch in batches for episode in batch.play(act)]
    if not episodes:
        raise ValueError("there is nothing to evaluate: the split is empty")
    return episode_scores(episodes)
