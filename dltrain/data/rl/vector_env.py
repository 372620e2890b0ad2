"""Many episodes at once, stepped as arrays by the transition table of their environment."""

from __future__ import annotations

from typing import Any

import numpy as np

from dltrain.data.rl.dynamics import Booleans, Dynamics, Floats, Integers

ROUNDING = 1e-9  # error of a sum of probabilities


class VectorEnv:
    """N episodes side by side, many times as fast as one environment a step.

    All random numbers come from one generator, whose state is part of the saved state.

    Args:
        dynamics: The transition table.
        count: The number of episodes, N.
        max_steps: The number of steps after which an episode is truncated.
        seed: The seed of the generator.
        finished: Receives (return, length) of every episode that ends.
    """

    def __init__(
        self,
        dynamics: Dynamics,
        count: int,
        max_steps: int,
        seed: int,
        finished: list[tuple[float, int]],
    ) -> None:
        self.dynamics, self.count = dynamics, count
        self.max_steps, self.finished = max_steps, finished
        # Rounding must not lead past the last outcome: its cumulative probability is infinite.
        self.cumulative = dynamics.probability.cumsum(axis=2)
        self.cumulative[self.cumulative > 1 - ROUNDING] = np.inf
        self.cumulative_initial = dynamics.initial.cumsum()
        self.cumulative_initial[self.cumulative_initial > 1 - ROUNDING] = np.inf
        self.generator = np.random.Generator(np.random.PCG64(seed))
        self.states = self.initial_states(count)
        self.lengths = np.zeros(count, dtype=np.int64)
        self.totals = np.zeros(count)

    def initial_states(self, count: int) -> Integers:
        """Draw the first states (count,) of new episodes."""
        draws = self.generator.random(count)
        return np.searchsorted(self.cumulative_initial, draws, side="right")

    def step(self, actions: Integers) -> tuple[Integers, Floats, Booleans, Booleans]:
        """Take one action (N,) in every episode; an episode that ends is followed by a new one.

        Returns:
            The next states, the rewards, which episodes terminated, and which ended, by
            termination or by the limit of steps: (N,) each.
        """
        draws = self.generator.random(self.count)[:, None]
        outcomes = (draws >= self.cumulative[self.states, actions]).sum(axis=1)
        at = (self.states, actions, outcomes)
        after = self.dynamics.after[at]
        rewards = self.dynamics.reward[at]
        terminated = self.dynamics.continues[at] == 0
        self.totals += rewards
        self.lengths += 1
        ended = terminated | (self.lengths >= self.max_steps)
        self.states = after
        if ended.any():
            returns, lengths = self.totals[ended].tolist(), self.lengths[ended].tolist()
            self.finished += zip(returns, lengths, strict=True)
            self.states = after.copy()
            self.states[ended] = self.initial_states(int(ended.sum()))
            self.totals[ended] = self.lengths[ended] = 0
        return after, rewards, terminated, ended

    def state_dict(self) -> dict[str, Any]:
        """Return the episodes and the state of the generator."""
        return {
            "states": self.states.tolist(),
            "lengths": self.lengths.tolist(),
            "totals": self.totals.tolist(),
            "generator": dict(self.generator.bit_generator.state),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue the episodes of a saved state."""
        self.states = np.array(state["states"], dtype=np.int64)
        self.lengths = np.array(state["lengths"], dtype=np.int64)
        self.totals = np.array(state["totals"], dtype=np.float64)
        self.generator.bit_generator.state = state["generator"]
