"""Deep Q-learning: targets by hand, the replay buffer, the target network, dueling networks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from dltrain import rng
from dltrain.models.rl.q_network import QNetwork
from dltrain.optim import Optim
from dltrain.optimizers.sgd import sgd
from dltrain.tasks.rl.dqn import DQN
from dltrain.tasks.rl.replay import MIN_PRIORITY, Replay

pytest.importorskip("gymnasium")
from dltrain.data.rl.environments import Environment


class Fixed(nn.Module):
    """Action values that are the observation's first two numbers times a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        return observations[:, :2] * self.weight


def optim_of(model: nn.Module, steps: int, **settings: Any) -> Optim:
    return Optim(model, lambda params: sgd(params, lr=0.1))


def task_of(**settings: Any) -> DQN:
    data = Environment(
        "CartPole-v1", batch_size=10, per_epoch=100, episodes=2, envs=settings.pop("envs", 1)
    )
    return DQN(
        data,
        settings.pop("model", Fixed()),
        optim_of,
        1,
        **{"gamma": 0.5, "batch_size": 2, **settings},
    )


def rows(**columns: Any) -> dict[str, torch.Tensor]:
    return {name: torch.tensor(value) for name, value in columns.items()}


TRANSITIONS = rows(
    observation=[[1.0, 5.0, 0.0, 0.0], [2.0, 7.0, 0.0, 0.0]],
    after=[[3.0, 4.0, 0.0, 0.0], [3.0, 4.0, 0.0, 0.0]],
    action=[0, 1],
    reward=[1.0, 1.0],
    terminated=[False, True],
)


@pytest.mark.parametrize(("double", "worth"), [(False, 8.0), (True, 6.0)])
def test_the_target_by_hand(double: bool, worth: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """The target network has twice the values of the network, which prefers the first action."""
    task = task_of(double=double, loss="squared", target_every=1000)
    task.target.weight.data.fill_(2.0)  # type: ignore[union-attr, operator]
    if double:
        monkeypatch.setattr(
            task.model, "forward", lambda x: x[:, :2] * task.model.weight * torch.tensor([1.0, 0.1])
        )
    monkeypatch.setattr(
        task.replay, "sample", lambda count, beta: (TRANSITIONS, torch.arange(2), None)
    )
    found = task.learn(optim_of(task.model, 1), 1.0)
    values = torch.tensor([1.0, 0.7 if double else 7.0])
    targets = torch.tensor([1 + 0.5 * worth, 1.0])
    assert float(found["loss"]) == pytest.approx(
        float((targets - values).square().mean()), rel=1e-6
    )
    assert float(found["td_error"]) == pytest.approx(
        float((targets - values).abs().mean()), rel=1e-6
    )


def test_a_truncated_episode_has_not_terminated() -> None:
    data = Environment("CartPole-v1", max_episode_steps=3, batch_size=9, per_epoch=9)
    task = DQN(data, QNetwork((4,), 2), optim_of, 1)
    task.gather(next(data.train.epoch(0)), 1.0)
    columns = task.replay.columns
    assert not columns["terminated"][:9].any()
    assert torch.equal(columns["observation"][1], columns["after"][0])
    # Row 2 ends the first episode, row 3 starts the second.
    assert not torch.equal(columns["observation"][3], columns["after"][2])


@pytest.mark.parametrize(("tau", "expected"), [(1.0, 3.0), (0.25, 1.5)])
def test_the_target_network_moves_by_tau(tau: float, expected: float) -> None:
    task = task_of(tau=tau)
    task.model.weight.data.fill_(3.0)
    task.update_target()
    assert float(task.target.weight) == expected  # type: ignore[arg-type]


def test_the_target_network_is_updated_every_so_many_updates() -> None:
    task = task_of(target_every=3, updates=1, learning_starts=0.0)
    (stage,) = task.stages()
    followed = []
    for span in stage.batches.epoch(0):
        stage.step(span)
        followed.append(bool(task.target.weight == task.model.weight))  # type: ignore[union-attr]
    assert followed[:6] == [False, False, True, False, False, True]


@pytest.mark.parametrize(("starts", "learned"), [(0.35, 7), (20, 8)])
def test_learning_starts_after_a_fraction_or_a_number_of_steps(starts: float, learned: int) -> None:
    task = task_of(learning_starts=starts)
    (stage,) = task.stages()
    assert sum("loss" in stage.step(span) for span in stage.batches.epoch(0)) == learned


def test_new_transitions_replace_the_oldest() -> None:
    replay = Replay(5)
    for i in range(4):
        replay.add({"x": torch.tensor([2 * i, 2 * i + 1])})
    assert sorted(replay.columns["x"].tolist()) == [3, 4, 5, 6, 7]
    assert (replay.size, replay.next) == (5, 3)


def test_transitions_are_drawn_in_proportion_to_their_priorities() -> None:
    rng.seed_all(0)
    replay = Replay(600, priority=0.5)
    replay.add({"x": torch.arange(500)})
    errors = torch.zeros(500, dtype=torch.float64)
    errors[[3, 300, 499]] = torch.tensor([1.0, 4.0, 9.0], dtype=torch.float64)
    replay.update_priorities(torch.arange(500), errors)
    batch, rows, importance = replay.sample(20_000, beta=0.7)
    assert torch.equal(batch["x"], rows)
    weights = (errors + MIN_PRIORITY).sqrt()
    shares = weights / weights.sum()
    counts = torch.bincount(rows, minlength=500) / 20_000
    torch.testing.assert_close(counts.double(), shares, rtol=0, atol=0.02)
    assert importance is not None
    expected = (500 * shares[rows]) ** -0.7
    torch.testing.assert_close(importance.double(), expected / expected.max(), rtol=1e-5, atol=0)


def test_new_transitions_have_the_largest_priority() -> None:
    replay = Replay(10, priority=1.0)
    replay.add({"x": torch.arange(2)})
    replay.update_priorities(torch.tensor([0]), torch.tensor([7.0]))
    replay.add({"x": torch.arange(1)})
    assert replay.weights[2] == replay.weights[0] == pytest.approx(7.0, abs=1e-3)


@pytest.mark.parametrize("priority", [0.0, 0.6])
def test_a_loaded_buffer_draws_the_same_transitions(priority: float) -> None:
    def filled() -> Replay:
        replay = Replay(40, priority)
        replay.add(
            {
                "x": torch.arange(30),
                "y": torch.rand(30, 2, generator=torch.Generator().manual_seed(1)),
            }
        )
        replay.update_priorities(torch.arange(30), torch.arange(30.0))
        return replay

    one, other = filled(), Replay(40, priority)
    other.load_state_dict(one.state_dict())
    for replay in (one, other):
        replay.add({"x": torch.arange(20), "y": torch.zeros(20, 2)})
    for seed in range(3):
        drawn = []
        for replay in (one, other):
            rng.seed_all(seed)
            drawn.append(replay.sample(16))
        torch.testing.assert_close(drawn[0], drawn[1], rtol=0, atol=0)


def test_a_dueling_network_uses_differences_of_advantages() -> None:
    """Wang et al. 2016, equation 9: the mean of the action values is the state's value."""
    network = QNetwork((4,), 3, (8,), dueling=True)
    x = torch.randn(5, 4)
    assert network.value is not None
    torch.testing.assert_close(network(x).mean(1, keepdim=True), network.value(network.features(x)))


def test_image_observations_are_scaled_to_0_to_1() -> None:
    network = QNetwork((3, 44, 40), 2, (16,))
    assert network(torch.rand(2, 3, 44, 40)).shape == (2, 2)
    with pytest.raises(ValueError, match="too small"):
        QNetwork((3, 20, 44), 2)
    task = task_of()
    assert float(task.network_inputs(torch.full((1, 3, 2, 2), 255, dtype=torch.uint8)).max()) == 1.0


def test_state_numbers_are_one_hot_and_have_an_exact_return() -> None:
    data = Environment("FrozenLake-v1", batch_size=16, per_epoch=32, episodes=2, envs=4)
    task = DQN(data, QNetwork((16,), 4, (8,)), optim_of, 1, learning_starts=0.0)
    assert task.network_inputs(torch.tensor([3])).tolist() == [[0.0] * 3 + [1.0] + [0.0] * 12]
    (stage,) = task.stages()
    metrics = [stage.step(span) for span in stage.batches.epoch(0)]
    assert "loss" in metrics[-1]
    scores = task.evaluate(data.val.epoch(0))
    assert 0 <= scores["exact_return"] < 0.75
    assert scores["policy"].values.shape == (4, 4)


@pytest.mark.parametrize("settings", [{}, {"prioritized": True}, {"envs": 4, "tau": 0.1}])
def test_values_are_learned(settings: dict[str, Any]) -> None:
    """With gamma 0 every action of CartPole has the value of its reward, 1."""
    rng.seed_all(0)
    task = task_of(
        model=QNetwork((4,), 2, (16,)),
        learning_starts=0.0,
        batch_size=32,
        **{"updates": 12, **settings},
    )
    task.gamma = 0.0
    (stage,) = task.stages()
    for epoch in range(3):
        for span in stage.batches.epoch(epoch):
            stage.step(span)
    assert float(
        task.predict(task.replay.columns["observation"][:100]).mean().detach()
    ) == pytest.approx(1.0, abs=0.15)
