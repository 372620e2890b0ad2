"""A plugin whose classes fail, each in its own way; `# NAME` marks the line that an error names."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dltrain import Callback, Data, Engine, Optim, Spec, Stage, Task


class Whole(nn.Module):
    """A network without a fault."""

    def __init__(self, in_features: int, num_classes: int) -> None:
        super().__init__()
        self.enter = nn.Linear(in_features, 32)
        self.leave = nn.Linear(32, num_classes)

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.leave(self.enter(inputs.flatten(1)).relu())
        return logits


class WrongWidth(Whole):
    def __init__(self, in_features: int, num_classes: int) -> None:
        super().__init__(in_features, num_classes)
        self.body = nn.Sequential(nn.Linear(in_features, 32), nn.ReLU(), nn.Linear(16, num_classes))

    def forward(self, inputs: Tensor) -> Any:
        return self.body(inputs.flatten(1))  # WrongWidth


class FiveOutputs(Whole):
    def __init__(self, in_features: int, num_classes: int) -> None:
        super().__init__(in_features, 5)

    def forward(self, inputs: Tensor) -> Any:  # FiveOutputs
        return super().forward(inputs)


class ThreeDimensions(Whole):
    def forward(self, inputs: Tensor) -> Any:  # ThreeDimensions
        return super().forward(inputs).unsqueeze(1)


class ReturnsNone(Whole):
    def forward(self, inputs: Tensor) -> Any:  # ReturnsNone
        super().forward(inputs)


class WrongType(Whole):
    def forward(self, inputs: Tensor) -> Any:
        hidden = self.enter(inputs.flatten(1)).double()
        return self.leave(hidden)  # WrongType


class WrongDevice(Whole):
    def forward(self, inputs: Tensor) -> Any:
        return self.leave(self.enter(inputs.flatten(1).to("meta")))  # WrongDevice


class MissingArgument(Whole):
    def forward(self, inputs: Tensor, mask: Tensor) -> Any:  # MissingArgument
        return super().forward(inputs)


class NoForward(nn.Module):  # NoForward
    def __init__(self, in_features: int, num_classes: int) -> None:
        super().__init__()
        self.leave = nn.Linear(in_features, num_classes)


class MissingKey(Whole):
    def forward(self, inputs: Tensor) -> Any:
        return {"logits": inputs}["logit"]  # MissingKey


class Asserts(Whole):
    def forward(self, inputs: Tensor) -> Any:
        assert inputs.ndim == 7  # Asserts


class Imports(Whole):
    def forward(self, inputs: Tensor) -> Any:
        import no_such_library  # type: ignore[import-not-found]  # Imports

        return no_such_library


class Exits(Whole):
    def forward(self, inputs: Tensor) -> Any:
        sys.exit(0)  # Exits


class Constructor(nn.Module):
    def __init__(self, in_features: int, num_classes: int) -> None:
        super().__init__()
        self.layer = nn.Linear(in_features, "ten")  # type: ignore[arg-type]  # Constructor


class ConstructorValue(nn.Module):
    def __init__(self, in_features: int, num_classes: int) -> None:
        super().__init__()
        self.width = int("wide")  # ConstructorValue


class Detached(Whole):
    def forward(self, inputs: Tensor) -> Any:  # Detached
        return super().forward(inputs).detach()


class InPlace(Whole):
    def forward(self, inputs: Tensor) -> Any:  # InPlace
        hidden = self.enter(inputs.flatten(1)).sigmoid()
        logits = self.leave(hidden)
        hidden.add_(1)
        return logits


class NotFinite(Whole):
    def forward(self, inputs: Tensor) -> Any:  # NotFinite
        return self.leave(self.enter(inputs.flatten(1)) / 0)


class EvaluationFails(Whole):
    """Fails when it predicts, if the environment says so."""

    def forward(self, inputs: Tensor) -> Any:
        if "BREAK_EVALUATION" in os.environ:
            raise KeyError("mean")  # EvaluationFails
        return super().forward(inputs)


class LanguageOfFewTokens(nn.Module):
    context = 8

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.table = nn.Embedding(vocab_size, 7)

    def begin(self, batch_size: int) -> None:
        return None

    def forward(self, tokens: Tensor, state: Any = None) -> Any:  # LanguageOfFewTokens
        return self.table(tokens), None


class LanguageWithoutState(LanguageOfFewTokens):
    def forward(self, tokens: Tensor, state: Any = None) -> Any:  # LanguageWithoutState
        return self.table(tokens)


class OneAction(nn.Module):
    def __init__(self, in_features: int) -> None:
        super().__init__()
        self.layer = nn.Linear(in_features, 1)

    def forward(self, inputs: Tensor) -> Any:  # OneAction
        return self.layer(inputs)


class FlatTargets(nn.Module):
    def __init__(self, in_features: int) -> None:
        super().__init__()
        self.layer = nn.Linear(in_features, 1)

    def forward(self, inputs: Tensor) -> Any:  # FlatTargets
        return self.layer(inputs).squeeze(1)


class FlatImages(nn.Module):
    code_size = 4
    variational = False

    def __init__(self, in_features: int) -> None:
        super().__init__()
        self.encoder = nn.Linear(in_features, 4)
        self.decoder = nn.Linear(4, in_features)

    def encode(self, images: Tensor) -> Any:
        return self.encoder(images.flatten(1))

    def decode(self, codes: Tensor) -> Any:
        return self.decoder(codes)

    def forward(self, images: Tensor) -> Any:  # FlatImages
        return self.decode(self.encode(images))


class FlatGenerator(nn.Module):
    latent_size = 3
    num_classes = 0

    def __init__(self, in_features: int) -> None:
        super().__init__()
        self.generator = nn.Linear(3, in_features)
        self.discriminator = nn.Linear(in_features, 1)

    def generate(self, noise: Tensor, classes: Tensor | None = None) -> Any:
        return self.generator(noise)

    def forward(self, images: Tensor, classes: Tensor | None = None) -> Any:  # FlatGenerator
        return self.discriminator(images.flatten(1)).squeeze(1)


class LossOfShapes(nn.Module):
    def forward(self, outputs: Tensor, targets: Tensor) -> Any:
        return ((outputs - targets) ** 2).mean()  # LossOfShapes


class LossVector(nn.Module):
    def forward(self, outputs: Tensor, targets: Tensor) -> Any:  # LossVector
        return F.cross_entropy(outputs, targets, reduction="none")


def metric_raises(logits: Tensor, targets: Tensor) -> Any:
    return (logits == targets).mean()  # metric_raises


def metric_none(logits: Tensor, targets: Tensor) -> Any:  # metric_none
    logits.mean()


def metric_argument(logits: Tensor) -> Any:  # metric_argument
    return logits.mean()


class CallbackKey(Callback):
    name = "own"

    def evaluation_end(self, engine: Engine) -> None:
        engine.scores["val/nothing"]  # CallbackKey


class CallbackArguments(Callback):
    name = "own"

    def epoch_end(self) -> None:  # type: ignore[override]  # CallbackArguments
        pass


class CallbackState(Callback):  # CallbackState
    name = "own"

    def state_dict(self) -> dict[str, Any]:
        return {"names": {"a", "b"}}


class Source:
    """Black images of two classes."""

    def __init__(self) -> None:
        self.spec = Spec(
            input_shape=(1, 8, 8), class_names=("a", "b"), train_samples=40, test_samples=20
        )

    def part(self, count: int) -> tuple[Tensor, Tensor]:
        return torch.zeros(count, 1, 8, 8, dtype=torch.uint8), torch.arange(count) % 2

    def read(self) -> Any:
        return {"train": self.part(40), "test": self.part(20)}


class SourceRaises(Source):
    def read(self) -> Any:
        return json.loads("{")  # SourceRaises


class SourceTuple(Source):
    def read(self) -> Any:  # SourceTuple
        return self.part(40), self.part(20)


class SourceWithoutTest(Source):  # SourceWithoutTest
    def read(self) -> Any:
        return {"train": self.part(40)}


class SourceOfFloats(Source):  # SourceOfFloats
    def part(self, count: int) -> tuple[Tensor, Tensor]:
        images, targets = super().part(count)
        return images.float(), targets


class SourceOfOtherShape(Source):  # SourceOfOtherShape
    def part(self, count: int) -> tuple[Tensor, Tensor]:
        images, targets = super().part(count)
        return images.squeeze(1), targets


class SourceOfOtherClasses(Source):  # SourceOfOtherClasses
    def part(self, count: int) -> tuple[Tensor, Tensor]:
        images, targets = super().part(count)
        return images, targets + 1


class SourceWithoutSpec:  # SourceWithoutSpec
    def read(self) -> Any:
        return {}


class TransformRaises:
    training_only = False
    normalized = False
    mixes_targets = False
    moves_pixels = False

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return shape

    def __call__(self, inputs: Tensor, targets: Tensor, generator: torch.Generator) -> Any:
        return inputs @ targets, targets  # TransformRaises


class TransformOne(TransformRaises):
    def __call__(self, inputs: Tensor, targets: Tensor, generator: torch.Generator) -> Any:
        return inputs  # TransformOne is named by its definition


class TransformOfShape(TransformRaises):
    def __call__(  # TransformOfShape
        self, inputs: Tensor, targets: Tensor, generator: torch.Generator
    ) -> Any:
        return inputs[:, :, :3], targets


class WholeTask(Task):
    """A task without a fault."""

    def __init__(
        self,
        data: Data,
        model: nn.Module,
        loss: nn.Module,
        optim: Callable[[nn.Module, int], Optim],
        epochs: int,
    ) -> None:
        super().__init__()
        self.data = data
        self.model = model
        self.loss = loss
        self.optim = optim
        self.epochs = epochs

    def stages(self) -> Iterator[Any]:
        self.update = self.optim(self.model, self.epochs * len(self.data.train)).update
        yield Stage(
            name="train",
            epochs=self.epochs,
            batches=self.data.train,
            step=self.step,
            held_out=self.data.val,
            evaluate=self.evaluate,
            watch="val/batches",
            mode="min",
        )

    def step(self, batch: Any) -> Any:
        loss = self.loss(self.model(batch[0]), batch[1])
        self.update(loss)
        return {"loss": loss.detach()}

    def evaluate(self, batches: Iterable[Any]) -> Any:
        return {"batches": float(len(list(batches)))}

    def predict(self, batch: Any) -> Any:
        return self.model(batch)


class TaskStep(WholeTask):
    def step(self, batch: Any) -> Any:
        return self.loss(batch, 1)  # TaskStep


class TaskStepNone(WholeTask):
    def step(self, batch: Any) -> Any:  # TaskStepNone
        super().step(batch)


class TaskStepFloat(WholeTask):
    def step(self, batch: Any) -> Any:  # TaskStepFloat
        return {"loss": float(super().step(batch)["loss"])}


class TaskEvaluation(WholeTask):
    def evaluate(self, batches: Iterable[Any]) -> Any:
        return {"batches": [batch["size"] for batch in batches]}  # TaskEvaluation


class TaskEvaluationNone(WholeTask):
    def evaluate(self, batches: Iterable[Any]) -> Any:  # TaskEvaluationNone
        list(batches)


class TaskStages(WholeTask):  # TaskStages
    def stages(self) -> Iterator[Any]:
        yield "train"


class TaskWithoutStages(WholeTask):  # TaskWithoutStages
    def stages(self) -> Any:
        return None


class TaskPrediction(WholeTask):
    def predict(self, batch: Any) -> Any:
        return {"outputs": self.model(batch)}["logits"]  # TaskPrediction


class TaskRows(WholeTask):  # TaskRows
    def prediction_rows(self, outputs: Any) -> Any:
        return [{"class": "a"}]


def optimizer_raises(params: Any, lr: float = 0.1) -> Any:
    return torch.optim.SGD(params, rate=lr)  # type: ignore[call-arg]  # optimizer_raises


def thread_raises(job: Any) -> Any:
    return {}["file"]  # thread_raises
