"""One-step temporal difference rules in many episodes at once.

A turn works on whole columns of N states, actions and errors. Equation numbers are those of Sutton
and Barto, "Reinforcement Learning", second edition.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dltrain import rng
from dltrain.tasks.rl.acting import STREAM, Policy, greedy_actions


def values_of(rows: Tensor, actions: Tensor) -> Tensor:
    """Return the values (N,) of actions (N,) in rows of action values (N, A)."""
    return rows.gather(1, actions[:, None])[:, 0]


def learn_vectorized(
    batch: Any,
    tables: list[Tensor],
    policy: Policy,
    method: str,
    alpha: float,
    gamma: float,
    next_actions: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Act and learn in N episodes; `tables` (S, A), two for double Q-learning, change in place.

    All targets of a turn use the tables before it. Where several episodes take the same action in
    the same state, its value moves by the mean of their errors, so that the step size does not grow
    with N. `next_actions` (N,) are the actions that Sarsa chose before and did not take yet, -1
    where there is none.

    Returns:
        Errors and values (turns, N), and for Sarsa the next actions.
    """
    env = batch.vector_env
    all_errors: list[Tensor] = []
    all_values: list[Tensor] = []
    for _ in batch:
        states = torch.from_numpy(env.states)
        mean_values = torch.stack([table[states] for table in tables]).mean(0)
        actions = policy.choose_batch(mean_values)
        if next_actions is not None:
            actions = torch.where(next_actions < 0, actions, next_actions)
        after, rewards, terminated, ended = map(torch.from_numpy, env.step(actions.numpy()))
        table, other = _in_roles(tables)
        rows = table[after]
        if method == "sarsa":  # equation 6.7
            chosen = policy.choose_batch(rows)
            bootstrap_values = values_of(rows, chosen)
            next_actions = torch.where(ended, -1, chosen)
        elif method == "q_learning":  # equation 6.8
            bootstrap_values = rows.amax(1)
        elif method == "expected_sarsa":  # equation 6.9
            bootstrap_values = (policy.batch_probabilities(rows) * rows).sum(1)
        else:  # double Q-learning, equation 6.10
            bootstrap_values = values_of(other[after], greedy_actions(rows))
        values = values_of(table[states], actions)
        errors = rewards + gamma * bootstrap_values * ~terminated - values
        cells = states * table.shape[1] + actions
        repeats = torch.bincount(cells, minlength=table.numel())[cells]
        table.view(-1).index_add_(0, cells, alpha * errors / repeats)
        all_errors.append(errors)
        all_values.append(values)
    return torch.stack(all_errors), torch.stack(all_values), next_actions


def _in_roles(tables: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Return the table to update and the other one; two tables change roles at random."""
    if len(tables) == 1:
        return tables[0], tables[0]
    if bool(torch.rand((), generator=rng.torch_stream(STREAM)) < 0.5):
        return tables[1], tables[0]
    return tables[0], tables[1]
