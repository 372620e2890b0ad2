"""Turns the rows of a file into samples to predict from."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from dltrain.data.io.values import KnownTexts, canonical
from dltrain.data.tabular.encoding import Category, Encoder, Numbers
from dltrain.data.tabular.files.table_file import FileRow, TableFile
from dltrain.data.tabular.table import Column
from dltrain.data.tabular.unseen_values import log_missing, log_unknown_texts
from dltrain.errors import first_names
from dltrain.types import Sample

CHUNK_ROWS = 1024  # that are encoded at once
MAX_COLUMNS_SHOWN = 10
UNKNOWN_TEXT = "\0"  # stands for every text that training did not have, and is not one itself


class FirstProblems:
    """The first problem of each row, "" for a row without a problem."""

    def __init__(self, rows: Sequence[FileRow]) -> None:
        self.texts = [row.problem for row in rows]

    def add(self, row: int, problem: str) -> None:
        """Note a problem of a row, unless it has one already."""
        self.texts[row] = self.texts[row] or problem


class RowSamples:
    """Encodes the rows of one file.

    It counts the category texts and the missing values that training did not have. With `keep`, all
    columns of a row are known about its sample, as texts.
    """

    def __init__(self, encoder: Encoder, file: TableFile, keep: bool = False) -> None:
        self.encoder = encoder
        self.file = file
        self.keep = keep
        self.count = 0
        self.unknown = {category.name: Counter[str]() for category in encoder.categories}
        self.missing = Counter[str]()

    def __iter__(self) -> Iterator[Sample]:
        numbers = [number.name for number in self.encoder.numbers]
        categories = [category.name for category in self.encoder.categories]
        absent = self.absent_columns([*numbers, *categories])
        if absent:
            yield Sample(str(self.file.path), None, absent)
            return
        rows = self.file.rows(numbers, categories)
        whole_rows = self.whole_rows()
        while chunk := list(itertools.islice(rows, CHUNK_ROWS)):
            self.count += len(chunk)
            for sample, about in zip(self.encode(chunk), whole_rows, strict=False):
                yield replace(sample, about=about)

    def absent_columns(self, needed: Sequence[str]) -> str:
        """Return which columns of the training table the whole file lacks; "" if it has them."""
        names = self.file.names()
        absent = [repr(name) for name in needed if name not in names]
        if not absent:
            return ""
        lacks = first_names(absent, MAX_COLUMNS_SHOWN)
        return f"the file lacks the columns {lacks}; it has {first_names(names, MAX_COLUMNS_SHOWN)}"

    def whole_rows(self) -> Iterator[Mapping[str, str]]:
        """Yield the texts of all columns of each row, as the file has them; none without `keep`."""
        if not self.keep:
            return itertools.repeat({})
        return (row.texts for row in self.file.rows((), self.file.names()))

    def encode(self, rows: Sequence[FileRow]) -> Iterator[Sample]:
        """Yield the samples of some rows."""
        problems = FirstProblems(rows)
        columns = {}
        for number in self.encoder.numbers:
            columns[number.name] = self.number_column(rows, number, problems)
        for category in self.encoder.categories:
            columns[category.name] = self.category_column(rows, category, problems)
        self.count_missing(columns.values(), problems)
        inputs = self.encoder(columns, np.arange(len(rows)))
        for row, x, problem in zip(rows, inputs, problems.texts, strict=True):
            yield Sample(row.place, None if problem else x, problem)

    def count_missing(self, columns: Iterable[Column], problems: FirstProblems) -> None:
        """Add the missing values in rows that can be read."""
        is_read = np.array([not problem for problem in problems.texts])
        for column in columns:
            self.missing[column.name] += int(column.missing()[is_read].sum())

    def number_column(
        self, rows: Sequence[FileRow], number: Numbers, problems: FirstProblems
    ) -> Column:
        """Return the numbers of a column."""
        values = np.full(len(rows), np.nan)
        for i, row in enumerate(rows):
            text = row.texts.get(number.name)
            if text is None:
                problems.add(i, f"there is no column '{number.name}'")
                continue
            values[i], problem = self.parse_number(text, number)
            problems.add(i, problem)
        return Column(number.name, values)

    def parse_number(self, text: str, number: Numbers) -> tuple[float, str]:
        """Return the number that a text says, NaN for none, and what is wrong with it."""
        value, problem = self.file.reader.parse(text, number.format)
        if problem:
            return value, f"{text!r} in column '{number.name}' {problem}"
        if math.isnan(value) and number.fill is None:
            return value, f"column '{number.name}' is empty"
        return value, ""

    def category_column(
        self, rows: Sequence[FileRow], category: Category, problems: FirstProblems
    ) -> Column:
        """Return the texts of a column."""
        known = KnownTexts(category.texts)
        codes = np.full(len(rows), -1)
        for i, row in enumerate(rows):
            text = row.texts.get(category.name)
            if text is None:
                problems.add(i, f"there is no column '{category.name}'")
                continue
            codes[i] = known.find(text)
            if codes[i] < 0 and canonical(text) not in self.file.rules.missing_texts:
                codes[i] = len(category.texts)
                self.unknown[category.name][text] += not problems.texts[i]
        return Column(category.name, codes, (*category.texts, UNKNOWN_TEXT), frozenset())

    def log_unseen(self, path: Path, missing_is_auto: bool) -> None:
        """Log what the rows had that training did not have."""
        for name, counts in self.unknown.items():
            log_unknown_texts(str(path), name, dict(counts.most_common()), self.count)
        if missing_is_auto:
            log_missing(str(path), self.encoder, self.missing, only_new=True)
