"""What a command asks of a data set, a model or a task that may do more than train: each is a protocol of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from dltrain.types.drawn import Image, Listing


@runtime_checkable
class ReadsText(Protocol):
    """Data whose inputs are texts: `predict` takes what is no file for the text itself."""

    def encode_text(self, text: str) -> Tensor:
        """Token numbers (T,) of one text, at least one."""


@runtime_checkable
class MakesTestSplit(Protocol):
    """Data that may have to make its test split of the samples that there are."""

    def test_rule(self) -> str:
        """Return by what rule it was made, in a few words; "" where the data comes with a test set."""


class TokenCounts(Protocol):
    """Counts of the tokens that a vocabulary lacks, by the text of each."""

    counts: Counter[str]

    def message(self) -> str:
        """Return a line for the user; empty where all are known."""


@runtime_checkable
class CountsUnknownTokens(Protocol):
    """Data that counts what its vocabulary lacks of the texts that are given to `encode_text`."""

    unknown_tokens: TokenCounts


@runtime_checkable
class Answers(Protocol):
    """A task that says what its predictions mean; of one that does not, `predict` shows the raw numbers."""

    def answers(self, outputs: Any) -> list[dict[str, Any]]:
        """A row for each input from what `Task.predict` gave for a batch, all with the same keys.

        Where there are several candidates, `top` lists them, best first, and the row's other keys are those of the best.
        """


@runtime_checkable
class Headlines(Protocol):
    """A task that says which of its figures a person should see, and what is not clear from their
    names.
    """

    shown_as: Mapping[str, Sequence[str]]
    """By the name of a figure those that are shown in its place, {"mse": ("rmse", "r2")}."""

    notes: Mapping[str, str]
    """The note beside a figure, such as its unit, by the figure's name."""


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
        """Return images (count, C, H, W) in 0..1, drawn from the run's generators; ValueError where
        it cannot.
        """


@runtime_checkable
class Explains(Protocol):
    """A task that shows why it answers as it does: what `predict RUN IMAGE --explain` and the end of a run ask of it."""

    def explain(self, inputs: Tensor) -> Image:
        """Return a picture (3, H', W') of each of the inputs (B, C, H, W), with a caption where
        there is more to say.

        ValueError where it cannot.
        """


@runtime_checkable
class ShowsInside(Protocol):
    """A task that shows what its network has learned: pictures for the end of a run."""

    def inside(self, inputs: Tensor) -> dict[str, Image]:
        """What the network makes of a batch of inputs, by name; nothing where there is nothing to see."""


@runtime_checkable
class LooksAgain(Protocol):
    """A task that can answer by several views of each input: what `evaluate RUN tta=flip` asks of it."""

    views: Sequence[str]
    """Those that it answers by now."""

    def average_over(self, views: Sequence[str]) -> None:
        """From now on answer by the mean probability over `views`; ValueError for one that there is not, and for inputs
        that have none."""


@runtime_checkable
class Writes(Protocol):
    """A task that goes on with a text: what `predict RUN TEXT --tokens N` asks of it."""

    def write(self, tokens: Tensor, count: int, temperature: float, top_p: float) -> Tensor:
        """Return `count` token numbers that follow `tokens` (T,), drawn from the run's generators."""


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


@runtime_checkable
class ReadsFiles(Protocol):
    """Data that is read from files which the user names."""

    def find_files(self) -> None:
        """Raise ConfigError where no file is named and InputError where a named one is absent; read
        none of them.
        """


@runtime_checkable
class Inspects(Protocol):
    """Data that reports what it found in its files: what `check --data` shows beside the number of
    samples.
    """

    def inspect(self) -> Sequence[Listing]:
        """Return the tables to show, in their order. The data is read by now."""


@runtime_checkable
class ReadForSpec(Protocol):
    """Data that has to be read to know its `spec`: a command that asks for the spec may as well
    report what is in it.
    """

    spec_is_read: bool


@runtime_checkable
class CountsClasses(Protocol):
    """A split that counts the samples of each class."""

    def class_counts(self, num_classes: int) -> tuple[int, ...]:
        """Return the number of samples of each class; an empty tuple where there are no classes."""
