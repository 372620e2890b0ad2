"""What every task that acts shares: how it explores, how a setting falls while it learns, and how its episodes are scored."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

from torch import Tensor

from dltrain.engine import Direction
from dltrain.types import Grid, Spec

NORMAL_95 = 1.959964  # quantile of the normal distribution that 2.5 % lie above
STREAM = "acting"  # the run's generators that actions are drawn from
Row = list[float]
"""The values of a state's actions."""


@runtime_checkable
class World(Protocol):
    """Data to act in."""

    @property
    def spec(self) -> Spec: ...
    @property
    def train(self) -> Any: ...
    @property
    def val(self) -> Any: ...
    def exact_return(self, policy: Tensor) -> float | None: ...
    def picture(self, values: Tensor, policy: Tensor) -> Grid | None: ...


@dataclass(frozen=True)
class Decay:
    """From `start` to `end` over the first `share` of the training, in a line or by the same factor a step; then `end`."""

    start: float
    end: float
    share: float
    kind: Literal["linear", "exponential"] = "linear"

    def at(self, progress: float) -> float:
        """The value after `progress` of the training, in 0..1."""
        done = min(1.0, progress / self.share) if self.share else 1.0
        if self.kind == "linear":
            return self.start + done * (self.end - self.start)
        return self.start * (max(self.end, 1e-12) / max(self.start, 1e-12)) ** done


def greedy(row: Row, generator: random.Random) -> int:
    """Return the best action; of several that are, any."""
    best = max(row)
    if row.count(best) == 1:
        return row.index(best)
    return generator.choice([a for a, value in enumerate(row) if value == best])


class EpsilonGreedy:
    """Any action with probability epsilon, else the best (Sutton and Barto, section 2.2)."""

    def __init__(self, epsilon: float, generator: random.Random) -> None:
        self.epsilon, self.generator = epsilon, generator

    def choose(self, row: Row) -> int:
        if self.generator.random() < self.epsilon:
            return int(self.generator.random() * len(row))
        return greedy(row, self.generator)

    def probabilities(self, row: Row) -> Row:
        best = max(row)
        share = (1 - self.epsilon) / row.count(best)
        least = self.epsilon / len(row)
        return [least + share if value == best else least for value in row]


class Softmax:
    """Actions in proportion to exp(value / temperature): the Boltzmann distribution (equation 13.2)."""

    def __init__(self, temperature: float, generator: random.Random) -> None:
        self.temperature, self.generator = temperature, generator

    def choose(self, row: Row) -> int:
        return self.generator.choices(range(len(row)), self.weights(row))[0]

    def weights(self, row: Row) -> Row:
        best = max(row)
        return [math.exp((value - best) / self.temperature) for value in row]

    def probabilities(self, row: Row) -> Row:
        weights = self.weights(row)
        total = sum(weights)
        return [weight / total for weight in weights]


Policy = EpsilonGreedy | Softmax


def scores_of(episodes: Sequence[tuple[float, int]]) -> dict[str, float]:
    """Mean and deviation of returns, the normal 95 % interval of the mean, and the mean length."""
    returns = [r for r, _ in episodes]
    count = len(returns)
    mean = math.fsum(returns) / count
    deviation = math.sqrt(math.fsum((r - mean) ** 2 for r in returns) / max(1, count - 1))
    half = NORMAL_95 * deviation / math.sqrt(count)
    return {
        "return": mean,
        "return_std": deviation,
        "return_95_low": mean - half,
        "return_95_high": mean + half,
        "length": sum(n for _, n in episodes) / count,
    }


EPISODES: dict[str, Direction | None] = {  # which way each figure of episodes is better
    "return": "max",
    "return_std": None,
    "return_95_low": "max",
    "return_95_high": "max",
    "length": None,
}


def played(batches: Iterable[Any], act: Callable[[Tensor], list[int]]) -> dict[str, float]:
    """The scores of all episodes in `batches` when `act` is done."""
    episodes = [episode for some in batches for episode in some.play(act)]
    if not episodes:
        raise ValueError("there is nothing to evaluate: the split is empty")
    return scores_of(episodes)
