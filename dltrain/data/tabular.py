"""Tables of numbers and categories: rows split, encoded by what the training rows teach, and turned into batches."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dltrain.data.balance import Balance
from dltrain.data.description import unsound
from dltrain.data.encoding import Encoder, Missing, statistics
from dltrain.data.fake import Fake
from dltrain.data.split import Split, held_out
from dltrain.data.table import Column, Table, TableSource, check_names, column_names
from dltrain.data.table_files import LARGEST, MISSING, NUMBER, TableFile
from dltrain.errors import ConfigError, InputError
from dltrain.types import BatchSize, ColumnName, Fraction, Ge, PositiveInt, Sample, Spec

MOST_CLASSES = 1000
FEW = 20  # whole numbers of at most so many values, each of them on average in at least
OFTEN = 5  # rows, are classes unless dataset.kind says otherwise
CHUNK = 1024  # rows that are encoded at once for a prediction
STAND_IN = Spec((4,), ("a", "b"), train_samples=80, test_samples=20)  # where no table is named: for debug=smoke
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Loaded:
    """A table that is read: what it is like, its inputs (N, F) and targets, and which rows are of which split."""

    spec: Spec
    encoder: Encoder
    inputs: Tensor
    targets: Tensor
    train: Tensor
    val: Tensor
    test: Tensor
    digest: str


class Tabular:
    """A table from the file `path` (or from a `source`): predict the column `target`, or several, from all the others.

    Texts and yes or no are classes, as are whole numbers of few values; other numbers are a regression's, whose targets
    are standardized. Of the other columns numbers are standardized, texts are categories, and all that is learned of
    them (mean, deviation, fill, texts) comes from the training rows. `categories` says how a category is put: onehot, or
    embed (its code, for `model=tabular_mlp`); one that is missing or was not in the training rows has a code of its own.
    `missing` says what to do where a number is missing; drop also leaves out rows without a target.

    `test_fraction` of the rows, chosen by `split_seed` alone and the same of every class, are for testing, unless
    `test_path` has them; of the rest `val_fraction` for validation, or the `fold`-th of k equal parts. Of a file other than
    the one a run was trained on every row is for testing. InputError with file and line for what cannot be used.
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
        missing: Missing = "error",
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
        seed: int = 0,
    ) -> None:
        if folds is not None and fold >= folds:
            raise ValueError(f"dataset.fold={fold} is none of {folds} folds: they count from 0")
        self.open = partial(TableFile, delimiter=delimiter, encoding=encoding, header=header)
        self.source = self.open(path) if path is not None else source
        self.test_source = self.open(test_path) if test_path is not None else None
        self.named, self.ignore = column_names(target), column_names(ignore)
        self.kind, self.embed, self.categorical = kind, categories == "embed", column_names(categorical)
        self.missing = missing
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.val_fraction, self.test_fraction = val_fraction, test_fraction
        self.folds, self.fold, self.split_seed = folds, fold, split_seed
        self.epochs, self.balance, self.seed, self.device = epochs, balance, seed, torch.device("cpu")
        self.restored: dict[str, Any] | None = None

    @property
    def spec(self) -> Spec:
        """Of the restored run or the table, which is read for it; a stand-in where none is named."""
        if self.restored:
            return _described(self.restored)
        return STAND_IN if self.source is None else self.loaded.spec

    @property
    def encoder(self) -> Encoder:
        return Encoder.described(self.restored["encoder"]) if self.restored else self.loaded.encoder

    @cached_property
    def loaded(self) -> Loaded:
        if self.source is None:
            raise ConfigError([("dataset.path=null", "name the table to train on: dataset.path=FILE.csv or .parquet")])
        if not self.named:
            raise ConfigError([("dataset.target=null", "name the column to predict: dataset.target=COLUMN")])
        table = self.table(self.source)
        trained = self.spec if self.restored else None
        class_names = trained.class_names if trained else self.class_names(table)
        rows, targets = self.targets(table, class_names)
        parts = self.parts(table, targets)
        if self.restored:
            encoder = self.encoder
        else:
            columns = [c for c in table.columns.values() if c.name not in self.named]
            encoder = Encoder.fit(table, columns, rows[parts[0].numpy()], self.missing, self.embed)
        inputs = encoder(table.columns, rows)
        if self.test_source and (not self.restored or self.restored["digest"] == table.digest):
            test = self.table(self.test_source, encoder)
            rows, test_targets = self.targets(test, class_names)
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
            mean, std = (trained.target_mean, trained.target_std) if trained else self.scale(table, targets, parts[0])
            targets = ((targets - torch.tensor(mean)) / torch.tensor(std)).float()
            spec = replace(spec, target_names=self.named, target_mean=mean, target_std=std)
        return Loaded(spec, encoder, inputs, targets, *parts, table.digest)

    def table(self, source: TableSource, trained: Encoder | None = None) -> Table:
        """The columns that are used; of those that are known already, read as what they are."""
        known = self.encoder if self.restored else trained
        if known is None:
            table = source.read(ignore=self.ignore, categories=self.categorical, numbers=self.regressed)
        else:
            numbers = [c.name for c in known.numbers]
            texts = [c.name for c in known.categories]
            table = source.read([*known.names, *self.named], (), texts, [*numbers, *self.regressed])
        if both := [name for name in self.named if name in self.ignore]:
            raise ConfigError([(f"dataset.ignore=[{both[0]}]", "that is the target")])
        check_names(self.named, list(table.columns), table.name)
        if len(table.columns) == len(self.named):
            raise InputError(f"{table.name}:1: there is no column but the target: nothing to predict it from")
        return table

    @property
    def regressed(self) -> tuple[str, ...]:
        """The targets, where they must be numbers."""
        known = self.restored["class_names"] if self.restored else None
        return self.named if known == [] or len(self.named) > 1 or self.kind == "regression" else ()

    def class_names(self, table: Table) -> tuple[str, ...]:
        """What the target's classes are; none for a regression. InputError where there is nothing to tell apart."""
        target = table.columns[self.named[0]]
        if self.regressed:
            return ()
        present = target.values[~target.missing()]
        distinct = np.unique(present)
        few = len(distinct) <= min(FEW, len(present) / OFTEN) and bool((present == np.round(present)).all())
        if target.texts is None and self.kind == "auto" and not few and len(distinct) > 1:
            return ()
        if len(distinct) > MOST_CLASSES:
            raise InputError(
                f"{table.where(0)}: the target '{target.name}' has {len(distinct):,} different values: at most "
                f"{MOST_CLASSES:,} can be classes (dataset.kind=regression for numbers)"
            )
        texts = target.as_category()
        names = [(texts.texts or ())[code] for code in np.unique(texts.values[texts.values >= 0])]
        if len(names) < 2:
            only = f"no value but '{names[0]}'" if names else "no value"
            raise InputError(f"{table.where(0)}: from here on the target '{target.name}' has {only}: nothing to learn")
        return tuple(sorted(names)) if target.texts is not None else tuple(names)

    def targets(self, table: Table, class_names: tuple[str, ...]) -> tuple[Rows, Tensor]:
        """The rows that are used and their targets: class numbers (N,), or numbers (N, T) in the data's unit.

        InputError for a row without a target or a number, unless such rows are dropped or numbers filled.
        """
        columns = [table.columns[name] for name in self.named]
        kept = np.ones(len(table), dtype=bool)
        for column in table.columns.values():
            is_target = column.name in self.named
            if not is_target and (column.texts is not None or self.missing in ("mean", "median", "zero")):
                continue
            absent = column.missing()
            kept &= ~absent
            if self.missing != "drop" and absent.any():
                other = "dataset.missing=drop leaves such rows out"
                if not is_target:
                    other = f"dataset.missing=mean (median, zero, drop), or dataset.ignore=[{column.name}]"
                what = "the target" if is_target else "column"
                raise InputError(f"{table.where(int(absent.argmax()))}: {what} '{column.name}' is empty: {other}")
        rows = np.flatnonzero(kept)
        if not len(rows):
            raise InputError(
                f"{table.where(0)}: from here on no row is complete: nothing is left after dataset.missing=drop"
            )
        if not class_names:
            return rows, torch.from_numpy(np.stack([c.values[rows] for c in columns], axis=1))
        target = columns[0].as_category()
        number = {name: k for k, name in enumerate(class_names)}
        codes = np.array([number.get(text, -1) for text in target.texts or ()])[target.values[rows]]
        if (codes < 0).any():
            row = int(rows[int((codes < 0).argmax())])
            text = (target.texts or ())[int(target.values[row])]
            raise InputError(f"{table.where(row)}: '{text}' is none of the {len(class_names)} classes that are known")
        return rows, torch.from_numpy(codes.astype(np.int64))

    def parts(self, table: Table, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Which of the rows with `targets` are for training, validation and testing."""
        everyone, nobody = torch.arange(len(targets)), torch.arange(0)
        if self.restored and self.restored["digest"] != table.digest:
            return nobody, nobody, everyone
        test = held_out(targets, 0.0 if self.test_source else self.test_fraction, self.split_seed)
        rest = everyone[~test]
        val = held_out(targets[rest], self.val_fraction, self.split_seed, self.folds, self.fold)
        if val.all():
            raise InputError(f"{table.where(0)}: {len(targets)} usable rows are too few: none is left for training")
        return rest[~val], rest[val], everyone[test]

    def scale(self, table: Table, targets: Tensor, rows: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
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
        if self.restored:
            return tuple(self.restored.get("class_counts", ()))
        return self.train.class_counts(self.spec.num_classes)

    @cached_property
    def stored(self) -> tuple[Tensor, Tensor]:
        return self.loaded.inputs.to(self.device), self.loaded.targets.to(self.device)

    @cached_property
    def train(self) -> Split:
        balanced = self.balance == "sampler" and bool(self.loaded.spec.class_names)  # a regression is refused elsewhere
        return Split(*self.stored, self.loaded.train, self.loaded.spec, self.batch_size, self.seed, balanced=balanced)

    @cached_property
    def val(self) -> Split:
        return Split(*self.stored, self.loaded.val, self.loaded.spec, self.eval_batch_size, None)

    @cached_property
    def test(self) -> Split:
        return Split(*self.stored, self.loaded.test, self.loaded.spec, self.eval_batch_size, None)

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
            "target_names": list(spec.target_names),
            "target_mean": list(spec.target_mean),
            "target_std": list(spec.target_std),
            "digest": self.loaded.digest,
        }

    def restore(self, description: dict[str, Any]) -> None:
        try:
            _described(description)
        except (AttributeError, KeyError, TypeError, ValueError) as e:
            raise unsound(repr(e)) from e
        self.restored = description

    def encode(self, paths: Sequence[Path]) -> Iterator[Sample]:
        """A sample of every row of the files; columns are found by name, and others are not looked at."""
        encoder = self.encoder
        for path in paths:
            try:
                rows = self.open(path).rows()
                while chunk := list(itertools.islice(rows, CHUNK)):
                    yield from _samples(chunk, encoder)
            except InputError as e:
                yield Sample(str(path), None, str(e))


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


def _samples(rows: Sequence[tuple[str, dict[str, str], str]], encoder: Encoder) -> Iterator[Sample]:
    """The rows of a file as samples: (name, texts by column, problem) each."""
    problems = [problem for _, _, problem in rows]
    columns: dict[str, Column] = {}
    for number in encoder.numbers:
        values = np.full(len(rows), math.nan)
        for i, (_, texts, _) in enumerate(rows):
            text = texts.get(number.name)
            if text is None:
                problems[i] = problems[i] or f"there is no column '{number.name}'"
            elif re.match(NUMBER, text) and abs(float(text)) <= LARGEST:
                values[i] = float(text)
            elif text not in MISSING:
                problems[i] = problems[i] or f"{text!r} in column '{number.name}' is no number"
            elif number.fill is None:
                problems[i] = problems[i] or f"column '{number.name}' is empty"
        columns[number.name] = Column(number.name, values)
    for category in encoder.categories:
        known = {text: code for code, text in enumerate(category.texts)}
        codes = np.array([known.get(texts.get(category.name, ""), -1) for _, texts, _ in rows])
        for i, (_, texts, _) in enumerate(rows):
            if category.name not in texts:
                problems[i] = problems[i] or f"there is no column '{category.name}'"
        columns[category.name] = Column(category.name, codes, category.texts)
    inputs = encoder(columns, np.arange(len(rows)))
    for (name, _, _), x, problem in zip(rows, inputs, problems, strict=True):
        yield Sample(name, None if problem else x, problem)
