"""The user's own images: a folder a class, held in memory where they fit, else decoded as they are needed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import torch

from dltrain.data.balance import Balance
from dltrain.data.description import unsound
from dltrain.data.images.decode import cores
from dltrain.data.images.folder import Folder, OddFiles
from dltrain.data.images.in_memory import FOLDER_DIGEST, PIXELS, InMemory
from dltrain.data.images.pixel_rule import Background, given_rule
from dltrain.data.images.streamed import Streamed, Streams
from dltrain.data.images.synthetic import Synthetic
from dltrain.data.io.cache import CACHE
from dltrain.data.io.layout import EXPECTED
from dltrain.data.io.memory import free_memory
from dltrain.data.split import Split
from dltrain.data.tabular.table import column_names
from dltrain.errors import ConfigError, InputError
from dltrain.types import (
    BatchSize,
    ColumnName,
    Fraction,
    Ge,
    PositiveFloat,
    PositiveInt,
    Sample,
    Spec,
    Transform,
)

STAND_IN = Spec(
    (3, 32, 32), ("a", "b"), train_samples=80, test_samples=20
)  # where no folder is named: for debug=smoke
SHARE = 0.5  # of the free memory, that images may take


class ImageFolder:
    """Images in `path`/<class>/ or `path`/{train,val,test}/<class>/, from here or from the data root.

    Without a test folder `test_fraction` of the training images, chosen by `split_seed` alone and the same of every class,
    are for testing; without a validation folder `val_fraction` of the rest for validation, or the `fold`-th of k equal
    parts. Of a folder other than the one a run was trained on every image is for testing, unless it has a test folder.

    Every image becomes `channels` x `image_size` (a number, or height and width; by default that of the images), resized
    to cover it and cropped around its centre. What is no image is skipped with a warning, or refused. With `memory` auto
    they are held in memory where they take less than half of what is free; else `workers` threads (0: one a core) decode
    them ahead of their use. Batches are the same either way. A file that cannot be read within `timeout` seconds, as from a
    network that does not answer, ends the run (InputError).
    """

    def __init__(
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
        fold: Annotated[int, Ge(0)] = 0,
        split_seed: int = 0,
        epochs: PositiveInt = 10,
        scaling: Literal["standardize", "unit"] = "standardize",
        balance: Balance = "none",
        transforms: Sequence[Transform] = (),
        seed: int = 0,
    ) -> None:
        if value_range is not None and not value_range[0] < value_range[1]:
            raise ValueError(
                f"dataset.value_range={list(value_range)}: the first value, black, must be below the second"
            )
        self.root, self.memory = Path(root), memory
        self.value_range, self.background = value_range, background
        self.folder: Folder | None = None
        if path is not None:
            size = (image_size, image_size) if isinstance(image_size, int) else image_size
            places = (Path(path).expanduser(), self.root / path)
            threads = workers or cores()
            rule = given_rule(value_range, background)
            names = column_names(classes) or None
            self.folder = Folder(
                places,
                size,
                channels,
                odd_files,
                test_fraction,
                split_seed,
                threads,
                timeout,
                names,
                rule,
            )
        self.inner = InMemory(  # where images are streamed, it says and makes all that takes none
            self.folder or Synthetic.like(STAND_IN),
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

    @property
    def spec(self) -> Spec:
        """By the names of the folders and a few headers; InputError where there is but one class to tell apart."""
        if self.folder and len(self.folder.class_names) < 2 and not self.inner.restored:
            raise InputError(
                f"{self.folder.path} has one class, {self.folder.class_names[0]}; expected {EXPECTED}"
            )
        return self.inner.spec

    def find_files(self) -> None:
        folder = self.named_folder()
        _ = folder.class_names
        folder.describe()

    def named_folder(self) -> Folder:
        """Return the folder of the images; ConfigError where none is named."""
        if self.folder is None:
            raise ConfigError(
                [
                    (
                        "dataset.path=null",
                        f"name the images to train on: dataset.path=DIR, {EXPECTED}",
                    )
                ]
            )
        return self.folder

    @cached_property
    def splits(self) -> InMemory | Streams:
        folder = self.named_folder()
        folder.describe()
        size = decoded_bytes(folder)
        streamed = size > SHARE * free_memory() if self.memory == "auto" else not self.memory
        return Streams(folder, self.inner, self.root / CACHE) if streamed else self.inner

    @property
    def train(self) -> Split | Streamed:
        return self.splits.train

    @property
    def val(self) -> Split | Streamed:
        return self.splits.val

    @property
    def test(self) -> Split | Streamed:
        return self.splits.test

    @property
    def class_counts(self) -> tuple[int, ...]:
        _ = self.splits.train
        return self.inner.class_counts

    def standardize_by(self, mean: Sequence[float], std: Sequence[float]) -> bool:
        return self.inner.standardize_by(mean, std)

    def test_rule(self) -> str:
        return self.folder.test_rule() if self.folder else ""

    def fake(self) -> InMemory:
        return self.inner.fake()

    def to(self, device: torch.device) -> None:
        self.inner.to(device)

    def size_in_bytes(self) -> int:
        """Of all images, or of the batches under way where they are streamed."""
        return self.splits.size_in_bytes() if self.folder else self.inner.size_in_bytes()

    def fingerprint(self) -> str:
        """Of the pixels, or of the files' names and sizes where they are streamed."""
        return self.splits.fingerprint()

    def description(self) -> dict[str, Any]:
        digest, rule = (
            (self.folder.digest(), self.folder.rule) if self.folder else ("", self.inner.rule)
        )
        return {**self.inner.description(), FOLDER_DIGEST: digest, PIXELS: rule.description()}

    def restore(self, description: dict[str, Any]) -> None:
        if not isinstance(description, dict):
            raise unsound("it is no mapping")
        self.inner.restore(description)
        self.inner.rule = given_rule(self.value_range, self.background, self.inner.rule)
        if self.folder and self.inner.restored:
            channels, *size = self.inner.restored.input_shape
            self.folder.channels, self.folder.image_size = channels, (size[0], size[1])
            self.folder.rule = self.inner.rule
            self.folder.known_classes = self.inner.restored.class_names
            self.folder.test_only = description.get(FOLDER_DIGEST) != self.folder.digest()

    def encode(self, paths: Sequence[Path]) -> Iterator[Sample]:
        return self.inner.encode(paths)


def decoded_bytes(folder: Folder) -> int:
    """What all images of a folder take in memory."""
    return sum(len(files.paths) for files in folder.files.values()) * (
        folder.channels * math.prod(folder.size) + 8
    )
