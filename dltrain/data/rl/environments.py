"""Environments to act in: one of Gymnasium by its id, or a class of the user's."""

from __future__ import annotations

import difflib
import hashlib
import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import Tensor

from dltrain.data.dataset import Dataset, Part
from dltrain.data.rl.dynamics import Dynamics
from dltrain.data.rl.experience import (
    TEST,
    TRAIN,
    VAL,
    EnvFactory,
    Episodes,
    Experience,
    seed_of,
    stack_observations,
)
from dltrain.data.rl.grid_world import GridWorld, grid_shape, map_letters
from dltrain.data.rl.spaces import describe, observations_of
from dltrain.data.rl.vector_env import VectorEnv
from dltrain.errors import InputError, UsageError
from dltrain.types import BatchSize, Data, Grid, PositiveInt, Sample, Spec

MISSING = 'environments come from gymnasium: pip install "gymnasium[classic-control,toy-text]"'
DEFAULT_MAX_STEPS = 10_000  # of an evaluation episode, if the environment sets no limit
SMOKE_MAX_STEPS = 20  # of an episode in `debug=smoke`
MAX_MESSAGE_CHARS = 200  # of an error of Gymnasium's
CONTINUOUS = (
    "tables and deep Q-learning choose among numbered actions: "
    "an environment that has them, such as MountainCar-v0"
)


@dataclass(frozen=True)
class EnvironmentContent:
    """The content of an environment, of which only its fingerprint is known."""

    digest: str

    def size_in_bytes(self) -> int:
        """Return 0: nothing is held in memory."""
        return 0

    def fingerprint(self) -> str:
        """Return the digest of the id, Gymnasium's version and the settings."""
        return self.digest


class Environment(Dataset[EnvironmentContent, dict[str, Any], Experience | Episodes]):
    """The environment `id` of Gymnasium with `kwargs`, or one that `make` makes.

    Observations are numbers of states (Discrete, MultiDiscrete, tuples of Discrete) or arrays;
    pictures (H, W, C) of bytes become (C, H, W).

    Args:
        id: Gymnasium's name of the environment.
        kwargs: Arguments for making it.
        make: A class or function of the user's that makes an environment, instead of `id`.
        max_episode_steps: The number of steps after which an episode is truncated; null leaves it
            to the environment.
        envs: The number of environments that are acted in at once.
        unit: What `batch_size` and `per_epoch` count, steps or episodes.
        batch_size: Steps or episodes a batch.
        per_epoch: Steps or episodes an epoch.
        episodes: The number of validation episodes, which have seeds of their own.
        test_episodes: The number of test episodes; null: as many.
        epochs: The default of trainer.epochs.
        seed: The seed of all episodes.

    Raises:
        ValueError: The id is unknown, the actions are not numbered, or the observations are of an
            unknown kind.
        UsageError: Gymnasium is not installed.
    """

    def __init__(
        self,
        id: str = "CartPole-v1",
        kwargs: dict[str, Any] | None = None,
        make: Callable[..., Any] | None = None,
        max_episode_steps: PositiveInt | None = None,
        envs: PositiveInt = 1,
        unit: Literal["steps", "episodes"] = "steps",
        batch_size: PositiveInt = 100,
        per_epoch: PositiveInt = 10_000,
        episodes: PositiveInt = 20,
        test_episodes: PositiveInt | None = None,
        epochs: PositiveInt = 5,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size=batch_size, seed=seed)
        self.gymnasium = import_gymnasium()
        self.id, self.kwargs = id, dict(kwargs or {})
        self.make = make
        self.max_episode_steps = max_episode_steps
        self.envs = envs
        self.unit = unit
        self.per_epoch = per_epoch
        self.episodes, self.test_episodes = episodes, test_episodes or episodes
        self.epochs = epochs
        self.instance = self.new_instance()
        spaces = self.gymnasium.spaces
        actions = self.instance.action_space
        if not isinstance(actions, spaces.Discrete):
            raise ValueError(f"the actions of {self.name} are {describe(actions)}; {CONTINUOUS}")
        observations = observations_of(self.instance.observation_space, spaces)
        if observations is None:
            raise ValueError(
                f"the observations of {self.name} are {describe(self.instance.observation_space)}; "
                "expected a Box of numbers, or Discrete states"
            )
        self.first_action, self.num_actions = int(actions.start), int(actions.n)
        self.observations = observations
        self.factory = EnvFactory(
            make=self.new_instance,
            encode=observations.encode,
            first_action=self.first_action,
            seed=seed,
            max_steps=self.max_steps,
            example=self.example,
        )

    @property
    def name(self) -> str:
        """The id, or the name of the user's class or function."""
        if self.make is None:
            return self.id
        function = getattr(self.make, "func", self.make)  # a partial has no name
        return getattr(self.make, "__name__", str(function))

    def new_instance(self, **more: Any) -> Any:
        """Make a new environment; ValueError, with similar ids, for an unknown one."""
        gymnasium = self.gymnasium
        if self.make is not None:
            environment = self.make(**self.kwargs, **more)
            if self.max_episode_steps is None:
                return environment
            return gymnasium.wrappers.TimeLimit(environment, self.max_episode_steps)
        if self.id not in gymnasium.registry:
            raise ValueError(unknown_id(self.id, gymnasium.registry))
        limit = {}
        if self.max_episode_steps is not None:
            limit["max_episode_steps"] = self.max_episode_steps
        try:
            return gymnasium.make(self.id, disable_env_checker=True, **limit, **self.kwargs, **more)
        except (gymnasium.error.Error, TypeError, AssertionError, ImportError) as e:
            message = " ".join(str(e).split())[:MAX_MESSAGE_CHARS]
            raise ValueError(f"{self.id} cannot be made: {message}") from e

    @property
    def max_steps(self) -> int:
        """The number of steps after which an evaluation episode ends."""
        if self.max_episode_steps is not None:
            return self.max_episode_steps
        spec = getattr(self.instance, "spec", None)  # a user's own class may have none
        limit = None if spec is None else spec.max_episode_steps
        return limit or DEFAULT_MAX_STEPS

    @property
    def spec(self) -> Spec:
        """The shape of the observations and the numbers of states and actions."""
        return Spec(
            input_shape=self.observations.input_shape,
            class_names=(),
            train_samples=self.per_epoch,
            test_samples=self.test_episodes,
            num_states=self.observations.num_states,
            actions=tuple(str(action) for action in range(self.num_actions)),
        )

    def example(self, count: int) -> Tensor:
        """Return the first observation `count` times (count, ...)."""
        observation, _ = self.instance.reset(seed=seed_of(self.seed))
        return stack_observations([self.observations.encode(observation)] * count)

    def read(self) -> EnvironmentContent:
        """Return the fingerprint of the environment; nothing is read."""
        version = self.gymnasium.__version__ if self.make is None else ""
        settings = [self.name, version, self.kwargs, self.max_episode_steps]
        text = json.dumps(settings, default=str, sort_keys=True)
        return EnvironmentContent(hashlib.sha256(text.encode()).hexdigest())

    def make_split(
        self, part: Part, batch_size: BatchSize, seed: int | None
    ) -> Experience | Episodes:
        """Return the experience that a task trains on, or the episodes of an evaluation."""
        if part == "val":
            return Episodes(self.factory, self.episodes, VAL)
        if part == "test":
            return Episodes(self.factory, self.test_episodes, TEST)
        assert isinstance(batch_size, int)  # the constructor takes no other
        as_arrays = self.envs > 1 and self.dynamics is not None
        return Experience(
            self.factory,
            self.envs,
            self.unit,
            batch_size,
            self.per_epoch,
            self.new_vector_env if as_arrays else None,
        )

    def new_vector_env(self, finished: list[tuple[float, int]]) -> VectorEnv:
        """Make the training environments as arrays, by the transition table."""
        assert self.dynamics is not None
        seed = seed_of(self.seed, TRAIN)
        return VectorEnv(self.dynamics, self.envs, self.max_steps, seed, finished)

    @cached_property
    def dynamics(self) -> Dynamics | None:
        """The transition table, if the environment has one, as Gymnasium's toy texts do."""
        inner = self.instance.unwrapped
        table = getattr(inner, "P", None)
        initial = getattr(inner, "initial_state_distrib", None)
        if not isinstance(table, dict) or initial is None:
            return None
        if len(table) != self.observations.num_states:
            return None
        return Dynamics(table, initial)

    def exact_return(self, policy: Tensor) -> float | None:
        """Return the expected return, within the limit of steps, of one action a state (S,).

        None if the transitions are unknown.
        """
        if self.dynamics is None:
            return None
        return self.dynamics.exact_return(policy.cpu().numpy(), self.max_steps)

    @property
    def grid_world(self) -> GridWorld | None:
        """The grid whose fields are the states, if they are one."""
        inner = self.instance.unwrapped
        shape = grid_shape(inner, self.observations.num_states)
        if shape is None:
            return None
        return GridWorld(shape, self.num_actions, self.dynamics, map_letters(inner))

    def picture(self, values: Tensor, policy: Tensor) -> Grid | None:
        """Draw values (S,) and actions (S,) in the grid of the states, if they are one."""
        grid = self.grid_world
        if grid is None:
            return None
        title = f"{self.name}: value of each state and the greedy action"
        return grid.draw(values, policy, title)

    def render_episode(self, act: Callable[[Tensor], list[int]], episode: int) -> Iterator[Any]:
        """Yield the pictures (H, W, 3) of one episode, that of the test split with this number."""
        environment = self.new_instance(render_mode="rgb_array")
        try:
            observation, _ = environment.reset(seed=seed_of(self.seed, TEST, episode))
            yield render(environment, self.name)
            for _ in range(self.max_steps):
                state = self.observations.encode(observation)
                (action,) = act(stack_observations([state]))
                number = action + self.first_action
                observation, _, terminated, truncated, _ = environment.step(number)
                yield render(environment, self.name)
                if terminated or truncated:
                    return
        finally:
            environment.close()

    def count_classes(self) -> tuple[int, ...]:
        """Return nothing: an environment has no classes."""
        return ()

    def fake(self) -> Data:
        """Return the environment itself, which needs no file, with few and short episodes."""
        small = Environment(
            id=self.id,
            kwargs=self.kwargs,
            make=self.make,
            max_episode_steps=min(self.max_steps, SMOKE_MAX_STEPS),
            envs=self.envs,
            batch_size=32,
            per_epoch=64,
            episodes=2,
        )
        make_plain = small.new_instance
        small.factory = replace(small.factory, make=lambda: self.with_random_rewards(make_plain()))
        return small

    def with_random_rewards(self, environment: Any) -> Any:
        """Add random numbers to the rewards, because nothing is learned from rewards of 0."""
        generator = random.Random(self.seed)
        return self.gymnasium.wrappers.TransformReward(
            environment, lambda reward: float(reward) + generator.random()
        )

    def expected_size_in_bytes(self) -> int:
        """Return 0: nothing is held in memory."""
        return 0

    def description(self) -> dict[str, Any]:
        """Return nothing: nothing is learned from the training data."""
        return {}

    def parse(self, description: dict[str, Any]) -> dict[str, Any]:
        """Return the description, which is empty."""
        return description

    def encode_file(self, path: Path) -> Iterator[Sample]:
        """Raise InputError: an environment reads no files."""
        raise InputError(
            "an environment reads no files: dltrain rollout RUN --out episode.gif shows an episode"
        )


def import_gymnasium() -> Any:
    """Import gymnasium; UsageError, with the command that installs it, where it is missing."""
    try:
        import gymnasium
    except ImportError as e:
        raise UsageError(MISSING) from e
    return gymnasium


def unknown_id(id: str, registered: Sequence[str]) -> str:
    """Return the message for an id that is not registered, with similar ones."""
    close = difflib.get_close_matches(id, registered, n=3, cutoff=0.5)
    hint = f"; did you mean {' or '.join(close)}?" if close else ""
    return (
        f"id={id}: gymnasium has no such environment{hint} (one of your own: "
        '"plugins=[PACKAGE]" "dataset.make={_target_: PACKAGE.CLASS, _partial_: true}")'
    )


def render(environment: Any, name: str) -> Any:
    """Return a picture (H, W, 3) of an environment; ValueError if it draws none."""
    picture = environment.render()
    if not isinstance(picture, np.ndarray):
        raise ValueError(f"{name} draws no pictures")
    return picture
