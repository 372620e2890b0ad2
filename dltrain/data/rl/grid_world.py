"""Pictures of values and policies of environments whose states are the fields of a grid."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dltrain.data.rl.dynamics import Dynamics
from dltrain.types import Grid

NO_MOVE = 1e-6  # a mean move of less than this many fields
ARROWS = {(1, 0): "↓", (-1, 0): "↑", (0, 1): "→", (0, -1): "←"}
GOAL, NEVER_REACHED = "G", "·"


class GridWorld:
    """A grid of states (rows, columns).

    Args:
        shape: Rows and columns.
        num_actions: The number of actions.
        dynamics: The transition table, where there is one.
        map_letters: The letter of each field, where the environment has a map.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        num_actions: int,
        dynamics: Dynamics | None,
        map_letters: list[str] | None,
    ) -> None:
        self.shape, self.num_actions = shape, num_actions
        self.dynamics = dynamics
        self.map_letters = map_letters

    def draw(self, values: Tensor, policy: Tensor, title: str) -> Grid:
        """Draw the value (S,) of each state, and an arrow for its action (S,)."""
        letters = self.letters()
        names = self.action_names()
        arrows = np.array(names, dtype=object)[policy.cpu().numpy()]
        marks = np.where(letters == "", arrows, letters).reshape(self.shape)
        has_letter = torch.from_numpy(letters != "")
        shown = values.detach().float().cpu().masked_fill(has_letter, math.nan)
        return Grid(shown.view(self.shape), tuple(map(tuple, marks.tolist())), title)

    def letters(self) -> NDArray[Any]:
        """Return the letter (S,) of each field in which no action is taken; "" in the others.

        An episode ends there, or never reaches it.
        """
        if self.dynamics is None:
            return np.full(math.prod(self.shape), "", dtype=object)
        acting, ends = self.dynamics.reachable()
        letters = np.where(ends, GOAL, NEVER_REACHED).astype(object)
        if self.map_letters is not None:
            letters = np.array(self.map_letters, dtype=object)
        letters[acting] = ""
        return letters

    def action_names(self) -> list[str]:
        """Return an arrow for each action that leads one way, else its number."""
        numbers = [str(action) for action in range(self.num_actions)]
        if self.dynamics is None:
            return numbers
        names = []
        for number, (down, right) in enumerate(self.dynamics.directions(self.shape)):
            step = (sign(down), 0) if abs(down) > abs(right) else (0, sign(right))
            names.append(ARROWS.get(step, str(number)))
        if len(set(names)) < len(names):
            return numbers
        return names


def sign(move: float) -> int:
    """Return the sign of a mean move; 0 if there is none."""
    return 0 if abs(move) < NO_MOVE else int(math.copysign(1, move))


def grid_shape(inner: Any, num_states: int) -> tuple[int, int] | None:
    """Return rows and columns of an environment whose states are the fields of a grid, else None.

    Gymnasium's toy texts tell them by their map `desc` (FrozenLake) or by their `shape`
    (CliffWalking).
    """
    desc = getattr(inner, "desc", None)
    shape = getattr(desc, "shape", None) or getattr(inner, "shape", None)
    if not isinstance(shape, tuple) or len(shape) != 2 or math.prod(shape) != num_states:
        return None
    return int(shape[0]), int(shape[1])


def map_letters(inner: Any) -> list[str] | None:
    """Return the letter of each field of an environment's map `desc`; None where it has no map."""
    desc = getattr(inner, "desc", None)
    return None if desc is None else [letter.decode() for letter in np.ravel(desc)]
