"""Temporal difference learning: rules by hand, the book's pseudo-code, convergence, limits."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from dltrain import rng
from dltrain.models.rl.q_table import QTable
from dltrain.tasks.rl.acting import (
    STREAM,
    Decay,
    EpsilonGreedy,
    Softmax,
    episode_scores,
    greedy_action,
)
from dltrain.tasks.rl.temporal_difference import ErrorSums, TemporalDifference, ValueRows

gymnasium = pytest.importorskip("gymnasium")
from dltrain.data.rl.environments import Environment  # noqa: E402

METHODS = ("sarsa", "expected_sarsa", "q_learning", "double_q_learning")


class Chain(gymnasium.Env[Any, Any]):
    """States in a row: action 1 moves right for a reward of 0, action 0 stays for -1.

    The last step to the right earns 1 and terminates.
    """

    def __init__(self, length: int = 2) -> None:
        self.observation_space = gymnasium.spaces.Discrete(length)
        self.action_space = gymnasium.spaces.Discrete(2)
        self.length = length

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[int, dict[str, Any]]:
        super().reset(seed=seed)
        self.place = 0
        return 0, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        if not action:
            return self.place, -1.0, False, False, {}
        over = self.place == self.length - 1
        self.place += not over
        return self.place, float(over), over, False, {}


class Scripted:
    """A policy with given actions and given probabilities."""

    def __init__(self, *actions: int, chances: tuple[float, ...] = (0.2, 0.8)) -> None:
        self.actions, self.chances = iter(actions), list(chances)

    def choose(self, row: list[float]) -> int:
        return next(self.actions)

    def probabilities(self, row: list[float]) -> list[float]:
        return self.chances


def chain_task(length: int = 2, limit: int | None = None, **settings: Any) -> TemporalDifference:
    data = Environment(
        make=Chain,
        kwargs={"length": length},
        max_episode_steps=limit,
        batch_size=1000,
        per_epoch=1000,
    )
    return TemporalDifference(data, QTable(length, 2), 1, **{"gamma": 0.9, **settings})


def span_of(task: TemporalDifference, steps: int) -> Any:
    span = next(task.data.train.epoch(0))
    span.count = steps
    return span


def learned(
    task: TemporalDifference, start: list[list[float]], policy: Any, steps: int
) -> list[list[float]]:
    """Return the table after so many steps by the task's rule."""
    rows = ValueRows(np.array(start))
    rule = task.with_traces if task.trace else task.n_steps if task.n > 1 else task.one_step
    rule(span_of(task, steps), rows, policy, 0.5, ErrorSums())
    rows.write_back()
    table: list[list[float]] = rows.table.tolist()
    return table


START = [[0.0, 1.0], [0.5, 2.0]]


@pytest.mark.parametrize(
    ("method", "value"),
    [
        ("sarsa", 1 + 0.5 * (0.9 * 0.5 - 1)),  # the action chosen next is 0, whose value is 0.5
        ("expected_sarsa", 1 + 0.5 * (0.9 * (0.2 * 0.5 + 0.8 * 2) - 1)),
        ("q_learning", 1 + 0.5 * (0.9 * 2 - 1)),
    ],
)
def test_one_step_by_hand(method: Any, value: float) -> None:
    """One step to the right without reward: the rules differ in the bootstrap value alone."""
    found = learned(chain_task(method=method), START, Scripted(1, 0), 1)
    assert found == [[0.0, pytest.approx(value, abs=1e-12)], [0.5, 2.0]]


@pytest.mark.parametrize(("coin", "updated"), [(0.1, 0), (0.9, 1)])
def test_double_q_learning_by_hand(
    coin: float, updated: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One table selects the best action, the other gives its value."""
    tables = [np.array([[0.0, 1.0], [3.0, 2.0]]), np.array([[0.0, 4.0], [5.0, 7.0]])]
    monkeypatch.setattr(rng.python_stream(STREAM), "random", lambda: coin)
    rows = [ValueRows(table.copy()) for table in tables]
    task = chain_task(method="double_q_learning")
    task.two_tables(span_of(task, 1), rows, Scripted(1), 0.5, ErrorSums())
    bootstrap_value = (5.0, 2.0)[updated]  # Q2 at argmax Q1 = 0; Q1 at argmax Q2 = 1
    old = tables[updated][0, 1]
    assert rows[updated][0][1] == pytest.approx(
        old + 0.5 * (0.9 * bootstrap_value - old), abs=1e-12
    )
    assert rows[1 - updated][0][1] == tables[1 - updated][0, 1]


def test_a_terminal_state_has_no_value() -> None:
    found = learned(chain_task(), START, Scripted(1, 1), 2)
    assert found[1] == [0.5, pytest.approx(2 + 0.5 * (1 - 2), abs=1e-12)]


@pytest.mark.parametrize(
    "settings", [{"method": m} for m in METHODS[:3]] + [{"method": "sarsa", "n": 3}]
)
def test_the_target_of_a_truncated_episode_includes_the_next_value(
    settings: dict[str, Any],
) -> None:
    """The episode ends after its first step, but the state keeps its value."""
    policy = Scripted(1, 1, 1, 1, chances=(0.0, 1.0))
    found = learned(chain_task(limit=1, **settings), START, policy, 1)
    assert found == [[0.0, pytest.approx(1 + 0.5 * (0.9 * 2 - 1), abs=1e-12)], [0.5, 2.0]]


def test_traces_bootstrap_at_truncation_and_end_with_the_episode() -> None:
    task = chain_task(limit=1, method="sarsa", trace=0.5)
    found = learned(task, START, Scripted(1, 1, 1), 1)
    assert found[0][1] == pytest.approx(1 + 0.5 * (0.9 * 2 - 1), abs=1e-12)
    assert task.learner_state.traces == {}
    assert task.learner_state.action is None


def test_traces_by_hand() -> None:
    """Two steps right: the second error reaches the first step with the factor gamma lambda."""
    found = learned(chain_task(method="sarsa", trace=0.5), START, Scripted(1, 1), 2)
    first = 1 + 0.5 * (0.9 * 2 - 1)
    error = 1 - 2.0
    assert found[1][1] == pytest.approx(2 + 0.5 * error, abs=1e-12)
    assert found[0][1] == pytest.approx(first + 0.5 * error * 0.9 * 0.5, abs=1e-12)


def book(length: int, n: int, actions: list[int], q: list[list[float]]) -> None:
    """Return the table of n-step Sarsa as in section 7.2 of the book, alpha 0.5, gamma 0.9."""
    states, rewards, environment = [0], [0.0], Chain(length)
    environment.reset()
    t, end = 0, 10**9
    while True:
        if t < end:
            state, reward, terminated, _, _ = environment.step(actions[t])
            states.append(state)
            rewards.append(reward)
            end = t + 1 if terminated else end
        tau = t - n + 1
        if tau >= 0:
            total = sum(
                0.9 ** (i - tau - 1) * rewards[i] for i in range(tau + 1, min(tau + n, end) + 1)
            )
            if tau + n < end:
                total += 0.9**n * q[states[tau + n]][actions[tau + n]]
            q[states[tau]][actions[tau]] += 0.5 * (total - q[states[tau]][actions[tau]])
        if tau == end - 1:
            return
        t += 1


@pytest.mark.parametrize("n", [1, 2, 3, 5, 50])
def test_n_step_rules_match_the_books_pseudo_code(n: int) -> None:
    generator = random.Random(n)
    for _ in range(5):
        actions = [generator.randrange(2) for _ in range(40)] + [1] * 6
        start = [[generator.random(), generator.random()] for _ in range(6)]
        expected = [list(row) for row in start]
        book(6, n, actions, expected)
        ones, steps = 0, 0
        while ones < 6:
            ones, steps = ones + actions[steps], steps + 1
        task = chain_task(6, method="sarsa", n=n)
        rows = ValueRows(np.array(start))
        task.n_steps(span_of(task, steps), rows, Scripted(*actions[:steps], 0, 0), 0.5, ErrorSums())
        rows.write_back()
        np.testing.assert_allclose(rows.table, expected, rtol=0, atol=1e-12)


def lake_table(**settings: Any) -> torch.Tensor:
    """Return the table after 600 steps on the frozen lake, in batches of 50."""
    rng.seed_all(3)
    data = Environment("FrozenLake-v1", batch_size=50, per_epoch=600)
    task = TemporalDifference(
        data, QTable(16, 4, 1.0), 1, **{"method": "sarsa", "gamma": 0.95, **settings}
    )
    for span in data.train.epoch(0):
        task.step(span)
    return task.table()


def test_n_of_1_and_trace_of_0_are_one_step_sarsa(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit for bit, over the ends of batches and episodes."""
    expected = lake_table()
    for other in (TemporalDifference.n_steps, TemporalDifference.with_traces):
        monkeypatch.setattr(TemporalDifference, "one_step", other)
        torch.testing.assert_close(lake_table(), expected, rtol=0, atol=0)
    monkeypatch.undo()
    assert not torch.equal(lake_table(n=2), expected)
    assert not torch.equal(lake_table(trace=0.5), expected)


@pytest.mark.parametrize(
    "settings", [{}, {"n": 3}, {"trace": 0.7}, {"method": "double_q_learning"}]
)
def test_the_batch_size_does_not_matter(settings: dict[str, Any]) -> None:
    def table(batch_size: int) -> torch.Tensor:
        rng.seed_all(3)
        data = Environment("FrozenLake-v1", batch_size=batch_size, per_epoch=300)
        task = TemporalDifference(
            data, QTable(16, 4, 1.0), 1, **{"method": "sarsa", "gamma": 0.95, **settings}
        )
        for span in data.train.epoch(0):
            task.step(span)
        return task.table()

    torch.testing.assert_close(table(7), table(300), rtol=0, atol=0)


@pytest.mark.parametrize("envs", [1, 16])
@pytest.mark.parametrize("method", ["q_learning", "double_q_learning"])
def test_it_converges_to_the_table_of_value_iteration(method: Any, envs: int) -> None:
    rng.seed_all(0)
    steps = 8000 if envs == 1 else 60_000
    data = Environment(
        "FrozenLake-v1", {"is_slippery": False}, batch_size=steps, per_epoch=steps, envs=envs
    )
    task = TemporalDifference(
        data, QTable(16, 4), 1, method=method, gamma=0.9, alpha=1.0, epsilon=1.0
    )
    task.step(next(data.train.epoch(0)))
    assert data.dynamics is not None
    acting, _ = data.dynamics.reachable()
    expected = torch.from_numpy(data.dynamics.optimal(0.9))[acting]
    torch.testing.assert_close(task.table()[acting], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("method", METHODS[:3])
def test_vectorized_rules_match_the_single_ones(method: Any) -> None:
    """One transition of one of two environments, by a deterministic policy."""
    data = Environment("FrozenLake-v1", {"is_slippery": False}, batch_size=2, per_epoch=2, envs=2)
    table = QTable(16, 4)
    task = TemporalDifference(data, table, 1, method=method, gamma=0.9, alpha=0.5, epsilon=0.0)
    start = torch.arange(64, dtype=torch.float64).view(1, 16, 4) / 64
    table.values.data.copy_(start)
    task.step(next(data.train.epoch(0)))
    expected = start[0].clone()
    # Both episodes move up, against the wall, and count as one update.
    expected[0, 3] += 0.5 * (0.9 * start[0, 0, 3] - start[0, 0, 3])
    torch.testing.assert_close(task.table(), expected, rtol=0, atol=1e-12)


def test_policies_draw_actions_with_their_probabilities() -> None:
    generator = random.Random(0)
    row = [1.0, 3.0, 3.0, 0.0]
    assert EpsilonGreedy(0.2, generator).probabilities(row) == pytest.approx(
        [0.05, 0.45, 0.45, 0.05]
    )
    assert Softmax(2.0, generator).probabilities(row) == pytest.approx(
        torch.tensor(row).div(2).softmax(0).tolist()
    )
    for policy in (EpsilonGreedy(0.2, generator), Softmax(2.0, generator)):
        counts = np.bincount([policy.choose(row) for _ in range(4000)], minlength=4) / 4000
        assert counts == pytest.approx(policy.probabilities(row), abs=0.04)
    assert {greedy_action(row, generator) for _ in range(50)} == {1, 2}


def test_a_setting_decays_over_its_fraction_of_the_training() -> None:
    line, curve = Decay(1.0, 0.1, 0.5), Decay(1.0, 0.01, 1.0, "exponential")
    assert [line.at(p) for p in (0.0, 0.25, 0.5, 1.0)] == pytest.approx([1.0, 0.55, 0.1, 0.1])
    assert [curve.at(p) for p in (0.0, 0.5, 1.0)] == pytest.approx([1.0, 0.1, 0.01])
    assert Decay(0.3, 0.3, 0.0).at(0.0) == 0.3


def test_optimistic_initial_values_try_every_action() -> None:
    data = Environment("CliffWalking-v1", max_episode_steps=200, batch_size=4000, per_epoch=4000)
    task = TemporalDifference(
        data, QTable(48, 4, initial_value=5.0), 1, epsilon=0.0, alpha=0.5, gamma=0.95
    )
    task.step(next(data.train.epoch(0)))
    assert data.dynamics is not None
    acting, _ = data.dynamics.reachable()
    assert (task.table()[acting] < 5).all()


def test_episode_scores() -> None:
    found = episode_scores([(1.0, 3), (3.0, 5)])
    assert (found["return"], found["length"]) == (2.0, 4.0)
    assert found["return_std"] == pytest.approx(2**0.5)
    assert found["return_95_high"] - found["return"] == pytest.approx(1.959964)


def test_a_batch_of_episodes_ends_with_its_last_episode() -> None:
    data = Environment(
        "CliffWalking-v1", max_episode_steps=50, unit="episodes", batch_size=2, per_epoch=5
    )
    task = TemporalDifference(data, QTable(48, 4), 1)
    spans = list(data.train.epoch(0))
    assert [span.count for span in spans] == [2, 2, 1]
    metrics: Iterator[dict[str, torch.Tensor]] = (task.step(span) for span in spans)
    assert [float(m["episodes"]) for m in metrics] == [2, 4, 5]
    assert data.train.runners[0].actions == []
