"""Observations of an environment, as the number of a state or as an array."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Range = tuple[int, int]
"""The number of values and the least value of one part of an observation."""


@dataclass(frozen=True)
class Observations:
    """Observations as a task sees them: arrays of `input_shape`, or numbers of states."""

    input_shape: tuple[int, ...]
    encode: Callable[[Any], Any]
    num_states: int = 0  # 0: they are arrays


def observations_of(space: Any, spaces: Any) -> Observations | None:
    """Return how observations of a Gymnasium space are read; None for a space of another kind.

    Pictures (H, W, C) of bytes become (C, H, W).

    Args:
        space: The observation space.
        spaces: The module `gymnasium.spaces`.
    """
    if isinstance(space, spaces.Box):
        return array_observations(space)
    if isinstance(space, spaces.Discrete):
        return numbered_observations([discrete_range(space)])
    if isinstance(space, spaces.MultiDiscrete):
        sizes, starts = space.nvec.ravel().tolist(), space.start.ravel().tolist()
        return numbered_observations(list(zip(sizes, starts, strict=True)))
    parts = space.spaces if isinstance(space, spaces.Tuple) else ()
    if parts and all(isinstance(part, spaces.Discrete) for part in parts):
        return numbered_observations([discrete_range(part) for part in parts])
    return None


def array_observations(space: Any) -> Observations:
    """Return how observations of a Box are read: pictures of bytes, or floats."""
    if len(space.shape) == 3 and space.dtype == np.uint8:
        height, width, channels = space.shape
        return Observations((channels, height, width), channels_first)
    return Observations(tuple(space.shape) or (1,), as_floats)


def numbered_observations(ranges: list[Range]) -> Observations:
    """Return how observations of discrete parts are read: as one number of a state."""
    num_states = math.prod(size for size, _ in ranges)
    return Observations((num_states,), state_numbering(ranges), num_states)


def discrete_range(space: Any) -> Range:
    """Return the number of values and the least value of a Discrete space."""
    return int(space.n), int(space.start)


def state_numbering(ranges: list[Range]) -> Callable[[Any], int]:
    """Return a function that makes one number of an observation's parts."""
    if len(ranges) == 1 and ranges[0][1] == 0:
        return int

    def number(observation: Any) -> int:
        state = 0
        for part, (size, start) in zip(np.ravel(observation).tolist(), ranges, strict=True):
            state = state * size + int(part) - start
        return state

    return number


def as_floats(observation: Any) -> Any:
    """Copy an observation to an array of floats with at least one dimension."""
    return np.array(observation, dtype=np.float32, ndmin=1)


def channels_first(observation: Any) -> Any:
    """Copy a picture (H, W, C) to an array (C, H, W)."""
    return np.ascontiguousarray(np.asarray(observation).transpose(2, 0, 1))


def describe(space: Any) -> str:
    """Describe a space in a few words, such as "continuous (Box of 3)"."""
    kind = type(space).__name__
    if kind != "Box":
        return kind
    shape = " x ".join(map(str, space.shape)) or "one"
    return f"continuous ({kind} of {shape})"
