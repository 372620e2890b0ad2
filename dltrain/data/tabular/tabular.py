"""Tables of numbers and categories, encoded with statistics of the training rows."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from torch import Tensor

from dltrain.data.dataset import Dataset, Part
from dltrain.data.fake import Fake
from dltrain.data.io.number_format import NumberFormat
from dltrain.data.raw_batches import columns_of
from dltrain.data.split import Balance, Split
from dltrain.data.tabular import encoded_table, labels
from dltrain.data.tabular.column_plan import (
    PlannedColumn,
    join_names,
    log_plan,
    plan_column,
    plan_columns,
    report_columns,
)
from dltrain.data.tabular.encoded_table import EncodedTable, KnownColumns, LearnedTable
from dltrain.data.tabular.encoding import Encoder, Missing, mean_and_std
from dltrain.data.tabular.files.open import open_table
from dltrain.data.tabular.files.settings import (
    CsvSettings,
    DecimalMark,
    MissingValue,
    ThousandsMark,
)
from dltrain.data.tabular.files.table_file import TableFile
from dltrain.data.tabular.footer import refuse_footer
from dltrain.data.tabular.row_samples import RowSamples
from dltrain.data.tabular.splits.advice import table_advice
from dltrain.data.tabular.splits.settings import SplitKind, SplitSettings, optional_name
from dltrain.data.tabular.table import (
    Column,
    Request,
    Table,
    TableSource,
    TextAmongNumbersError,
    check_names,
    column_names,
)
from dltrain.data.tabular.table_rows import Rows, RowSelection, TableRows
from dltrain.data.tabular.unseen_values import count_missing, log_missing, log_unknown
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
# The spec for debug=smoke where no table is named.
STAND_IN = Spec((4,), ("a", "b"), train_samples=80, test_samples=20)


class Tabular(Dataset[EncodedTable, LearnedTable, Split]):
    """A table whose column `target`, or several columns, are predicted from all the others.

    The table comes from the file `path`, or from a `source`.

    **Target.** Texts, booleans and whole numbers with few different values are classes. Other
    numbers are the targets of a regression and are standardized. If `kind` is auto, `predicts`
    decides: a task for numbers reads the target as numbers.

    **Columns.** Numbers are standardized, texts are categories. What is learned about them (mean,
    standard deviation, fill, texts) comes from the training rows. `categories` says how a category
    is encoded: onehot, or embed (its code, for `model=tabular_mlp`). Missing texts and texts that
    the training rows do not have share a code. Columns of dates, names or free text are left out
    with a message, unless `categorical` has their names.

    **Missing values.** `missing=auto` fills numbers with the median and texts with the most
    frequent one, and adds an input that marks them; mean, median and zero fill numbers only; drop
    leaves out the row, also one without a target.

    **Splits.** `test_fraction` of the rows are for testing, unless `test_path` has the test rows.
    `val_fraction` of the rest, or part `fold` of `folds` equal parts, are for validation. Both are
    stratified by class and depend on `split_seed` only; all rows with the same value of the column
    `group` are on one side. With `split=time` the rows are split in the order of the column `time`:
    the earliest are for training, the latest for testing. These columns are no features unless
    `categorical` names them. Every row of a file other than the one that a run was trained on is
    for testing.

    Raises:
        InputError: the table cannot be used; the message has file and line.
    """

    def __init__(  # noqa: PLR0913 - the keys of the configuration
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
        fold: Annotated[int, Ge(0)] | None = None,
        split: SplitKind = "random",
        group: ColumnName | None = None,
        time: ColumnName | None = None,
        split_seed: int = 0,
        epochs: PositiveInt = 20,
        balance: Balance = "none",
        source: TableSource | None = None,
        predicts: Literal["", "classes", "numbers"] = "",
        seed: int = 0,
    ) -> None:
        self.splitting = SplitSettings(
            val_fraction=val_fraction,
            test_fraction=test_fraction,
            folds=folds,
            fold=fold,
            kind=split,
            group=optional_name(group),
            time=optional_name(time),
            seed=split_seed,
        )
        super().__init__(batch_size, eval_batch_size, seed)
        self.csv = CsvSettings(delimiter, encoding, header, decimal, thousands, missing_values)
        self.source = source
        if path is not None:
            self.source = open_table(path, self.csv, "dataset.path")
        self.test_source = None
        if test_path is not None:
            self.test_source = open_table(test_path, self.csv, "dataset.test_path")
        self.target_names = column_names(target)
        self.ignored = column_names(ignore)
        self.kind = kind
        self.embed = categories == "embed"
        self.categorical = column_names(categorical)
        self.missing = missing
        self.predicts = predicts
        self.epochs = epochs
        self.balance = balance
        self.keeps_columns = False

    @property
    def spec(self) -> Spec:
        """The spec of the restored run or of the table, which is read for it.

        A stand-in if no table is named.
        """
        if self.learned is not None and not self.is_training:
            return self.learned.spec
        if self.source is None:
            return STAND_IN
        return self.stored.spec

    @property
    def spec_is_read(self) -> bool:
        """True where `spec` reads the table."""
        return self.source is not None and self.learned is None

    @property
    def encoder(self) -> Encoder:
        """The encoder of the restored run, or of this table, which is read for it."""
        if self.learned is None:
            return self.stored.encoder
        return self.learned.encoder

    # Reading

    def read(self) -> EncodedTable:
        """Read and encode the table, and the test table if there is one."""
        table = self.read_table(self.require_source(), self.known_columns)
        class_names = self.class_names(table)
        refuse_footer(table)
        samples = self.row_selection.select(table, class_names)
        train, val, test = self.split_rows(samples)
        encoder = self.fit_encoder(samples, train)
        formats = tuple(table.columns[name].number_format for name in self.target_names)
        self.log_filled(samples, encoder, only_new=self.learned is not None)
        inputs = encoder(table.columns, samples.rows)
        targets = samples.targets
        places = [samples.places]
        if self.test_source is not None and not self.is_other_table(table.digest):
            known = KnownColumns(encoder, formats, class_names)
            test_samples = self.read_test_rows(self.test_source, known)
            self.splitting.check_test_table(
                (self.require_source(), samples), (self.test_source, test_samples)
            )
            test = torch.arange(len(targets), len(targets) + len(test_samples.targets))
            test_inputs = encoder(test_samples.table.columns, test_samples.rows)
            inputs = torch.cat([inputs, test_inputs])
            targets = torch.cat([targets, test_samples.targets])
            places.append(test_samples.places)
        spec = Spec(
            input_shape=(inputs.shape[1],),
            class_names=class_names,
            train_samples=len(train) + len(val),
            test_samples=len(test),
            feature_names=encoder.feature_names,
            cardinalities=encoder.cardinalities,
        )
        if not class_names:
            mean, std = self.target_scale(table, targets, train)
            targets = ((targets - torch.tensor(mean)) / torch.tensor(std)).float()
            names = self.target_names
            spec = replace(spec, target_names=names, target_mean=mean, target_std=std)
        return EncodedTable(
            spec=spec,
            encoder=encoder,
            target_formats=formats,
            inputs=inputs,
            targets=targets,
            train=train,
            val=val,
            test=test,
            digest=table.digest,
            places=tuple(places),
        )

    def require_source(self) -> TableSource:
        """Return where the table comes from; ConfigError if it or the target is not named."""
        if self.source is None:
            hint = "name the table to train on: dataset.path=FILE.csv or .parquet"
            raise ConfigError([("dataset.path=null", hint)])
        if not self.target_names:
            columns = self.describe_columns(self.source)
            hint = f"name the column to predict: dataset.target=COLUMN; {columns}"
            raise ConfigError([("dataset.target=null", hint)])
        return self.source

    def describe_columns(self, source: TableSource) -> str:
        """Return the columns of a table and the kind of each, for a message."""
        table = source.read(Request(None, self.ignore, self.categorical))
        rows = np.arange(len(table))
        kinds = []
        for column in table.columns.values():
            plan = plan_column(column, rows, column.name in self.categorical, leave_empty=True)
            kinds.append(f"{plan.name} ({plan.kind})")
        return f"{table.name} has the columns {join_names(kinds)}"

    @property
    def known_columns(self) -> KnownColumns | None:
        """The columns and formats that the restored run knows; None before training."""
        if self.learned is None:
            return None
        return self.learned.columns(len(self.target_names))

    @property
    def ignore(self) -> dict[str, str]:
        """The columns that are not features, and the setting that names each."""
        splitting = self.splitting.columns
        unused = {name: splitting[name] for name in splitting if name not in self.categorical}
        return unused | dict.fromkeys(self.ignored, "dataset.ignore")

    def request(self, known: KnownColumns | None) -> Request:
        """Return the columns to read, with their types if they are `known`."""
        numbers: dict[str, NumberFormat | None]
        if known is None:
            numbers = dict.fromkeys(self.number_targets)
            label_names = () if self.number_targets else self.target_names
            return Request(None, self.ignore, self.categorical, numbers, label_names)
        categories = [c.name for c in known.encoder.categories]
        numbers = {c.name: c.format for c in known.encoder.numbers}
        if known.class_names:
            categories += self.target_names
        else:
            numbers |= dict(zip(self.target_names, known.target_formats, strict=True))
        return Request([*known.encoder.names, *self.target_names], (), categories, numbers)

    def read_table(self, source: TableSource, known: KnownColumns | None) -> Table:
        """Read the columns that are used; `known` ones are read with their types."""
        try:
            table = source.read(self.request(known))
        except TextAmongNumbersError as e:
            if self.predicts == "numbers" and e.column in self.target_names:
                hint = "task=regression predicts numbers, task=classification classes"
                raise InputError(f"{e}; {hint}") from e
            raise
        self.splitting.check_targets(self.target_names)
        ignored_targets = [name for name in self.target_names if name in self.ignored]
        if ignored_targets:
            key = setting("dataset.ignore", ignored_targets[:1])
            raise ConfigError([(key, "the target cannot be ignored")])
        check_names(self.target_names, list(table.columns), table.name)
        if table.columns.keys() <= set(self.target_names):
            raise InputError(
                f"{table.name}:1: the target is the only column: nothing to predict it from"
            )
        return table

    @property
    def number_targets(self) -> tuple[str, ...]:
        """The targets, if they must be numbers; else none."""
        if self.learned is not None:
            if self.learned.spec.class_names:
                return ()
            return self.target_names
        is_regression = self.kind == "regression" or len(self.target_names) > 1
        if is_regression or (self.kind == "auto" and self.predicts == "numbers"):
            return self.target_names
        return ()

    def class_names(self, table: Table) -> tuple[str, ...]:
        """Return the classes of the target; none for a regression.

        Raises InputError if the target has fewer than two classes.
        """
        if self.learned is not None:
            return self.learned.spec.class_names
        if self.number_targets:
            return ()
        target = table.columns[self.target_names[0]]
        return labels.class_names(table, target, self.kind, target.name in self.categorical)

    def read_test_rows(self, source: TableSource, known: KnownColumns) -> TableRows:
        """Read the table for testing, as the training table was read."""
        table = self.read_table(source, known)
        refuse_footer(table)
        log_unknown(table, known.encoder)
        samples = self.row_selection.select(table, known.class_names)
        self.log_filled(samples, known.encoder, only_new=True)
        return samples

    # Rows

    @property
    def row_selection(self) -> RowSelection:
        """The rules that select the rows to use."""
        by_number = self.learned is not None and self.learned.target_formats is None
        return RowSelection(self.target_names, self.missing, by_number)

    def split_rows(self, samples: TableRows) -> tuple[Tensor, Tensor, Tensor]:
        """Return which of the usable rows are for training, validation and testing."""
        if self.is_other_table(samples.table.digest):
            no_rows = torch.arange(0)
            return no_rows, no_rows, torch.arange(len(samples.targets))
        return self.splitting.split(samples, self.require_source(), self.test_source is not None)

    def is_other_table(self, digest: str) -> bool:
        """Return whether a table differs from the one that a finished run was trained on.

        All rows of that table are for testing.
        """
        if self.learned is None or self.is_training:
            return False
        return self.learned.digest != digest

    def target_scale(
        self, table: Table, targets: Tensor, train: Tensor
    ) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return mean and standard deviation of every target.

        They are those of the run, or of the training rows.
        """
        if self.learned is not None:
            return self.learned.spec.target_mean, self.learned.spec.target_std
        for name, column in zip(self.target_names, targets.numpy().T, strict=True):
            if (column == column[0]).all():
                raise InputError(
                    f"{table.where(0)}: from here on the target '{name}' is {column[0]:g}: "
                    "nothing to learn"
                )
        values = targets[train].numpy()
        mean, std = zip(*map(mean_and_std, values.T), strict=True)
        return mean, std

    # Columns

    def fit_encoder(self, samples: TableRows, train: Tensor) -> Encoder:
        """Return the encoder of the run, or a new one, fitted to the training rows."""
        table = samples.table
        if self.learned is not None:
            if self.is_other_table(table.digest):
                log_unknown(table, self.learned.encoder)
            return self.learned.encoder
        train_rows = samples.rows[train.numpy()]
        planned = self.plan(table, train_rows)
        columns = [table.columns[column.name] for column in planned if column.used]
        encoder = Encoder.fit(table, columns, train_rows, self.missing, self.embed)
        if isinstance(self.source, TableFile):
            text_counts = {c.name: len(c.texts) for c in encoder.categories}
            log_plan(table, planned, self.embed, text_counts)
        return encoder

    def plan(self, table: Table, rows: Rows) -> list[PlannedColumn]:
        """Decide what is done with each column besides the target, by the training `rows`."""
        columns = [c for c in table.columns.values() if c.name not in self.target_names]
        leave_empty = self.missing == "auto"
        return plan_columns(table, columns, rows, self.categorical, leave_empty)

    def log_filled(self, samples: TableRows, encoder: Encoder, only_new: bool) -> None:
        """Log which missing values are filled, and with what."""
        if self.missing == "auto":
            counts = count_missing(samples.table, encoder, samples.rows)
            log_missing(samples.table.name, encoder, counts, only_new)

    def inspect(self) -> list[ReportTable]:
        """Return the table of columns: the kind of each, and what is done with it."""
        if self.source is None or not self.target_names:
            return []
        table = self.source.read(self.request(None))
        used = self.encoder.names
        planned = [
            replace(column, used=column.name in used)
            for column in self.plan(table, np.arange(len(table)))
        ]
        return [report_columns(table, planned, self.target_names, self.ignore, self.embed)]

    def split_advice(self) -> list[str]:
        """Return lines on columns whose rows seem to belong together, unless a column is set."""
        is_other = self.is_other_table(self.stored.digest)
        if self.source is None or self.splitting.columns or is_other:
            return []
        return table_advice(self.source, self.stored, self.target_names)

    # The other methods of a data set

    @cached_property
    def tensors(self) -> tuple[Tensor, Tensor]:
        """The inputs (N, F) and targets of all rows, on the device."""
        return self.stored.inputs.to(self.device), self.stored.targets.to(self.device)

    def make_split(self, part: Part, batch_size: BatchSize, seed: int | None) -> Split:
        """Return the batches of one split."""
        rows = {"train": self.stored.train, "val": self.stored.val, "test": self.stored.test}
        spec = self.stored.spec
        # A balanced regression was refused earlier.
        balanced = self.balance == "sampler" and bool(spec.class_names)
        return Split(*self.tensors, rows[part], spec, batch_size, seed, balanced=balanced)

    def input_columns(self) -> dict[str, slice]:
        """Return the inputs that each column became."""
        return self.encoder.columns

    def row_names(self, part: Part) -> Callable[[int], str]:
        """Return the function that names a row by its place, as in letters.csv:12."""
        return self.stored.place

    def count_classes(self) -> tuple[int, ...]:
        """Return the number of training samples of each class, of the table that was trained on."""
        if self.learned is not None and not self.is_training:
            return self.learned.class_counts
        return self.train.class_counts(self.spec.num_classes)

    def expected_size_in_bytes(self) -> int:
        """Return the bytes of inputs and targets, for which the table is read."""
        return self.stored.size_in_bytes()

    def test_rule(self) -> str:
        """Describe how the test rows were chosen; "" for a separate test table."""
        if self.test_source or self.is_other_table(self.stored.digest):
            return ""
        return self.splitting.test_rule(bool(self.stored.spec.class_names))

    def fake(self) -> Fake:
        """Return random rows of the same columns and targets."""
        return Fake(self.spec, self.batch_size, self.seed)

    def description(self) -> dict[str, Any]:
        """Return the encoder, the classes or the scale of the targets, and the table's digest."""
        known = self.known_columns
        formats: Sequence[NumberFormat | None] = self.stored.target_formats
        if known is not None:
            formats = known.target_formats
        return encoded_table.describe(
            self.spec, self.encoder, formats, self.class_counts, self.stored.digest
        )

    def parse(self, description: dict[str, Any]) -> LearnedTable:
        """Return the content of a description."""
        return encoded_table.parse(description)

    def continue_as(self, description: dict[str, Any]) -> None:
        """Keep what was learned from the training table, and its splits."""
        self.restore(description)
        self.is_training = True

    def keep_columns(self) -> None:
        """Have `encode` put every column of a row into what is known about its sample."""
        self.keeps_columns = True

    def encode_file(self, path: Path) -> Iterator[Sample]:
        """Yield a sample of every row of a file; columns are found by name, others are not read."""
        samples = RowSamples(self.encoder, open_table(path, self.csv), self.keeps_columns)
        try:
            yield from samples
        finally:
            samples.log_unseen(path, self.missing == "auto")

    @property
    def row_columns(self) -> tuple[str, ...]:
        """The columns that a row to predict from needs."""
        return self.encoder.names

    def encode_numbers(self, values: Tensor) -> Tensor:
        """Return rows (B, columns) of numbers as the network's inputs (B, F)."""
        encoder = self.encoder
        if encoder.categories:
            names = ", ".join(category.name for category in encoder.categories)
            raise InputError(
                f"the table has categories ({names}), which numbers cannot say: predict from rows "
                "with the names of the columns"
            )
        columns = columns_of(values, encoder.names)
        for number in encoder.numbers:
            if number.fill is None and np.isnan(columns[number.name]).any():
                raise InputError(f"column '{number.name}' is empty in a row")
        return encoder(
            {name: Column(name, column) for name, column in columns.items()}, np.arange(len(values))
        )
