"""Tiny learning systems and data for tests of the engine: no files, no downloads, fast steps."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dltrain.engine import Callback, Engine, Stage, Task
from dltrain.optim import Optim
from dltrain.optimizers.adam import adam
from dltrain.rng import keyed


class Points:
    """Batches of points (batch_size, 2), a function of (seed, epoch, position) as real data is."""

    def __init__(self, count: int, batch_size: int = 4, seed: int = 0) -> None:
        self.count, self.batch_size, self.seed = count, batch_size, seed
        self.samples = count * batch_size

    def __len__(self) -> int:
        return self.count

    def epoch(self, number: int, start: int = 0) -> Iterator[Tensor]:
        for position in range(start, self.count):
            yield torch.randn(self.batch_size, 2, generator=keyed(self.seed, number, position))

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Places(Points):
    """Batches that are their own position: (epoch, position)."""

    def epoch(self, number: int, start: int = 0) -> Iterator[Any]:
        for position in range(start, self.count):
            yield number, position


class Counting(Task):
    """Stages that record their calls; nothing is trained."""

    def __init__(self, *shapes: tuple[int, int, int | None]) -> None:
        super().__init__()
        self.shapes = shapes  # of each stage: epochs, batches, held-out batches
        self.calls: list[Any] = []

    def stages(self) -> Iterator[Stage]:
        for index, (epochs, count, held_out) in enumerate(self.shapes):
            self.calls.append(f"build {index}")
            yield Stage(
                name=f"stage {index}",
                epochs=epochs,
                batches=Places(count),
                step=self.step,
                held_out=None if held_out is None else Places(held_out),
                evaluate=self.evaluate,
                watch="val/score",
            )
            self.calls.append(f"after {index}")

    def step(self, batch: tuple[int, int]) -> dict[str, Tensor]:
        assert self.training
        self.calls.append(("step", *batch))
        return {"loss": torch.tensor(float(batch[1]))}

    def evaluate(self, batches: Iterable[Any]) -> dict[str, float]:
        assert not self.training
        assert not torch.is_grad_enabled()
        count = len(list(batches))
        self.calls.append(("evaluate", count))
        return {"score": float(count)}

    def predict(self, batch: Any) -> Any:
        return batch


class Recorder(Callback):
    """Records every event in `task.calls`, or in a list of its own."""

    name = "recorder"

    def __init__(self, calls: list[Any]) -> None:
        self.calls = calls

    def step_end(self, engine: Engine) -> None:
        self.calls.append("step_end")

    def evaluation_end(self, engine: Engine) -> None:
        self.calls.append("evaluation_end")

    def epoch_end(self, engine: Engine) -> None:
        self.calls.append("epoch_end")

    def stage_end(self, engine: Engine) -> None:
        self.calls.append("stage_end")

    def run_end(self, engine: Engine) -> None:
        self.calls.append("run_end")


class History(Callback):
    """Metrics by step, {step: metrics}, and a list of (step, scores)."""

    name = "history"

    def __init__(self) -> None:
        self.metrics: dict[int, dict[str, float]] = {}
        self.scores: list[tuple[int, dict[str, float]]] = []

    def step_end(self, engine: Engine) -> None:
        self.metrics[engine.step] = {name: float(value) for name, value in engine.metrics.items()}

    def evaluation_end(self, engine: Engine) -> None:
        self.scores.append((engine.step, dict(engine.scores)))


class On(Callback):
    """Calls `action(engine)` at the `number`-th `event`."""

    def __init__(self, event: str, number: int, action: Any) -> None:
        self.event, self.number, self.action, self.count = event, number, action, 0

    def _hear(self, event: str, engine: Engine) -> None:
        self.count += event == self.event
        if event == self.event and self.count == self.number:
            self.action(engine)

    def step_end(self, engine: Engine) -> None:
        self._hear("step_end", engine)

    def evaluation_step(self, engine: Engine) -> None:
        self._hear("evaluation_step", engine)

    def evaluation_end(self, engine: Engine) -> None:
        self._hear("evaluation_end", engine)


def mlp(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, 8), nn.Tanh(), nn.Dropout(0.1), nn.Linear(8, outputs))


class GAN(Task):
    """Two networks and two optimizers; the generator's step uses the updated discriminator."""

    def __init__(self, epochs: int = 3, count: int = 5, accumulate: int = 1) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.generator, self.discriminator = mlp(2, 2), mlp(2, 1)
        self.epochs, self.count, self.accumulate = epochs, count, accumulate

    def stages(self) -> Iterator[Stage]:
        make = functools.partial(adam, lr=0.01)
        self.optim_g = Optim(self.generator, make, accumulate=self.accumulate)
        self.optim_d = Optim(self.discriminator, make, accumulate=self.accumulate)
        yield Stage(
            name="adversarial",
            epochs=self.epochs,
            batches=Points(self.count),
            step=self.step,
            held_out=Points(2, seed=9),
            evaluate=self.evaluate,
            optims=(self.optim_g, self.optim_d),
            watch="val/real",
        )

    def step(self, real: Tensor) -> dict[str, Tensor]:
        # The noise is from the process's generator, which a resume must restore.
        fake = self.generator(torch.randn_like(real))
        loss_d = (
            F.softplus(-self.discriminator(real)) + F.softplus(self.discriminator(fake.detach()))
        ).mean()
        self.optim_d.update(loss_d)
        loss_g = F.softplus(-self.discriminator(fake)).mean()
        self.optim_g.update(loss_g)
        return {"loss": loss_g.detach(), "loss_d": loss_d.detach()}

    def evaluate(self, batches: Iterable[Tensor]) -> dict[str, float]:
        real = torch.cat(list(batches))
        # An evaluation that draws random numbers must not change the training.
        fake = self.generator(torch.randn_like(real))
        return {
            "real": float(self.discriminator(real).mean()),
            "fake": float(self.discriminator(fake).mean()),
        }

    def predict(self, batch: Tensor) -> Tensor:
        generated: Tensor = self.generator(batch)
        return generated


class TwoStages(Task):
    """Stages without gradients: a running mean, then the spread around it, in a later network."""

    mean: Tensor
    center: Tensor
    spread: Tensor

    def __init__(self, epochs: int = 2, count: int = 4) -> None:
        super().__init__()
        self.epochs, self.count = epochs, count
        self.register_buffer("mean", torch.zeros(2))
        self.means: list[Tensor] = []  # the mean between the stages

    def stages(self) -> Iterator[Stage]:
        yield self.stage("mean", lambda batch: self.mean.lerp_(batch.mean(0), 0.1))
        self.means.append(self.mean.clone())
        self.register_buffer("center", self.mean + 1)
        self.register_buffer("spread", torch.ones(2))
        yield self.stage(
            "spread", lambda batch: self.spread.lerp_((batch - self.center).abs().mean(0), 0.1)
        )

    def stage(self, name: str, learn: Any) -> Stage:
        def step(batch: Tensor) -> dict[str, Tensor]:
            learn(batch + torch.rand(()))
            return {"loss": getattr(self, name).sum().clone()}

        def evaluate(batches: Iterable[Tensor]) -> dict[str, float]:
            return {"far": float((torch.cat(list(batches)) - getattr(self, name)).norm())}

        return Stage(
            name,
            self.epochs,
            Points(self.count),
            step,
            Points(1, seed=9),
            evaluate,
            (),
            "val/far",
            "min",
        )

    def predict(self, batch: Tensor) -> Tensor:
        return (batch - self.center) / self.spread
