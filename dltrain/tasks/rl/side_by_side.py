"""One-step temporal difference rules in many episodes at once: whole columns of states, actions and errors a turn."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dltrain import rng
from dltrain.tasks.rl.acting import STREAM, EpsilonGreedy, Policy


def best(rows: Tensor) -> Tensor:
    """Return the best action of each row (N, A); of several that are, any."""
    return (
        torch.rand(rows.shape, generator=rng.torch_stream(STREAM))
        * (rows == rows.amax(1, keepdim=True))
    ).argmax(1)


def chosen(policy: Policy, rows: Tensor) -> Tensor:
    """Draw an action (N,) for each row of action values (N, A)."""
    generator = rng.torch_stream(STREAM)
    if isinstance(policy, EpsilonGreedy):
        anywhere = torch.randint(rows.shape[1], rows.shape[:1], generator=generator)
        explores = torch.rand(len(rows), generator=generator) < policy.epsilon
        return torch.where(explores, anywhere, best(rows))
    return torch.multinomial((rows / policy.temperature).softmax(1), 1, generator=generator)[:, 0]


def probabilities(policy: Policy, rows: Tensor) -> Tensor:
    """Of every action (N, A)."""
    if isinstance(policy, EpsilonGreedy):
        top = rows == rows.amax(1, keepdim=True)
        return policy.epsilon / rows.shape[1] + (1 - policy.epsilon) * top / top.sum(
            1, keepdim=True
        )
    return (rows / policy.temperature).softmax(1)


def picked(rows: Tensor, actions: Tensor) -> Tensor:
    return rows.gather(1, actions[:, None])[:, 0]


def learn_side_by_side(
    span: Any,
    tables: list[Tensor],
    policy: Policy,
    method: str,
    alpha: float,
    gamma: float,
    next_actions: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Act and learn in N episodes; `tables` (S, A), two for double Q-learning, are changed in place.

    All targets of a turn are of the tables before it. Where several episodes do the same in the same state, the value moves
    by the mean of their errors, so that a step size does not grow with N. Errors and values (turns, N), and for Sarsa the
    actions that are chosen and not yet taken.
    """
    copies, following = span.vector_env, next_actions
    errors, values = [], []
    for _ in span:
        states = torch.from_numpy(copies.states)
        fresh = chosen(policy, torch.stack([table[states] for table in tables]).mean(0))
        actions = fresh if following is None else torch.where(following < 0, fresh, following)
        after, rewards, terminated, ended = map(torch.from_numpy, copies.step(actions.numpy()))
        flip = len(tables) > 1 and bool(torch.rand((), generator=rng.torch_stream(STREAM)) < 0.5)
        one, other = (tables[1], tables[0]) if flip else (tables[0], tables[-1])
        rows = one[after]
        if method == "sarsa":  # (6.7)
            following = chosen(policy, rows)
            worth = picked(rows, following)
            following = torch.where(ended, -1, following)
        elif method == "q_learning":  # (6.8)
            worth = rows.amax(1)
        elif method == "expected_sarsa":  # (6.9)
            worth = (probabilities(policy, rows) * rows).sum(1)
        else:  # (6.10)
            worth = picked(other[after], best(rows))
        now = picked(one[states], actions)
        error = rewards + gamma * worth * ~terminated - now
        place = states * one.shape[1] + actions
        alike = torch.bincount(place, minlength=one.numel())[place]
        one.view(-1).index_add_(0, place, alpha * error / alike)
        errors.append(error)
        values.append(now)
    return torch.stack(errors), torch.stack(values), following
