"""From columns of a table to inputs: what the training rows teach of each column, and its use on any other row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dltrain.data.io.number_format import PLAIN, NumberFormat
from dltrain.data.io.values import KnownTexts, value_key
from dltrain.data.tabular.table import Column, Table
from dltrain.errors import InputError
from dltrain.shell import setting

Missing = Literal["auto", "error", "mean", "median", "zero", "drop"]
MOST_ONEHOT = 1000  # values of one column
FARTHEST = 1e6  # deviations from the mean: what is farther is a mistake, and beyond what float32 can square
OTHER = 0  # the code of a missing or an unseen category


@dataclass(frozen=True)
class Numbers:
    """A number column: (x - mean) / std within `FARTHEST`, with `fill` for a missing x; without it
    none may be missing.

    `format` is how the training table writes its numbers. With an `indicator` a further input is 1
    where x is missing.
    """

    name: str
    mean: float
    std: float
    fill: float | None
    format: NumberFormat = PLAIN
    indicator: bool = False

    def encode(self, column: Column) -> NDArray[np.float64]:
        x = (
            column.values
            if self.fill is None
            else np.where(np.isnan(column.values), self.fill, column.values)
        )
        return np.clip((x - self.mean) / self.std, -FARTHEST, FARTHEST)


@dataclass(frozen=True)
class Category:
    """A category column: text k of the sorted `texts` has the code k + 1, any other and none the
    code `OTHER`.

    However a file writes the value of a text, it has that text's code. A missing one counts as the
    text `fill`, if there is one, and with an `indicator` a further input is 1 there.
    """

    name: str
    texts: tuple[str, ...]
    fill: str | None = None
    indicator: bool = False

    def encode(self, column: Column) -> NDArray[np.int64]:
        known = KnownTexts(self.texts)
        codes = [known.find(text) + 1 for text in column.texts or ()]
        table = np.array([*codes, OTHER])  # the last is for -1
        found = table[column.values]
        if self.fill is not None:
            found[column.missing()] = known.find(self.fill) + 1
        return found

    def unknown(self, column: Column) -> dict[str, int]:
        """Return how often each text occurs in `column` that the training rows do not have, most
        frequent first.
        """
        known = KnownTexts(self.texts)
        texts = column.texts or ()
        counts = np.bincount(column.values[column.values >= 0], minlength=len(texts))
        unknown = {
            text: int(count)
            for text, count in zip(texts, counts, strict=True)
            if count and known.find(text) < 0 and not column.means_missing(text)
        }
        return dict(sorted(unknown.items(), key=lambda one: -one[1]))


@dataclass(frozen=True)
class Encoder:
    """Turns columns into inputs (N, F) float32: numbers, indicators of missing values, categories,
    in the table's order.

    A category is one column of 0 and 1 for each of its texts and for any other; or with `embed` its
    code, for a model that has a vector for each.
    """

    numbers: tuple[Numbers, ...]
    categories: tuple[Category, ...]
    embed: bool

    @classmethod
    def fit(
        cls,
        table: Table,
        columns: Sequence[Column],
        rows: NDArray[np.int64],
        missing: Missing,
        embed: bool,
    ) -> Encoder:
        """What the `rows` of the `columns` of `table` teach; InputError for a column that teaches nothing."""
        numbers = [_fit_numbers(table, c, rows, missing) for c in columns if c.texts is None]
        categories = [_fit_category(c, rows, missing) for c in columns if c.texts is not None]
        for category in categories:
            if not embed and len(category.texts) > MOST_ONEHOT:
                raise InputError(
                    f"{table.name}: column '{category.name}' has {len(category.texts):,} different texts, too many for "
                    f"one-hot: leave it out ({setting('dataset.ignore', [category.name])}), or dataset.categories=embed "
                    "model=tabular_mlp"
                )
        return cls(tuple(numbers), tuple(categories), embed)

    def __call__(self, columns: Mapping[str, Column], rows: NDArray[np.int64]) -> Tensor:
        """Inputs of the `rows` of `columns`."""
        inputs = np.zeros((len(rows), len(self.feature_names)), dtype=np.float32)
        for at, number in enumerate(self.numbers):
            inputs[:, at] = number.encode(columns[number.name])[rows]
        at = len(self.numbers)
        for name in self.indicators:
            inputs[:, at] = columns[name].missing()[rows]
            at += 1
        for category in self.categories:
            codes = category.encode(columns[category.name])[rows]
            if self.embed:
                inputs[:, at] = codes
            else:
                inputs[np.arange(len(rows)), at + codes] = 1
            at += 1 if self.embed else len(category.texts) + 1
        return torch.from_numpy(inputs)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the columns that are read."""
        return (*(c.name for c in self.numbers), *(c.name for c in self.categories))

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Of the inputs."""
        names = [c.name for c in self.numbers]
        names += [f"{name} is missing" for name in self.indicators]
        for c in self.categories:
            names += (
                [c.name] if self.embed else [f"{c.name}={text}" for text in ("other", *c.texts)]
            )
        return tuple(names)

    @property
    def indicators(self) -> list[str]:
        """The columns for which an input says whether their value is missing."""
        numbers = [c.name for c in self.numbers if c.indicator]
        return numbers + [c.name for c in self.categories if c.indicator]

    @property
    def filled(self) -> dict[str, str]:
        """The text that a message shows for what fills a column's missing values, by the column's
        name.
        """
        numbers = {c.name: f"{c.fill:.4g}" for c in self.numbers if c.fill is not None}
        return numbers | {c.name: repr(c.fill) for c in self.categories if c.fill is not None}

    @property
    def cardinalities(self) -> tuple[int, ...]:
        return tuple(len(c.texts) + 1 for c in self.categories) if self.embed else ()

    def description(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def described(cls, description: dict[str, Any]) -> Encoder:
        """The inverse of `description`, also after a passage through JSON."""
        return cls(
            tuple(_described_numbers(**c) for c in description["numbers"]),
            tuple(Category(**{**c, "texts": tuple(c["texts"])}) for c in description["categories"]),
            description["embed"],
        )


def _described_numbers(format: dict[str, str] | None = None, **about: Any) -> Numbers:
    """Return a column of a description; runs of older versions know plain numbers only."""
    return Numbers(**about, format=PLAIN if format is None else NumberFormat(**format))


def statistics(values: NDArray[np.float64]) -> tuple[float, float]:
    """Mean and standard deviation (N,); 1 instead of the deviation of values that are all the same but for rounding."""
    mean, std = float(values.mean()), float(values.std())
    return mean, std if std > 1e-12 * abs(mean) else 1.0


def _fit_numbers(
    table: Table, column: Column, rows: NDArray[np.int64], missing: Missing
) -> Numbers:
    values = column.values[rows]
    absent = np.isnan(values)
    if absent.any():
        values = values[~absent]
    if not len(values):
        raise InputError(
            f"{table.where(0)}: column '{column.name}' is empty in this and every other training row: "
            f"{setting('dataset.ignore', [column.name])}"
        )
    mean, std = statistics(values)
    fills = {"mean": mean, "zero": 0.0}
    if missing in ("auto", "median"):
        fills[missing] = float(np.median(values))
    indicator = missing == "auto" and bool(absent.any())
    return Numbers(column.name, mean, std, fills.get(missing), column.number_format, indicator)


def _fit_category(column: Column, rows: NDArray[np.int64], missing: Missing) -> Category:
    """Return the category of the texts that the training `rows` have, one for each value."""
    counts: dict[str, int] = {}
    codes, numbers = np.unique(column.values[rows], return_counts=True)
    for code, number in zip(codes.tolist(), numbers.tolist(), strict=True):
        text = (column.texts or ())[code] if code >= 0 else ""
        if code >= 0 and not column.means_missing(text):
            counts[value_key(text)] = counts.get(value_key(text), 0) + number
    texts = tuple(sorted(counts))
    if missing != "auto" or not texts:
        return Category(column.name, texts)
    most = max(texts, key=lambda text: counts[text])
    return Category(column.name, texts, most, bool(column.missing()[rows].any()))
