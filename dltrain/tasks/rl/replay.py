"""A replay buffer: what has happened, to learn from more than once."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dltrain import rng

BLOCK = 256  # priorities that are summed up together
LEAST = 1e-6  # is added to every priority, so that all may be drawn


class Replay:
    """The last `capacity` transitions as tensors, a column each; the oldest go first.

    With a `priority` above 0 transition i is drawn in proportion to |error_i|^priority, and new
    ones at the largest so far (Schaul et al. 2016, "Prioritized Experience Replay", equation 1); at
    0 all alike. What is drawn comes from a generator of the run's own.
    """

    def __init__(self, capacity: int, priority: float = 0.0) -> None:
        self.capacity, self.priority = capacity, priority
        self.columns: dict[str, Tensor] = {}
        self.size = self.next = 0
        self.weights = torch.zeros(
            -(-capacity // BLOCK) * BLOCK if priority else 0, dtype=torch.float64
        )
        self.sums = torch.zeros(len(self.weights) // BLOCK, dtype=torch.float64)
        self.largest = 1.0

    def generator(self) -> torch.Generator:
        """Return the run's generator of what is replayed."""
        return rng.torch_stream("replay")

    def add(self, transitions: dict[str, Tensor]) -> None:
        """Columns (T, ...), at most `capacity` rows."""
        if not self.columns:
            self.columns = {
                k: v.new_zeros(self.capacity, *v.shape[1:]) for k, v in transitions.items()
            }
        count = len(next(iter(transitions.values())))
        places = torch.arange(self.next, self.next + count) % self.capacity
        for name, value in transitions.items():
            self.columns[name][places] = value
        if self.priority:
            self._weigh(places, torch.full((count,), self.largest, dtype=torch.float64))
        self.next = (self.next + count) % self.capacity
        self.size = min(self.capacity, self.size + count)

    def sample(
        self, count: int, correction: float = 1.0
    ) -> tuple[dict[str, Tensor], Tensor, Tensor | None]:
        """So many transitions, drawn with replacement; their places, and the importance weights (N * P)^-correction, the
        largest 1 (section 3.4), where they are not drawn alike."""
        generator = self.generator()
        if not self.priority:
            places = torch.randint(self.size, (count,), generator=generator)
            return {name: column[places] for name, column in self.columns.items()}, places, None
        ends = self.sums.cumsum(0)
        drawn = torch.rand(count, dtype=torch.float64, generator=generator) * ends[-1]
        block = torch.searchsorted(ends, drawn, right=True).clamp_(max=len(ends) - 1)
        within = self.weights.view(-1, BLOCK)[block].cumsum(1)
        rest = drawn - (ends - self.sums)[block]
        places = block * BLOCK + torch.searchsorted(within, rest[:, None], right=True)[:, 0].clamp_(
            max=BLOCK - 1
        )
        places.clamp_(max=self.size - 1)
        shares = self.weights[places] / ends[-1]
        importance = (self.size * shares).clamp_(min=LEAST) ** -correction
        batch = {name: column[places] for name, column in self.columns.items()}
        return batch, places, (importance / importance.max()).float()

    def correct(self, places: Tensor, errors: Tensor) -> None:
        """Take the new errors (N,) of what was drawn for their priorities."""
        if self.priority:
            weights = (errors.detach().double().cpu().abs() + LEAST) ** self.priority
            self.largest = max(self.largest, float(weights.max()))
            self._weigh(places, weights)

    def _weigh(self, places: Tensor, weights: Tensor) -> None:
        self.weights[places] = weights
        blocks = places // BLOCK
        self.sums[blocks] = self.weights.view(-1, BLOCK)[blocks].sum(1)

    def state_dict(self) -> dict[str, Any]:
        return {
            "columns": {name: column[: self.size] for name, column in self.columns.items()},
            "weights": self.weights,
            "place": [self.size, self.next],
            "largest": self.largest,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a saved buffer; of one with another capacity, as much of it as fits, from its beginning."""
        size, following = state["place"]
        fits = min(size, self.capacity)
        self.columns = {
            k: v.new_zeros(self.capacity, *v.shape[1:]) for k, v in state["columns"].items()
        }
        for name, column in state["columns"].items():
            self.columns[name][:fits] = column[:fits]
        self.size = fits
        self.next = (
            following
            if following < self.capacity and size <= self.capacity
            else fits % self.capacity
        )
        self.largest = state["largest"]
        if self.priority and len(state["weights"]):
            shared = min(len(self.weights), len(state["weights"]))
            self.weights[:shared] = state["weights"][:shared]
            self.weights[fits:] = 0
            self.sums = self.weights.view(-1, BLOCK).sum(1)
