"""Words shared by every layer: ranges for annotations, the shape of a data set, and values that callbacks draw.

It imports nothing of dltrain, and torch only for annotations.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol, TypeAlias, runtime_checkable

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from torch import Tensor


@dataclass(frozen=True)
class Gt:
    """Greater than `bound`."""

    bound: float

    def holds(self, value: float) -> bool:
        return value > self.bound

    def __str__(self) -> str:
        return f"> {self.bound:g}"


@dataclass(frozen=True)
class Ge:
    """At least `bound`."""

    bound: float

    def holds(self, value: float) -> bool:
        return value >= self.bound

    def __str__(self) -> str:
        return f">= {self.bound:g}"


@dataclass(frozen=True)
class Lt:
    """Less than `bound`."""

    bound: float

    def holds(self, value: float) -> bool:
        return value < self.bound

    def __str__(self) -> str:
        return f"< {self.bound:g}"


@dataclass(frozen=True)
class Le:
    """At most `bound`."""

    bound: float

    def holds(self, value: float) -> bool:
        return value <= self.bound

    def __str__(self) -> str:
        return f"<= {self.bound:g}"


PositiveInt: TypeAlias = Annotated[int, Gt(0)]
PositiveFloat: TypeAlias = Annotated[float, Gt(0)]
NonNegative: TypeAlias = Annotated[float, Ge(0)]
Fraction: TypeAlias = Annotated[float, Ge(0), Lt(1)]
"""Of a whole: 0 is none of it, 1 would be all of it."""
Probability: TypeAlias = Annotated[float, Ge(0), Le(1)]
Often: TypeAlias = PositiveInt | str
"""Every so many steps, or a text that `Interval.parse` reads."""
BatchSize: TypeAlias = PositiveInt | Literal["all"]
Activation: TypeAlias = Literal["relu", "leaky_relu", "elu", "gelu", "tanh", "sigmoid", "softmax"]
Norm: TypeAlias = Literal["none", "batch", "layer"]
Pooling: TypeAlias = Literal["max", "average", "variance"]
PAD, UNKNOWN, BEGIN, END = 0, 1, 2, 3
"""Token numbers that mean the same in every vocabulary: filling up, a word that is none of it, a text's two ends."""


@dataclass(frozen=True)
class Interval:
    """How often something is done: every so many steps, epochs or seconds; infinite where that does not count."""

    steps: float = math.inf
    epochs: float = math.inf
    seconds: float = math.inf

    @classmethod
    def parse(cls, text: Often) -> Interval:
        """20 is steps, "2ep" epochs, "30s", "10min" and "2h" time; ValueError for anything else."""
        match = re.fullmatch(r"(\d+(?:\.\d+)?) ?(ep|s|min|h)?", str(text))
        count, unit = (float(match[1]), match[2]) if match else (0.0, None)
        whole = unit in ("s", "min", "h") or count.is_integer()
        if not count or not whole:
            raise ValueError(f"{text!r} does not say how often: 20 (steps), 2ep, 30s, 10min or 2h does")
        if unit is None:
            return cls(steps=count)
        return cls(epochs=count) if unit == "ep" else cls(seconds=count * {"s": 1, "min": 60, "h": 3600}[unit])


@dataclass(frozen=True)
class Spec:
    """What a data set is like, known without reading a sample: what models ask for by name and fake data imitates.

    `input_shape` is (C, H, W) of images, (F,) of a table's row, (window, F) of a series. `mean` and `std` are what batches
    are standardized by, in the stored unit (0..255 for bytes): per channel of images, else per feature; empty where
    stored values are used as they are. Classes have `class_names`; a regression has `target_names` instead, whose
    stored values are standardized: times `target_std` plus `target_mean` gives the unit of the data. The last
    len(`cardinalities`) features are codes of categories, each with that many values. `class_counts` are the training
    samples of each class, of data that is described rather than read.

    Of text `vocab_size` says that inputs are token numbers below it, (T,) with T at most input_shape[0], filled up with
    `PAD`; `decode` makes text of them. Where it is to be translated targets are such sequences of `target_length` at most,
    from a vocabulary of their own; where it is to be continued it has neither classes nor targets, and with `continues` each
    row of a batch goes on where the same row of the batch before ended.

    Images of scenes have `boxes` at most each: targets (boxes, 5) of x1, y1, x2, y2 in pixels and the class number, filled up
    with class -1.

    Of an environment `actions` are the names of what can be done in it, which a network has an output each for. Where its
    observations are numbers of states there are `num_states` of them; else they have the `input_shape`.
    """

    input_shape: tuple[int, ...]
    class_names: tuple[str, ...]
    train_samples: int
    test_samples: int
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    target_names: tuple[str, ...] = ()
    target_mean: tuple[float, ...] = ()
    target_std: tuple[float, ...] = ()
    feature_names: tuple[str, ...] = ()
    cardinalities: tuple[int, ...] = ()
    class_counts: tuple[int, ...] = ()
    vocab_size: int = 0
    target_vocab_size: int = 0
    target_length: int = 0
    continues: bool = False
    boxes: int = 0
    num_states: int = 0
    actions: tuple[str, ...] = ()
    decode: Callable[[Sequence[int]], str] | None = field(default=None, compare=False)
    decode_target: Callable[[Sequence[int]], str] | None = field(default=None, compare=False)

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def is_image(self) -> bool:
        return len(self.input_shape) == 3

    def arguments(self) -> dict[str, Any]:
        """The names by which a model may ask for a property of the data; `num_classes` of a regression are its targets."""
        named: dict[str, Any] = {
            "input_shape": self.input_shape,
            "in_features": math.prod(self.input_shape),
            "cardinalities": self.cardinalities,
        }
        if outputs := self.num_classes or len(self.target_names) or len(self.actions):
            named |= {"num_classes": outputs}
        if self.actions:
            named |= {"num_actions": len(self.actions)} | ({"num_states": self.num_states} if self.num_states else {})
        if self.is_image:
            channels, height, width = self.input_shape
            named |= {"in_channels": channels, "image_size": (height, width)}
        elif len(self.input_shape) == 2:
            named |= {"window": self.input_shape[0], "input_size": self.input_shape[1]}
        if self.vocab_size:
            named |= {"vocab_size": self.vocab_size, "max_length": self.input_shape[0]}
        if self.target_vocab_size:
            named |= {"target_vocab_size": self.target_vocab_size, "target_length": self.target_length}
        return named


class Source(Protocol):
    """Where samples come from. `spec` is cheap; `read` opens files and may raise `InputError`."""

    @property
    def spec(self) -> Spec: ...

    def read(self) -> dict[str, tuple[Tensor, Tensor]]:
        """{"train": (inputs, targets), "test": ...} in compact types: uint8 images (N, C, H, W), int64 targets (N,)."""


class Transform(Protocol):
    """Changes whole batches: a preprocessing step, an augmentation, or mixing of samples.

    `training_only` ones leave evaluation and prediction alone. `normalized` ones see inputs of mean 0 and standard
    deviation 1, the others floats in the stored unit. For those that `mixes_targets`, classes come as float shares
    (B, K) instead of numbers (B,). `shape` is what becomes of the shape of one input. What is drawn comes from
    `generator`, which is on the CPU and a function of (seed, epoch, batch).
    """

    training_only: bool
    normalized: bool
    mixes_targets: bool

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]: ...

    def __call__(self, inputs: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]: ...


class DataSplit(Protocol):
    """One split as the engine iterates it; a batch is a function of (seed, epoch number, position)."""

    batch_size: int
    samples: int

    def __len__(self) -> int: ...

    def epoch(self, number: int, start: int = 0) -> Iterator[Any]:
        """The batches of epoch `number` from batch position `start` on."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Data(Protocol):
    """Three splits and what they look like."""

    @property
    def spec(self) -> Spec: ...
    @property
    def train(self) -> DataSplit: ...
    @property
    def val(self) -> DataSplit: ...
    @property
    def test(self) -> DataSplit: ...

    @property
    def class_counts(self) -> tuple[int, ...]:
        """Training samples of each class, for a loss that weighs them; it may have to read the data."""

    def fake(self) -> Data:
        """Random data of the same shape, without a file: for `check` and `debug=smoke`."""

    def to(self, device: torch.device) -> None:
        """Keep the data on `device` from the start, where it is held in memory."""

    def size_in_bytes(self) -> int:
        """What all splits occupy in memory."""

    def fingerprint(self) -> str:
        """Names the content: equal data, equal fingerprint."""

    def description(self) -> dict[str, Any]:
        """What was learned from the training data and is needed to predict without it: plain values, for JSON."""

    def restore(self, description: dict[str, Any]) -> None:
        """Take over a `description`: other files are then read as the training data was."""

    def encode(self, paths: Sequence[Path]) -> Iterator[Sample]:
        """Inputs for `predict` from files of the user's, one by one; a file or line that cannot be read says why."""


@runtime_checkable
class Standardizes(Protocol):
    """Data of images that can be standardized by other figures than its own: those that a trained network knows."""

    def standardize_by(self, mean: Sequence[float], std: Sequence[float]) -> bool:
        """Take over mean and standard deviation of each channel, in 0..255; False where the channels are not as many."""


@dataclass(frozen=True)
class Sample:
    """One input to predict from: where it came from (a file, or file:line), and its tensor or why there is none; `about` is
    what else the answer should say of it, such as by what an image was scaled."""

    name: str
    inputs: Tensor | None
    problem: str = ""
    about: Mapping[str, Any] = field(default_factory=dict)


@runtime_checkable
class ReadsText(Protocol):
    """Data whose inputs are texts: `predict` takes what is no file for the text itself."""

    def encode_text(self, text: str) -> Tensor:
        """Token numbers (T,) of one text, at least one."""


@runtime_checkable
class Answers(Protocol):
    """A task that says what its predictions mean; of one that does not, `predict` shows the raw numbers."""

    def answers(self, outputs: Any) -> list[dict[str, Any]]:
        """A row for each input from what `Task.predict` gave for a batch, all with the same keys.

        Where there are several candidates, `top` lists them, best first, and the row's other keys are those of the best.
        """


@runtime_checkable
class ThroughTime(Protocol):
    """A network, or part of one, that is called with steps (B, T, F) and their number (B,) and reads one after the other."""

    through_time: bool


@runtime_checkable
class AuxiliaryHeads(Protocol):
    """A network with heads in its middle that only training has: while it trains, it gives (logits, *theirs), later logits
    alone. The loss of each counts `auxiliary_weight` beside that of the logits."""

    auxiliary_weight: float

    def auxiliary_heads(self) -> Sequence[torch.nn.Module]:
        """Those heads: what is no part of the network once it is trained."""


@runtime_checkable
class Samples(Protocol):
    """A task that makes samples of its own: what `predict RUN --samples N` asks of it."""

    def sample(self, count: int) -> Tensor:
        """Images (count, C, H, W) in 0..1, drawn from the process's generator; ValueError where it cannot."""


@runtime_checkable
class Explains(Protocol):
    """A task that shows why it answers as it does: what `predict RUN IMAGE --explain` and the end of a run ask of it."""

    def explain(self, inputs: Tensor) -> Tensor:
        """Pictures (B, 3, H', W') in 0..1 of a batch of inputs (B, C, H, W); ValueError where it cannot."""


@runtime_checkable
class ShowsInside(Protocol):
    """A task that shows what its network has learned: pictures for the end of a run."""

    def inside(self, inputs: Tensor) -> dict[str, Image]:
        """What the network makes of a batch of inputs, by name; nothing where there is nothing to see."""


@runtime_checkable
class LooksAgain(Protocol):
    """A task that can answer by several views of each input: what `evaluate RUN tta=flip` asks of it."""

    def average_over(self, views: Sequence[str]) -> None:
        """From now on answer by the mean probability over `views`; ValueError for one that there is not, and for inputs
        that have none."""


@runtime_checkable
class Writes(Protocol):
    """A task that goes on with a text: what `predict RUN TEXT --tokens N` asks of it."""

    def write(self, tokens: Tensor, count: int, temperature: float, top_p: float) -> Tensor:
        """`count` token numbers that follow `tokens` (T,), drawn from the process's generator."""


@runtime_checkable
class Interaction(Protocol):
    """A batch that is no samples but environments to act in: nothing has happened yet when a task is given it."""

    def example(self) -> Tensor:
        """Observations (N, ...) such as `Task.predict` takes, one for each step that the batch is of."""


@runtime_checkable
class Acts(Protocol):
    """A task that has learned what to do: what `predict RUN --out episode.gif` asks of it."""

    def act(self, observations: Tensor) -> list[int]:
        """The action that is best in each of the observations (N, ...), without exploring."""


@runtime_checkable
class Watchable(Protocol):
    """Data that draws what is done in it."""

    def watch(self, act: Callable[[Tensor], list[int]], episode: int) -> Iterator[Any]:
        """Pictures (H, W, 3) of bytes of one episode, the first before the first step; ValueError where there are none."""


@dataclass(frozen=True)
class Grid:
    """Figures of the fields of a plane (H, W), NaN where there is none, each with a mark such as an arrow."""

    values: Tensor
    marks: tuple[tuple[str, ...], ...]
    title: str = ""


@dataclass(frozen=True)
class Image:
    """Pictures (N, C, H, W) with values in 0..1, for callbacks to draw, and a caption each."""

    pixels: Tensor
    captions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Text:
    """Markdown, for callbacks to show."""

    markdown: str


@dataclass(frozen=True)
class Plot:
    """Lines over a common axis: {name: (xs, ys)}; `log_y` draws the values on a logarithmic axis, `y_range` says which
    part of it is shown."""

    lines: Mapping[str, tuple[Sequence[float], Sequence[float]]]
    title: str = ""
    x_title: str = ""
    y_title: str = ""
    log_y: bool = False
    y_range: tuple[float, float] | None = None


@dataclass(frozen=True)
class Embedding:
    """Vectors (N, D) for callbacks to draw as points, coloured by their class numbers (N,) where there are names.

    `rows` says what each vector is of, where that is to be looked at one by one: TensorBoard's projector shows it."""

    vectors: Tensor
    labels: Tensor
    names: tuple[str, ...] = ()
    rows: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """Counts or figures with a name for each row and column, such as a confusion matrix (rows: truth)."""

    values: Tensor
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    row_title: str = ""
    column_title: str = ""


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"optimizer": {"lr": 1}} as {"optimizer.lr": 1}."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        flat |= flatten(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return flat
