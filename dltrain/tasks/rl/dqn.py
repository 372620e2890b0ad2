"""Deep Q-learning: a network of action values learns from a replay buffer what it does not forget while it acts."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dltrain import rng
from dltrain.engine import Direction, Stage, Task
from dltrain.optim import Optim
from dltrain.tasks.directions import watch_direction
from dltrain.tasks.rl.acting import EPISODES, STREAM, Decay, World, played
from dltrain.tasks.rl.replay import Replay
from dltrain.types import Data, NonNegative, PositiveInt, Probability

MOST_STATES = (
    10_000  # of an environment with numbered states, whose greedy policy is looked at as a whole
)


class DQN(Task):
    """Learns action values (B, A) with a network (Mnih et al. 2015, "Human-level control through deep reinforcement
    learning", algorithm 1). A batch is a span of steps, after which `updates` batches of replayed transitions are learned.

    The target of a transition is R + gamma Q^(S', argmax_a Q^(S', a)) with Q^ the target network, and where it terminated R;
    where a limit of steps has cut the episode off it is not. `double` lets the network choose that action (van Hasselt et
    al. 2016, equation 4). Every `target_every` updates the target network goes the share `tau` of the way to the network.
    Observations are arrays (B, ...), pictures of bytes, which the network sees in 0..1, or numbers of states (B,), which it
    sees one-hot.
    """

    def __init__(
        self,
        data: Data,
        model: nn.Module,
        optim: Callable[[nn.Module, int], Optim],
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
        if not isinstance(data, World):
            raise ValueError(
                "this task learns by acting, not from samples: dataset=cartpole, or another environment"
            )
        if callable(getattr(model, "copies", None)):
            raise ValueError(
                "this task learns a network: model=q_network; a table learns by task=temporal_difference"
            )
        self.model, self.target = model, copy.deepcopy(model).requires_grad_(False)
        self.data: Any = data
        self.optim, self.epochs, self.watch, self.mode = optim, epochs, watch, mode
        self.gamma, self.batch_size, self.updates, self.own_choice = (
            gamma,
            batch_size,
            updates,
            double,
        )
        self.target_every, self.tau = target_every, tau
        self.element_loss = F.smooth_l1_loss if loss == "huber" else F.mse_loss
        self.epsilon = Decay(epsilon, epsilon_final, decay_share, decay)
        self.correction = Decay(correction, 1.0, 1.0)
        self.num_states, self.num_actions = data.spec.num_states, len(data.spec.actions)
        self.first = [
            next(model.parameters())
        ]  # it knows the device; in a list, so that it is no parameter twice
        train = self.data.train
        self.total = train.samples * (epochs if epochs < 10**9 else 1)
        self.starts = learning_starts if learning_starts >= 1 else learning_starts * self.total
        self.replay = Replay(max(capacity, train.batch_size), priority if prioritized else 0.0)

    def stages(self) -> Iterator[Stage]:
        self.replay.generator()
        rng.python_stream(STREAM)
        self.data.train.save_with(self.replay)
        optim = self.optim(self.model, self.epochs * len(self.data.train) * self.updates)

        def step(span: Any) -> dict[str, Tensor]:
            return self.step(span, optim)

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

    def step(self, span: Any, optim: Optim) -> dict[str, Tensor]:
        experience = span.experience
        done = experience.units_done
        epsilon = self.epsilon.at(done / self.total)
        taken = self.gather(span, epsilon)
        found = span.record(taken) | {"epsilon": torch.tensor(epsilon)}
        if experience.steps > self.starts:
            for _ in range(self.updates):
                found |= self.learn(optim, self.correction.at(done / self.total))
        return found

    def gather(self, span: Any, epsilon: float) -> int:
        """Act as the network says, or at random, and keep what happens; how many steps that were."""
        live, generator = span.runners, rng.python_stream(STREAM)
        columns: dict[str, list[Any]] = {
            name: [] for name in ("observation", "action", "reward", "after", "terminated")
        }
        for _ in span:
            states = [one.state for one in live]
            drawn = [generator.random() < epsilon for _ in live]
            actions = [0] * len(live) if all(drawn) else self.act(span.stack(states))
            actions = [
                generator.randrange(self.num_actions) if r else a
                for r, a in zip(drawn, actions, strict=True)
            ]
            for one, state, action in zip(live, states, actions, strict=True):
                after, reward, terminated, _ = one.step(action)
                for column, value in zip(
                    columns.values(), (state, action, reward, after, terminated), strict=True
                ):
                    column.append(value)
        kept = {name: span.stack(columns[name]) for name in ("observation", "after")}
        kept["action"] = torch.tensor(columns["action"])
        kept["reward"] = torch.tensor(columns["reward"], dtype=torch.float32)
        kept["terminated"] = torch.tensor(columns["terminated"])
        self.replay.add(kept)
        return len(columns["action"])

    def learn(self, optim: Optim, correction: float) -> dict[str, Tensor]:
        """One update from replayed transitions."""
        batch, places, importance = self.replay.sample(self.batch_size, correction)
        device = self.device
        batch = {name: column.to(device) for name, column in batch.items()}
        actions, after = batch["action"][:, None], self.seen(batch["after"])
        with torch.no_grad():
            worth = self.target(after)
            best = (self.model(after) if self.own_choice else worth).argmax(1, keepdim=True)
            worth = worth.gather(1, best)[:, 0]
            targets = batch["reward"] + self.gamma * worth.float() * ~batch["terminated"]
        values = self.model(self.seen(batch["observation"])).gather(1, actions)[:, 0].float()
        losses = self.element_loss(values, targets, reduction="none")
        loss = losses.mean() if importance is None else (losses * importance.to(device)).mean()
        optim.update(loss)
        errors = targets - values.detach()
        self.replay.correct(places, errors)
        if optim.updates % self.target_every == 0:
            self.follow()
        return {
            "loss": loss.detach(),
            "td_error": errors.abs().mean(),
            "q_value": values.detach().mean(),
        }

    @torch.no_grad()
    def follow(self) -> None:
        """Move the target network towards the network (Lillicrap et al. 2016, algorithm 1, where `tau` is small)."""
        for own, theirs in zip(self.target.parameters(), self.model.parameters(), strict=True):
            own.lerp_(theirs, self.tau)
        for kept, buffer in zip(self.target.buffers(), self.model.buffers(), strict=True):
            kept.copy_(buffer)

    @property
    def device(self) -> torch.device:
        return self.first[0].device

    def seen(self, observations: Tensor) -> Tensor:
        """Observations as the network takes them (B, ...)."""
        if self.num_states:
            return F.one_hot(observations, self.num_states).float()
        return observations.float() / 255 if observations.dtype == torch.uint8 else observations

    @torch.inference_mode()
    def act(self, observations: Tensor) -> list[int]:
        actions: list[int] = self.model(self.seen(observations.to(self.device))).argmax(1).tolist()
        return actions

    def directions(self) -> dict[str, Direction | None]:
        return EPISODES

    @torch.no_grad()
    def evaluate(self, batches: Iterable[Any]) -> dict[str, Any]:
        """Returns of the greedy policy; of numbered states also the exact one, and the policy's picture in a grid world."""
        scores: dict[str, Any] = dict(played(batches, self.act))
        states = self.num_states
        if 0 < states <= MOST_STATES:
            best = self.predict(torch.arange(states)).max(dim=1)
            exact = self.data.exact_return(best.indices)
            picture = self.data.picture(best.values, best.indices)
            scores |= {} if exact is None else {"exact_return": exact}
            scores |= {} if picture is None else {"policy": picture}
        return scores

    def predict(self, batch: Tensor) -> Tensor:
        """Action values (B, A) of observations (B, ...)."""
        values: Tensor = self.model(self.seen(batch.to(self.device)))
        return values
