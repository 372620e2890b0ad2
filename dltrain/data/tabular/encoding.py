"""Turns columns of a table into inputs by what the training rows teach of each column."""

from __future__ import annotations

import itertools
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
MAX_ONEHOT_TEXTS = 1000  # of one column
# Standard deviations from the mean: a value farther off is a mistake, and float32 cannot square it.
MAX_DEVIATION = 1e6
OTHER_CODE = 0  # of a missing or an unseen category
MIN_RELATIVE_STD = 1e-12  # values whose standard deviation is smaller differ by rounding alone


@dataclass(frozen=True)
class Numbers:
    """A number column: (x - mean) / std, at most `MAX_DEVIATION`; `fill` replaces a missing x.

    Without a `fill` no value may be missing. `format` is how the training table writes the numbers.
    With an `indicator` a further input is 1 where x is missing.
    """

    name: str
    mean: float
    std: float
    fill: float | None
    format: NumberFormat = PLAIN
    indicator: bool = False

    def encode(self, column: Column) -> NDArray[np.float64]:
        """Return the standardized numbers (N,)."""
        x = column.values
        if self.fill is not None:
            x = np.where(np.isnan(x), self.fill, x)
        return np.clip((x - self.mean) / self.std, -MAX_DEVIATION, MAX_DEVIATION)


@dataclass(frozen=True)
class Category:
    """A category column: text k of the sorted `texts` has the code k + 1.

    Other texts and missing values have the code `OTHER_CODE`. All ways to write the value of a text
    have that text's code. A missing value counts as the text `fill`, if there is one, and with an
    `indicator` a further input is 1 there.
    """

    name: str
    texts: tuple[str, ...]
    fill: str | None = None
    indicator: bool = False

    def encode(self, column: Column) -> NDArray[np.int64]:
        """Return the codes (N,)."""
        known = KnownTexts(self.texts)
        code_of_text = [known.find(text) + 1 for text in column.texts or ()]
        code_of_text.append(OTHER_CODE)  # for -1
        codes = np.array(code_of_text)[column.values]
        if self.fill is not None:
            codes[column.missing()] = known.find(self.fill) + 1
        return codes

    def unknown(self, column: Column) -> dict[str, int]:
        """Return how often `column` has each text that training did not have.

        The most frequent text comes first.
        """
        known = KnownTexts(self.texts)
        texts = column.texts or ()
        counts = np.bincount(column.values[column.values >= 0], minlength=len(texts)).tolist()
        unknown = {}
        for text, count in zip(texts, counts, strict=True):
            if count and known.find(text) < 0 and not column.means_missing(text):
                unknown[text] = count
        return dict(sorted(unknown.items(), key=lambda item: -item[1]))

    @property
    def num_codes(self) -> int:
        """The number of codes: one for each text, and one for all others."""
        return len(self.texts) + 1


@dataclass(frozen=True)
class Encoder:
    """Turns columns into inputs (N, F) float32: numbers, indicators of missing values, categories.

    A category is one input of 0 and 1 for each of its texts and for any other; or with `embed` its
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
        """Return the encoder that the `rows` of the `columns` of `table` teach.

        InputError for a column that teaches nothing, or has too many texts for one-hot inputs.
        """
        numbers = [fit_numbers(table, c, rows, missing) for c in columns if c.texts is None]
        categories = [fit_category(c, rows, missing) for c in columns if c.texts is not None]
        for category in categories:
            if not embed and len(category.texts) > MAX_ONEHOT_TEXTS:
                raise InputError(
                    f"{table.name}: column '{category.name}' has {len(category.texts):,} different "
                    "texts, too many for one-hot: leave it out "
                    f"({setting('dataset.ignore', [category.name])}), or dataset.categories=embed "
                    "model=tabular_mlp"
                )
        return cls(tuple(numbers), tuple(categories), embed)

    def __call__(self, columns: Mapping[str, Column], rows: NDArray[np.int64]) -> Tensor:
        """Return the inputs (N, F) float32 of the `rows` (N,) of `columns`."""
        inputs = np.zeros((len(rows), len(self.feature_names)), dtype=np.float32)
        position = 0
        for number in self.numbers:
            inputs[:, position] = number.encode(columns[number.name])[rows]
            position += 1
        for name in self.indicators:
            inputs[:, position] = columns[name].missing()[rows]
            position += 1
        for category in self.categories:
            codes = category.encode(columns[category.name])[rows]
            if self.embed:
                inputs[:, position] = codes
                position += 1
            else:
                inputs[np.arange(len(rows)), position + codes] = 1
                position += category.num_codes
        return torch.from_numpy(inputs)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns that are read."""
        return (*(c.name for c in self.numbers), *(c.name for c in self.categories))

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The names of the inputs."""
        names = [c.name for c in self.numbers]
        names += [f"{name} is missing" for name in self.indicators]
        for c in self.categories:
            if self.embed:
                names.append(c.name)
            else:
                names += [f"{c.name}={text}" for text in ("other", *c.texts)]
        return tuple(names)

    @property
    def columns(self) -> dict[str, slice]:
        """The inputs that each column became: one, or one for each value of a category."""
        widths = dict.fromkeys([c.name for c in self.numbers], 1)
        widths |= dict.fromkeys([f"{name} is missing" for name in self.indicators], 1)
        for c in self.categories:
            widths[c.name] = 1 if self.embed else c.num_codes
        ends = itertools.accumulate(widths.values())
        return {
            name: slice(end - width, end)
            for (name, width), end in zip(widths.items(), ends, strict=True)
        }

    @property
    def indicators(self) -> list[str]:
        """The columns for which an input says whether their value is missing."""
        numbers = [c.name for c in self.numbers if c.indicator]
        return numbers + [c.name for c in self.categories if c.indicator]

    @property
    def fill_texts(self) -> dict[str, str]:
        """The text for messages of the value that fills the gaps of each column."""
        numbers = {c.name: f"{c.fill:.4g}" for c in self.numbers if c.fill is not None}
        return numbers | {c.name: repr(c.fill) for c in self.categories if c.fill is not None}

    @property
    def cardinalities(self) -> tuple[int, ...]:
        """The number of codes of each category; none if categories are one-hot."""
        if self.embed:
            return tuple(c.num_codes for c in self.categories)
        return ()

    def description(self) -> dict[str, Any]:
        """Return the encoder as plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_description(cls, description: dict[str, Any]) -> Encoder:
        """Return the encoder of a `description`, also after it was written as JSON."""
        return cls(
            tuple(described_numbers(**c) for c in description["numbers"]),
            tuple(described_category(**c) for c in description["categories"]),
            description["embed"],
        )


def described_numbers(format: dict[str, str] | None = None, **fields: Any) -> Numbers:
    """Return a number column of a description; older versions have no format: numbers are plain."""
    return Numbers(**fields, format=PLAIN if format is None else NumberFormat(**format))


def described_category(texts: Sequence[str], **fields: Any) -> Category:
    """Return a category column of a description."""
    return Category(texts=tuple(texts), **fields)


def mean_and_std(values: NDArray[np.float64]) -> tuple[float, float]:
    """Return mean and standard deviation of values (N,).

    The standard deviation is 1 if the values differ by rounding alone.
    """
    mean, std = float(values.mean()), float(values.std())
    is_constant = std <= MIN_RELATIVE_STD * abs(mean)
    return mean, 1.0 if is_constant else std


def fit_numbers(table: Table, column: Column, rows: NDArray[np.int64], missing: Missing) -> Numbers:
    """Return what the training `rows` teach of a number column; InputError if they are empty."""
    values = column.values[rows]
    absent = np.isnan(values)
    if absent.any():
        values = values[~absent]
    if not len(values):
        raise InputError(
            f"{table.where(0)}: column '{column.name}' is empty in this and every other training "
            f"row: {setting('dataset.ignore', [column.name])}"
        )
    mean, std = mean_and_std(values)
    fill = None
    if missing in ("auto", "median"):
        fill = float(np.median(values))
    elif missing in ("mean", "zero"):
        fill = 0.0
        if missing == "mean":
            fill = mean
    indicator = missing == "auto" and bool(absent.any())
    return Numbers(column.name, mean, std, fill, column.number_format, indicator)


def fit_category(column: Column, rows: NDArray[np.int64], missing: Missing) -> Category:
    """Return the category of the texts that the training `rows` have, one for each value."""
    used = column.values[rows]
    codes, frequencies = np.unique(used[used >= 0], return_counts=True)
    counts: dict[str, int] = {}
    for code, frequency in zip(codes.tolist(), frequencies.tolist(), strict=True):
        text = (column.texts or ())[code]
        if not column.means_missing(text):
            key = value_key(text)
            counts[key] = counts.get(key, 0) + frequency
    texts = tuple(sorted(counts))
    if missing != "auto" or not texts:
        return Category(column.name, texts)
    most_frequent = max(texts, key=lambda text: counts[text])
    return Category(column.name, texts, most_frequent, bool(column.missing()[rows].any()))
