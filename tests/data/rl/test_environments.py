"""Environments as data: observations, refusals and their messages, exact returns, pictures."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
import torch

from dltrain.data.rl.dynamics import Dynamics
from dltrain.data.rl.environments import Environment
from dltrain.data.rl.vector_env import VectorEnv

gymnasium = pytest.importorskip("gymnasium")


class Corridor(gymnasium.Env[Any, Any]):
    """A user's own class: states are pairs (place, lamp), actions are 1 (stay) and 2 (go)."""

    def __init__(self, length: int = 3) -> None:
        spaces = gymnasium.spaces
        self.observation_space = spaces.Tuple(
            (spaces.Discrete(length, start=5), spaces.Discrete(2))
        )
        self.action_space = spaces.Discrete(2, start=1)
        self.length = length

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.place, self.lamp = 0, int(self.np_random.integers(2))
        return (self.place + 5, self.lamp), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert action in (1, 2)
        self.place += action - 1
        return (self.place + 5, self.lamp), -1.0, self.place == self.length - 1, False, {}


class Pictures(gymnasium.Env[Any, Any]):
    observation_space = gymnasium.spaces.Box(0, 255, (40, 36, 3), np.uint8)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.picture = self.np_random.integers(0, 256, (40, 36, 3), dtype=np.uint8)
        return self.picture, {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.picture[0, 0] = action  # the same array again, as fast environments do
        return self.picture, float(action), False, False, {}


def test_discrete_tuple_and_multi_discrete_states_are_numbered() -> None:
    data = Environment(make=Corridor, kwargs={"length": 3})
    assert data.spec.num_states == 6
    assert data.spec.arguments()["num_actions"] == data.spec.arguments()["num_classes"] == 2
    (runner,) = next(data.train.epoch(0)).runners
    states = [runner.state, runner.step(1)[0], runner.step(1)[0]]
    assert [number // 2 for number in states] == [0, 1, 2]
    assert Environment("Blackjack-v1").spec.num_states == 32 * 11 * 2


def test_an_observation_is_copied_before_the_environment_overwrites_it() -> None:
    (runner,) = next(Environment(make=Pictures).train.epoch(0)).runners
    before = runner.state
    copied = before.copy()
    after, *_ = runner.step(1)
    assert before.shape == (3, 40, 36)
    assert np.array_equal(before, copied)
    assert (after[:, 0, 0] == 1).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"id": "FrozenLake-v0"}, r"no such environment.*FrozenLake-v1"),
        ({"id": "os:system-v0"}, "no such environment"),
        ({"id": "Pendulum-v1"}, r"continuous \(Box.*MountainCar-v0"),
        ({"id": "FrozenLake-v1", "kwargs": {"color": 1}}, "cannot be made"),
    ],
)
def test_a_refused_environment_names_one_that_works(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Environment(**settings)


def test_an_id_with_a_module_imports_nothing() -> None:
    with pytest.raises(ValueError, match="no such environment"):
        Environment("this_module_is_not_there:Thing-v0")
    assert "antigravity" not in sys.modules
    with pytest.raises(ValueError, match="no such environment"):
        Environment("antigravity:Thing-v0")
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["dataset=gymnasium", "dataset.id=CartPole-v9"], "did you mean CartPole-v1"),
        (["dataset=gymnasium", "dataset.id=MountainCarContinuous-v0"], "MountainCar-v0"),
        (
            ["dataset=cartpole", "model=q_table", "task=temporal_difference"],
            "for an environment: q_network",
        ),
        (
            ["dataset=frozenlake", "model=q_table", "model.num_states=1000000000"],
            "too many for model=q_table",
        ),
        (["dataset=digits", "model=mlp", "task=dqn"], "dataset=cartpole"),
        (["dataset=digits", "model=mlp", "task=temporal_difference"], "dataset=frozenlake"),
        (["dataset=digits", "model=q_table"], "dataset=blackjack"),
        (["dataset=cartpole", "model=mlp", "task=classification"], "not classes"),
        (["dataset=frozenlake", "debug=overfit"], "learns by acting"),
        (["dataset=frozenlake", "task.trace=0.5"], "method=sarsa"),
        (["dataset=frozenlake", "task.method=double_q_learning", "task.n=2"], "one-step rule"),
        (["dataset=frozenlake", "dataset.envs=4", "task.n=2"], "one-step rules"),
        (["dataset=blackjack", "dataset.envs=4"], "envs=1"),
    ],
)
def test_an_impossible_combination_ends_with_what_to_use_instead(
    overrides: list[str], message: str, dltrain: Any
) -> None:
    outcome = dltrain(*overrides)
    assert outcome.code == 2, outcome.out
    assert message in outcome.err


def test_without_gymnasium_the_extra_is_named(
    dltrain: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    outcome = dltrain("dataset=cartpole")
    assert outcome.code == 2
    assert 'pip install "gymnasium[classic-control,toy-text]"' in outcome.err


def test_the_stationary_optimum_of_frozenlake_is_that_of_its_hundred_steps() -> None:
    """No stationary policy near the one of value iteration earns more in 100 steps."""
    data = Environment("FrozenLake-v1")
    assert data.dynamics is not None
    best = data.dynamics.optimal(0.99).argmax(axis=1)
    exact = data.dynamics.exact_return(best, 100)
    assert exact == pytest.approx(0.7402, abs=5e-5)
    for state in range(16):
        for action in range(4):
            other = best.copy()
            other[state] = action
            assert data.dynamics.exact_return(other, 100) <= exact + 1e-12


def test_an_exact_return_equals_the_mean_of_many_episodes() -> None:
    data = Environment("FrozenLake-v1", episodes=400)
    assert data.dynamics is not None
    policy = torch.from_numpy(data.dynamics.optimal(0.99).argmax(axis=1))
    exact = data.exact_return(policy)
    assert exact is not None
    returns = []
    for batch in data.val.epoch(0):
        episodes = batch.play(lambda states: policy[states].tolist())
        returns += [episode_return for episode_return, _ in episodes]
    assert np.mean(returns) == pytest.approx(exact, abs=4 * np.std(returns) / 20)


def test_the_limit_of_steps_counts_in_an_exact_return() -> None:
    """Thirteen steps reach the goal beyond the cliff; twelve steps cost 12 and reach nothing."""
    data = Environment("CliffWalking-v1")
    assert data.dynamics is not None
    best = data.dynamics.optimal(1.0).argmax(axis=1)
    assert data.dynamics.exact_return(best, 1000) == -13
    assert data.dynamics.exact_return(best, 12) == -12
    assert Environment("Taxi-v4").dynamics.exact_return(  # type: ignore[union-attr]
        Environment("Taxi-v4").dynamics.optimal(1.0).argmax(axis=1),
        200,  # type: ignore[union-attr]
    ) == pytest.approx(7.93)


def test_a_policy_is_drawn_with_arrows_where_its_actions_lead() -> None:
    data = Environment("CliffWalking-v1")
    assert data.dynamics is not None
    values = data.dynamics.optimal(1.0)
    grid = data.picture(
        torch.from_numpy(values.max(axis=1)), torch.from_numpy(values.argmax(axis=1))
    )
    assert grid is not None
    assert grid.marks[2] == ("→",) * 11 + ("↓",)
    assert grid.marks[3] == ("↑", *"·" * 10, "G")
    assert grid.values[3, 0] == -13
    assert grid.values[3, 1:].isnan().all()
    slippery = Environment("FrozenLake-v1").grid_world
    assert slippery is not None
    assert slippery.action_names() == ["←", "↓", "→", "↑"]
    assert [slippery.letters()[state] for state in (0, 5, 15)] == ["", "H", "G"]
    assert (
        Environment("Taxi-v4").picture(torch.zeros(500), torch.zeros(500, dtype=torch.int64))
        is None
    )


def test_evaluation_episodes_have_seeds_of_their_own_and_are_the_same_every_time() -> None:
    def starts(data: Environment, split: str) -> list[float]:
        observed: list[torch.Tensor] = []

        def act(observations: torch.Tensor) -> list[int]:
            observed.append(observations)
            return [0] * len(observations)

        for batch in getattr(data, split).epoch(0):
            batch.play(act)
        return observed[0][:, 0].tolist()

    data = Environment("CartPole-v1", episodes=5)
    assert (
        starts(data, "val")
        == starts(data, "val")
        == starts(Environment("CartPole-v1", episodes=5), "val")
    )
    assert not set(starts(data, "val")) & set(starts(data, "test"))
    assert starts(data, "val") != starts(Environment("CartPole-v1", episodes=5, seed=1), "val")


def test_a_vector_environment_follows_its_transition_table() -> None:
    """Next states are as frequent as they should be, episodes end at the limit, a state resumes."""
    data = Environment("FrozenLake-v1")
    dynamics = data.dynamics
    assert isinstance(dynamics, Dynamics)
    finished: list[tuple[float, int]] = []
    vector_env = VectorEnv(dynamics, 3000, 100, 0, finished)
    after, *_ = vector_env.step(np.full(3000, 2))
    shares = np.bincount(after, minlength=16) / 3000
    assert shares[[0, 1, 4]] == pytest.approx([1 / 3] * 3, abs=0.04)  # up (and stay), right, down
    best = dynamics.optimal(0.99).argmax(axis=1)
    finished.clear()
    vector_env = VectorEnv(dynamics, 500, 100, 0, finished)
    for _ in range(100):
        vector_env.step(best[vector_env.states])
    returns = np.array([r for r, _ in finished[:500]])
    assert max(n for _, n in finished) <= 100
    assert returns.mean() > 0.6
    saved = vector_env.state_dict()
    expected = vector_env.step(best[vector_env.states])[0]
    again = VectorEnv(dynamics, 500, 100, 7, [])
    again.load_state_dict(saved)
    assert np.array_equal(again.step(best[again.states])[0], expected)
