"""What an observation becomes: the number of a state, or an array."""

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
    """What a task sees of an environment: arrays of `input_shape`, or numbers of states."""

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
    ranges = discrete_ranges(space, spaces)
    if ranges:
        num_states = math.prod(size for size, _ in ranges)
        return Observations((num_states,), state_numbering(ranges), num_states)
    if not isinstance(space, spaces.Box):
        return None
    if len(space.shape) == 3 and space.dtype == np.uint8:
        height, width, channels = space.shape
        return Observations((channels, height, width), channels_first)
    return Observations(tuple(space.shape) or (1,), as_floats)


def discrete_ranges(space: Any, spaces: Any) -> list[Range]:
    """Return the range of each part of a space whose states can be numbered, else an empty list."""
    if isinstance(space, spaces.Discrete):
        return [(int(space.n), int(space.start))]
    if isinstance(space, spaces.MultiDiscrete):
        sizes, starts = space.nvec.ravel(), space.start.ravel()
        return [(int(n), int(start)) for n, start in zip(sizes, starts, strict=True)]
    if not isinstance(space, spaces.Tuple):
        return []
    if not all(isinstance(part, spaces.Discrete) for part in space.spaces):
        return []
    return [(int(part.n), int(part.start)) for part in space.spaces]


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
