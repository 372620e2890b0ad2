"""Images of the user's own in a folder for each class: in memory, or decoded when needed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

import torch
from torch import Tensor

from dltrain.data.dataset import PARTS
from dltrain.data.held_out.advice import Sides, path_advice
from dltrain.data.held_out.path_groups import path_rule
from dltrain.data.images.folder import OddFiles
from dltrain.data.images.labeled import Scaling
from dltrain.data.images.listed.listed_images import FileSettings, ListedImages
from dltrain.data.images.listed.listing import FolderListing
from dltrain.data.images.pixel_rule import Background
from dltrain.data.io.layout.describe import EXPECTED
from dltrain.data.split import Balance
from dltrain.data.tabular.table import column_names
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


class ImageFolder(ListedImages):
    """Images in `path`/<class>/ or `path`/{train,val,test}/<class>/, here or in the data root.

    Without a test folder, `test_fraction` of the training images are for testing, chosen by
    `split_seed` alone and the same fraction of every class; without a validation folder,
    `val_fraction` of the rest for validation, or the `fold`-th of k equal parts. Images of one
    `group`, by their paths (dltrain.data.held_out.path_groups), stay on one side of every split. If
    a run was trained on another folder, every image is for testing, unless there is a test folder.

    Every image becomes `channels` x `image_size` (a number, or height and width; by default the
    size of the images): resized to cover it and cropped around its center. Files that are not
    images are skipped with a warning, or refused. With `memory` auto, images are held in memory if
    they take less than half of what is free; else `workers` threads (0: one a CPU core) decode them
    ahead of their use. Batches are the same either way. A file that cannot be read within `timeout`
    seconds, as from a network that does not answer, ends the run (InputError).
    """

    def __init__(  # noqa: PLR0913 - the keys of the configuration
        self,
        root: Path,
        path: str | None = None,
        image_size: PositiveInt | tuple[PositiveInt, PositiveInt] | None = None,
        channels: Literal[1, 3] = 3,
        classes: Sequence[ColumnName] | None = None,
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
        self.path = path
        self.class_folders = column_names(classes) or None
        self.path_rule = path_rule(group)

    @cached_property
    def is_absent(self) -> bool:
        """True if there is no folder, named or not: `debug=smoke` needs none."""
        return self.path is None or not any(place.exists() for place in self.places(self.path))

    def places(self, path: str) -> tuple[Path, Path]:
        """Return where a folder is looked for: here and in the data root."""
        return Path(path).expanduser(), self.root / path

    @cached_property
    def listed_files(self) -> FolderListing:
        """The files of the folder; ConfigError where none is named."""
        if self.path is None:
            why = f"name the images to train on: dataset.path=DIR, {EXPECTED}"
            raise ConfigError([("dataset.path=null", why)])
        known_classes = self.learned.spec.class_names if self.learned is not None else ()
        return FolderListing(
            self.places(self.path), self.class_folders, self.path_rule, known_classes
        )

    def listing(self) -> FolderListing:
        """Return the files of the folder."""
        return self.listed_files

    def split_advice(self) -> list[str]:
        """Return a line on files that seem to belong together by their paths, unless a rule is set.

        Files on which a finished run is scored were not split.
        """
        if self.path_rule is not None or self.is_absent or self.learned is not None:
            return []
        paths: list[str] = []
        classes: list[Tensor] = []
        for part in PARTS:
            name, rows = self.rows_of(part)
            paths += map(self.stored.row_names(name), rows.tolist())
            classes.append(self.stored.targets(name).cpu()[rows])
        is_training = torch.arange(len(paths)) < len(classes[0])
        sides = Sides(torch.cat(classes), is_training)
        line = path_advice(paths, self.listed_files.folders_of_classes, sides)
        return [line] if line else []
