"""Temporal difference control with a table: Sarsa, expected Sarsa and Q-learning; one step, n steps and traces.

Equation numbers are those of Sutton and Barto, "Reinforcement Learning", second edition. Q is the table, S and A the state
and the action, R the reward, G a return; a prime is what comes next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal, Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn

from dltrain import rng
from dltrain.engine import Direction, Stage, Task
from dltrain.tasks.directions import watch_direction
from dltrain.tasks.rl.acting import (
    EPISODES,
    STREAM,
    Decay,
    EpsilonGreedy,
    Policy,
    Row,
    Softmax,
    World,
    greedy,
    played,
)
from dltrain.tasks.rl.side_by_side import learn_side_by_side
from dltrain.types import Data, Fraction, NonNegative, PositiveFloat, PositiveInt, Probability

Method = Literal["sarsa", "expected_sarsa", "q_learning", "double_q_learning"]
FADED = 1e-12  # a trace below this is forgotten

# What the next state is worth: its row Q(S', .), the next action A' (chosen only by Sarsa), the policy.
WORTH: dict[str, Callable[[Row, Any, Policy], float]] = {
    "sarsa": lambda q, a, policy: q[a],  # (6.7): Q(S', A')
    "q_learning": lambda q, a, policy: max(q),  # (6.8): max_a Q(S', a)
    "expected_sarsa": lambda q, a, policy: sum(  # (6.9): sum_a pi(a | S') Q(S', a)
        p * value for p, value in zip(policy.probabilities(q), q, strict=True)
    ),
}


@runtime_checkable
class Table(Protocol):
    """A model that is a table of action values (T, S, A), or several."""

    values: Tensor

    def copies(self, count: int) -> None: ...
    def __call__(self, states: Tensor) -> Tensor: ...


class Rows(dict[int, Row]):
    """A table (S, A) of NumPy's as lists, row by row as they are needed: lists are several times as fast to read and write
    one number of. `written` puts them back."""

    def __init__(self, table: Any) -> None:
        self.table = table

    def __missing__(self, state: int) -> Row:
        row: Row = self.table[state].tolist()
        self[state] = row
        return row

    def written(self) -> None:
        for state, row in self.items():
            self.table[state] = row


class Memory:
    """What is under way between two spans: the action chosen next, the last steps whose return is not known, and traces."""

    def __init__(self) -> None:
        self.action: int | None = None
        self.window: list[tuple[int, int, float]] = []  # S, A, R
        self.traces: dict[tuple[int, int], float] = {}
        self.actions: Tensor | None = None  # of several episodes, below 0 where none is chosen

    def state_dict(self) -> dict[str, Any]:
        traces = [(*place, trace) for place, trace in self.traces.items()]
        return {
            "action": self.action,
            "window": list(self.window),
            "traces": traces,
            "actions": self.actions,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.action, self.actions = state["action"], state["actions"]
        self.window = [(s, a, r) for s, a, r in state["window"]]
        self.traces = {(s, a): trace for s, a, trace in state["traces"]}


class Errors:
    """Sums over a span: of the errors' sizes and squares, and of the values that they are of."""

    def __init__(self) -> None:
        self.count, self.size, self.square, self.value = 0, 0.0, 0.0, 0.0

    def add(self, error: float, value: float) -> None:
        self.count += 1
        self.size += abs(error)
        self.square += error * error
        self.value += value

    def add_all(self, errors: Tensor, values: Tensor) -> None:
        self.count += errors.numel()
        self.size += float(errors.abs().sum())
        self.square += float(errors.square().sum())
        self.value += float(values.sum())


class TemporalDifference(Task):
    """Learns a table of action values while it acts. Batches are spans of steps; `model` is a table (T, S, A).

    `n` steps of reward come before what the state after them is worth (7.4, 7.5; of expected Sarsa 7.7); with `n` = 1 the
    rules are the one-step ones. `trace` is the lambda of Sarsa(lambda), whose accumulating traces do the same with all n at
    once. The step size `alpha` and the policy's `epsilon` (or the `temperature` of policy=softmax) go from their first to
    their last value over a share of the training. The target of a step looks beyond an episode that a limit of steps has
    cut off, and not beyond one that has terminated.

    Evaluations play the greedy policy; where the environment has a table of transitions `exact_return` is what that policy
    earns on average within the limit of steps. In a grid world the values and the policy are drawn.
    """

    def __init__(
        self,
        data: Data,
        model: nn.Module,
        epochs: int,
        method: Method = "q_learning",
        n: PositiveInt = 1,
        trace: Fraction = 0.0,
        gamma: Probability = 1.0,
        alpha: PositiveFloat = 0.5,
        alpha_final: NonNegative | None = None,
        policy: Literal["epsilon_greedy", "softmax"] = "epsilon_greedy",
        epsilon: Probability = 0.1,
        epsilon_final: Probability | None = None,
        temperature: PositiveFloat = 1.0,
        temperature_final: PositiveFloat | None = None,
        decay: Literal["linear", "exponential"] = "linear",
        decay_share: Probability = 1.0,
        watch: str = "val/return",
        mode: Direction | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(data, World):
            raise ValueError(
                "this task learns by acting, not from samples: dataset=frozenlake, or another environment"
            )
        if not isinstance(model, Table):
            raise ValueError(
                "this task learns a table: model=q_table; a network learns by task=dqn"
            )
        if trace and (method != "sarsa" or n > 1):
            raise ValueError("trace is of one-step Sarsa: method=sarsa n=1, or trace=0")
        if n > 1 and method == "double_q_learning":
            raise ValueError("double_q_learning is a one-step rule: n=1, or another method")
        self.model: Table = model
        if method == "double_q_learning":
            self.model.copies(2)
        self.data: Any = data
        self.epochs, self.watch, self.mode = epochs, watch, mode
        self.method, self.n, self.trace, self.gamma = method, n, trace, gamma
        self.alpha = Decay(alpha, alpha if alpha_final is None else alpha_final, decay_share, decay)
        self.kind = policy
        first, last = (
            (epsilon, epsilon_final)
            if policy == "epsilon_greedy"
            else (temperature, temperature_final)
        )
        self.exploration = Decay(first, first if last is None else last, decay_share, decay)
        self.memory = Memory()
        train = cast(Any, data.train)
        self.several = train.vector_env is not None
        if not self.several and len(train.runners) > 1:
            raise ValueError(
                "dataset.envs: several environments are stepped at once where transitions are known; envs=1"
            )
        if self.several and (n > 1 or trace):
            raise ValueError(
                "dataset.envs: several environments at once learn by one-step rules: n=1 and trace=0"
            )

    def stages(self) -> Iterator[Stage]:
        rng.torch_stream(STREAM)
        rng.python_stream(STREAM)
        self.data.train.save_with(self.memory)
        yield Stage(
            name="train",
            epochs=self.epochs,
            batches=self.data.train,
            step=self.step,
            held_out=self.data.val,
            evaluate=self.evaluate,
            watch=self.watch,
            mode=watch_direction(self, self.watch, self.mode),
        )

    def step(self, span: Any) -> dict[str, Tensor]:
        """Act and learn, transition by transition, with the step size and policy of the span's beginning."""
        experience = span.experience
        done = experience.units_done
        progress = done / (self.epochs * experience.samples)
        alpha, explore = self.alpha.at(progress), self.exploration.at(progress)
        policy = self.policy(explore)
        tables = self.model.values.detach()  # (T, S, A), the parameter's own memory
        errors = Errors()
        if self.several:
            found = learn_side_by_side(
                span, list(tables), policy, self.method, alpha, self.gamma, self.memory.actions
            )
            errors.add_all(*found[:2])
            self.memory.actions = found[2]
        else:
            rows = [Rows(table) for table in tables.numpy()]
            if self.method == "double_q_learning":
                self.two_tables(span, rows, policy, alpha, errors)
            elif self.trace:
                self.with_traces(span, rows[0], policy, alpha, errors)
            elif self.n > 1:
                self.n_steps(span, rows[0], policy, alpha, errors)
            else:
                self.one_step(span, rows[0], policy, alpha, errors)
            for table in rows:
                table.written()
        named = {"td_error": errors.size, "loss": errors.square, "q_value": errors.value}
        figures = {name: total / max(1, errors.count) for name, total in named.items()}
        figures |= {
            "epsilon" if self.kind == "epsilon_greedy" else "temperature": explore,
            "alpha": alpha,
        }
        measured = {
            name: torch.tensor(value, dtype=torch.float64) for name, value in figures.items()
        }
        return measured | span.record(errors.count)

    def policy(self, explore: float) -> Policy:
        """Return the policy that explores so much."""
        generator = rng.python_stream(STREAM)
        if self.kind == "epsilon_greedy":
            return EpsilonGreedy(explore, generator)
        return Softmax(max(explore, 1e-8), generator)

    def one_step(self, span: Any, q: Rows, policy: Policy, alpha: float, errors: Errors) -> None:
        """Q(S, A) <- Q(S, A) + alpha [R + gamma worth(S') - Q(S, A)]: equations 6.7 to 6.9."""
        (live,), choose, gamma, worth = span.runners, policy.choose, self.gamma, WORTH[self.method]
        on_policy, following, state = self.method == "sarsa", self.memory.action, live.state
        for _ in span:
            action = choose(q[state]) if following is None else following
            after, reward, terminated, ended = live.step(action)
            following = choose(q[after]) if on_policy and not terminated else None
            target = reward if terminated else reward + gamma * worth(q[after], following, policy)
            row = q[state]
            error = target - row[action]
            errors.add(error, row[action])
            row[action] += alpha * error
            state, following = (live.state, None) if ended else (after, following)
        self.memory.action = following

    def two_tables(
        self, span: Any, tables: list[Rows], policy: Policy, alpha: float, errors: Errors
    ) -> None:
        """Q1(S, A) <- Q1(S, A) + alpha [R + gamma Q2(S', argmax_a Q1(S', a)) - Q1(S, A)], or 2 and 1: equation 6.10."""
        (live,), gamma, state = span.runners, self.gamma, span.runners[0].state
        generator = rng.python_stream(STREAM)
        for _ in span:
            action = policy.choose(
                [a + b for a, b in zip(tables[0][state], tables[1][state], strict=True)]
            )
            after, reward, terminated, ended = live.step(action)
            one, other = tables if generator.random() < 0.5 else reversed(tables)
            target = (
                reward
                if terminated
                else reward + gamma * other[after][greedy(one[after], generator)]
            )
            error = target - one[state][action]
            errors.add(error, one[state][action])
            one[state][action] += alpha * error
            state = live.state if ended else after

    def n_steps(self, span: Any, q: Rows, policy: Policy, alpha: float, errors: Errors) -> None:
        """G = R_1 + gamma R_2 + ... + gamma^n worth(S_n) (7.4), and Q(S, A) <- Q(S, A) + alpha [G - Q(S, A)] (7.5).

        Of Q-learning the actions in between may be no greedy ones, which is not corrected for.
        """
        (live,), choose, worth, memory = (
            span.runners,
            policy.choose,
            WORTH[self.method],
            self.memory,
        )
        on_policy, following, state = self.method == "sarsa", memory.action, live.state
        for _ in span:
            action = choose(q[state]) if following is None else following
            after, reward, terminated, ended = live.step(action)
            following = choose(q[after]) if on_policy and not terminated else None
            memory.window.append((state, action, reward))
            while memory.window and (ended or len(memory.window) == self.n):
                beyond = 0.0 if terminated else worth(q[after], following, policy)
                s, a, _ = memory.window[0]
                error = self.n_step_return(memory.window, beyond) - q[s][a]
                errors.add(error, q[s][a])
                q[s][a] += alpha * error
                memory.window.pop(0)
            state, following = (live.state, None) if ended else (after, following)
        memory.action = following

    def n_step_return(self, window: list[tuple[int, int, float]], beyond: float) -> float:
        """Of rewards in their order and what comes after them: equation 7.4, by Horner's rule."""
        total = beyond
        for _, _, reward in reversed(window):
            total = reward + self.gamma * total
        return total

    def with_traces(self, span: Any, q: Rows, policy: Policy, alpha: float, errors: Errors) -> None:
        """Sarsa(lambda), section 12.7: z <- gamma lambda z, z(S, A) += 1, Q <- Q + alpha [R + gamma Q(S', A') - Q(S, A)] z.

        The traces accumulate; equations 12.5 to 12.7 with action values.
        """
        (live,), choose, gamma, memory = span.runners, policy.choose, self.gamma, self.memory
        following, state, traces = memory.action, live.state, memory.traces
        for _ in span:
            action = choose(q[state]) if following is None else following
            after, reward, terminated, ended = live.step(action)
            following = None if terminated else choose(q[after])
            target = reward if following is None else reward + gamma * q[after][following]
            error = target - q[state][action]
            errors.add(error, q[state][action])
            traces = {
                place: z for place, old in traces.items() if (z := gamma * self.trace * old) > FADED
            }
            traces[state, action] = traces.get((state, action), 0.0) + 1
            for (s, a), z in traces.items():
                q[s][a] += alpha * error * z
            if ended:
                traces = {}
            state, following = (live.state, None) if ended else (after, following)
        memory.action, memory.traces = following, traces

    def table(self) -> Tensor:
        """The action values (S, A) that it acts by."""
        values: Tensor = self.model.values.detach().mean(0)
        return values

    def directions(self) -> dict[str, Direction | None]:
        return {**EPISODES, "exact_return": "max"}

    @torch.no_grad()
    def evaluate(self, batches: Iterable[Any]) -> dict[str, Any]:
        """The greedy policy: sampled returns, the exact one where transitions are known, and its picture in a grid world."""
        best = self.table().max(dim=1)
        scores: dict[str, Any] = dict(played(batches, self.act))
        exact = self.data.exact_return(best.indices)
        if exact is not None:
            scores["exact_return"] = exact
        picture = self.data.picture(best.values, best.indices)
        return scores | ({"policy": picture} if picture is not None else {})

    def act(self, observations: Tensor) -> list[int]:
        actions: list[int] = self.table().argmax(dim=1)[observations].tolist()
        return actions

    def predict(self, batch: Tensor) -> Tensor:
        """Action values (B, A) of states (B,)."""
        values: Tensor = self.model(batch)
        return values
