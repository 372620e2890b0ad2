"""Deep Q-learning: a network of action values that learns from a replay buffer while it acts."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dltrain import rng
from dltrain.engine import Direction, Mean, Metrics, Stage, Task
from dltrain.optim import Optim
from dltrain.tasks.directions import watch_direction
from dltrain.tasks.outputs import require_shape
from dltrain.tasks.rl.acting import (
    EPISODE_DIRECTIONS,
    STREAM,
    Decay,
    EnvironmentData,
    score_episodes,
)
from dltrain.tasks.rl.replay import Replay
from dltrain.types import ActionValueTable, Data, NonNegative, PositiveInt, Probability

MAX_POLICY_STATES = 10_000  # numbered states up to which an evaluation looks at the whole policy
UNLIMITED_EPOCHS = 10**9  # from here on, training ends by another limit than epochs


class DQN(Task):
    """Learns action values (B, A) with a network.

    The method is that of Mnih et al. 2015, "Human-level control through deep reinforcement
    learning", algorithm 1. A batch is a number of steps in the environment; after them, `updates`
    batches of replayed transitions are learned. The target of a transition is
    R + gamma Q^(S', argmax_a Q^(S', a)) with the target network Q^, and R where the episode
    terminated, but not where a limit of steps truncated it. With `double` the network chooses that
    action (van Hasselt et al. 2016, "Deep Reinforcement Learning with Double Q-learning", equation
    4). Every `target_every` updates the target network moves by the fraction `tau` towards the
    network.

    Observations are arrays (B, ...), images of bytes, which the network gets in 0..1, or state
    numbers (B,), which it gets one-hot.

    On a GPU the replayed transitions are on the device, and learning never waits for it. Acting
    does, once a step: the environment needs the actions.

    `correction` is the first value of the beta of prioritized replay, which rises linearly to 1.

    Raises:
        ValueError: The data is not an environment, or the model is a table.
    """

    on_device: Tensor

    divisible = False

    def __init__(  # noqa: PLR0913 - the keys of the configuration
        self,
        data: Data,
        model: nn.Module,
        optim: Callable[..., Optim],
        epochs: int,
        gamma: Probability = 0.99,
        capacity: PositiveInt = 50_000,
        batch_size: PositiveInt = 64,
        updates: PositiveInt = 1,
        learning_starts: NonNegative = 0.02,
        loss: Literal["huber", "squared"] = "huber",
        double: bool = True,
        target_every: PositiveInt = 100,
        tau: Probability = 1.0,
        epsilon: Probability = 1.0,
        epsilon_final: Probability = 0.05,
        decay: Literal["linear", "exponential"] = "linear",
        decay_share: Probability = 0.2,
        prioritized: bool = False,
        priority: NonNegative = 0.6,
        correction: Probability = 0.4,
        watch: str = "val/return",
        mode: Direction | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(data, EnvironmentData):
            raise ValueError(
                "this task learns by acting, not from samples: dataset=cartpole, or another "
                "environment"
            )
        if isinstance(model, ActionValueTable):
            raise ValueError(
                "this task learns a network: model=q_network; a table learns by "
                "task=temporal_difference"
            )
        self.model = model
        self.target = copy.deepcopy(model).requires_grad_(False)
        self.data: Any = data
        self.optim = optim
        self.epochs = epochs
        self.watch = watch
        self.mode = mode
        self.gamma = gamma
        self.batch_size = batch_size
        self.updates = updates
        self.double_dqn = double
        self.target_every = target_every
        self.tau = tau
        self.element_loss = F.smooth_l1_loss if loss == "huber" else F.mse_loss
        self.epsilon = Decay(epsilon, epsilon_final, decay_share, decay)
        self.beta = Decay(correction, 1.0, 1.0)
        self.num_states = data.spec.num_states
        self.num_actions = len(data.spec.actions)
        # Knows the device, and costs less than a search of the network's parameters.
        self.register_buffer("on_device", torch.empty(0), persistent=False)
        self.total_units = data.train.samples  # steps or episodes of the whole training
        if epochs < UNLIMITED_EPOCHS:
            self.total_units *= epochs
        self.learning_starts = learning_starts
        if learning_starts < 1:
            self.learning_starts *= self.total_units
        capacity = max(capacity, data.train.batch_size)
        self.replay = Replay(capacity, priority if prioritized else 0.0)

    def stages(self) -> Iterator[Stage]:
        """Yield the stage "train"."""
        self.replay.generator()
        self.replay.device = self.device
        rng.python_stream(STREAM)
        self.data.train.save_with(self.replay)
        steps = self.epochs * len(self.data.train) * self.updates
        optim = self.optim(self.model, steps, updates_per_batch=Fraction(self.updates))

        def step(batch: Any) -> Metrics:
            return self.step(batch, optim)

        yield Stage(
            name="train",
            epochs=self.epochs,
            batches=self.data.train,
            step=step,
            held_out=self.data.val,
            evaluate=self.evaluate,
            optims=(optim,),
            watch=self.watch,
            mode=watch_direction(self, self.watch, self.mode),
        )

    def step(self, batch: Any, optim: Optim) -> Metrics:
        """Take the steps of a batch, then learn from replayed transitions."""
        experience = batch.experience
        progress = experience.units_done / self.total_units
        epsilon = self.epsilon.at(progress)
        num_steps = self.gather(batch, epsilon)
        metrics: dict[str, Tensor | Mean] = batch.record(num_steps)
        metrics["epsilon"] = torch.tensor(epsilon)
        if experience.steps > self.learning_starts:
            for _ in range(self.updates):
                metrics.update(self.learn(optim, self.beta.at(progress)))
        return metrics

    def gather(self, batch: Any, epsilon: float) -> int:
        """Act epsilon-greedily and store the transitions; return the number of steps."""
        runners = batch.runners
        transitions: list[tuple[Any, int, float, Any, bool]] = []
        for _ in batch:
            observations = [runner.state for runner in runners]
            actions = self._epsilon_greedy(batch, observations, epsilon)
            for runner, observation, action in zip(runners, observations, actions, strict=True):
                after, reward, terminated, _ = runner.step(action)
                transitions.append((observation, action, reward, after, terminated))
        states, actions_taken, rewards, next_states, ends = zip(*transitions, strict=True)
        self.replay.add(
            {
                "observation": batch.stack(list(states)),
                "after": batch.stack(list(next_states)),
                "action": torch.tensor(actions_taken),
                "reward": torch.tensor(rewards, dtype=torch.float32),
                "terminated": torch.tensor(ends),
            }
        )
        return len(transitions)

    def _epsilon_greedy(self, batch: Any, observations: list[Any], epsilon: float) -> list[int]:
        """Return an action for each observation: any with probability epsilon, else the best."""
        generator = rng.python_stream(STREAM)
        explores = [generator.random() < epsilon for _ in observations]
        actions = [0] * len(observations)
        if not all(explores):
            actions = self.act(batch.stack(observations))
        for i, exploring in enumerate(explores):
            if exploring:
                actions[i] = generator.randrange(self.num_actions)
        return actions

    def learn(self, optim: Optim, beta: float) -> dict[str, Mean]:
        """Make one update from replayed transitions."""
        columns, rows, importance = self.replay.sample(self.batch_size, beta)
        columns = optim.reduction.own_rows(columns)
        if importance is not None:
            importance = optim.reduction.own_rows(importance)
        device = self.device
        batch = {name: column.to(device, non_blocking=True) for name, column in columns.items()}
        after = self.network_inputs(batch["after"])
        with torch.no_grad():
            target_values = self.target(after)  # (B, A)
            choosing_values = self.action_values(after) if self.double_dqn else target_values
            best_actions = choosing_values.argmax(1, keepdim=True)
            bootstrap_values = target_values.gather(1, best_actions)[:, 0].float()
            discounted = self.gamma * bootstrap_values * ~batch["terminated"]
            targets = batch["reward"] + discounted
        all_values = self.action_values(self.network_inputs(batch["observation"]))
        values = all_values.gather(1, batch["action"][:, None])[:, 0].float()
        losses = self.element_loss(values, targets, reduction="none")
        if importance is not None:
            losses = losses * importance.to(device, non_blocking=True)
        loss = losses.mean()
        optim.update(loss, weight=len(losses))
        errors = targets - values.detach()
        self.replay.update_priorities(rows, optim.reduction.all_rows(errors))
        if optim.updates % self.target_every == 0:
            self.update_target()
        means = {
            "loss": loss.detach(),
            "td_error": errors.abs().mean(),
            "q_value": values.detach().mean(),
        }
        return {name: Mean(mean, len(losses)) for name, mean in means.items()}

    @torch.no_grad()
    def update_target(self) -> None:
        """Move the target network by `tau` towards the network, and copy its buffers.

        With a small `tau` these are the soft updates of Lillicrap et al. 2016, algorithm 1.
        """
        for target, source in zip(self.target.parameters(), self.model.parameters(), strict=True):
            target.lerp_(source, self.tau)
        for buffer, source_buffer in zip(self.target.buffers(), self.model.buffers(), strict=True):
            buffer.copy_(source_buffer)

    @property
    def device(self) -> torch.device:
        """The device of the network."""
        return self.on_device.device

    def network_inputs(self, observations: Tensor) -> Tensor:
        """Return observations (B, ...) in the form that the network gets."""
        if self.num_states:
            return F.one_hot(observations, self.num_states).float()
        if observations.dtype == torch.uint8:
            return observations.float() / 255
        return observations

    @torch.inference_mode()
    def act(self, observations: Tensor) -> list[int]:
        """Return the best action for each of the observations (N, ...)."""
        inputs = self.network_inputs(observations.to(self.device))
        actions: list[int] = self.action_values(inputs).argmax(1).tolist()
        return actions

    def directions(self) -> dict[str, Direction | None]:
        """Return the direction of each metric; see `Task.directions`."""
        return EPISODE_DIRECTIONS

    @torch.no_grad()
    def evaluate(self, batches: Iterable[Any]) -> dict[str, Any]:
        """Return the scores of episodes of the greedy policy.

        With few numbered states also the policy's expected return, where transitions are known, and
        its picture in a grid world.
        """
        scores: dict[str, Any] = {**score_episodes(batches, self.act)}
        if not 0 < self.num_states <= MAX_POLICY_STATES:
            return scores
        best = self.predict(torch.arange(self.num_states)).max(dim=1)
        exact_return = self.data.exact_return(best.indices)
        picture = self.data.picture(best.values, best.indices)
        if exact_return is not None:
            scores["exact_return"] = exact_return
        if picture is not None:
            scores["policy"] = picture
        return scores

    def predict(self, batch: Tensor) -> Tensor:
        """Return the action values (B, A) of observations (B, ...)."""
        return self.action_values(self.network_inputs(batch.to(self.device)))

    def action_values(self, inputs: Tensor) -> Tensor:
        """Return the network's action values (B, A) of its inputs (B, ...)."""
        values: Tensor = self.model(inputs)
        require_shape(self.model, inputs, values, (len(inputs), self.num_actions))
        return values
