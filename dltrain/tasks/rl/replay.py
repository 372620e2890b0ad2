"""A replay buffer: past transitions, to learn from more than once."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dltrain import rng

BLOCK = 256  # priorities that are summed up together
MIN_PRIORITY = 1e-6  # is added to every error, so that every transition can be drawn


class Replay:
    """The last `capacity` transitions in columns (capacity, ...); new ones replace the oldest.

    With a `priority` above 0, transition i is drawn in proportion to |error_i|^priority, a new one
    at the largest priority so far (Schaul et al. 2016, "Prioritized Experience Replay", equation
    1); with 0 all are drawn alike. The draws come from a generator of the run.
    """

    def __init__(self, capacity: int, priority: float = 0.0) -> None:
        self.capacity = capacity
        self.priority = priority
        self.columns: dict[str, Tensor] = {}
        self.size = 0
        self.next = 0  # the row that the next transition is written to
        rows = -(-capacity // BLOCK) * BLOCK if priority else 0
        self.weights = torch.zeros(rows, dtype=torch.float64)
        self.sums = torch.zeros(rows // BLOCK, dtype=torch.float64)  # of each block's weights
        self.largest = 1.0

    def generator(self) -> torch.Generator:
        """Return the run's generator of the draws."""
        return rng.torch_stream("replay")

    def add(self, transitions: dict[str, Tensor]) -> None:
        """Add columns (T, ...) of transitions; T is at most `capacity`."""
        if not self.columns:
            self.columns = self._empty_columns(transitions)
        count = len(next(iter(transitions.values())))
        rows = torch.arange(self.next, self.next + count) % self.capacity
        for name, value in transitions.items():
            self.columns[name][rows] = value
        if self.priority:
            self._set_weights(rows, torch.full((count,), self.largest, dtype=torch.float64))
        self.next = (self.next + count) % self.capacity
        self.size = min(self.capacity, self.size + count)

    def _empty_columns(self, like: dict[str, Tensor]) -> dict[str, Tensor]:
        return {
            name: column.new_zeros(self.capacity, *column.shape[1:])
            for name, column in like.items()
        }

    def sample(
        self, count: int, beta: float = 1.0
    ) -> tuple[dict[str, Tensor], Tensor, Tensor | None]:
        """Draw `count` transitions with replacement.

        Returns:
            The columns (count, ...), the rows (count,) of the buffer, and the importance-sampling
            weights (N P(i))^-beta, divided by the largest (Schaul et al. 2016, section 3.4); None
            where all transitions are drawn alike.
        """
        generator = self.generator()
        if not self.priority:
            rows = torch.randint(self.size, (count,), generator=generator)
            return self._rows(rows), rows, None
        ends = self.sums.cumsum(0)
        total = ends[-1]
        points = torch.rand(count, dtype=torch.float64, generator=generator) * total
        blocks = torch.searchsorted(ends, points, right=True).clamp_(max=len(ends) - 1)
        within = self.weights.view(-1, BLOCK)[blocks].cumsum(1)  # (count, BLOCK)
        rest = points - (ends - self.sums)[blocks]
        offsets = torch.searchsorted(within, rest[:, None], right=True)[:, 0]
        rows = blocks * BLOCK + offsets.clamp_(max=BLOCK - 1)
        rows.clamp_(max=self.size - 1)
        probabilities = self.weights[rows] / total
        importance = (self.size * probabilities).clamp_(min=MIN_PRIORITY) ** -beta
        return self._rows(rows), rows, (importance / importance.max()).float()

    def _rows(self, rows: Tensor) -> dict[str, Tensor]:
        return {name: column[rows] for name, column in self.columns.items()}

    def update_priorities(self, rows: Tensor, errors: Tensor) -> None:
        """Set the priorities of transitions at `rows` (N,) by their new errors (N,)."""
        if self.priority:
            weights = (errors.detach().double().cpu().abs() + MIN_PRIORITY) ** self.priority
            self.largest = max(self.largest, float(weights.max()))
            self._set_weights(rows, weights)

    def _set_weights(self, rows: Tensor, weights: Tensor) -> None:
        self.weights[rows] = weights
        blocks = rows // BLOCK
        self.sums[blocks] = self.weights.view(-1, BLOCK)[blocks].sum(1)

    def state_dict(self) -> dict[str, Any]:
        """Return the transitions and their priorities."""
        return {
            "columns": {name: column[: self.size] for name, column in self.columns.items()},
            "weights": self.weights,
            "place": [self.size, self.next],
            "largest": self.largest,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load a saved buffer; of one that is larger, the first `capacity` rows."""
        size, following = state["place"]
        self.size = min(size, self.capacity)
        self.columns = self._empty_columns(state["columns"])
        for name, column in state["columns"].items():
            self.columns[name][: self.size] = column[: self.size]
        self.next = self.size % self.capacity
        if following < self.capacity and size <= self.capacity:
            self.next = following
        self.largest = state["largest"]
        if self.priority and len(state["weights"]):
            shared = min(len(self.weights), len(state["weights"]))
            self.weights[:shared] = state["weights"][:shared]
            self.weights[self.size :] = 0
            self.sums = self.weights.view(-1, BLOCK).sum(1)
