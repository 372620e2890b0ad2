"""A replay buffer: past transitions, to learn from more than once."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dltrain import rng

BLOCK = 256  # priorities that are summed up together
MIN_PRIORITY = 1e-6  # is added to every error, so that every transition can be drawn
MAX_MEMORY_FRACTION = 0.5  # of a GPU's free memory that the transitions may take


class Replay:
    """The last `capacity` transitions in columns (capacity, ...); new ones replace the oldest.

    With a `priority` above 0, transition i is drawn in proportion to |error_i|^priority, a new one
    at the largest priority so far (Schaul et al. 2016, "Prioritized Experience Replay", equation
    1); with 0 all are drawn alike. The draws come from a generator of the run.

    Transitions and priorities are on `device`, to be set before the first transition, if the
    transitions take at most half of its free memory, and on the CPU otherwise. Neither adding nor
    drawing waits for it.
    """

    def __init__(self, capacity: int, priority: float = 0.0) -> None:
        self.capacity = capacity
        self.priority = priority
        self.device = torch.device("cpu")
        self.columns: dict[str, Tensor] = {}
        self.size = 0
        self.next = 0  # the row that the next transition is written to
        rows = -(-capacity // BLOCK) * BLOCK if priority else 0
        self.weights = torch.zeros(rows, dtype=torch.float64)
        self.sums = torch.zeros(rows // BLOCK, dtype=torch.float64)  # of each block's weights
        self.largest = torch.ones((), dtype=torch.float64)

    def generator(self) -> torch.Generator:
        """Return the run's generator of the draws."""
        return rng.torch_stream("replay")

    def add(self, transitions: dict[str, Tensor]) -> None:
        """Add columns (T, ...) of transitions; T is at most `capacity`."""
        if not self.columns:
            self.columns = self._empty_columns(transitions)
        count = len(next(iter(transitions.values())))
        rows = self._on_device(torch.arange(self.next, self.next + count) % self.capacity)
        for name, value in transitions.items():
            self.columns[name][rows] = self._on_device(value)
        if self.priority:
            self._set_weights(rows, self.largest.expand(count))
        self.next = (self.next + count) % self.capacity
        self.size = min(self.capacity, self.size + count)

    def _empty_columns(self, like: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return empty columns for transitions such as `like`; put the priorities beside them."""
        num_bytes = 0
        for column in like.values():
            num_bytes += self.capacity * column[0].nbytes
        if not fits(num_bytes, self.device):
            self.device = torch.device("cpu")
        self.weights = self._on_device(self.weights)
        self.sums = self._on_device(self.sums)
        self.largest = self._on_device(self.largest)
        return {
            name: column.new_zeros(self.capacity, *column.shape[1:], device=self.device)
            for name, column in like.items()
        }

    def _on_device(self, values: Tensor) -> Tensor:
        # A copy to the CPU has to be waited for: it would be read before it is complete.
        return values.to(self.device, non_blocking=self.device.type != "cpu")

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
            rows = self._on_device(torch.randint(self.size, (count,), generator=generator))
            return self._rows(rows), rows, None
        ends = self.sums.cumsum(0)
        total = ends[-1]
        draws = torch.rand(count, dtype=torch.float64, generator=generator)
        points = self._on_device(draws) * total
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
            sizes = self._on_device(errors.detach()).double().abs()
            weights = (sizes + MIN_PRIORITY) ** self.priority
            self.largest = torch.maximum(self.largest, weights.max())
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
            "largest": float(self.largest),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load a saved buffer; of one that is larger, the first `capacity` rows."""
        size, following = state["place"]
        self.size = min(size, self.capacity)
        self.columns = self._empty_columns(state["columns"])
        for name, column in state["columns"].items():
            self.columns[name][: self.size] = self._on_device(column[: self.size])
        self.next = self.size % self.capacity
        if following < self.capacity and size <= self.capacity:
            self.next = following
        self.largest = torch.full_like(self.largest, state["largest"])
        if self.priority and len(state["weights"]):
            shared = min(len(self.weights), len(state["weights"]))
            self.weights[:shared] = self._on_device(state["weights"][:shared])
            self.weights[self.size :] = 0
            self.sums = self.weights.view(-1, BLOCK).sum(1)


def fits(num_bytes: int, device: torch.device) -> bool:
    """Return whether so many bytes are at most half of a GPU's free memory; True for others.

    Apple's GPUs share the memory of the CPU, and have no type for the sums of priorities.
    """
    if device.type == "mps":
        return False
    if device.type != "cuda":
        return True
    free, _ = torch.cuda.mem_get_info(device)
    return num_bytes <= MAX_MEMORY_FRACTION * free
