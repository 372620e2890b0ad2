"""An environment as batches of experience.

A training batch is a number of steps that the task takes itself; an evaluation batch is a number of
episodes. Nothing is stepped before the task does it, so a checkpoint between two batches finds the
environment where the last step left it. Most environments cannot be saved. Of an episode its
number, which is its seed, and its actions are saved, and a resume takes the same actions again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from dltrain import rng
from dltrain.data.rl.vector_env import VectorEnv

RECENT_EPISODES = 100  # in the moving average
EPISODES_AT_ONCE = 64  # of an evaluation batch
TRAIN = 0  # the splits, in the seeds of their episodes
VAL = 1
TEST = 2


def seed_of(*key: int) -> int:
    """Return the seed of an episode, a function of (seed, split, number)."""
    words = np.random.SeedSequence([k % 2**32 for k in key]).generate_state(1)
    return int(words[0])


def stack_observations(observations: list[Any]) -> Tensor:
    """Stack the observations of N environments to a tensor (N, ...), or (N,) of state numbers."""
    if isinstance(observations[0], int):
        return torch.tensor(observations)
    if len(observations) == 1:
        return torch.from_numpy(observations[0])[None]
    return torch.from_numpy(np.stack(observations))


@dataclass(frozen=True)
class EnvFactory:
    """Makes environments, and reads their observations and actions."""

    make: Callable[[], Any]
    """Return a new environment of Gymnasium."""

    encode: Callable[[Any], Any]
    """Return the state number or the array that an observation becomes."""

    first_action: int
    """The environment's number of the action 0."""

    seed: int

    max_steps: int
    """The number of steps after which an evaluation episode ends."""

    example: Callable[[int], Tensor]
    """Return so many first observations (N, ...)."""


class EnvRunner:
    """One training environment and the episode in it.

    The environment is made when it is first needed; a loaded state is then reached by taking the
    same actions again.

    Attributes:
        number: The number of the episode, from which its seed follows.
        actions: The actions of the episode so far.
        total: The sum of their rewards.
        state: The state number or array of the current observation.
    """

    def __init__(
        self, factory: EnvFactory, number: int, stride: int, finished: list[tuple[float, int]]
    ) -> None:
        self.factory = factory
        self.number, self.stride = number, stride
        self.finished = finished
        self.environment: Any = None
        self.actions: list[int] = []
        self.total = 0.0
        self.state: Any = None

    def begin(self) -> None:
        """Make the environment, if it is not made yet, and take the actions that were loaded."""
        if self.environment is not None:
            return
        actions = self.actions
        with rng.preserved():
            self.environment = self.factory.make()
            self._reset()
            for action in actions:
                self.step(action)

    def _reset(self) -> None:
        seed = seed_of(self.factory.seed, TRAIN, self.number)
        observation, _ = self.environment.reset(seed=seed)
        self.state = self.factory.encode(observation)
        self.actions = []
        self.total = 0.0

    def step(self, action: int) -> tuple[Any, float, bool, bool]:
        """Take an action.

        After an end the next episode has begun, and `state` is its first.

        Returns:
            The next state, the reward, whether the episode terminated, and whether it ended, by
            termination or by its limit of steps.
        """
        number = action + self.factory.first_action
        observation, reward, terminated, truncated, _ = self.environment.step(number)
        reward = float(reward)
        self.actions.append(action)
        self.total += reward
        after = self.state = self.factory.encode(observation)
        if not (terminated or truncated):
            return after, reward, False, False
        self.finished.append((self.total, len(self.actions)))
        self.number += self.stride
        self._reset()
        return after, reward, bool(terminated), True

    def state_dict(self) -> dict[str, Any]:
        """Return the episode's number and its actions so far."""
        return {"number": self.number, "actions": torch.tensor(self.actions, dtype=torch.int64)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Be where the saved episode was, as soon as the environment is needed."""
        self.number = state["number"]
        self.actions = state["actions"].tolist()
        self.environment = None


class Stateful(Protocol):
    """The state of a task between two batches, such as a replay buffer or traces."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state, to be saved in a checkpoint."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load a saved state."""


class Experience:
    """The training split of an environment, `samples` steps or episodes an epoch.

    Args:
        factory: Makes the environments.
        envs: The number of environments that are acted in at once.
        unit: What `batch_size` and `samples` count.
        batch_size: Steps or episodes a batch.
        samples: Steps or episodes an epoch.
        make_vector_env: Makes the environments as arrays, given the list that receives (return,
            length) of each finished episode; None where they are stepped one by one.
    """

    whole_batches = True  # every process takes all steps

    def __init__(
        self,
        factory: EnvFactory,
        envs: int,
        unit: Literal["steps", "episodes"],
        batch_size: int,
        samples: int,
        make_vector_env: Callable[[list[tuple[float, int]]], VectorEnv] | None = None,
    ) -> None:
        self.factory, self.unit = factory, unit
        self.batch_size, self.samples = batch_size, samples
        self.finished: list[tuple[float, int]] = []
        self.recent: deque[tuple[float, int]] = deque(maxlen=RECENT_EPISODES)
        self.episodes = self.steps = 0
        self.runners = [EnvRunner(factory, i, envs, self.finished) for i in range(envs)]
        self.task_state: Stateful | None = None
        self.vector_env: VectorEnv | None = None
        if make_vector_env is not None:
            self.vector_env = make_vector_env(self.finished)

    def save_with(self, task_state: Stateful) -> None:
        """Save and load the state of the task together with that of the environments."""
        self.task_state = task_state

    @property
    def units_done(self) -> int:
        """The number of steps or episodes, as `unit` says, that training has taken so far."""
        return self.steps if self.unit == "steps" else self.episodes

    def __len__(self) -> int:
        return -(-self.samples // self.batch_size)

    def epoch(self, number: int, start: int = 0) -> Iterator[StepBatch]:
        """Yield the batches of an epoch from batch `start` on."""
        for position in range(start, len(self)):
            left = self.samples - position * self.batch_size
            yield StepBatch(self, min(self.batch_size, left))

    def state_dict(self) -> dict[str, Any]:
        """Return the episodes, the counts, and the state of the task."""
        vector_env = {} if self.vector_env is None else self.vector_env.state_dict()
        task_state = {} if self.task_state is None else self.task_state.state_dict()
        return {
            "live": [runner.state_dict() for runner in self.runners],
            "copies": vector_env,
            "recent": list(self.recent),
            "counts": [self.episodes, self.steps],
            "memory": task_state,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue the episodes of a saved state."""
        for runner, saved in zip(self.runners, state["live"], strict=False):
            runner.load_state_dict(saved)
        if self.vector_env is not None and state["copies"]:
            self.vector_env.load_state_dict(state["copies"])
        self.recent = deque(map(tuple, state["recent"]), maxlen=RECENT_EPISODES)
        self.episodes, self.steps = state["counts"]
        if self.task_state is not None and state["memory"]:
            self.task_state.load_state_dict(state["memory"])


class StepBatch:
    """Steps for a task to take.

    Iterate over it, and step every one of the `runners`, or the `vector_env`, once an iteration.
    """

    def __init__(self, experience: Experience, count: int) -> None:
        self.experience, self.count = experience, count

    @property
    def runners(self) -> list[EnvRunner]:
        """The environments, each in the middle of its episode."""
        for runner in self.experience.runners:
            runner.begin()
        return self.experience.runners

    @property
    def vector_env(self) -> VectorEnv | None:
        """The environments as arrays; None where they are stepped one by one."""
        return self.experience.vector_env

    def __iter__(self) -> Iterator[int]:
        if self.experience.unit == "episodes":
            return self._until_finished()
        return iter(range(-(-self.count // len(self.experience.runners))))

    def _until_finished(self) -> Iterator[int]:
        for turn in count():
            if len(self.experience.finished) >= self.count:
                return
            yield turn

    def record(self, steps: int) -> dict[str, Tensor]:
        """Count the `steps` taken and return the means of the episodes that finished meanwhile.

        Empty if none did. The averages are over the last hundred episodes.
        """
        experience = self.experience
        experience.steps += steps
        if not experience.finished:
            return {}
        experience.recent.extend(experience.finished)
        experience.episodes += len(experience.finished)
        mean_return, mean_length = means(experience.finished)
        return_average, length_average = means(experience.recent)
        experience.finished.clear()
        figures = {
            "return": mean_return,
            "length": mean_length,
            "return_average": return_average,
            "length_average": length_average,
            "episodes": float(experience.episodes),
        }
        return {name: torch.tensor(value, dtype=torch.float64) for name, value in figures.items()}

    stack = staticmethod(stack_observations)

    def example(self) -> Tensor:
        """Return first observations (N, ...), one for each step of the batch."""
        return self.experience.factory.example(self.count)


def means(episodes: list[tuple[float, int]] | deque[tuple[float, int]]) -> tuple[float, float]:
    """Return the mean return and the mean length of episodes."""
    returns, lengths = zip(*episodes, strict=True)
    return sum(returns) / len(returns), sum(lengths) / len(lengths)


class Episodes:
    """An evaluation split: `samples` episodes with seeds of their own, the same in every epoch."""

    def __init__(self, factory: EnvFactory, samples: int, split: int) -> None:
        self.factory, self.split = factory, split
        self.samples = samples
        self.batch_size = min(samples, EPISODES_AT_ONCE)
        self.environments: list[Any] = []

    def __len__(self) -> int:
        return -(-self.samples // self.batch_size)

    def epoch(self, number: int, start: int = 0) -> Iterator[EpisodeBatch]:
        """Yield the batches from batch `start` on."""
        for first in range(start * self.batch_size, self.samples, self.batch_size):
            yield EpisodeBatch(self, range(first, min(first + self.batch_size, self.samples)))

    def reset(self, numbers: range) -> list[EvaluationEpisode]:
        """Begin the episodes `numbers`, each in an environment of its own."""
        missing = len(numbers) - len(self.environments)
        self.environments += [self.factory.make() for _ in range(missing)]
        episodes = []
        for environment, number in zip(self.environments, numbers, strict=False):
            seed = seed_of(self.factory.seed, self.split, number)
            observation, _ = environment.reset(seed=seed)
            episodes.append(EvaluationEpisode(environment, self.factory.encode(observation)))
        return episodes

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: every epoch is the same."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load nothing."""


class EpisodeBatch:
    """Episodes for a task to be scored on."""

    def __init__(self, episodes: Episodes, numbers: range) -> None:
        self.episodes, self.numbers = episodes, numbers

    def example(self) -> Tensor:
        """Return first observations (N, ...), one for each episode."""
        return self.episodes.factory.example(len(self.numbers))

    def play(self, act: Callable[[Tensor], list[int]]) -> list[tuple[float, int]]:
        """Play the episodes side by side and return the return and the length of each.

        An episode without an end stops after `max_steps` steps.

        Args:
            act: Chooses an action for each of the observations (N, ...).
        """
        factory = self.episodes.factory
        plays = self.episodes.reset(self.numbers)
        running = plays
        while running:
            actions = act(stack_observations([play.state for play in running]))
            for play, action in zip(running, actions, strict=True):
                play.step(action, factory)
            running = [play for play in running if not play.is_over]
        return [(play.total, play.length) for play in plays]


@dataclass
class EvaluationEpisode:
    """An episode that is played for an evaluation."""

    environment: Any
    state: Any
    total: float = 0.0
    length: int = 0
    is_over: bool = False

    def step(self, action: int, factory: EnvFactory) -> None:
        """Take an action."""
        number = action + factory.first_action
        observation, reward, terminated, truncated, _ = self.environment.step(number)
        self.state = factory.encode(observation)
        self.total += float(reward)
        self.length += 1
        self.is_over = terminated or truncated or self.length >= factory.max_steps
