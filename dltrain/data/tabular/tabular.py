"""Tables of numbers and categories: rows split, encoded by what the training rows teach, and turned into batches."""

from __future__ import annotations

import itertools
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dltrain.data.dataset import invalid_description
from dltrain.data.fake import Fake
from dltrain.data.io.number_format import PLAIN, NumberFormat
from dltrain.data.io.values import KnownTexts, canonical
from dltrain.data.split import Balance, Split, drawn_share, held_out
from dltrain.data.tabular import labels
from dltrain.data.tabular.column_plan import (
    PlannedColumn,
    end_of,
    listed,
    listing,
    plan_columns,
    planned_column,
    refuse_footer,
    tell,
)
from dltrain.data.tabular.column_reader import (
    ColumnReader,
    DecimalMark,
    MissingValue,
    ThousandsMark,
)
from dltrain.data.tabular.encoding import Category, Encoder, Missing, Numbers, statistics
from dltrain.data.tabular.table import (
    Column,
    Request,
    Table,
    TableSource,
    check_names,
    column_names,
)
from dltrain.data.tabular.table_files import Row, TableFile
from dltrain.errors import ConfigError, InputError
from dltrain.shell import setting
from dltrain.types import (
    BatchSize,
    ColumnName,
    Fraction,
    Ge,
    PositiveInt,
    ReportTable,
    Sample,
    Spec,
)

log = logging.getLogger("dltrain")
SHOWN_TEXTS = 3  # unknown ones of a column in a message
UNKNOWN_TEXT = (
    "\0"  # stands for every text of a category that training did not have, and is not one itself
)
CHUNK = 1024  # rows that are encoded at once for a prediction
STAND_IN = Spec(
    (4,), ("a", "b"), train_samples=80, test_samples=20
)  # where no table is named: for debug=smoke
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Loaded:
    """A table that is read: what it is like, its inputs (N, F) and targets, and which rows are of which split."""

    spec: Spec
    encoder: Encoder
    target_formats: tuple[NumberFormat, ...]
    inputs: Tensor
    targets: Tensor
    train: Tensor
    val: Tensor
    test: Tensor
    digest: str


@dataclass(frozen=True)
class Known:
    """Knowledge of a table before it is read: the columns, how targets are written, and their
    classes.
    """

    encoder: Encoder
    target_formats: tuple[NumberFormat | None, ...]
    class_names: tuple[str, ...]


class Tabular:
    """A table from the file `path` (or from a `source`): predict the column `target`, or several,
    from all the others.

    Texts and yes or no are classes, as are whole numbers of few values; other numbers are a
    regression's, whose targets are standardized. Of the other columns numbers are standardized,
    texts are categories, and all that is learned of them (mean, deviation, fill, texts) comes from
    the training rows. `categories` says how a category is put: onehot, or embed (its code, for
    `model=tabular_mlp`); one that is missing or was not in the training rows has a code of its own.
    A text column of dates, names or free text is left out unless it is named among the
    `categorical` ones, which is said. `missing` says what to do where a value is missing: auto
    takes the median of numbers and the most frequent text, and adds an input that says where; mean,
    median and zero fill numbers alone; drop leaves the row out, also one without a target.
    `predicts` is what the task needs of a target whose `kind` is auto: a task for numbers reads one
    as numbers.

    `test_fraction` of the rows, chosen by `split_seed` alone and the same of every class, are for
    testing, unless `test_path` has them; of the rest `val_fraction` for validation, or the
    `fold`-th of k equal parts. Of a file other than the one a run was trained on every row is for
    testing. InputError with file and line for what cannot be used.
    """

    def __init__(
        self,
        path: str | None = None,
        target: ColumnName | tuple[ColumnName, ...] | None = None,
        test_path: str | None = None,
        delimiter: str | None = None,
        encoding: str | None = None,
        header: bool | None = None,
        kind: Literal["auto", "classification", "regression"] = "auto",
        categories: Literal["onehot", "embed"] = "onehot",
        categorical: tuple[ColumnName, ...] = (),
        decimal: DecimalMark | None = None,
        thousands: ThousandsMark | None = None,
        missing_values: tuple[MissingValue, ...] = (),
        missing: Missing = "auto",
        ignore: tuple[ColumnName, ...] = (),
        batch_size: BatchSize = 64,
        eval_batch_size: PositiveInt = 1024,
        val_fraction: Fraction = 0.1,
        test_fraction: Fraction = 0.2,
        folds: Annotated[int, Ge(2)] | None = None,
        fold: Annotated[int, Ge(0)] = 0,
        split_seed: int = 0,
        epochs: PositiveInt = 20,
        balance: Balance = "none",
        source: TableSource | None = None,
        predicts: Literal["", "classes", "numbers"] = "",
        seed: int = 0,
    ) -> None:
        if folds is not None and fold >= folds:
            raise ValueError(
                f"dataset.fold={fold} is not one of the {folds} folds: they count from 0"
            )
        self.open = partial(
            TableFile,
            delimiter=delimiter,
            encoding=encoding,
            header=header,
            decimal=decimal,
            thousands=thousands,
            missing_values=missing_values,
        )
        self.source = self.open(path) if path is not None else source
        self.test_source = self.open(test_path) if test_path is not None else None
        self.named, self.ignore = column_names(target), column_names(ignore)
        self.kind = kind
        self.embed = categories == "embed"
        self.categorical = column_names(categorical)
        self.missing, self.predicts = missing, predicts
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.val_fraction, self.test_fraction = val_fraction, test_fraction
        self.folds, self.fold, self.split_seed = folds, fold, split_seed
        self.epochs, self.balance, self.seed, self.device = (
            epochs,
            balance,
            seed,
            torch.device("cpu"),
        )
        self.restored: dict[str, Any] | None = None
        self.is_training = True

    @property
    def spec(self) -> Spec:
        """Of the restored run or the table, which is read for it; a stand-in where none is named."""
        if self.restored and not self.is_training:
            return _described(self.restored)
        return STAND_IN if self.source is None else self.loaded.spec

    def named_columns(self, source: TableSource) -> str:
        """Return the columns of a table with what each looks like, for a message."""
        table = source.read(Request(None, self.ignore, self.categorical))
        rows = np.arange(len(table))
        seen = [
            planned_column(c, rows, c.name in self.categorical, True)
            for c in table.columns.values()
        ]
        return f"{table.name} has the columns {listed([f'{column.name} ({column.kind})' for column in seen])}"

    @property
    def spec_is_read(self) -> bool:
        return self.source is not None and not self.restored

    @property
    def encoder(self) -> Encoder:
        return Encoder.described(self.restored["encoder"]) if self.restored else self.loaded.encoder

    @cached_property
    def loaded(self) -> Loaded:
        if self.source is None:
            raise ConfigError(
                [
                    (
                        "dataset.path=null",
                        "name the table to train on: dataset.path=FILE.csv or .parquet",
                    )
                ]
            )
        if not self.named:
            why = f"name the column to predict: dataset.target=COLUMN; {self.named_columns(self.source)}"
            raise ConfigError([("dataset.target=null", why)])
        table = self.table(self.source)
        trained = _described(self.restored) if self.restored else None
        class_names = trained.class_names if trained else self.class_names(table)
        refuse_footer(table)
        rows, targets = self.targets(table, class_names)
        parts = self.parts(table, targets)
        if self.restored:
            encoder = self.encoder
            if self.is_other(table.digest):
                warn_of_unknown(table, encoder)
        else:
            planned = self.plan(table, rows[parts[0].numpy()])
            columns = [table.columns[c.name] for c in planned if c.used]
            encoder = Encoder.fit(table, columns, rows[parts[0].numpy()], self.missing, self.embed)
            if isinstance(self.source, TableFile):
                tell(table, planned, self.embed, {c.name: len(c.texts) for c in encoder.categories})
        if self.missing == "auto":
            tell_of_missing(
                table.name, encoder, missing_values(table, encoder, rows), bool(self.restored)
            )
        inputs = encoder(table.columns, rows)
        formats = tuple(table.columns[name].number_format for name in self.named)
        if self.test_source and not self.is_other(table.digest):
            test = self.table(self.test_source, Known(encoder, formats, class_names))
            refuse_footer(test)
            warn_of_unknown(test, encoder)
            rows, test_targets = self.targets(test, class_names)
            if self.missing == "auto":
                tell_of_missing(test.name, encoder, missing_values(test, encoder, rows), True)
            parts = (*parts[:2], torch.arange(len(targets), len(targets) + len(test_targets)))
            inputs = torch.cat([inputs, encoder(test.columns, rows)])
            targets = torch.cat([targets, test_targets])
        spec = Spec(
            input_shape=(inputs.shape[1],),
            class_names=class_names,
            train_samples=len(parts[0]) + len(parts[1]),
            test_samples=len(parts[2]),
            feature_names=encoder.feature_names,
            cardinalities=encoder.cardinalities,
        )
        if not class_names:
            mean, std = (
                (trained.target_mean, trained.target_std)
                if trained
                else self.scale(table, targets, parts[0])
            )
            targets = ((targets - torch.tensor(mean)) / torch.tensor(std)).float()
            spec = replace(spec, target_names=self.named, target_mean=mean, target_std=std)
        return Loaded(spec, encoder, formats, inputs, targets, *parts, table.digest)

    @property
    def known(self) -> Known | None:
        """The columns and formats that the restored run knows; None before training."""
        if not self.restored:
            return None
        names = tuple(self.restored["class_names"])
        formats: list[dict[str, str] | None] = self.restored.get(
            "target_formats", [None] * len(self.named)
        )
        return Known(
            self.encoder, tuple(None if f is None else NumberFormat(**f) for f in formats), names
        )

    def request(self, known: Known | None) -> Request:
        """Return which columns to read and as what: as they are known, or as they look."""
        if known is None:
            numbers: dict[str, NumberFormat | None] = dict.fromkeys(self.regressed)
            return Request(
                None, self.ignore, self.categorical, numbers, () if self.regressed else self.named
            )
        texts = [c.name for c in known.encoder.categories]
        numbers = {c.name: c.format for c in known.encoder.numbers}
        if known.class_names:
            texts += self.named
        else:
            numbers |= dict(zip(self.named, known.target_formats, strict=True))
        return Request([*known.encoder.names, *self.named], (), texts, numbers)

    def table(self, source: TableSource, known: Known | None = None) -> Table:
        """The columns that are used; of those that are known already, read as what they are."""
        try:
            table = source.read(self.request(known or self.known))
        except InputError as e:
            if self.predicts == "numbers" and any(
                f"in column '{name}' is no number" in str(e) for name in self.named
            ):
                raise InputError(
                    f"{e}; task=regression predicts numbers, task=classification classes"
                ) from e
            raise
        if both := [name for name in self.named if name in self.ignore]:
            raise ConfigError([(f"dataset.ignore=[{both[0]}]", "that is the target")])
        check_names(self.named, list(table.columns), table.name)
        if len(table.columns) == len(self.named):
            raise InputError(
                f"{table.name}:1: there is no column but the target: nothing to predict it from"
            )
        return table

    @property
    def regressed(self) -> tuple[str, ...]:
        """The targets, where they must be numbers."""
        known = self.restored["class_names"] if self.restored else None
        if known is not None:
            return () if known else self.named
        as_numbers = self.kind == "regression" or (
            self.kind == "auto" and self.predicts == "numbers"
        )
        return self.named if as_numbers or len(self.named) > 1 else ()

    def class_names(self, table: Table) -> tuple[str, ...]:
        """The classes of the target; none for a regression.

        InputError where there is nothing to tell apart.
        """
        if self.regressed:
            return ()
        target = table.columns[self.named[0]]
        return labels.class_names(table, target, self.kind, target.name in self.categorical)

    def targets(self, table: Table, class_names: tuple[str, ...]) -> tuple[Rows, Tensor]:
        """The rows that are used and their targets: class numbers (N,), or numbers (N, T) in the data's unit.

        InputError for a row without a target or a number, unless such rows are dropped or numbers filled.
        """
        columns = [table.columns[name] for name in self.named]
        absent = {column.name: column.missing() for column in table.columns.values()}
        if class_names:
            by_number = bool(self.restored) and "target_formats" not in (self.restored or {})
            found, texts = labels.class_numbers(columns[0], class_names, by_number)
            absent[columns[0].name] = labels.without_label(columns[0], found)
        rows = self.usable(table, absent)
        if not class_names:
            return rows, torch.from_numpy(np.stack([c.values[rows] for c in columns], axis=1))
        if (found[rows] < 0).any():
            row = int(rows[int((found[rows] < 0).argmax())])
            text = (texts.texts or ())[int(texts.values[row])]
            raise InputError(
                f"{table.where(row)}: '{text}' is not one of the {len(class_names)} known classes"
            )
        return rows, torch.from_numpy(found[rows].astype(np.int64))

    def usable(self, table: Table, absent: Mapping[str, NDArray[np.bool_]]) -> Rows:
        """The rows that are used, of those with `absent` values in some columns.

        InputError for a row without a target or a number, unless such rows are dropped or numbers
        filled.
        """
        kept = np.ones(len(table), dtype=bool)
        for column in table.columns.values():
            is_target = column.name in self.named
            if not is_target and (
                column.texts is not None or self.missing in ("auto", "mean", "median", "zero")
            ):
                continue
            kept &= ~absent[column.name]
            if self.missing != "drop" and absent[column.name].any():
                raise self.empty(table, column.name, absent[column.name])
        rows = np.flatnonzero(kept)
        if not len(rows):
            raise InputError(
                f"{table.where(0)}: from here on no row is complete: nothing is left after dataset.missing=drop"
            )
        return rows

    def empty(self, table: Table, name: str, absent: NDArray[np.bool_]) -> InputError:
        """Return the error for the rows in which a target or a number is `absent`."""
        is_target, end = name in self.named, end_of(table, absent)
        other = "dataset.missing=drop leaves such rows out"
        if end and is_target:
            other += ", or cut them off, into a file of their own if they are to be predicted"
        elif not is_target:
            other = f"dataset.missing=auto (mean, median, zero, drop), or {setting('dataset.ignore', [name])}"
        if is_target and table.columns[name].texts is not None:
            other += labels.as_class(table.columns[name])
        what = "the target" if is_target else "column"
        return InputError(
            f"{table.where(int(absent.argmax()))}: {what} '{name}' is empty{end}: {other}"
        )

    def plan(self, table: Table, rows: Rows) -> list[PlannedColumn]:
        """Decide what is done with each column beside the target, by the training `rows`."""
        columns = [c for c in table.columns.values() if c.name not in self.named]
        return plan_columns(
            table, columns, rows, self.categorical, leave_empty=self.missing == "auto"
        )

    def inspect(self) -> list[ReportTable]:
        """Return the table of columns: what each looks like, and what is done with it."""
        if self.source is None or not self.named:
            return []
        whole = self.source.read(self.request(None))
        used = self.encoder.names
        planned = [
            column
            if column.used == (column.name in used)
            else replace(column, used=column.name in used)
            for column in self.plan(whole, np.arange(len(whole)))
        ]
        return [listing(whole, planned, self.named, self.ignore, self.embed)]

    def parts(self, table: Table, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Which of the rows with `targets` are for training, validation and testing."""
        everyone, nobody = torch.arange(len(targets)), torch.arange(0)
        if self.is_other(table.digest):
            return nobody, nobody, everyone
        test = held_out(targets, 0.0 if self.test_source else self.test_fraction, self.split_seed)
        rest = everyone[~test]
        val = held_out(targets[rest], self.val_fraction, self.split_seed, self.folds, self.fold)
        if val.all():
            raise InputError(
                f"{table.where(0)}: {len(targets)} usable rows are too few: none is left for training"
            )
        return rest[~val], rest[val], everyone[test]

    def scale(
        self, table: Table, targets: Tensor, rows: Tensor
    ) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of every target over the training rows."""
        values = targets[rows].numpy()
        for name, column in zip(self.named, targets.numpy().T, strict=True):
            if (column == column[0]).all():
                raise InputError(
                    f"{table.where(0)}: from here on the target '{name}' is {column[0]:g}: nothing to learn"
                )
        mean, std = zip(*map(statistics, values.T), strict=True)
        return mean, std

    @cached_property
    def class_counts(self) -> tuple[int, ...]:
        """Training samples of each class, of the table that was trained on; none of a regression."""
        if self.restored and not self.is_training:
            return tuple(self.restored.get("class_counts", ()))
        return self.train.class_counts(self.spec.num_classes)

    @cached_property
    def stored(self) -> tuple[Tensor, Tensor]:
        return self.loaded.inputs.to(self.device), self.loaded.targets.to(self.device)

    @cached_property
    def train(self) -> Split:
        balanced = self.balance == "sampler" and bool(
            self.loaded.spec.class_names
        )  # a regression is refused elsewhere
        return Split(
            *self.stored,
            self.loaded.train,
            self.loaded.spec,
            self.batch_size,
            self.seed,
            balanced=balanced,
        )

    @cached_property
    def val(self) -> Split:
        return Split(*self.stored, self.loaded.val, self.loaded.spec, self.eval_batch_size, None)

    @cached_property
    def test(self) -> Split:
        return Split(*self.stored, self.loaded.test, self.loaded.spec, self.eval_batch_size, None)

    def test_rule(self) -> str:
        if self.test_source:
            return ""
        if self.is_other(self.loaded.digest):
            return ""
        what = "the rows of each class" if self.loaded.spec.class_names else "the rows"
        return drawn_share(self.test_fraction, what, self.split_seed)

    def fake(self) -> Fake:
        """Random rows of the same columns and targets."""
        return Fake(self.spec, self.batch_size, self.seed)

    def to(self, device: torch.device) -> None:
        self.device = device

    def size_in_bytes(self) -> int:
        return sum(t.numel() * t.element_size() for t in (self.loaded.inputs, self.loaded.targets))

    def fingerprint(self) -> str:
        return self.loaded.digest

    def description(self) -> dict[str, Any]:
        spec = self.spec
        return {
            "encoder": self.encoder.description(),
            "class_names": list(spec.class_names),
            "class_counts": list(self.class_counts),
            "target_formats": [asdict(one) for one in self.target_formats],
            "target_names": list(spec.target_names),
            "target_mean": list(spec.target_mean),
            "target_std": list(spec.target_std),
            "digest": self.loaded.digest,
        }

    @property
    def target_formats(self) -> Sequence[NumberFormat]:
        return (
            [f or PLAIN for f in self.known.target_formats]
            if self.known
            else self.loaded.target_formats
        )

    def restore(self, description: dict[str, Any]) -> None:
        try:
            _described(description)
        except (AttributeError, KeyError, TypeError, ValueError) as e:
            raise invalid_description(repr(e)) from e
        self.restored, self.is_training = description, False

    def continue_as(self, description: dict[str, Any]) -> None:
        self.restore(description)
        self.is_training = True

    def is_other(self, digest: str) -> bool:
        """Return whether a table is another than the one that a finished run was trained on: all of
        it is for testing.
        """
        return (
            self.restored is not None and not self.is_training and self.restored["digest"] != digest
        )

    def encode(self, paths: Sequence[Path]) -> Iterator[Sample]:
        """A sample of every row of the files; columns are found by name, and others are not looked at."""
        encoder = self.encoder
        numbers, texts = ([c.name for c in some] for some in (encoder.numbers, encoder.categories))
        for path in paths:
            count, unknown = 0, {category.name: Counter[str]() for category in encoder.categories}
            missing = Counter[str]()
            try:
                file = self.open(path)
                rows = file.rows(numbers, texts)
                while chunk := list(itertools.islice(rows, CHUNK)):
                    count += len(chunk)
                    yield from _samples(chunk, encoder, file.reader, unknown, missing)
            except InputError as e:
                yield Sample(str(path), None, str(e))
            for name, counts in unknown.items():
                warn_of_unknown_texts(str(path), name, dict(counts.most_common()), count)
            if self.missing == "auto":
                tell_of_missing(str(path), encoder, missing, only_new=True)


def missing_values(table: Table, encoder: Encoder, rows: Rows) -> dict[str, int]:
    """Return how many of the `rows` have no value, by the columns in which some have none."""
    counts = {name: int(table.columns[name].missing()[rows].sum()) for name in encoder.names}
    return {name: count for name, count in counts.items() if count}


def tell_of_missing(
    table: str, encoder: Encoder, counts: Mapping[str, int], only_new: bool
) -> None:
    """Log in one line what fills missing values; `only_new`: of columns that had all values in
    training.
    """
    known = encoder.indicators if only_new else []
    counts = {name: count for name, count in counts.items() if count and name not in known}
    if not counts:
        return
    filled = [
        f"{name} {count:,} (by {encoder.filled[name]})"
        for name, count in counts.items()
        if name in encoder.filled
    ]
    if only_new:
        how = "the columns had all values in training, so no input says where they are missing"
    else:
        how = "an input for each column that lacks values in training says where"
    log.warning(f"{table}: missing values filled (dataset.missing=auto): {listed(filled)}; {how}")


def warn_of_unknown(table: Table, encoder: Encoder) -> None:
    """Say of which category columns of `table` the training rows do not have all texts."""
    for category in encoder.categories:
        counts = category.unknown(table.columns[category.name])
        warn_of_unknown_texts(table.name, category.name, counts, len(table))


def warn_of_unknown_texts(table: str, column: str, counts: Mapping[str, int], rows: int) -> None:
    """Say how many values of a column are unknown, and the most frequent of them."""
    if not counts:
        return
    shown = ", ".join(
        f"{text!r} ({count:,})" for text, count in itertools.islice(counts.items(), SHOWN_TEXTS)
    )
    more = f" and {len(counts) - SHOWN_TEXTS:,} more" if len(counts) > SHOWN_TEXTS else ""
    total = sum(counts.values())
    log.warning(
        f"{table}: {total:,} of {rows:,} values in column '{column}' ({total / rows:.0%}) are not among the training "
        f"rows and count as unknown: {shown}{more}"
    )


def _described(description: dict[str, Any]) -> Spec:
    encoder = Encoder.described(description["encoder"])
    return Spec(
        input_shape=(len(encoder.feature_names),),
        class_names=tuple(description["class_names"]),
        train_samples=0,
        test_samples=0,
        target_names=tuple(description["target_names"]),
        target_mean=tuple(description["target_mean"]),
        target_std=tuple(description["target_std"]),
        feature_names=encoder.feature_names,
        cardinalities=encoder.cardinalities,
    )


def _samples(
    rows: Sequence[Row],
    encoder: Encoder,
    reader: ColumnReader,
    unknown: Mapping[str, Counter[str]],
    missing: Counter[str],
) -> Iterator[Sample]:
    """Yield the rows of a file as samples; count by column the category texts that are `unknown`,
    and `missing` values.
    """
    problems = [problem for _, _, problem in rows]
    columns = {
        number.name: _number_column(rows, number, reader, problems) for number in encoder.numbers
    }
    for category in encoder.categories:
        columns[category.name] = _category_column(
            rows, category, reader, problems, unknown[category.name]
        )
    read = np.array([not problem for problem in problems])
    missing.update({name: int(column.missing()[read].sum()) for name, column in columns.items()})
    inputs = encoder(columns, np.arange(len(rows)))
    for (name, _, _), x, problem in zip(rows, inputs, problems, strict=True):
        yield Sample(name, None if problem else x, problem)


def _number_column(
    rows: Sequence[Row], number: Numbers, reader: ColumnReader, problems: list[str]
) -> Column:
    """Return the numbers of a column; a row's first problem goes into `problems`."""
    values = np.full(len(rows), np.nan)
    for i, (_, texts, _) in enumerate(rows):
        text = texts.get(number.name)
        if text is None:
            problems[i] = problems[i] or f"there is no column '{number.name}'"
            continue
        values[i], wrong = reader.parse(text, number.format)
        if wrong:
            problems[i] = problems[i] or f"{text!r} in column '{number.name}' {wrong}"
        elif np.isnan(values[i]) and number.fill is None:
            problems[i] = problems[i] or f"column '{number.name}' is empty"
    return Column(number.name, values)


def _category_column(
    rows: Sequence[Row],
    category: Category,
    reader: ColumnReader,
    problems: list[str],
    unknown: Counter[str],
) -> Column:
    """Return the texts of a column; a row's first problem goes into `problems`, texts not known
    into `unknown`.
    """
    known = KnownTexts(category.texts)
    codes = np.full(len(rows), -1)
    for i, (_, texts, _) in enumerate(rows):
        if category.name not in texts:
            problems[i] = problems[i] or f"there is no column '{category.name}'"
            continue
        text = texts[category.name]
        codes[i] = known.find(text)
        if codes[i] < 0 and canonical(text) not in reader.missing_texts:
            codes[i] = len(category.texts)
            unknown[text] += not problems[i]
    return Column(category.name, codes, (*category.texts, UNKNOWN_TEXT), frozenset())
