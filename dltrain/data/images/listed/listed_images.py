"""Images in files that a folder or a table lists: in memory, or decoded when needed."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

from dltrain.data.held_out.groups import Groups
from dltrain.data.images.decode import cores
from dltrain.data.images.folder import Folder, OddFiles
from dltrain.data.images.in_memory import InMemory, fake_images
from dltrain.data.images.labeled import (
    FOLDER_DIGEST,
    PIXELS,
    ImageTensors,
    LabeledImages,
    size_in_bytes,
)
from dltrain.data.images.listed.listing import Files, Listing
from dltrain.data.images.opening import read_file
from dltrain.data.images.pixel_rule import Background, PixelRule, given_rule
from dltrain.data.images.streamed import ImageFiles, streamed_bytes, survey
from dltrain.data.io.cache import CACHE
from dltrain.data.io.memory import free_memory
from dltrain.errors import InputError
from dltrain.types import PackedSet, Spec

# What is described where there is no folder, for debug=smoke.
STAND_IN = Spec((3, 32, 32), ("a", "b"), train_samples=80, test_samples=20)
MEMORY_FRACTION = 0.5  # of the free memory, that images may take


@dataclass(frozen=True)
class FileSettings:
    """Settings for images in files; see `ImageFolder`."""

    image_size: int | tuple[int, int] | None
    channels: int
    value_range: tuple[float, float] | None
    background: Background
    odd_files: OddFiles
    memory: bool | Literal["auto"]
    workers: int
    timeout: float
    test_fraction: float

    def __post_init__(self) -> None:
        if self.value_range is not None and not self.value_range[0] < self.value_range[1]:
            raise ValueError(
                f"dataset.value_range={list(self.value_range)}: "
                "the first value, black, must be below the second"
            )


class ListedImages(LabeledImages):
    """Images of classes in files, which a subclass lists.

    `settings` say how they are read; further arguments are those of `LabeledImages`.
    """

    def __init__(self, root: Path, settings: FileSettings, **more: Any) -> None:
        super().__init__(**more)
        self.root = Path(root)
        self.settings = settings

    @property
    @abstractmethod
    def is_absent(self) -> bool:
        """True if the folder or table is absent, or none is named: `debug=smoke` needs none."""

    @abstractmethod
    def listing(self) -> Listing:
        """Return the files and their classes; ConfigError where none are named."""

    @cached_property
    def folder(self) -> Folder:
        """The images of the listing; for a run that was trained already, as it read its own."""
        settings = self.settings
        folder = Folder(
            listing=self.listing(),
            image_size=square(settings.image_size),
            channels=settings.channels,
            odd_files=settings.odd_files,
            test_fraction=settings.test_fraction,
            split_seed=self.split_seed,
            threads=settings.workers or cores(),
            timeout=settings.timeout,
            rule=self.rule,
        )
        if self.learned is not None:
            channels, height, width = self.learned.spec.input_shape
            folder.channels = channels
            folder.image_size = (height, width)
            folder.listing.is_of_another_run = self.learned.digest != folder.digest()
        return folder

    @cached_property
    def rule(self) -> PixelRule:
        """The rule of the settings, over that of the run; each file settles what it lacks."""
        trained = self.learned.rule if self.learned else None
        return given_rule(self.settings.value_range, self.settings.background, trained)

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
            expected = self.folder.listing.expected
            raise InputError(f"{self.folder.path} has one class, {names[0]}; expected {expected}")
        return self.folder.spec

    def find_files(self) -> None:
        """Raise ConfigError where no folder is named and InputError where it is absent."""
        _ = self.folder.class_names
        self.folder.describe()

    @cached_property
    def is_streamed(self) -> bool:
        """True if the images stay in their files."""
        self.folder.describe()
        if self.settings.memory == "auto":
            return decoded_bytes(self.folder) > MEMORY_FRACTION * free_memory()
        return not self.settings.memory

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
        if not self.folder.listing.group_setting:
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
        name_of = self.folder.listing.name_of

        def packed(files: Files) -> PackedSet:
            kept = [row for row, path in enumerate(files.paths) if path in row_of]
            names = [files.paths[row] for row in kept]

            def content(row: int) -> tuple[str, bytes]:
                return name_of(names[row]), file_content(names[row])

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
