"""Images of the user's own in a folder for each class: in memory, or decoded when needed."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from torch import Tensor

from dltrain.data.dataset import PARTS
from dltrain.data.held_out.advice import Sides, path_advice
from dltrain.data.held_out.groups import Groups
from dltrain.data.held_out.path_groups import path_rule
from dltrain.data.images.decode import cores
from dltrain.data.images.folder import Files, Folder, OddFiles
from dltrain.data.images.in_memory import InMemory, fake_images
from dltrain.data.images.labeled import (
    FOLDER_DIGEST,
    PIXELS,
    ImageTensors,
    LabeledImages,
    Scaling,
    size_in_bytes,
)
from dltrain.data.images.opening import read_file
from dltrain.data.images.pixel_rule import Background, PixelRule, given_rule
from dltrain.data.images.streamed import ImageFiles, streamed_bytes, survey
from dltrain.data.io.cache import CACHE
from dltrain.data.io.layout.describe import EXPECTED
from dltrain.data.io.memory import free_memory
from dltrain.data.split import Balance
from dltrain.data.tabular.table import column_names
from dltrain.errors import ConfigError, InputError
from dltrain.types import (
    BatchSize,
    ColumnName,
    Fraction,
    Ge,
    PackedSet,
    PositiveFloat,
    PositiveInt,
    Spec,
    Transform,
)

# What is described where there is no folder, for debug=smoke.
STAND_IN = Spec((3, 32, 32), ("a", "b"), train_samples=80, test_samples=20)
MEMORY_FRACTION = 0.5  # of the free memory, that images may take


class ImageFolder(LabeledImages):
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
        if value_range is not None and not value_range[0] < value_range[1]:
            raise ValueError(
                f"dataset.value_range={list(value_range)}: "
                "the first value, black, must be below the second"
            )
        super().__init__(
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
        self.root = Path(root)
        self.path = path
        self.image_size = image_size
        self.channels: int = channels
        self.class_folders = column_names(classes) or None
        self.value_range = value_range
        self.background = background
        self.odd_files = odd_files
        self.memory = memory
        self.threads = workers or cores()
        self.timeout = timeout
        self.test_fraction = test_fraction
        self.path_rule = path_rule(group)

    @cached_property
    def rule(self) -> PixelRule:
        """The rule of the settings, over that of the run; each file settles what it lacks."""
        trained = self.learned.rule if self.learned else None
        return given_rule(self.value_range, self.background, trained)

    @cached_property
    def is_absent(self) -> bool:
        """True if there is no folder, named or not: `debug=smoke` needs none."""
        return self.path is None or not any(place.exists() for place in self.places(self.path))

    def places(self, path: str) -> tuple[Path, Path]:
        """Return where a folder is looked for: here and in the data root."""
        return Path(path).expanduser(), self.root / path

    @cached_property
    def folder(self) -> Folder:
        """The folder of the images; ConfigError where none is named.

        For a run that was trained already it is read as the run's own folder was.
        """
        if self.path is None:
            why = f"name the images to train on: dataset.path=DIR, {EXPECTED}"
            raise ConfigError([("dataset.path=null", why)])
        folder = Folder(
            places=self.places(self.path),
            image_size=square(self.image_size),
            channels=self.channels,
            odd_files=self.odd_files,
            test_fraction=self.test_fraction,
            split_seed=self.split_seed,
            threads=self.threads,
            timeout=self.timeout,
            classes=self.class_folders,
            rule=self.rule,
            path_rule=self.path_rule,
        )
        if self.learned is not None:
            channels, height, width = self.learned.spec.input_shape
            folder.channels = channels
            folder.image_size = (height, width)
            folder.known_classes = self.learned.spec.class_names
            folder.test_only = self.learned.digest != folder.digest()
        return folder

    @property
    def source_spec(self) -> Spec:
        """The shape and classes by the names of folders and a few headers of files.

        A stand-in's where the folder is absent, as reading it says. Raises InputError where there
        is only one class.
        """
        if self.is_absent:
            return STAND_IN
        names = self.folder.class_names
        if len(names) < 2 and self.learned is None:
            raise InputError(f"{self.folder.path} has one class, {names[0]}; expected {EXPECTED}")
        return self.folder.spec

    def find_files(self) -> None:
        """Raise ConfigError where no folder is named and InputError where it is absent."""
        _ = self.folder.class_names
        self.folder.describe()

    @cached_property
    def is_streamed(self) -> bool:
        """True if the images stay in their files."""
        self.folder.describe()
        if self.memory == "auto":
            return decoded_bytes(self.folder) > MEMORY_FRACTION * free_memory()
        return not self.memory

    def read(self) -> ImageTensors | ImageFiles:
        """Decode every image, or look at every file once where they are streamed."""
        folder = self.folder
        if self.is_streamed:
            shape = (folder.channels, *folder.size)
            as_trained = partial(self.as_trained, shape)
            cache = self.root / CACHE
            return ImageFiles(folder, cache, as_trained, self.batch_size, self.device)
        content = folder.read()
        sets = ImageTensors(str(folder.path), folder.image_paths)
        for name, (images, targets) in content.items():
            targets = self.as_trained(tuple(images.shape[1:]), targets)
            sets[name] = images.to(self.device), targets.to(self.device)
        return sets

    def training_groups(self) -> Groups | None:
        """Return the groups of the training images by their paths; None without a rule."""
        if self.path_rule is None:
            return None
        file_of = self.stored.row_names("train")
        count = len(self.stored.targets("train"))
        return self.folder.groups([file_of(row) for row in range(count)])

    def expected_size_in_bytes(self) -> int:
        """Return the bytes of all images, or of the batches under way where they are streamed."""
        if self.is_absent:
            return size_in_bytes(STAND_IN)
        if self.is_streamed:
            return streamed_bytes(self.folder, self.batch_size)
        return decoded_bytes(self.folder)

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
        line = path_advice(paths, self.folder.folders_of_classes, sides)
        return [line] if line else []

    def test_rule(self) -> str:
        """Describe how the test split was chosen; "" for a test folder."""
        return "" if self.is_absent else self.folder.test_rule()

    def file_description(self) -> dict[str, Any]:
        """Return a name for the folder's content, and the rule by which pixels become bytes."""
        if self.is_absent:
            return {FOLDER_DIGEST: "", PIXELS: self.rule.description()}
        return {FOLDER_DIGEST: self.folder.digest(), PIXELS: self.folder.rule.description()}

    def fake(self) -> InMemory:
        """Return a few small batches of random images of the same shape and classes."""
        return fake_images(self)

    def packed_sets(self) -> dict[str, PackedSet]:
        """Return the files of every split that the folder has, byte for byte.

        All of them are read once before, so that files which are not images are left out or
        refused as `odd_files` says.
        """
        paths, moments = survey(self.folder, self.root / CACHE)
        row_of = {path: row for row, path in enumerate(paths)}
        start = f"{self.folder.path}{os.sep}"

        def packed(files: Files) -> PackedSet:
            kept = [row for row, path in enumerate(files.paths) if path in row_of]
            names = [files.paths[row] for row in kept]

            def content(row: int) -> tuple[str, bytes]:
                return names[row].removeprefix(start), file_content(names[row])

            rows = [row_of[name] for name in names]
            return PackedSet(files.targets[kept], content, moments[rows].numpy())

        return {name: packed(files) for name, files in self.folder.own_files.items()}

    def packed_spec(self) -> Spec:
        """Return the shape of the images and their classes."""
        return self.folder.spec

    def packed_pixels(self) -> dict[str, Any]:
        """Return the rule by which the pixels of the files became bytes."""
        return self.folder.rule.description()


def file_content(path: str) -> bytes:
    """Return the content of an image file; InputError if it cannot be read any more."""
    try:
        return read_file(path)
    except OSError as e:
        raise InputError(f"{path} cannot be read ({e}); it could be read before") from e


def square(size: int | tuple[int, int] | None) -> tuple[int, int] | None:
    """Return a height and width; a single number is both."""
    return (size, size) if isinstance(size, int) else size


def decoded_bytes(folder: Folder) -> int:
    """Return the bytes that all images of a folder take in memory."""
    return sum(len(files.paths) for files in folder.files.values()) * (
        folder.channels * math.prod(folder.size) + 8
    )
