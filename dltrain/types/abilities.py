"""Protocols of what a data set, a batch or a task may offer beside training, one for each ability.

A command or a callback asks for an ability with `isinstance`, and prints a message where it is
missing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor

    from dltrain.types.drawn import Image, ReportTable


# --- data sets, splits and batches


@runtime_checkable
class ReadsText(Protocol):
    """Data whose inputs are texts: `predict` encodes an argument that is not a file as a text."""

    def encode_text(self, text: str) -> Tensor:
        """Return the token numbers (T,) of a text; T is at least 1."""


@runtime_checkable
class KeepsBatchesWhole(Protocol):
    """A split whose batches have no rows to divide among processes.

    The rows of running text need their neighbors, and an environment makes its own samples. Each
    process gets whole batches, and the model or the task takes the process's part.
    """

    whole_batches: bool


@runtime_checkable
class EncodesImages(Protocol):
    """Images that are prepared from pixels in memory as they are from files."""

    @property
    def pixel_shape(self) -> tuple[int, ...]:
        """The shape (C, H, W) of an image before every transform."""

    def encode_images(self, pixels: Tensor) -> Tensor:
        """Return the network's inputs (B, ...) for images (B, C, H, W) with values in 0..255."""


@runtime_checkable
class EncodesNumbers(Protocol):
    """Tables and series that are prepared from numbers in memory as they are from files."""

    def encode_numbers(self, values: Tensor) -> Tensor:
        """Return the network's inputs (B, ...) for numbers (B, ...) in the unit of the file.

        Raises:
            InputError: The shape is wrong, a number is missing, or numbers do not suffice.
        """


@runtime_checkable
class ReadsRows(Protocol):
    """Data that is read from tables: `row_columns` names the columns that predictions need."""

    @property
    def row_columns(self) -> Sequence[str]:
        """The columns that a row needs; empty where any one column is the series."""


@runtime_checkable
class ExportsArrow(Protocol):
    """A data frame of any library that hands over its columns, as those of pandas and polars do."""

    def __arrow_c_stream__(self, requested_schema: object = None) -> object: ...


@runtime_checkable
class KeepsColumns(Protocol):
    """Data whose inputs may be rows of a table, with columns beside those that are read."""

    def keep_columns(self) -> None:
        """Have `encode` put every column of a row into what is known `about` its sample."""


@runtime_checkable
class MakesTestSplit(Protocol):
    """Data that splits off its own test set where the files have none."""

    def test_rule(self) -> str:
        """Return the rule of the split in a few words; "" where the data comes with a test set."""


class TokenCounts(Protocol):
    """Counts of the tokens that a vocabulary lacks, by the text of each."""

    counts: Counter[str]

    def message(self) -> str:
        """Return a line for the user; empty where all tokens are known."""


@runtime_checkable
class CountsUnknownTokens(Protocol):
    """Data that counts the tokens of encoded texts that its vocabulary lacks."""

    unknown_tokens: TokenCounts


@runtime_checkable
class ReadsFiles(Protocol):
    """Data that is read from files which the user names."""

    def find_files(self) -> None:
        """Check that the files exist, without reading any.

        Raises:
            ConfigError: No file is named.
            InputError: A named file is absent.
        """


@runtime_checkable
class Inspects(Protocol):
    """Data that reports the contents of its files: `check --data` shows its tables."""

    def inspect(self) -> Sequence[ReportTable]:
        """Return the tables to show, in their order; called after the data has been read."""


@runtime_checkable
class AdvisesOnSplit(Protocol):
    """Data that may have groups of samples which its split does not keep together."""

    def split_advice(self) -> Sequence[str]:
        """Return lines on such groups, for `check`; called after the data has been read."""


@runtime_checkable
class SpecFromFiles(Protocol):
    """Data that must read its files to know its `spec`, so that a report on them costs nothing."""

    spec_is_read: bool


@runtime_checkable
class KeepsIndex(Protocol):
    """Data whose files are read once from start to end, for an index that is kept."""

    kept_index: str
    """The folder of an index that was made now; "" if there was one before."""


@runtime_checkable
class NamesSamples(Protocol):
    """Data that names its samples, for tables with a row for each."""

    def sample_names(self, part: Literal["train", "val", "test"]) -> Iterator[str]:
        """Yield the name of each sample of a split, in the order of the batches of epoch 0.

        It is the sample's file, as in photos/cat/1.jpg, or the place in a file, as in
        letters.csv:12; for data without files its set and number, as in mnist/test/12.
        """


@runtime_checkable
class ReadsInOrder(Protocol):
    """Data whose splits can be read in the stored order, without augmentation."""

    def ordered_batches(self, part: Literal["train", "val", "test"]) -> Iterator[Any]:
        """Yield the batches of a split: every sample once, as evaluation would see it."""

    def ordered_names(self, part: Literal["train", "val", "test"]) -> Callable[[int], str]:
        """Return the function that names the sample at a position of `ordered_batches`."""


@runtime_checkable
class HasColumns(Protocol):
    """Data whose inputs come from the columns of a table."""

    def input_columns(self) -> Mapping[str, slice]:
        """Return the inputs that each column became: one, or one for each value of a category."""


@runtime_checkable
class OrdersSamples(Protocol):
    """A split that knows which stored sample comes where in an epoch."""

    def order(self, number: int) -> Tensor:
        """Return the stored row (N,) of each sample of epoch `number`, in the batches' order."""


@runtime_checkable
class CountsClasses(Protocol):
    """A split that counts the samples of each class."""

    def class_counts(self, num_classes: int) -> tuple[int, ...]:
        """Return the number of samples of each class; an empty tuple where there are no classes."""


@runtime_checkable
class EnvironmentBatch(Protocol):
    """A batch of environments to act in instead of samples; a task gets it before any step."""

    def example(self) -> Tensor:
        """Return observations (N, ...), one for each step of the batch, as `Task.predict` takes."""


@runtime_checkable
class RendersEpisodes(Protocol):
    """Data that renders episodes in its environment."""

    def render_episode(self, act: Callable[[Tensor], list[int]], episode: int) -> Iterator[Any]:
        """Yield the pictures (H, W, 3), uint8, of an episode; the first precedes the first step.

        Raises:
            ValueError: The environment renders no pictures.
        """


@runtime_checkable
class ScalesImages(Protocol):
    """Data whose images are scaled to fit, so that places in them are not those in their files."""

    def file_size(self, name: str) -> tuple[int, int] | None:
        """Return width and height of the image file that names a sample; None if it is no file."""


# --- tasks


@runtime_checkable
class PredictsPlaces(Protocol):
    """A task whose predictions are places in an image, in pixels."""

    def in_file_pixels(self, row: dict[str, Any], width: int, height: int) -> dict[str, Any]:
        """Return a row of `prediction_rows` in pixels of a file.

        The file of `width` x `height` pixels was scaled to fit the inputs.
        """


@runtime_checkable
class PredictionRows(Protocol):
    """A task that describes its predictions; for other tasks `predict` shows the raw numbers."""

    def prediction_rows(self, outputs: Any) -> list[dict[str, Any]]:
        """Return a row for each input from the outputs of `Task.predict`; all have the same keys.

        Where there are several candidates, `top` lists them, best first, and the other keys of the
        row are those of the best one.
        """


@runtime_checkable
class ScoresSamples(Protocol):
    """A task that scores every sample on its own, for `evaluate RUN --out FILE`."""

    def sample_rows(self, batches: Iterable[Any]) -> Iterator[dict[str, Any]]:
        """Yield a row for each sample of the batches of an evaluation, in their order.

        All rows have the same keys. One is the `loss`, whose mean is the loss of the evaluation. It
        is the mean weighted by the `weight` where rows have one, such as a number of tokens.
        """


@runtime_checkable
class ShownMetrics(Protocol):
    """A task that names the metrics that a report shows instead of others, and explains them."""

    shown_as: Mapping[str, Sequence[str]]
    """The metrics to show instead of a metric, by its name: {"mse": ("rmse", "r2")}."""

    notes: Mapping[str, str]
    """The note beside a metric, such as its unit, by its name."""


@runtime_checkable
class GeneratesImages(Protocol):
    """A task that generates images, as a GAN or a VAE does."""

    def sample(self, count: int) -> Tensor:
        """Return images (count, C, H, W) in 0..1, drawn from the run's generators.

        Raises:
            ValueError: This model has no distribution to draw from.
        """


@runtime_checkable
class GeneratesText(Protocol):
    """A task that continues a text, as a language model does."""

    def generate_text(self, tokens: Tensor, count: int, temperature: float, top_p: float) -> Tensor:
        """Return `count` tokens that follow `tokens` (T,), drawn from the run's generators."""


@runtime_checkable
class Explains(Protocol):
    """A task that shows the evidence for its predictions, for `predict RUN IMAGE --explain`."""

    def explain(self, inputs: Tensor) -> Image:
        """Return a picture (3, H', W') of each input (B, C, H, W), with captions where needed.

        Raises:
            ValueError: The network or its inputs cannot be explained.
        """


@runtime_checkable
class ShowsFeatures(Protocol):
    """A task that shows what its network has learned, at the end of a run."""

    def feature_images(self, inputs: Tensor) -> dict[str, Image]:
        """Return pictures of filters and feature maps by name; empty where there are none."""


@runtime_checkable
class KeepsStates(Protocol):
    """A task that says how much memory the states of its evaluation take, for `check`."""

    def evaluation_bytes(self, samples: int, batch_size: int) -> tuple[int, int]:
        """Return the bytes that an evaluation of some samples needs beside the network.

        They are the most that it keeps between batches, and the outputs of one batch.
        """


@runtime_checkable
class AveragesViews(Protocol):
    """A task with test-time augmentation, for `evaluate RUN tta=flip`."""

    views: Sequence[str]
    """The views over which predictions are averaged now."""

    def average_over(self, views: Sequence[str]) -> None:
        """Average the predicted probabilities over `views` from now on.

        Raises:
            ValueError: A view is unknown, or the inputs have no views.
        """


@runtime_checkable
class ShapesNetwork(Protocol):
    """A task whose network may be smaller in a checkpoint than its model's settings make it."""

    def shape_like(self, weights: Mapping[str, Any]) -> None:
        """Resize the layers of the network to the shapes of the saved tensors, given by name."""


@runtime_checkable
class ChoosesActions(Protocol):
    """A task that has learned a policy."""

    def act(self, observations: Tensor) -> list[int]:
        """Return the best action for each of the observations (N, ...), without exploration."""
