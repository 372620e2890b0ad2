"""Temporal difference control with a table: Sarsa, expected Sarsa, Q-learning, double Q-learning.

Equation numbers are those of Sutton and Barto, "Reinforcement Learning", second edition. Q is the
table, S a state, A an action, R a reward, G a return; a prime marks the next step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from dltrain import rng
from dltrain.engine import Direction, Stage, Task
from dltrain.tasks.directions import watch_direction
from dltrain.tasks.rl.acting import (
    EPISODE_DIRECTIONS,
    STREAM,
    Decay,
    EnvironmentData,
    EpsilonGreedy,
    Policy,
    Row,
    Softmax,
    greedy_action,
    score_episodes,
)
from dltrain.tasks.rl.vectorized import learn_vectorized
from dltrain.types import (
    ActionValueTable,
    Data,
    Fraction,
    NonNegative,
    PositiveFloat,
    PositiveInt,
    Probability,
)

Method = Literal["sarsa", "expected_sarsa", "q_learning", "double_q_learning"]
MIN_TRACE = 1e-12  # traces below are dropped
MIN_TEMPERATURE = 1e-8  # a temperature of 0 would divide by 0


def expected_value(row: Row, action: int | None, policy: Policy) -> float:
    """Return the mean of the values in `row` under the policy."""
    probabilities = policy.probabilities(row)
    return sum(p * value for p, value in zip(probabilities, row, strict=True))


# The value of the next state, by its row Q(S', .), the next action A' (of Sarsa) and the policy.
BOOTSTRAP_VALUES: dict[str, Callable[[Row, Any, Policy], float]] = {
    "sarsa": lambda row, action, policy: row[action],  # equation 6.7: Q(S', A')
    "q_learning": lambda row, action, policy: max(row),  # equation 6.8: max_a Q(S', a)
    "expected_sarsa": expected_value,  # equation 6.9: sum_a pi(a | S') Q(S', a)
}


class ValueRows(dict[int, Row]):
    """Rows of a NumPy table (S, A) as lists, converted when they are first read.

    Single numbers of lists are read and written several times as fast. `write_back` stores the rows
    in the table.
    """

    def __init__(self, table: Any) -> None:
        self.table = table

    def __missing__(self, state: int) -> Row:
        row: Row = self.table[state].tolist()
        self[state] = row
        return row

    def write_back(self) -> None:
        """Store the rows in the table."""
        for state, row in self.items():
            self.table[state] = row


class LearnerState:
    """The state of learning between two batches of steps.

    Attributes:
        action: The action that was chosen and not yet taken.
        window: State, action and reward of the last steps, whose return is not known yet.
        traces: The eligibility trace of each state and action.
        actions: The actions (N,) of several environments, -1 where none is chosen.
    """

    def __init__(self) -> None:
        self.action: int | None = None
        self.window: list[tuple[int, int, float]] = []
        self.traces: dict[tuple[int, int], float] = {}
        self.actions: Tensor | None = None

    def state_dict(self) -> dict[str, Any]:
        """Return the state, to be saved in a checkpoint."""
        return {
            "action": self.action,
            "window": list(self.window),
            "traces": [(*pair, trace) for pair, trace in self.traces.items()],
            "actions": self.actions,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load a saved state."""
        self.action = state["action"]
        self.actions = state["actions"]
        self.window = [(s, a, r) for s, a, r in state["window"]]
        self.traces = {(s, a): trace for s, a, trace in state["traces"]}


class ErrorSums:
    """Sums over a batch: of absolute and of squared TD errors, and of the updated values."""

    def __init__(self) -> None:
        self.count = 0
        self.absolute = 0.0
        self.squared = 0.0
        self.value = 0.0

    def add(self, error: float, value: float) -> None:
        """Add the error of one update."""
        self.count += 1
        self.absolute += abs(error)
        self.squared += error * error
        self.value += value

    def add_all(self, errors: Tensor, values: Tensor) -> None:
        """Add the errors and values (turns, N) of several environments."""
        self.count += errors.numel()
        self.absolute += float(errors.abs().sum())
        self.squared += float(errors.square().sum())
        self.value += float(values.sum())

    def means(self) -> dict[str, float]:
        """Return the means by the names of the metrics."""
        count = max(1, self.count)
        return {
            "td_error": self.absolute / count,
            "loss": self.squared / count,
            "q_value": self.value / count,
        }


class TemporalDifference(Task):
    """Learns a table of action values while it acts; `model` is a table (T, S, A).

    Batches are numbers of steps in the environment. A target has `n` steps of reward before the
    value of the state after them (equations 7.4 and 7.5, 7.7 of expected Sarsa); with `n` = 1 the
    rules are the one-step ones. `trace` is the lambda of Sarsa(lambda) with accumulating traces.
    The step size `alpha` and the policy's `epsilon` (or the `temperature` of policy=softmax) go
    from their first to their last value over a fraction of the training. The target of a step
    includes the value of the next state where a limit of steps truncated the episode, and does not
    where the episode terminated.

    Evaluations play the greedy policy. Where the environment has a table of transitions,
    `exact_return` is the policy's expected return within the limit of steps. In a grid world the
    values and the policy are drawn.

    Raises:
        ValueError: The data is not an environment, the model is not a table, or the settings do not
            go together.
    """

    divisible = False

    def __init__(  # noqa: PLR0913 - the keys of the configuration
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
        if not isinstance(data, EnvironmentData):
            raise ValueError(
                "this task learns by acting, not from samples: dataset=frozenlake, or another "
                "environment"
            )
        if not isinstance(model, ActionValueTable):
            raise ValueError(
                "this task learns a table: model=q_table; a network learns by task=dqn"
            )
        check_rule(method, n, trace)
        self.data: Any = data
        train = cast(Any, data.train)
        self.vectorized: bool = train.vector_env is not None
        check_environments(self.vectorized, len(train.runners), n, trace)
        self.model: ActionValueTable = model
        if method == "double_q_learning":
            self.model.repeat_table(2)
        self.epochs = epochs
        self.watch = watch
        self.mode = mode
        self.method = method
        self.n = n
        self.trace = trace
        self.gamma = gamma
        self.alpha = Decay.from_settings(alpha, alpha_final, decay_share, decay)
        self.softmax = policy == "softmax"
        self.exploration_name = "epsilon"
        self.exploration = Decay.from_settings(epsilon, epsilon_final, decay_share, decay)
        if self.softmax:
            self.exploration_name = "temperature"
            self.exploration = Decay.from_settings(
                temperature, temperature_final, decay_share, decay
            )
        self.learner_state = LearnerState()

    def stages(self) -> Iterator[Stage]:
        """Yield the stage "train"."""
        rng.torch_stream(STREAM)
        rng.python_stream(STREAM)
        self.data.train.save_with(self.learner_state)
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

    def step(self, batch: Any) -> dict[str, Tensor]:
        """Act and learn, with the step size and the policy of the batch's first step."""
        experience = batch.experience
        progress = experience.units_done / (self.epochs * experience.samples)
        alpha = self.alpha.at(progress)
        exploration = self.exploration.at(progress)
        policy = self.policy(exploration)
        tables = self.model.values.detach()  # (T, S, A), sharing the parameter's memory
        errors = ErrorSums()
        if self.vectorized:
            state = self.learner_state
            all_errors, all_values, state.actions = learn_vectorized(
                batch, list(tables), policy, self.method, alpha, self.gamma, state.actions
            )
            errors.add_all(all_errors, all_values)
        else:
            rows = [ValueRows(table) for table in tables.numpy()]
            self.learn(batch, rows, policy, alpha, errors)
            for table in rows:
                table.write_back()
        figures = {**errors.means(), self.exploration_name: exploration, "alpha": alpha}
        metrics = {name: torch.tensor(v, dtype=torch.float64) for name, v in figures.items()}
        return {**metrics, **batch.record(errors.count)}

    def policy(self, exploration: float) -> Policy:
        """Return the policy with an epsilon, or a temperature, of `exploration`."""
        generator = rng.python_stream(STREAM)
        if self.softmax:
            return Softmax(max(exploration, MIN_TEMPERATURE), generator)
        return EpsilonGreedy(exploration, generator)

    def learn(
        self, batch: Any, tables: list[ValueRows], policy: Policy, alpha: float, errors: ErrorSums
    ) -> None:
        """Act and learn in one environment, transition by transition, by the configured rule."""
        if self.method == "double_q_learning":
            self.two_tables(batch, tables, policy, alpha, errors)
        elif self.trace:
            self.with_traces(batch, tables[0], policy, alpha, errors)
        elif self.n > 1:
            self.n_steps(batch, tables[0], policy, alpha, errors)
        else:
            self.one_step(batch, tables[0], policy, alpha, errors)

    def one_step(
        self, batch: Any, q: ValueRows, policy: Policy, alpha: float, errors: ErrorSums
    ) -> None:
        """Learn by Q(S, A) <- Q(S, A) + alpha [R + gamma V(S') - Q(S, A)], equations 6.7 to 6.9.

        V is the bootstrap value of the method.
        """
        (runner,) = batch.runners
        gamma = self.gamma
        bootstrap_value = BOOTSTRAP_VALUES[self.method]
        on_policy = self.method == "sarsa"
        next_action = self.learner_state.action
        state = runner.state
        for _ in batch:
            action = policy.choose(q[state]) if next_action is None else next_action
            after, reward, terminated, ended = runner.step(action)
            next_action = None
            target = reward
            if not terminated:
                if on_policy:
                    next_action = policy.choose(q[after])
                target = reward + gamma * bootstrap_value(q[after], next_action, policy)
            row = q[state]
            error = target - row[action]
            errors.add(error, row[action])
            row[action] += alpha * error
            state = after
            if ended:
                state = runner.state
                next_action = None
        self.learner_state.action = next_action

    def two_tables(
        self, batch: Any, tables: list[ValueRows], policy: Policy, alpha: float, errors: ErrorSums
    ) -> None:
        """Learn by double Q-learning, equation 6.10, where Q1 and Q2 change roles at random.

        Q1(S, A) <- Q1(S, A) + alpha [R + gamma Q2(S', argmax_a Q1(S', a)) - Q1(S, A)].
        """
        (runner,) = batch.runners
        generator = rng.python_stream(STREAM)
        first, second = tables
        state = runner.state
        for _ in batch:
            sums = [a + b for a, b in zip(first[state], second[state], strict=True)]
            action = policy.choose(sums)
            after, reward, terminated, ended = runner.step(action)
            updated, other = first, second
            if generator.random() >= 0.5:
                updated, other = second, first
            target = reward
            if not terminated:
                best = greedy_action(updated[after], generator)
                target = reward + self.gamma * other[after][best]
            row = updated[state]
            error = target - row[action]
            errors.add(error, row[action])
            row[action] += alpha * error
            state = runner.state if ended else after

    def n_steps(
        self, batch: Any, q: ValueRows, policy: Policy, alpha: float, errors: ErrorSums
    ) -> None:
        """Learn by G = R_1 + gamma R_2 + ... + gamma^n V(S_n) (7.4) and alpha [G - Q(S, A)] (7.5).

        V is the bootstrap value of the method. With Q-learning, actions in between that are not
        greedy are not corrected for.
        """
        (runner,) = batch.runners
        bootstrap_value = BOOTSTRAP_VALUES[self.method]
        on_policy = self.method == "sarsa"
        window = self.learner_state.window
        next_action = self.learner_state.action
        state = runner.state
        for _ in batch:
            action = policy.choose(q[state]) if next_action is None else next_action
            after, reward, terminated, ended = runner.step(action)
            next_action = None
            if on_policy and not terminated:
                next_action = policy.choose(q[after])
            window.append((state, action, reward))
            while window and (ended or len(window) == self.n):
                value = 0.0
                if not terminated:
                    value = bootstrap_value(q[after], next_action, policy)
                first_state, first_action, _ = window[0]
                row = q[first_state]
                error = self.n_step_return(window, value) - row[first_action]
                errors.add(error, row[first_action])
                row[first_action] += alpha * error
                window.pop(0)
            state = after
            if ended:
                state = runner.state
                next_action = None
        self.learner_state.action = next_action

    def n_step_return(self, window: list[tuple[int, int, float]], value: float) -> float:
        """Return the return of the rewards in `window` and the `value` of the state after them.

        Equation 7.4, by Horner's rule.
        """
        total = value
        for _, _, reward in reversed(window):
            total = reward + self.gamma * total
        return total

    def with_traces(
        self, batch: Any, q: ValueRows, policy: Policy, alpha: float, errors: ErrorSums
    ) -> None:
        """Learn by Sarsa(lambda) with accumulating traces, equations 12.5 to 12.7.

        z <- gamma lambda z, z(S, A) += 1, Q <- Q + alpha [R + gamma Q(S', A') - Q(S, A)] z.
        """
        (runner,) = batch.runners
        decay = self.gamma * self.trace
        next_action = self.learner_state.action
        traces = self.learner_state.traces
        state = runner.state
        for _ in batch:
            action = policy.choose(q[state]) if next_action is None else next_action
            after, reward, terminated, ended = runner.step(action)
            next_action = None
            target = reward
            if not terminated:
                next_action = policy.choose(q[after])
                target = reward + self.gamma * q[after][next_action]
            error = target - q[state][action]
            errors.add(error, q[state][action])
            decayed = {pair: decay * trace for pair, trace in traces.items()}
            traces = {pair: trace for pair, trace in decayed.items() if trace > MIN_TRACE}
            traces[state, action] = traces.get((state, action), 0.0) + 1
            for (traced_state, traced_action), trace in traces.items():
                q[traced_state][traced_action] += alpha * error * trace
            state = after
            if ended:
                traces = {}
                state = runner.state
                next_action = None
        self.learner_state.action = next_action
        self.learner_state.traces = traces

    def table(self) -> Tensor:
        """Return the action values (S, A) that the policy uses: the mean of the tables."""
        values: Tensor = self.model.values.detach().mean(0)
        return values

    def directions(self) -> dict[str, Direction | None]:
        """Return the direction of each metric; see `Task.directions`."""
        return {**EPISODE_DIRECTIONS, "exact_return": "max"}

    @torch.no_grad()
    def evaluate(self, batches: Iterable[Any]) -> dict[str, Any]:
        """Return the scores of episodes of the greedy policy.

        Also the policy's expected return, where transitions are known, and its picture in a grid
        world.
        """
        best = self.table().max(dim=1)
        scores: dict[str, Any] = {**score_episodes(batches, self.act)}
        exact_return = self.data.exact_return(best.indices)
        if exact_return is not None:
            scores["exact_return"] = exact_return
        picture = self.data.picture(best.values, best.indices)
        if picture is not None:
            scores["policy"] = picture
        return scores

    def act(self, observations: Tensor) -> list[int]:
        """Return the best action in each of the states (N,)."""
        actions: list[int] = self.table().argmax(dim=1)[observations].tolist()
        return actions

    def predict(self, batch: Tensor) -> Tensor:
        """Return the action values (B, A) of states (B,)."""
        values: Tensor = self.model(batch)
        return values


def check_rule(method: Method, n: int, trace: float) -> None:
    """Raise ValueError for a combination of settings without a learning rule."""
    if trace and (method != "sarsa" or n > 1):
        raise ValueError("trace is of one-step Sarsa: method=sarsa n=1, or trace=0")
    if n > 1 and method == "double_q_learning":
        raise ValueError("double_q_learning is a one-step rule: n=1, or another method")


def check_environments(vectorized: bool, num_envs: int, n: int, trace: float) -> None:
    """Raise ValueError if the rule cannot learn in several environments at once."""
    if not vectorized and num_envs > 1:
        raise ValueError(
            "dataset.envs: several environments are stepped at once where transitions are known; "
            "envs=1"
        )
    if vectorized and (n > 1 or trace):
        raise ValueError(
            "dataset.envs: several environments at once learn by one-step rules: n=1 and trace=0"
        )
