"""Images in files: their sizes, the files of each split, and pixels."""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from dltrain.data.dataset import counted
from dltrain.data.held_out.groups import Groups
from dltrain.data.held_out.rule import describe_random_split, held_out_mask
from dltrain.data.images.decode import OddImages, read_image, read_images
from dltrain.data.images.jpeg import MIN_FILES, JpegDecoder, is_jpeg_name, torchvision_decoder
from dltrain.data.images.listed.listing import Files, Listing
from dltrain.data.images.opening import size_of
from dltrain.data.images.pixel_rule import ALPHA, PixelRule, Values
from dltrain.data.io.layout.describe import printable, printable_names
from dltrain.data.io.workers import CHUNK, Job, in_threads
from dltrain.errors import ConfigError, InputError
from dltrain.types import Spec

log = logging.getLogger("dltrain")
MAX_HEADERS = 64  # files whose size is read if the user names none
MAX_FILES_SHOWN = 10
PROGRESS_SECONDS = 5.0  # between two log lines while files are read
KEEP_ROWS = 1024  # images that are moved at once

OddFiles: TypeAlias = Literal["skip", "refuse"]


class Folder:
    """The images of the files of a `listing`, in a folder or named by a table.

    Without test files, a stratified `test_fraction` of the training files, a function of
    `split_seed` alone, is the test set; with `test_only`, all of them are. Files of one group stay
    on one side. `image_size` (H, W) is by default that of the images, if a sample of them agrees.
    Pixels become bytes by the `rule`, which the images settle if it does not know their values.
    Files that are not images are skipped with a warning that names them, or refused (InputError).
    """

    def __init__(
        self,
        listing: Listing,
        image_size: tuple[int, int] | None,
        channels: int,
        odd_files: OddFiles,
        test_fraction: float,
        split_seed: int,
        threads: int,
        timeout: float = 60.0,
        rule: PixelRule = PixelRule(),  # noqa: B008
    ) -> None:
        self.listing = listing
        self.image_size = image_size
        self.channels = channels
        self.odd_files = odd_files
        self.test_fraction = test_fraction
        self.split_seed = split_seed
        self.threads = threads
        self.timeout = timeout
        self.rule = rule
        self.is_described = False
        self.image_paths: dict[str, list[str]] = {}  # of the images that `read` returned

    @property
    def path(self) -> Path:
        """The folder or the table."""
        return self.listing.path

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes; InputError without files."""
        return self.listing.class_names

    @property
    def own_files(self) -> dict[str, Files]:
        """The files of train and of every split that the data has; InputError without any."""
        return self.listing.own_files

    @property
    def test_only(self) -> bool:
        """True if a finished run, which was trained on other files, is scored on these."""
        return self.listing.is_of_another_run

    def groups(self, paths: Sequence[str]) -> Groups | None:
        """Return the groups of files; None without groups, and for the files of another run."""
        return None if self.test_only else self.listing.groups(paths)

    def describe(self) -> None:
        """Log what is left out and what was decided about the files, once."""
        if self.is_described:
            return
        for note in self.listing.notes():
            log.warning(note)
        self.is_described = True

    @property
    def spec(self) -> Spec:
        """The shape of the images and the number of files; no image is decoded."""
        return Spec(
            input_shape=(self.channels, *self.size),
            class_names=self.class_names,
            train_samples=len(self.files["train"].paths),
            test_samples=len(self.files["test"].paths),
        )

    @cached_property
    def size(self) -> tuple[int, int]:
        """The height and width of every image; ConfigError if the images do not agree on them."""
        if self.image_size is not None:
            return self.image_size
        paths = self.own_paths
        sample = paths[:: -(-len(paths) // MAX_HEADERS)]

        def work(part: slice, job: Job) -> list[tuple[tuple[int, int], str]]:
            return sizes_of(sample[part], job)

        parts = in_threads(work, len(sample), self.threads, self.timeout)
        sizes: dict[tuple[int, int], str] = {}
        for size, path in chain.from_iterable(parts):
            sizes.setdefault(size, path)
        if not sizes:
            raise InputError(
                f"{paths[0]} and the other files that were opened cannot be read as images"
            )
        if len(sizes) > 1:
            raise self.several_sizes(sizes)
        return next(iter(sizes))

    def several_sizes(self, sizes: dict[tuple[int, int], str]) -> ConfigError:
        """Return the error for images of several sizes (H, W), with a file of each."""
        examples = [
            f"{height}x{width} ({printable(os.path.relpath(path, self.path))})"
            for (height, width), path in sizes.items()
        ]
        why = (
            f"the images are of several sizes, such as {examples[0]} and {examples[1]}: "
            "set the size that they are brought to, dataset.image_size=64 or [48,64]"
        )
        return ConfigError([("dataset.image_size=null", why)])

    @cached_property
    def files(self) -> dict[str, Files]:
        """The files of every split, with a test set."""
        files = dict(self.own_files)
        train = files["train"]
        if not train.paths and not self.test_only:
            there = ", ".join(name for name in files if name != "train")
            raise InputError(
                f"{self.path} has no training set, but {there}; expected {self.listing.expected}"
            )
        if "test" not in files:
            held = torch.ones(len(train.targets), dtype=torch.bool)
            if not self.test_only:
                held = held_out_mask(
                    train.targets,
                    self.test_fraction,
                    self.split_seed,
                    groups=self.groups(train.paths),
                )
            files |= {"train": train[~held], "test": train[held]}
        if not files["test"].paths and self.test_fraction:  # 0 says that no test is wanted
            raise InputError(
                f"{self.path} has no images for testing: "
                f"dataset.test_fraction={self.test_fraction}, taken of each of "
                f"{len(self.class_names):,} classes, leaves none of "
                f"{len(files['train'].paths):,} images; "
                "add test images or raise dataset.test_fraction"
            )
        self.warn_of_shared_groups(files)
        return files

    def warn_of_shared_groups(self, files: dict[str, Files]) -> None:
        """Warn of groups that the training folder shares with another split's own folder."""
        train = self.groups(files["train"].paths)
        if train is None:
            return
        for split in sorted(self.own_files.keys() - {"train"}):
            other = self.groups(files[split].paths)
            if other is not None:
                train.warn_of_shared(other, "training", split)

    @cached_property
    def jpeg_decoder(self) -> JpegDecoder | None:
        """A faster decoder for small JPEG files, if the folder has many of them."""
        count = sum(is_jpeg_name(path) for path in self.own_paths)
        if count < MIN_FILES:
            return None
        decoder = torchvision_decoder()
        name = "torchvision" if decoder else "Pillow"
        log.info(f"{self.path}: {name} decodes the small ones of {count:,} JPEG files")
        return decoder

    @property
    def own_paths(self) -> list[str]:
        """The paths of all files."""
        return [path for files in self.own_files.values() for path in files.paths]

    def test_rule(self) -> str:
        """Describe how the test split was chosen; "" for a test folder."""
        if "test" in self.own_files or self.test_only:
            return ""
        return describe_random_split(
            self.test_fraction,
            "the images of each class",
            self.split_seed,
            self.listing.group_setting,
        )

    def read(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Return every image (N, C, H, W) and its class (N,), decoded by all threads.

        Raises InputError with the names of files that are not images if those are refused.
        """
        progress = ReadingProgress(self.path, len(self.own_paths))
        decoded = {split: self.decode(files.paths, progress) for split, files in self.files.items()}
        self.settle(chain.from_iterable(odd.unsettled.values() for _, odd in decoded.values()))
        sets: dict[str, tuple[Tensor, Tensor]] = {}
        reasons: dict[str, str] = {}
        for split, files in self.files.items():
            images, odd = decoded.pop(split)
            self.decode_settled(files.paths, images, odd)
            good = torch.ones(len(files.paths), dtype=torch.bool)
            good[list(odd.why)] = False
            reasons |= {files.paths[row]: why for row, why in odd.why.items()}
            sets[split] = (keep(images, good), files.targets[good])
            self.image_paths[split] = files[good].paths
        self.report_odd_files(reasons)
        return sets

    def decode(self, paths: list[str], progress: ReadingProgress) -> tuple[Tensor, OddImages]:
        """Return the images (N, C, H, W) in `paths`, and those that could not be decoded.

        Among these are images whose values the rule does not know yet.
        """
        images = torch.empty((len(paths), self.channels, *self.size), dtype=torch.uint8)
        rule, jpeg_decoder = self.rule.surveying(), self.jpeg_decoder

        def work(part: slice, job: Job) -> tuple[int, OddImages]:
            return part.start, read_images(paths[part], images[part], job.at, rule, jpeg_decoder)

        odd = OddImages()
        for start, some in in_threads(work, len(paths), self.threads, self.timeout):
            odd.add(some, start)
            progress.step()
        return images, odd

    def settle(self, values: Iterable[Values]) -> None:
        """Settle the rule for pixels by the values of all images that it did not know."""
        self.rule = self.rule.settled(values, printable(str(self.path)))

    def decode_settled(self, paths: list[str], images: Tensor, odd: OddImages) -> None:
        """Decode into `images` again those that the rule was settled for; add failures to `odd`.

        Over black, images with transparency are what they were.
        """
        again = [row for row, values in odd.unsettled.items() if self.changed(values)]
        shape = tuple(images.shape[1:])

        def work(part: slice, job: Job) -> dict[int, str]:
            reasons = {}
            for row in again[part]:
                job.at(paths[row])
                try:
                    images[row] = read_image(paths[row], shape, self.rule)
                except InputError as e:
                    reasons[row] = str(e)
            return reasons

        for reasons in in_threads(work, len(again), self.threads, self.timeout):
            odd.why |= reasons

    def changed(self, values: Values) -> bool:
        """Return whether an image of a survey is another one by the settled rule."""
        return values.sample_type != ALPHA or self.rule.background != "black"

    def report_odd_files(self, reasons: dict[str, str]) -> None:
        """Warn of files that cannot be read, by their path, or refuse them.

        Raises InputError also if a class or a split has no other files.
        """
        if not reasons:
            return
        lines = reason_lines(list(reasons.values()))
        count = counted(len(reasons), "file", "files")
        if self.odd_files == "refuse":
            raise InputError(
                f"{count} in {self.path} cannot be used; dataset.odd_files=skip leaves out\n{lines}"
            )
        self.check_rest(reasons, lines)
        log.warning(f"{count} left out\n{lines}")

    def check_rest(self, odd: dict[str, str], lines: str) -> None:
        """Raise InputError, with the `lines`, if a split or a class has no files but `odd` ones."""
        lost = self.splits_without(odd) or self.classes_without(odd)
        if lost and (not self.test_only or "test" in lost):
            raise InputError(f"no image is left of {printable_names(lost)} in {self.path}\n{lines}")

    def splits_without(self, odd: dict[str, str]) -> list[str]:
        """Return the splits that have no files but `odd` ones."""
        return [
            split
            for split, files in self.files.items()
            if files.paths and odd.keys() >= set(files.paths)
        ]

    def classes_without(self, odd: dict[str, str]) -> list[str]:
        """Return the classes of the training folder that have no files but `odd` ones."""
        train = self.own_files["train"]
        readable = torch.tensor([path not in odd for path in train.paths], dtype=torch.bool)
        labels = set(train.targets.tolist()) - set(train.targets[readable].tolist())
        return [self.class_names[label] for label in sorted(labels)]

    def digest(self, times: bool = False) -> str:
        """Return a name for the files, by names and sizes, and by `times` of change if asked.

        No file is opened.
        """
        digest = hashlib.sha256()
        for split, files in sorted(self.own_files.items()):
            for path in files.paths:
                size, changed = size_and_time(path)
                if not times:
                    changed = 0
                line = f"{split} {self.listing.name_of(path)} {size} {changed}\n"
                digest.update(line.encode("utf-8", "surrogateescape"))
        return digest.hexdigest()


def reason_lines(reasons: Sequence[str]) -> str:
    """Return the first reasons, a line each, and how many more there are."""
    lines = [f"  {printable(reason)}" for reason in reasons[:MAX_FILES_SHOWN]]
    rest = len(reasons) - MAX_FILES_SHOWN
    if rest > 0:
        lines.append(f"  and {rest:,} more")
    return "\n".join(lines)


def size_and_time(path: str) -> tuple[int, int]:
    """Return the size of a file and when it was changed; (-1, 0) for a link to nowhere."""
    try:
        status = os.stat(path)  # noqa: PTH116 - a Path for each of a million files takes seconds
    except OSError:
        return -1, 0
    return status.st_size, status.st_mtime_ns


def sizes_of(paths: list[str], job: Job) -> list[tuple[tuple[int, int], str]]:
    """Return the size (H, W) and the path of each file whose header has a size."""
    sizes = []
    for path in paths:
        job.at(path)
        size = size_of(path)
        if size:
            sizes.append((size, path))
    return sizes


class ReadingProgress:
    """Logs now and then how many of `total` images have been read."""

    def __init__(self, path: Path, total: int) -> None:
        self.path = path
        self.total = total
        self.done = 0
        self.last_line = time.monotonic()

    def step(self) -> None:
        """Count one more chunk of images."""
        self.done = min(self.done + CHUNK, self.total)
        if time.monotonic() - self.last_line > PROGRESS_SECONDS:
            log.info(f"reading {self.path}: {self.done:,} of {self.total:,} images")
            self.last_line = time.monotonic()


def keep(images: Tensor, good: Tensor) -> Tensor:
    """Return the images (N, C, H, W) where `good` (N,) is true.

    They are moved together in place: a copy might not fit in memory.
    """
    if good.all():
        return images
    kept = good.nonzero().squeeze(1)
    for start in range(0, len(kept), KEEP_ROWS):
        rows = kept[start : start + KEEP_ROWS]
        images[start : start + len(rows)] = images[rows]
    return images[: len(kept)]
