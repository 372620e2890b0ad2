"""A table of action values."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dltrain.types import PositiveInt

MOST = 50_000_000  # values


class QTable(nn.Module):
    """Action values Q(s, a) of numbered states: a parameter (T, S, A) that tasks change in place, through NumPy.

    `initial_value` above what can be earned is an optimistic start: every action is tried (Sutton and Barto, section 2.6).
    Float64 on the CPU, whatever the device: a table is read one row at a time. ValueError for data without numbered states
    and actions, and for more of them than a table should hold.
    """

    def __init__(
        self,
        num_states: PositiveInt | None = None,
        num_actions: PositiveInt | None = None,
        initial_value: float = 0.0,
    ) -> None:
        super().__init__()
        if num_actions is None:
            raise ValueError(
                "a table of action values needs an environment: dataset=frozenlake, or dataset.id=..."
            )
        if num_states is None:
            raise ValueError(
                "a table needs numbered states, and these observations are arrays: task=dqn model=q_network, "
                "or an environment with Discrete observations"
            )
        if num_states * num_actions > MOST:
            raise ValueError(
                f"{num_states:,} states are too many for a table with {num_actions} actions each: "
                "task=dqn model=q_network"
            )
        start = torch.full((1, num_states, num_actions), initial_value, dtype=torch.float64)
        self.values = nn.Parameter(start)

    def repeat_table(self, count: int) -> None:
        """Replace the table by `count` equal tables; double Q-learning learns two."""
        self.values = nn.Parameter(self.values.detach()[:1].repeat(count, 1, 1))

    def _apply(self, fn: object, recurse: bool = True) -> QTable:
        return self  # NumPy's memory is the CPU's

    def forward(self, states: Tensor) -> Tensor:
        """Values (B, A) of the actions in states (B,): the mean of the tables."""
        return self.values.mean(0)[states.long().cpu()]
