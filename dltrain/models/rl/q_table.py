"""A table of action values."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dltrain.types import PositiveInt

MAX_VALUES = 50_000_000


class QTable(nn.Module):
    """A table of action values Q(s, a): a parameter (T, S, A) that tasks change in place.

    T is the number of tables, S of states, A of actions. An `initial_value` above the possible
    return is an optimistic initialization, which makes the agent try every action (Sutton and
    Barto, section 2.6). The table is float64 on the CPU, whatever the device, because it is read
    one row at a time.

    Raises:
        ValueError: The table would be too large.
    """

    def __init__(
        self,
        num_states: PositiveInt,
        num_actions: PositiveInt,
        initial_value: float = 0.0,
    ) -> None:
        super().__init__()
        if num_states * num_actions > MAX_VALUES:
            raise ValueError(
                f"{num_states:,} states with {num_actions} actions each are too many for "
                "model=q_table: use task=dqn model=q_network"
            )
        start = torch.full((1, num_states, num_actions), initial_value, dtype=torch.float64)
        self.values = nn.Parameter(start)

    def repeat_table(self, count: int) -> None:
        """Replace the table by `count` equal tables; double Q-learning learns two."""
        self.values = nn.Parameter(self.values.detach()[:1].repeat(count, 1, 1))

    def _apply(self, fn: object, recurse: bool = True) -> QTable:
        return self  # stays on the CPU, where NumPy reads it

    def forward(self, states: Tensor) -> Tensor:
        """Return the action values (B, A) of states (B,), the mean over the tables."""
        return self.values.mean(0)[states.long().cpu()]
