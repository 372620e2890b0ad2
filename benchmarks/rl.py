"""Measure reinforcement learning steps per second against hand-written loops, on one thread.

    python -m benchmarks.rl [--rounds 3] [--only tabular|dqn]

`tabular` is Q-learning on CliffWalking, FrozenLake and Taxi: dltrain with all its defaults (log
records, TensorBoard, progress, checkpoints), the shortest loop over the same environment with a
NumPy table, and dltrain with 64 episodes side by side, stepped from the table of transitions.
`dqn` is CartPole in the style of CleanRL's dqn.py (Huang et al. 2022, JMLR): one environment, one
file, a replay buffer of NumPy arrays, an update of 128 transitions every ten steps, records every
hundred; dltrain does the same work with the same sizes. Evaluation is in neither. Contenders take
turns; the table shows medians over the rounds, and the median of the ratios.
"""

from __future__ import annotations

import argparse
import functools
import logging
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from dltrain.config.compose import compose
from dltrain.experiment.experiment import Experiment
from dltrain.experiment.session import open_session
from dltrain.runs.folder import RunFolder

TABULAR = {
    "cliffwalking": ("CliffWalking-v1", 1000),
    "frozenlake": ("FrozenLake-v1", 100),
    "taxi": ("Taxi-v4", 200),
}
STEPS, SIDE_BY_SIDE_STEPS, DEEP_STEPS = 30_000, 300_000, 6_000
EVERY, BATCH, STARTS, COPY = 10, 128, 1000, 500


def engine(overrides: list[str], steps: int) -> float:
    """Return steps per second of the engine, without evaluation."""
    composed = compose(
        [*overrides, "trainer.epochs=1", f"dataset.per_epoch={steps}", "dataset.episodes=1"]
    )
    assert not composed.problems, composed.problems
    built = Experiment.to_train(composed.config)
    with tempfile.TemporaryDirectory() as folder:
        session = open_session(built, RunFolder(Path(folder)), "benchmark")
        start = time.perf_counter()
        session.engine.fit(built.task)
        seconds = time.perf_counter() - start - session.engine.evaluation_seconds
        session.engine.emit("close")
    return steps / seconds


def bare(
    id: str, limit: int, steps: int, alpha: float = 0.5, epsilon: float = 0.1, gamma: float = 1.0
) -> float:
    """Run Q-learning in as few lines as possible."""
    environment = gymnasium.make(id, max_episode_steps=limit, disable_env_checker=True)
    generator = np.random.default_rng(0)
    num_states = environment.observation_space.n  # type: ignore[attr-defined]
    q = np.zeros((num_states, environment.action_space.n))  # type: ignore[attr-defined]
    start = time.perf_counter()
    state, _ = environment.reset(seed=0)
    for _ in range(steps):
        row = q[state]
        if generator.random() < epsilon:
            action = int(generator.integers(len(row)))
        else:
            action = int(
                generator.choice(np.flatnonzero(row == row.max()))
            )  # any of several best actions
        after, reward, terminated, truncated, _ = environment.step(action)
        target = reward if terminated else reward + gamma * q[after].max()
        q[state, action] += alpha * (target - q[state, action])
        state = environment.reset()[0] if terminated or truncated else after
    return steps / (time.perf_counter() - start)


def bare_first(
    id: str, limit: int, steps: int, alpha: float = 0.5, epsilon: float = 0.1, gamma: float = 1.0
) -> float:
    """Run Q-learning that takes the first of equal actions: faster, but it explores less."""
    environment = gymnasium.make(id, max_episode_steps=limit, disable_env_checker=True)
    num_states = environment.observation_space.n  # type: ignore[attr-defined]
    q = np.zeros((num_states, environment.action_space.n))  # type: ignore[attr-defined]
    actions = q.shape[1]
    start = time.perf_counter()
    state, _ = environment.reset(seed=0)
    for _ in range(steps):
        row = q[state]
        action = int(random.random() * actions) if random.random() < epsilon else int(row.argmax())
        after, reward, terminated, truncated, _ = environment.step(action)
        target = reward if terminated else reward + gamma * q[after].max()
        row[action] += alpha * (target - row[action])
        state = environment.reset()[0] if terminated or truncated else after
    return steps / (time.perf_counter() - start)


class Buffer:
    """A replay buffer in the style of single-file implementations."""

    def __init__(self, capacity: int, shape: tuple[int, ...]) -> None:
        self.observations = np.zeros((capacity, *shape), dtype=np.float32)
        self.after = np.zeros((capacity, *shape), dtype=np.float32)
        self.actions = np.zeros((capacity, 1), dtype=np.int64)
        self.rewards, self.terminated = (
            np.zeros(capacity, dtype=np.float32),
            np.zeros(capacity, dtype=np.float32),
        )
        self.capacity, self.size, self.next = capacity, 0, 0

    def add(
        self, observation: Any, after: Any, action: int, reward: float, terminated: bool
    ) -> None:
        i = self.next
        self.observations[i], self.after[i], self.actions[i] = observation, after, action
        self.rewards[i], self.terminated[i] = reward, terminated
        self.next, self.size = (i + 1) % self.capacity, min(self.size + 1, self.capacity)

    def sample(self, count: int) -> tuple[torch.Tensor, ...]:
        rows = np.random.randint(0, self.size, count)  # noqa: NPY002
        columns = (self.observations, self.after, self.actions, self.rewards, self.terminated)
        return tuple(torch.as_tensor(column[rows]) for column in columns)


def network(observations: int, actions: int) -> nn.Module:
    return nn.Sequential(
        nn.Linear(observations, 120),
        nn.ReLU(),
        nn.Linear(120, 84),
        nn.ReLU(),
        nn.Linear(84, actions),
    )


def single_file(steps: int) -> float:
    """Run DQN on CartPole in one function, in the style of CleanRL."""
    from torch.utils.tensorboard import SummaryWriter

    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        writer = SummaryWriter(folder)
        environment = gymnasium.wrappers.RecordEpisodeStatistics(gymnasium.make("CartPole-v1"))
        q, target = network(4, 2), network(4, 2)
        optimizer = torch.optim.Adam(q.parameters(), lr=2.5e-4)
        target.load_state_dict(q.state_dict())
        buffer = Buffer(10_000, (4,))
        start = time.perf_counter()
        observation, _ = environment.reset(seed=0)
        for step in range(steps):
            epsilon = max(0.05, 1 - 0.95 * step / (0.5 * steps))
            if random.random() < epsilon:
                action = int(environment.action_space.sample())
            else:
                action = int(q(torch.Tensor(observation)[None]).argmax(dim=1).item())
            after, reward, terminated, truncated, info = environment.step(action)
            buffer.add(observation, after, action, float(reward), terminated)
            observation = after
            if terminated or truncated:
                writer.add_scalar("charts/episodic_return", info["episode"]["r"], step)
                observation, _ = environment.reset()
            if step > STARTS and step % EVERY == 0:
                seen, then, actions, rewards, done = buffer.sample(BATCH)
                with torch.no_grad():
                    worth = rewards + 0.99 * target(then).max(dim=1).values * (1 - done)
                old = q(seen).gather(1, actions).squeeze()
                loss = F.mse_loss(worth, old)
                if step % 100 == 0:
                    writer.add_scalar("losses/td_loss", loss, step)
                    writer.add_scalar("losses/q_values", old.mean().item(), step)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                if step % COPY == 0:
                    for own, theirs in zip(target.parameters(), q.parameters(), strict=True):
                        own.data.copy_(theirs.data)
        seconds = time.perf_counter() - start
        writer.close()
    return steps / seconds


def compared(own: list[float], rates: dict[str, list[float]]) -> Iterator[str]:
    """Yield the median ratio of dltrain's rates to those of each bare loop."""
    for name, others in rates.items():
        if not name.startswith("dltrain"):
            ratio = statistics.median(a / b for a, b in zip(own, others, strict=True))
            yield f"{ratio:.2f} x {name}"


def contenders(only: str | None) -> dict[str, dict[str, Callable[[], float]]]:
    found: dict[str, dict[str, Callable[[], float]]] = {}
    for name, (id, limit) in TABULAR.items() if only != "dqn" else ():
        ours = [f"dataset={name}", f"dataset.max_episode_steps={limit}"]
        found[name] = {
            "bare loop": functools.partial(bare, id, limit, STEPS),
            "bare loop, first of the best": functools.partial(bare_first, id, limit, STEPS),
            "dltrain": functools.partial(engine, ours, STEPS),
            "dltrain, 64 side by side": lambda ours=ours: engine(  # type: ignore[misc]
                [*ours, "dataset.envs=64", "dataset.batch_size=6400"], SIDE_BY_SIDE_STEPS
            ),
        }
    if only != "tabular":
        settings = f"task.batch_size={BATCH} task.capacity=10000 task.double=false"
        settings += f" task.target_every={COPY // EVERY}"
        settings += f" task.learning_starts={STARTS} task.loss=squared task.decay_share=0.5"
        settings += " model.hidden_sizes=[120,84]"
        ours = [
            "dataset=cartpole",
            f"dataset.batch_size={EVERY}",
            "optimizer.lr=0.00025",
            *settings.split(),
        ]
        found["dqn on cartpole"] = {
            "single file": lambda: single_file(DEEP_STEPS),
            "dltrain": lambda: engine(
                [*ours, "schedule=constant", "trainer.log_every=10"], DEEP_STEPS
            ),
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=("tabular", "dqn"))
    arguments = parser.parse_args()
    logging.getLogger("dltrain").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    for title, those in contenders(arguments.only).items():
        rates: dict[str, list[float]] = {name: [] for name in those}
        for _ in range(arguments.rounds):
            for name, contender in those.items():
                rates[name].append(contender())
        print(title)
        for name, found in rates.items():
            ratios = ""
            if name.startswith("dltrain"):
                ratios = " ".join(compared(found, rates))
            print(f"  {name:30}{statistics.median(found):12,.0f} steps/s   {ratios}", flush=True)


if __name__ == "__main__":
    main()
