"""The transition table of an environment: exact returns of a policy, and the optimal policy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]
CONVERGED = 1e-12  # the largest change of a value that has converged
MIN_SHARE = 1e-9  # keeps a mean over no transitions finite


class Dynamics:
    """The probabilities p(s', r | s, a) of a finite Markov decision process.

    There are S states and A actions, each with up to K outcomes. The arrays `probability`,
    `reward`, `after` (the next state) and `continues` (0 where the episode terminates, else 1) have
    the shape (S, A, K), padded with outcomes of probability 0.

    Args:
        table: Gymnasium's mapping {state: {action: [(probability, next state, reward,
            terminated)]}}, as its toy texts have it.
        initial: The probabilities (S,) of an episode's first state.
    """

    def __init__(self, table: dict[int, dict[int, list[tuple[Any, ...]]]], initial: Any) -> None:
        num_states, num_actions = len(table), len(table[0])
        num_outcomes = max(len(outcomes) for row in table.values() for outcomes in row.values())
        columns = np.zeros((4, num_states, num_actions, num_outcomes))
        for state, row in table.items():
            for action, outcomes in row.items():
                columns[:, state, action, : len(outcomes)] = np.array(outcomes, dtype=np.float64).T
        self.probability = columns[0]
        self.after: Integers = columns[1].astype(np.int64)
        self.reward = columns[2]
        self.continues = 1.0 - columns[3]
        self.initial = np.asarray(initial, dtype=np.float64)

    def backup(self, values: Floats, gamma: float = 1.0) -> Floats:
        """Return the action values (S, A) of one more step before the state values (S,).

        This is the sum in equation 4.9 of Sutton and Barto, "Reinforcement Learning".
        """
        expected: Floats = self.probability * (
            self.reward + gamma * self.continues * values[self.after]
        )
        return expected.sum(axis=2)

    def exact_return(self, policy: Any, max_steps: int) -> float:
        """Return the expected sum of rewards of a policy, over at most `max_steps` steps.

        Dynamic programming from the last step back, so that the limit counts as it does in an
        episode.

        Args:
            policy: The action of each state (S,).
            max_steps: The number of steps after which an episode is truncated.
        """
        values = np.zeros(len(self.initial))
        actions, states = np.asarray(policy), np.arange(len(self.initial))
        probability, after = self.probability[states, actions], self.after[states, actions]
        reward = (probability * self.reward[states, actions]).sum(axis=1)
        weight = probability * self.continues[states, actions]
        for _ in range(max_steps):
            new = reward + (weight * values[after]).sum(axis=1)
            if np.abs(new - values).max() < CONVERGED:
                break
            values = new
        return float(self.initial @ values)

    def optimal(self, gamma: float, max_sweeps: int = 100_000) -> Floats:
        """Return the action values (S, A) of the optimal policy without a limit of steps.

        Value iteration: equation 4.10 of Sutton and Barto.
        """
        values = np.zeros(len(self.initial))
        for _ in range(max_sweeps):
            new = self.backup(values, gamma).max(axis=1)
            change = np.abs(new - values).max()
            values = new
            if change < CONVERGED:
                break
        return self.backup(values, gamma)

    def reachable(self) -> tuple[Booleans, Booleans]:
        """Return masks (S,) of the states in which an agent may have to act, and may terminate."""
        acting = self.initial > 0
        ends = np.zeros(len(self.initial), dtype=bool)
        while True:
            possible = (self.probability > 0) & acting[:, None, None]
            new = acting.copy()
            new[self.after[possible & (self.continues > 0)]] = True
            ends[self.after[possible & (self.continues == 0)]] = True
            if (new == acting).all():
                return acting, ends
            acting = new

    def directions(self, shape: tuple[int, int]) -> list[tuple[float, float]]:
        """Return the mean move (down, right) of each action in a grid of states (rows, columns).

        Only steps to the same or a neighboring field count.
        """
        positions = np.stack(np.unravel_index(np.arange(len(self.initial)), shape))
        moves = np.stack(np.unravel_index(self.after, shape)) - positions[:, :, None, None]
        is_step = np.abs(moves).sum(axis=0) <= 1  # (S, A, K)
        acting, _ = self.reachable()
        weight = self.probability * is_step * acting[:, None, None]
        sums = (moves * weight).sum(axis=(1, 3))  # (2, A)
        total = max(MIN_SHARE, weight.sum() / weight.shape[1])
        return [(float(down), float(right)) for down, right in sums.T / total]
