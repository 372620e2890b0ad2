"""Environments as data: Gymnasium's by their ids, or a user's own class, with numbered states or arrays to look at."""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from dltrain.data.rl.dynamics import Copies, Dynamics
from dltrain.data.rl.experience import (
    TEST,
    TRAIN,
    VAL,
    Episodes,
    Experience,
    Maker,
    seed_of,
    stacked,
)
from dltrain.errors import InputError, UsageError
from dltrain.types import Data, Grid, PositiveInt, Sample, Spec

MISSING = 'environments come from gymnasium: pip install "gymnasium[classic-control,toy-text]"'
NO_LIMIT = 10_000  # steps of an evaluation episode in an environment that sets no limit
SMALL = 1e-6
ARROWS = {(1, 0): "↓", (-1, 0): "↑", (0, 1): "→", (0, -1): "←"}
CONTINUOUS = "tables and deep Q-learning choose among numbered actions: an environment that has them, such as MountainCar-v0"


class Environment:
    """The environment `id` of Gymnasium with `kwargs`, or what `make` makes, as batches of steps and episodes.

    An epoch is `per_epoch` steps, or episodes where `unit` says so, `batch_size` of them a batch; val and test are
    `episodes` each (test `test_episodes` where that is set), with seeds of their own. `max_episode_steps` truncates
    episodes where the environment would not, or later. `envs` are acted in at once. Observations are numbers of states
    (Discrete, MultiDiscrete, tuples of Discrete), or arrays; pictures (H, W, C) of bytes are turned to (C, H, W).
    ValueError for an unknown id and for actions without numbers.
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
        try:
            import gymnasium
        except ImportError as e:
            raise UsageError(MISSING) from e
        self.gymnasium, self.id, self.kwargs, self.own = gymnasium, id, dict(kwargs or {}), make
        self.max_episode_steps, self.envs, self.seed = max_episode_steps, envs, seed
        self.unit, self.batch_size, self.per_epoch, self.episodes = (
            unit,
            batch_size,
            per_epoch,
            episodes,
        )
        self.test_episodes = test_episodes or episodes
        self.epochs = epochs  # what trainer.epochs is unless it is set
        self.one = self.made()
        spaces = gymnasium.spaces
        actions, observations = self.one.action_space, self.one.observation_space
        if not isinstance(actions, spaces.Discrete):
            raise ValueError(f"the actions of {self.name} are {describe(actions)}; {CONTINUOUS}")
        self.first_action, self.num_actions = int(actions.start), int(actions.n)
        sizes = sizes_of(observations, spaces)
        self.num_states = math.prod(size for size, _ in sizes) if sizes else 0
        if sizes:
            self.input_shape: tuple[int, ...] = (self.num_states,)
            self.observe: Callable[[Any], Any] = numbering(sizes)
        elif isinstance(observations, spaces.Box):
            self.pictures = len(observations.shape) == 3 and observations.dtype == np.uint8
            height, *rest = observations.shape or (1,)
            self.input_shape = (rest[1], height, rest[0]) if self.pictures else (height, *rest)
            self.observe = as_picture if self.pictures else as_floats
        else:
            raise ValueError(
                f"what {self.name} shows is {describe(observations)}; expected a Box of numbers, or Discrete states"
            )

    @property
    def name(self) -> str:
        return (
            self.id
            if self.own is None
            else getattr(self.own, "__name__", str(getattr(self.own, "func", self.own)))
        )

    def made(self, **more: Any) -> Any:
        """A new environment; ValueError, with ids that are like it, for an unknown one."""
        gymnasium = self.gymnasium
        if self.own is not None:
            environment = self.own(**self.kwargs, **more)
            limit = self.max_episode_steps
            return (
                environment if limit is None else gymnasium.wrappers.TimeLimit(environment, limit)
            )
        if self.id not in gymnasium.registry:
            close = difflib.get_close_matches(self.id, gymnasium.registry, n=3, cutoff=0.5)
            meant = f"; did you mean {' or '.join(close)}?" if close else ""
            raise ValueError(
                f"id={self.id}: gymnasium has no such environment{meant} "
                "(one of your own: plugins=[PACKAGE] dataset.make={_target_: PACKAGE.CLASS, _partial_: true})"
            )
        limited = (
            {} if self.max_episode_steps is None else {"max_episode_steps": self.max_episode_steps}
        )
        try:
            return gymnasium.make(
                self.id, disable_env_checker=True, **limited, **self.kwargs, **more
            )
        except (gymnasium.error.Error, TypeError, AssertionError, ImportError) as e:
            raise ValueError(f"{self.id} cannot be made: {' '.join(str(e).split())[:200]}") from e

    @property
    def limit(self) -> int:
        """Steps of an episode at most, in an evaluation."""
        spec = getattr(self.one, "spec", None)
        limit = self.max_episode_steps or (spec.max_episode_steps if spec is not None else None)
        return limit or NO_LIMIT

    @property
    def spec(self) -> Spec:
        return Spec(
            input_shape=self.input_shape,
            class_names=(),
            train_samples=self.per_epoch,
            test_samples=self.test_episodes,
            num_states=self.num_states,
            actions=tuple(str(a) for a in range(self.num_actions)),
        )

    @cached_property
    def maker(self) -> Maker:
        return Maker(
            self.made, self.observe, self.first_action, self.seed, self.limit, self.example
        )

    def example(self, count: int) -> Tensor:
        """So many observations as they are at first."""
        first = self.observe(self.one.reset(seed=seed_of(self.seed))[0])
        return stacked([first] * count)

    @cached_property
    def train(self) -> Experience:
        several = self.envs > 1 and self.dynamics is not None
        return Experience(
            self.maker,
            self.envs,
            self.unit,
            self.batch_size,
            self.per_epoch,
            self.copies if several else None,
        )

    @cached_property
    def val(self) -> Episodes:
        return Episodes(self.maker, self.episodes, VAL)

    @cached_property
    def test(self) -> Episodes:
        return Episodes(self.maker, self.test_episodes, TEST)

    def copies(self, finished: list[tuple[float, int]]) -> Copies:
        assert self.dynamics is not None
        return Copies(self.dynamics, self.envs, self.limit, seed_of(self.seed, TRAIN), finished)

    @cached_property
    def dynamics(self) -> Dynamics | None:
        """The table of transitions, where the environment has one."""
        inner = self.one.unwrapped
        table, initial = getattr(inner, "P", None), getattr(inner, "initial_state_distrib", None)
        known = isinstance(table, dict) and initial is not None and len(table) == self.num_states
        return Dynamics(table, initial) if known and isinstance(table, dict) else None

    def exact_return(self, policy: Tensor) -> float | None:
        """Of one action a state (S,): the expected return within the limit of steps; None where no transitions are known."""
        return (
            None
            if self.dynamics is None
            else self.dynamics.exact_return(policy.cpu().numpy(), self.limit)
        )

    def picture(self, values: Tensor, policy: Tensor) -> Grid | None:
        """Values (S,) and actions (S,) drawn in the plane of the states, where they are one."""
        shape = self.plane()
        if shape is None:
            return None
        letters = self.letters(shape)
        names = self.action_names(shape)
        marks = [
            letter or names[action] for letter, action in zip(letters, policy.tolist(), strict=True)
        ]
        blank = torch.tensor([bool(letter) for letter in letters])
        shown = values.detach().float().cpu().masked_fill(blank, math.nan)
        height, width = shape
        rows = tuple(tuple(marks[r * width : (r + 1) * width]) for r in range(height))
        return Grid(
            shown.view(height, width),
            rows,
            f"{self.name}: value of each state and the greedy action",
        )

    def plane(self) -> tuple[int, int] | None:
        """Rows and columns of a grid world whose every field is a state: from its `desc`, or its `shape`."""
        inner = self.one.unwrapped
        shape = getattr(getattr(inner, "desc", None), "shape", None) or getattr(
            inner, "shape", None
        )
        fits = isinstance(shape, tuple) and len(shape) == 2 and math.prod(shape) == self.num_states
        return (int(shape[0]), int(shape[1])) if fits and shape is not None else None

    def letters(self, shape: tuple[int, int]) -> list[str]:
        """What stands in a field instead of an arrow: nothing is done where an episode ends, or never comes."""
        if self.dynamics is None:
            return [""] * self.num_states
        acting, ends = self.dynamics.reached()
        desc = getattr(self.one.unwrapped, "desc", None)
        given = (
            [""] * self.num_states
            if desc is None
            else [letter.decode() for letter in np.ravel(desc)]
        )
        named = [letter or ("G" if end else "·") for letter, end in zip(given, ends, strict=True)]
        return ["" if here else letter for letter, here in zip(named, acting, strict=True)]

    def action_names(self, shape: tuple[int, int]) -> list[str]:
        """An arrow for each action that leads one way, else its number."""
        if self.dynamics is None:
            return [str(a) for a in range(self.num_actions)]
        names = []
        for number, moved in enumerate(self.dynamics.directions(shape)):
            down, right = (0 if abs(m) < SMALL else int(math.copysign(1, m)) for m in moved)
            ahead = (down, 0) if abs(moved[0]) > abs(moved[1]) else (0, right)
            names.append(ARROWS.get(ahead, str(number)))
        return names if len(set(names)) == len(names) else [str(a) for a in range(self.num_actions)]

    def watch(self, act: Callable[[Tensor], list[int]], episode: int) -> Iterator[Any]:
        """Pictures of one episode (H, W, 3), that of the test split with this number."""
        environment = self.made(render_mode="rgb_array")
        try:
            observation, _ = environment.reset(seed=seed_of(self.seed, TEST, episode))
            yield frame(environment, self.name)
            for _ in range(self.limit):
                (action,) = act(stacked([self.observe(observation)]))
                observation, _, terminated, truncated, _ = environment.step(
                    action + self.first_action
                )
                yield frame(environment, self.name)
                if terminated or truncated:
                    return
        finally:
            environment.close()

    @property
    def class_counts(self) -> tuple[int, ...]:
        return ()

    def fake(self) -> Data:
        """The environment itself, which needs no file, with little to do in it."""
        few = Environment(
            id=self.id,
            kwargs=self.kwargs,
            make=self.own,
            max_episode_steps=min(self.limit, 20),
            envs=self.envs,
            batch_size=32,
            per_epoch=64,
            episodes=2,
        )
        few.maker = replace(few.maker, make=lambda: self.rewarding(few.made()))
        return few

    def rewarding(self, environment: Any) -> Any:
        """The environment with rewards that are drawn: of rewards that are all 0 nothing can be seen to be learned."""
        generator = random.Random(self.seed)
        return self.gymnasium.wrappers.TransformReward(
            environment, lambda reward: float(reward) + generator.random()
        )

    def to(self, device: torch.device) -> None:
        """Environments stay where they are; a task moves what it is shown."""

    def size_in_bytes(self) -> int:
        return 0

    def fingerprint(self) -> str:
        version = self.gymnasium.__version__ if self.own is None else ""
        said = json.dumps(
            [self.name, version, self.kwargs, self.max_episode_steps], default=str, sort_keys=True
        )
        return hashlib.sha256(said.encode()).hexdigest()

    def description(self) -> dict[str, Any]:
        return {}

    def restore(self, description: dict[str, Any]) -> None: ...

    def encode(self, paths: Sequence[Path]) -> Iterator[Sample]:
        raise InputError(
            "an environment reads no files: dltrain predict RUN --out episode.gif shows what is done in it"
        )


def sizes_of(space: Any, spaces: Any) -> list[tuple[int, int]]:
    """Of states that can be numbered the number of values of each part, and its least; nothing of other spaces."""
    if isinstance(space, spaces.Discrete):
        return [(int(space.n), int(space.start))]
    if isinstance(space, spaces.MultiDiscrete):
        return [
            (int(n), int(start))
            for n, start in zip(space.nvec.ravel(), space.start.ravel(), strict=True)
        ]
    if isinstance(space, spaces.Tuple) and all(
        isinstance(part, spaces.Discrete) for part in space.spaces
    ):
        return [(int(part.n), int(part.start)) for part in space.spaces]
    return []


def numbering(sizes: list[tuple[int, int]]) -> Callable[[Any], int]:
    """What makes one number of an observation."""
    if len(sizes) == 1 and sizes[0][1] == 0:
        return int

    def number(observation: Any) -> int:
        found = 0
        for part, (size, start) in zip(np.ravel(observation).tolist(), sizes, strict=True):
            found = found * size + int(part) - start
        return found

    return number


def as_floats(observation: Any) -> Any:
    return np.array(observation, dtype=np.float32, ndmin=1)


def as_picture(observation: Any) -> Any:
    """A picture (H, W, C) as (C, H, W)."""
    return np.ascontiguousarray(np.asarray(observation).transpose(2, 0, 1))


def frame(environment: Any, name: str) -> Any:
    drawn = environment.render()
    if not isinstance(drawn, np.ndarray):
        raise ValueError(f"{name} draws no pictures")
    return drawn


def describe(space: Any) -> str:
    """A space in a few words."""
    kind = type(space).__name__
    shape = getattr(space, "shape", None)
    return (
        f"continuous ({kind} of {' x '.join(map(str, shape)) or 'one'})"
        if kind == "Box" and shape is not None
        else kind
    )
