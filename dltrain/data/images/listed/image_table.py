"""Images that a table names, with the class of each: in memory, or decoded when needed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

from dltrain.data.images.folder import OddFiles
from dltrain.data.images.labeled import Scaling
from dltrain.data.images.listed.listed_images import FileSettings, ListedImages
from dltrain.data.images.listed.table_listing import EXPECTED, ImageColumns, TableListing
from dltrain.data.images.pixel_rule import Background
from dltrain.data.io.places import existing_path, existing_paths
from dltrain.data.io.text_encoding import check_encoding
from dltrain.data.split import Balance
from dltrain.data.tabular.table import column_name
from dltrain.errors import ConfigError
from dltrain.types import (
    BatchSize,
    ColumnName,
    Fraction,
    Ge,
    PositiveFloat,
    PositiveInt,
    Transform,
)


class ImageTable(ListedImages):
    """Images named in the table `path`: csv, tsv, jsonl or parquet, here or in the data root.

    Paths in the column `image` are relative to `image_root`, or else to the table's folder. The
    column `target` has the class of each image. `val_path` and `test_path` are tables of those
    splits, or the column `split` says train, val or test; what is missing is drawn as for a folder
    of images (dltrain.data.images.image_folder), which has the other settings too. Rows with the
    same value in the column `group` stay on one side of every split.

    Raises:
        ValueError: `value_range` or `encoding` cannot be, or both a column and files name splits.
    """

    def __init__(  # noqa: PLR0913 - the keys of the configuration
        self,
        root: Path,
        path: str | None = None,
        image: ColumnName = "image",
        target: ColumnName = "label",
        split: ColumnName | None = None,
        image_root: str | None = None,
        val_path: str | None = None,
        test_path: str | None = None,
        encoding: str | None = None,
        image_size: PositiveInt | tuple[PositiveInt, PositiveInt] | None = None,
        channels: Literal[1, 3] = 3,
        value_range: tuple[float, float] | None = None,
        background: Background = "auto",
        odd_files: OddFiles = "skip",
        memory: bool | Literal["auto"] = "auto",
        workers: Annotated[int, Ge(0)] = 0,
        timeout: PositiveFloat = 60.0,
        batch_size: BatchSize = 64,
        eval_batch_size: PositiveInt = 64,
        val_fraction: Fraction = 0.1,
        test_fraction: Fraction = 0.2,
        folds: Annotated[int, Ge(2)] | None = None,
        fold: Annotated[int, Ge(0)] | None = None,
        group: ColumnName | None = None,
        split_seed: int = 0,
        epochs: PositiveInt = 10,
        scaling: Scaling = "standardize",
        balance: Balance = "none",
        transforms: Sequence[Transform] = (),
        seed: int = 0,
    ) -> None:
        check_encoding(encoding)
        if split is not None and (val_path or test_path):
            raise ValueError(
                f"dataset.split={split} says which rows are for validation and testing, and so do "
                "dataset.val_path and test_path: set one of both"
            )
        super().__init__(
            root,
            FileSettings(
                image_size=image_size,
                channels=channels,
                value_range=value_range,
                background=background,
                odd_files=odd_files,
                memory=memory,
                workers=workers,
                timeout=timeout,
                test_fraction=test_fraction,
            ),
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            val_fraction=val_fraction,
            folds=folds,
            fold=fold,
            split_seed=split_seed,
            epochs=epochs,
            scaling=scaling,
            balance=balance,
            transforms=transforms,
            seed=seed,
        )
        self.columns = ImageColumns(
            column_name(image),
            column_name(target),
            None if split is None else column_name(split),
            None if group is None else column_name(group),
        )
        self.image_root = image_root
        self.paths = {"train": path, "val": val_path, "test": test_path}
        self.encoding = encoding

    @cached_property
    def is_absent(self) -> bool:
        """True if there is no table, named or not: `debug=smoke` needs none."""
        path = self.paths["train"]
        if path is None:
            return True
        return not any(place.exists() for place in (Path(path).expanduser(), self.root / path))

    def listing(self) -> TableListing:
        """Return the images of the table; ConfigError where none is named."""
        if self.paths["train"] is None:
            why = f"name the table of the images: dataset.path=FILE, {EXPECTED}"
            raise ConfigError([("dataset.path=null", why)])
        named = {split: name for split, name in self.paths.items() if name is not None}
        folder = None
        if self.image_root is not None:
            folder = existing_path("dataset.image_root", self.image_root, self.root)
        known_classes = self.learned.spec.class_names if self.learned is not None else ()
        tables = existing_paths(named, self.root)
        return TableListing(tables, self.columns, folder, self.encoding, known_classes)
