"""Experience: an environment as batches. A batch is a span of steps that the task takes itself; an evaluation is episodes.

Nothing is stepped before the task does it, so a checkpoint between two batches finds the environment where the last step
left it. Most environments cannot be saved: of an episode its number, which is its seed, and its actions are, and a resume
takes them again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from dltrain import rng
from dltrain.data.rl.dynamics import Copies

RECENT = 100  # episodes of the moving average
AT_ONCE = 64  # episodes that are played side by side
TRAIN, VAL, TEST = 0, 1, 2


def seed_of(*key: int) -> int:
    """The seed of an episode, as a function of (seed, split, number)."""
    return int(np.random.SeedSequence([k % 2**32 for k in key]).generate_state(1)[0])


@dataclass(frozen=True)
class Maker:
    """How environments are made and read: `encode` makes a state's number or an array of what they show."""

    make: Callable[[], Any]
    encode: Callable[[Any], Any]
    first_action: int
    seed: int
    limit: int
    example: Callable[[int], Tensor]


def stacked(states: list[Any]) -> Tensor:
    """What several environments show as one tensor (N, ...), or the numbers of their states (N,)."""
    if isinstance(states[0], int):
        return torch.tensor(states)
    return (
        torch.from_numpy(states[0])[None]
        if len(states) == 1
        else torch.from_numpy(np.stack(states))
    )


class Live:
    """One environment and the episode in it: `number`, the `actions` so far, their `total` reward, and the `state` it is in.

    The environment is made when it is first needed; a state that was loaded is then reached by the same actions again.
    """

    def __init__(
        self, maker: Maker, number: int, stride: int, finished: list[tuple[float, int]]
    ) -> None:
        self.maker, self.number, self.stride, self.finished = maker, number, stride, finished
        self.environment: Any = None
        self.actions: list[int] = []
        self.total = 0.0
        self.state: Any = None

    def begin(self) -> None:
        """Be where the episode is: at its first state, or after the actions that were loaded."""
        if self.environment is not None:
            return
        actions = self.actions
        with rng.preserved():
            self.environment = self.maker.make()
            self._reset()
            for action in actions:
                self.step(action)

    def _reset(self) -> None:
        observation, _ = self.environment.reset(seed=seed_of(self.maker.seed, TRAIN, self.number))
        self.state, self.actions, self.total = self.maker.encode(observation), [], 0.0

    def step(self, action: int) -> tuple[Any, float, bool, bool]:
        """What came after, the reward, whether the episode terminated, and whether it ended, by termination or its limit.

        After an end the next episode has begun, and `state` is its first."""
        observation, reward, terminated, truncated, _ = self.environment.step(
            action + self.maker.first_action
        )
        reward = float(reward)
        self.actions.append(action)
        self.total += reward
        after = self.state = self.maker.encode(observation)
        if not (terminated or truncated):
            return after, reward, False, False
        self.finished.append((self.total, len(self.actions)))
        self.number += self.stride
        self._reset()
        return after, reward, bool(terminated), True

    def state_dict(self) -> dict[str, Any]:
        return {"number": self.number, "actions": torch.tensor(self.actions, dtype=torch.int64)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.number, self.actions, self.environment = (
            state["number"],
            state["actions"].tolist(),
            None,
        )


class Stateful(Protocol):
    """What a task remembers between two spans: a replay buffer, traces, an action that is chosen and not yet taken."""

    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Experience:
    """What a task trains on: `samples` steps (or episodes, as `unit` says) an epoch, `batch_size` of them a batch.

    `envs` environments are acted in at once; `copies` makes them as arrays, where there are several and their transitions are
    known. What the task hands over as `memory` is saved with them.
    """

    def __init__(
        self,
        maker: Maker,
        envs: int,
        unit: Literal["steps", "episodes"],
        batch_size: int,
        samples: int,
        copies: Callable[[list[tuple[float, int]]], Copies] | None = None,
    ) -> None:
        self.maker, self.unit, self.batch_size, self.samples = maker, unit, batch_size, samples
        self.finished: list[tuple[float, int]] = []
        self.recent: deque[tuple[float, int]] = deque(maxlen=RECENT)
        self.episodes = self.steps = 0
        self.live = [Live(maker, i, envs, self.finished) for i in range(envs)]
        self.memory: Stateful | None = None
        self.copies = None if copies is None else copies(self.finished)

    def __len__(self) -> int:
        return -(-self.samples // self.batch_size)

    def epoch(self, number: int, start: int = 0) -> Iterator[Span]:
        for position in range(start, len(self)):
            yield Span(self, min(self.batch_size, self.samples - position * self.batch_size))

    def state_dict(self) -> dict[str, Any]:
        return {
            "live": [live.state_dict() for live in self.live],
            "copies": self.copies.state_dict() if self.copies is not None else {},
            "recent": list(self.recent),
            "counts": [self.episodes, self.steps],
            "memory": self.memory.state_dict() if self.memory is not None else {},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for live, saved in zip(self.live, state["live"], strict=False):
            live.load_state_dict(saved)
        if self.copies is not None and state["copies"]:
            self.copies.load_state_dict(state["copies"])
        self.recent = deque(map(tuple, state["recent"]), maxlen=RECENT)
        self.episodes, self.steps = state["counts"]
        if self.memory is not None and state["memory"]:
            self.memory.load_state_dict(state["memory"])


class Span:
    """Steps to be taken: iterate over it and step every environment of `live` (or `copies`) once each time."""

    def __init__(self, experience: Experience, count: int) -> None:
        self.experience, self.count = experience, count

    @property
    def live(self) -> list[Live]:
        """The environments, each where its episode is."""
        for live in self.experience.live:
            live.begin()
        return self.experience.live

    @property
    def copies(self) -> Copies | None:
        return self.experience.copies

    def __iter__(self) -> Iterator[int]:
        e = self.experience
        if e.unit == "steps":
            return iter(range(-(-self.count // len(e.live))))
        return self._episodes()

    def _episodes(self) -> Iterator[int]:
        """Until so many episodes have finished."""
        finished, turn = self.experience.finished, 0
        while len(finished) < self.count:
            yield turn
            turn += 1

    def outcome(self, steps: int) -> dict[str, Tensor]:
        """Means of the episodes that have finished in this span, and of the last hundred; `steps` were taken."""
        e = self.experience
        e.steps += steps
        if not e.finished:
            return {}
        e.recent.extend(e.finished)
        e.episodes += len(e.finished)
        returns, lengths = zip(*e.finished, strict=True)
        e.finished.clear()
        figures = {
            "return": sum(returns) / len(returns),
            "length": sum(lengths) / len(lengths),
            "return_average": sum(r for r, _ in e.recent) / len(e.recent),
            "length_average": sum(n for _, n in e.recent) / len(e.recent),
            "episodes": float(e.episodes),
        }
        return {name: torch.tensor(value, dtype=torch.float64) for name, value in figures.items()}

    stacked = staticmethod(stacked)

    def example(self) -> Tensor:
        return self.experience.maker.example(self.count)


class Episodes:
    """What a task is scored on: `samples` episodes with seeds of their own, up to 64 a batch, the same in every epoch."""

    def __init__(self, maker: Maker, samples: int, split: int) -> None:
        self.maker, self.samples, self.split = maker, samples, split
        self.batch_size = min(samples, AT_ONCE)
        self.environments: list[Any] = []

    def __len__(self) -> int:
        return -(-self.samples // self.batch_size)

    def epoch(self, number: int, start: int = 0) -> Iterator[Some]:
        for first in range(start * self.batch_size, self.samples, self.batch_size):
            yield Some(self, range(first, min(first + self.batch_size, self.samples)))

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Some:
    """Episodes to be played."""

    def __init__(self, episodes: Episodes, numbers: range) -> None:
        self.episodes, self.numbers = episodes, numbers

    def example(self) -> Tensor:
        return self.episodes.maker.example(len(self.numbers))

    def play(self, act: Callable[[Tensor], list[int]]) -> list[tuple[float, int]]:
        """The return and length of each episode when `act` is done; of one without an end after `maker.limit` steps."""
        e, maker = self.episodes, self.episodes.maker
        e.environments += [maker.make() for _ in range(len(self.numbers) - len(e.environments))]
        environments = e.environments[: len(self.numbers)]
        states = [
            maker.encode(environment.reset(seed=seed_of(maker.seed, e.split, number))[0])
            for environment, number in zip(environments, self.numbers, strict=True)
        ]
        totals, lengths, going = [0.0] * len(states), [0] * len(states), list(range(len(states)))
        while going:
            actions = act(stacked([states[i] for i in going]))
            for i, action in zip(list(going), actions, strict=True):
                observation, reward, terminated, truncated, _ = environments[i].step(
                    action + maker.first_action
                )
                totals[i] += float(reward)
                lengths[i] += 1
                states[i] = maker.encode(observation)
                if terminated or truncated or lengths[i] >= maker.limit:
                    going.remove(i)
        return list(zip(totals, lengths, strict=True))
