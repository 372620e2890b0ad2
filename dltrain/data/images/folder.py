"""Folders of images with a folder for each class: classes, files and pixels."""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, filterfalse
from pathlib import Path
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from dltrain.data.dataset import counted
from dltrain.data.held_out.groups import Groups
from dltrain.data.held_out.path_groups import PathRule
from dltrain.data.held_out.rule import describe_random_split, held_out_mask
from dltrain.data.images.decode import OddImages, read_image, read_images
from dltrain.data.images.jpeg import MIN_FILES, JpegDecoder, is_jpeg_name, torchvision_decoder
from dltrain.data.images.opening import size_of
from dltrain.data.images.pixel_rule import ALPHA, PixelRule, Values
from dltrain.data.io.layout.arrange import arrange
from dltrain.data.io.layout.describe import EXPECTED, printable, printable_names
from dltrain.data.io.layout.folders import IMAGE_ENDINGS, is_hidden
from dltrain.data.io.layout.plan import Layout
from dltrain.data.io.places import AbsentDataError
from dltrain.data.io.workers import CHUNK, Job, in_threads
from dltrain.errors import ConfigError, InputError
from dltrain.types import Spec

log = logging.getLogger("dltrain")
MAX_HEADERS = 64  # files whose size is read if the user names none
MAX_FILES_SHOWN = 10
PROGRESS_SECONDS = 5.0  # between two log lines while files are read
KEEP_ROWS = 1024  # images that are moved at once

OddFiles: TypeAlias = Literal["skip", "refuse"]


@dataclass(frozen=True)
class Files:
    """The image files of one split and the class number of each (N,)."""

    paths: list[str]
    targets: Tensor

    def __getitem__(self, chosen: Tensor) -> Files:
        """Return the files where `chosen` (N,) is true."""
        rows: list[int] = chosen.nonzero().squeeze(1).tolist()
        return Files([self.paths[row] for row in rows], self.targets[chosen])


class Folder:
    """Images from DIR/<class>/ or DIR/{train,val,test}/<class>/, at any depth below.

    DIR is the first of `places` that exists; hidden files do not count. Classes are the names of
    the folders, sorted; those with the usual names of splits are not classes, unless `classes`
    names them: see dltrain.data.io.layout. Without a test folder, a stratified `test_fraction` of
    the training files, a function of `split_seed` alone, is the test set; with `test_only`, all of
    them are. Files of one group, by the `path_rule`, stay on one side. `image_size` (H, W) is by
    default that of the images, if a sample of them agrees. Pixels become bytes by the `rule`, which
    the images settle if it does not know their values. Files that are not images are skipped with a
    warning that names them, or refused (InputError).
    """

    def __init__(
        self,
        places: Sequence[Path],
        image_size: tuple[int, int] | None,
        channels: int,
        odd_files: OddFiles,
        test_fraction: float,
        split_seed: int,
        threads: int,
        timeout: float = 60.0,
        classes: Sequence[str] | None = None,
        rule: PixelRule = PixelRule(),  # noqa: B008
        path_rule: PathRule | None = None,
    ) -> None:
        self.places = places
        self.image_size = image_size
        self.channels = channels
        self.odd_files = odd_files
        self.test_fraction = test_fraction
        self.split_seed = split_seed
        self.threads = threads
        self.timeout = timeout
        self.classes = classes
        self.rule = rule
        self.path_rule = path_rule
        self.known_classes: tuple[str, ...] = ()  # of a run
        self.test_only = False
        self.is_described = False
        self.image_paths: dict[str, list[str]] = {}  # of the images that `read` returned

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
    def path(self) -> Path:
        """The folder; AbsentDataError if it is in none of its places."""
        for place in self.places:
            if place.is_dir():
                return place
        for place in self.places:
            if place.exists():
                raise InputError(f"dataset.path: {place} is not a folder; expected {EXPECTED}")
        raise AbsentDataError.at("dataset.path", str(self.places[0]), list(self.places))

    @cached_property
    def layout(self) -> Layout:
        """The folders that are classes and splits."""
        return arrange(self.path, self.classes, self.known_classes)

    @cached_property
    def class_folders(self) -> list[str]:
        """The sorted names of the folders that are classes."""
        parts = self.layout.parts
        training = parts.get("train")
        if training:
            return sorted(training)
        return sorted({name for classes in parts.values() for name in classes})

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes; InputError for a folder without files."""
        _ = self.own_files
        return tuple(printable(name) for name in self.class_folders)

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
    def own_files(self) -> dict[str, Files]:
        """The files of train and of every split that the folder has; InputError without any."""
        own = {"train": Files([], torch.zeros(0, dtype=torch.int64))}
        for split, classes in self.layout.parts.items():
            self.check_known(split, classes)
            own[split] = files_of_classes([classes.get(name, ()) for name in self.class_folders])
        if "train" in self.layout.parts and not self.test_only:
            self.check_not_empty(own["train"])
        if not sum(len(files.paths) for files in own.values()):
            raise InputError(f"{self.path}: there is no file in its folders; expected {EXPECTED}")
        return own

    def check_known(self, split: str, classes: Iterable[str]) -> None:
        """Raise InputError for class folders of a split that training does not have."""
        unknown = sorted(set(classes) - set(self.class_folders))
        if unknown:
            places = self.layout.places
            raise InputError(
                f"{places[split]} has the classes {printable_names(unknown)}, "
                f"which {places['train']} does not have"
            )

    def check_not_empty(self, train: Files) -> None:
        """Raise InputError for training classes without a file."""
        empty = self.empty_classes(train)
        if empty:
            place = self.layout.places["train"]
            raise InputError(f"{place}: there is no file in {printable_names(empty)}")

    def empty_classes(self, files: Files) -> list[str]:
        """Return the class folders without a file in a split."""
        counts = torch.bincount(files.targets, minlength=len(self.class_folders)).tolist()
        return [name for name, count in zip(self.class_folders, counts, strict=True) if not count]

    @cached_property
    def files(self) -> dict[str, Files]:
        """The files of every split, with a test set."""
        files = dict(self.own_files)
        train = files["train"]
        if not train.paths and not self.test_only:
            there = ", ".join(self.layout.places.values())
            raise InputError(f"{self.path} has no training set, but {there}; expected {EXPECTED}")
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

    @cached_property
    def folders_of_classes(self) -> frozenset[str]:
        """The paths of the class folders of every split."""
        by_class = chain.from_iterable(classes.values() for classes in self.layout.parts.values())
        return frozenset(chain.from_iterable(by_class))

    def groups(self, paths: Sequence[str]) -> Groups | None:
        """Return the groups of files, which stay on one side of a split; None without a rule.

        Raises:
            InputError: A file has no group; the message names it.
        """
        if self.path_rule is None or self.test_only:
            return None
        return self.path_rule.groups(paths, self.folders_of_classes)

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
        group = ""
        if self.path_rule is not None:
            group = self.path_rule.setting
        return describe_random_split(
            self.test_fraction, "the images of each class", self.split_seed, group
        )

    def describe(self) -> None:
        """Log what of the folder is left out and what was decided about its folders, once."""
        if self.is_described:
            return
        for note in [*self.layout.notes, *self.empty_folders()]:
            log.warning(printable(note))
        self.is_described = True

    def empty_folders(self) -> list[str]:
        """Return a line on the class folders of a split that have no file in them.

        Training refuses its own.
        """
        lines = []
        for split, files in self.own_files.items():
            classes = self.layout.parts.get(split, ())
            empty = [name for name in self.empty_classes(files) if name in classes]
            if empty and files.paths:
                place = self.layout.places[split]
                lines.append(f"{place}: there is no file in {printable_names(empty)}")
        return lines

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
        start = f"{self.path}{os.sep}"
        for split, files in sorted(self.own_files.items()):
            for path in files.paths:
                size, changed = size_and_time(path)
                if not times:
                    changed = 0
                line = f"{split} {path.removeprefix(start)} {size} {changed}\n"
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


def files_of_classes(folders: Sequence[Iterable[str]]) -> Files:
    """Return the files below the folders of each class, with the number of the class."""
    by_class = [[path for folder in some for path in files_in(folder)] for some in folders]
    counts = torch.tensor([len(paths) for paths in by_class], dtype=torch.int64)
    return Files([path for paths in by_class for path in paths], torch.repeat_interleave(counts))


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


def files_in(folder: str) -> list[str]:
    """Return the sorted paths of all files below `folder` that are not hidden.

    Folders that are called like images count as files.
    """
    paths = []
    for place, folders, names in os.walk(folder):
        visible_folders = [name for name in folders if not is_hidden(name)]
        called_like_images = list(filter(is_image_name, visible_folders))
        folders[:] = filterfalse(is_image_name, visible_folders)
        visible = [name for name in names if not is_hidden(name)]
        paths += [f"{place}{os.sep}{name}" for name in visible + called_like_images]
    return sorted(paths)


def is_image_name(name: str) -> bool:
    """Return whether a name has the ending of an image."""
    return name.lower().endswith(IMAGE_ENDINGS)


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
