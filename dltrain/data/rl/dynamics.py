"""A table of transitions: exact returns of a policy, the best one, and many episodes at once."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
ROUNDING = 1e-9  # of sums of probabilities
STILL = 1e-12  # a value that changes by less has converged


class Dynamics:
    """p(s', r | s, a) of S states and A actions, each with up to K outcomes: arrays (S, A, K), filled up with probability 0.

    `table` is the mapping of Gymnasium's toy texts, {state: {action: [(probability, next state, reward, terminated)]}};
    `initial` (S,) the probabilities of an episode's first state.
    """

    def __init__(self, table: dict[int, dict[int, list[tuple[Any, ...]]]], initial: Any) -> None:
        states, actions = len(table), len(table[0])
        outcomes = max(len(found) for row in table.values() for found in row.values())
        columns = np.zeros((4, states, actions, outcomes))
        for s, row in table.items():
            for a, found in row.items():
                columns[:, s, a, : len(found)] = np.array(
                    [[float(part) for part in one] for one in found]
                ).T
        self.probability, self.reward = columns[0], columns[2]
        self.after: Integers = columns[1].astype(np.int64)
        self.goes_on = 1.0 - columns[3]
        self.initial = np.asarray(initial, dtype=np.float64)

    def backup(self, values: Floats, gamma: float = 1.0) -> Floats:
        """Of values (S,) the values (S, A) of acting once more: the sum in Sutton and Barto, equation 4.9."""
        expected: Floats = self.probability * (
            self.reward + gamma * self.goes_on * values[self.after]
        )
        return expected.sum(axis=2)

    def exact_return(self, policy: Any, steps: int) -> float:
        """The expected sum of rewards of one action a state (S,), over at most `steps` steps from a first state.

        By dynamic programming from the last step back, so that the limit counts as it does in an episode.
        """
        values = np.zeros(len(self.initial))
        chosen, rows = np.asarray(policy), np.arange(len(self.initial))
        probability, after = self.probability[rows, chosen], self.after[rows, chosen]
        reward = (probability * self.reward[rows, chosen]).sum(axis=1)
        weight = probability * self.goes_on[rows, chosen]
        for _ in range(steps):
            new = reward + (weight * values[after]).sum(axis=1)
            if np.abs(new - values).max() < STILL:
                break
            values = new
        return float(self.initial @ values)

    def optimal(self, gamma: float, most: int = 100_000) -> Floats:
        """Action values (S, A) of the best policy without a limit of steps, by value iteration (equation 4.10)."""
        values = np.zeros(len(self.initial))
        for _ in range(most):
            new = self.backup(values, gamma).max(axis=1)
            done = np.abs(new - values).max() < STILL
            values = new
            if done:
                break
        return self.backup(values, gamma)

    def reached(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Masks (S,) of the states in which an episode may have to act, and of those in which it may terminate."""
        acting, ends = self.initial > 0, np.zeros(len(self.initial), dtype=bool)
        while True:
            possible = (self.probability > 0) & acting[:, None, None]
            new = acting.copy()
            new[self.after[possible & (self.goes_on > 0)]] = True
            ends[self.after[possible & (self.goes_on == 0)]] = True
            if (new == acting).all():
                return acting, ends
            acting = new

    def directions(self, shape: tuple[int, int]) -> list[tuple[float, float]]:
        """Where each action leads in a plane of states, (down, right) on average over steps between neighbours."""
        here = np.stack(np.unravel_index(np.arange(len(self.initial)), shape))[
            :, :, None, None
        ]  # (2, S, 1, 1)
        moved = np.stack(np.unravel_index(self.after, shape)) - here
        near = (
            self.probability * (np.abs(moved).sum(axis=0) <= 1) * self.reached()[0][:, None, None]
        )
        sums = (moved * near).sum(axis=(1, 3))  # (2, A)
        return [
            (float(down), float(right))
            for down, right in sums.T / max(1e-9, near.sum() / near.shape[1])
        ]


class Copies:
    """N episodes side by side, stepped by arrays from `Dynamics`: many times as fast as one environment a step.

    Their numbers come from one generator, whose state is part of theirs. Returns and lengths of those that end are added to
    `finished`.
    """

    def __init__(
        self,
        dynamics: Dynamics,
        count: int,
        limit: int,
        seed: int,
        finished: list[tuple[float, int]],
    ) -> None:
        self.dynamics, self.count, self.limit, self.finished = dynamics, count, limit, finished
        self.cumulative = dynamics.probability.cumsum(axis=2)
        self.cumulative[self.cumulative > 1 - ROUNDING] = (
            np.inf
        )  # must not lead past the last outcome
        self.first = dynamics.initial.cumsum()
        self.first[self.first > 1 - ROUNDING] = np.inf
        self.generator = np.random.Generator(np.random.PCG64(seed))
        self.states = self.begun(count)
        self.lengths, self.totals = np.zeros(count, dtype=np.int64), np.zeros(count)

    def begun(self, count: int) -> Integers:
        """First states of so many episodes."""
        return np.searchsorted(self.first, self.generator.random(count), side="right")

    def step(
        self, actions: Integers
    ) -> tuple[Integers, Floats, NDArray[np.bool_], NDArray[np.bool_]]:
        """Next states, rewards, which episodes terminated and which ended (N,); those that ended are begun anew."""
        drawn = self.generator.random(self.count)[:, None]
        k = (drawn >= self.cumulative[self.states, actions]).sum(axis=1)
        at = (self.states, actions, k)
        after, rewards, terminated = (
            self.dynamics.after[at],
            self.dynamics.reward[at],
            self.dynamics.goes_on[at] == 0,
        )
        self.totals += rewards
        self.lengths += 1
        ended = terminated | (self.lengths >= self.limit)
        self.states = after
        if ended.any():
            self.finished += zip(
                self.totals[ended].tolist(), self.lengths[ended].tolist(), strict=True
            )
            self.states = after.copy()
            self.states[ended] = self.begun(int(ended.sum()))
            self.totals[ended] = self.lengths[ended] = 0
        return after, rewards, terminated, ended

    def state_dict(self) -> dict[str, Any]:
        names = ("states", "lengths", "totals")
        state = self.generator.bit_generator.state
        return {**{name: getattr(self, name).tolist() for name in names}, "generator": dict(state)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.states = np.array(state["states"], dtype=np.int64)
        self.lengths = np.array(state["lengths"], dtype=np.int64)
        self.totals = np.array(state["totals"], dtype=np.float64)
        self.generator.bit_generator.state = state["generator"]
