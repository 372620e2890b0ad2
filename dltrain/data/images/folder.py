"""Folders of images, a folder a class: what is in them, told from their names, and their pixels."""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from dltrain.data.images.decode import Odd, read_image, read_images, size_of
from dltrain.data.images.pixel_rule import ALPHA, PixelRule, Values
from dltrain.data.io.layout.arrange import arrange
from dltrain.data.io.layout.describe import EXPECTED
from dltrain.data.io.layout.describe import printable as shown
from dltrain.data.io.layout.describe import printable_names as shown_names
from dltrain.data.io.layout.folders import IMAGE_ENDINGS, is_hidden
from dltrain.data.io.layout.plan import Layout
from dltrain.data.io.workers import CHUNK, Job, in_threads
from dltrain.data.split import drawn_share, held_out
from dltrain.errors import ConfigError, InputError
from dltrain.types import Spec

log = logging.getLogger("dltrain")
HEADERS = 64  # files whose size is looked at where the user names none
NAMED = 10  # odd files that a message names
PROGRESS_SECONDS = 5.0  # between two lines on how far reading has come

OddFiles = Literal["skip", "refuse"]


@dataclass(frozen=True)
class Files:
    """The image files of one split and the class number of each (N,)."""

    paths: list[str]
    targets: Tensor

    def __getitem__(self, chosen: Tensor) -> Files:
        """Those where `chosen` (N,) is true."""
        return Files(
            [self.paths[i] for i in chosen.nonzero().squeeze(1).tolist()], self.targets[chosen]
        )


class Folder:
    """Images from DIR/<class>/ or DIR/{train,val,test}/<class>/, at any depth below; hidden files
    do not count. DIR is the first of `places` that exists.

    Classes are the names of the folders, sorted; those with the usual names of splits are none,
    unless `classes` names them: see dltrain.data.io.layout. Without a test folder, a stratified
    `test_fraction` of the training files, a function of `split_seed` alone, is the test set; with
    `test_only`, all of them are. `image_size` (H, W) is by default that of the images, if a sample
    of them agrees. Pixels become bytes by the `rule`, which the images settle where it does not
    know their values. What is no image is skipped with a warning that names it, or refused
    (InputError).
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
    ) -> None:
        self.places, self.image_size, self.channels, self.odd_files = (
            places,
            image_size,
            channels,
            odd_files,
        )
        self.test_fraction, self.split_seed, self.threads, self.timeout = (
            test_fraction,
            split_seed,
            threads,
            timeout,
        )
        self.classes, self.rule = classes, rule
        self.known_classes: tuple[str, ...] = ()  # of a run
        self.test_only, self.described = False, False
        self.statistics: tuple[tuple[float, ...], tuple[float, ...]] = ((), ())

    @property
    def spec(self) -> Spec:
        counts = {split: len(files.paths) for split, files in self.files.items()}
        return Spec(
            (self.channels, *self.size),
            self.class_names,
            counts["train"],
            counts["test"],
            *self.statistics,
        )

    @cached_property
    def path(self) -> Path:
        for place in self.places:
            if place.is_dir():
                return place
        raise InputError(
            f"there is no folder {' or '.join(dict.fromkeys(str(place.absolute()) for place in self.places))}: dataset.path"
        )

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.listed[0]

    @cached_property
    def size(self) -> tuple[int, int]:
        """Height and width of every image; ConfigError where the images do not agree on them."""
        if self.image_size is not None:
            return self.image_size
        paths = [path for files in self.listed[1].values() for path in files.paths]
        sizes: dict[tuple[int, int], str] = {}
        sample = paths[:: -(-len(paths) // HEADERS)]
        for part in in_threads(
            lambda part, job: sizes_of(sample[part], job), len(sample), self.threads, self.timeout
        ):
            for size, path in part:
                sizes.setdefault(size, path)
        if not sizes:
            raise InputError(
                f"{paths[0]} and the other files that were looked at cannot be read as images"
            )
        if len(sizes) > 1:
            (h, w), (other_h, other_w) = list(sizes)[:2]
            why = (
                f"the images are of several sizes, such as {h}x{w} ({self.name(sizes[h, w])}) and {other_h}x{other_w} "
                f"({self.name(sizes[other_h, other_w])}): say what to bring them to, dataset.image_size=64 or [48,64]"
            )
            raise ConfigError([("dataset.image_size=null", why)])
        return next(iter(sizes))

    @cached_property
    def files(self) -> dict[str, Files]:
        """The files of every split, with a test set."""
        found = dict(self.listed[1])
        if not found["train"].paths and not self.test_only:
            there = ", ".join(self.layout.places.values())
            raise InputError(f"{self.path} has no training set, but {there}; expected {EXPECTED}")
        if "test" not in found:
            train = found["train"]
            held = torch.ones(len(train.targets), dtype=torch.bool)
            if not self.test_only:
                held = held_out(train.targets, self.test_fraction, self.split_seed)
            found |= {"train": train[~held], "test": train[held]}
        if not found["test"].paths and self.test_fraction:  # 0 says that no test is wanted
            raise InputError(
                f"{self.path} has no images for testing: dataset.test_fraction={self.test_fraction}, "
                f"taken of each of {len(self.class_names):,} classes, leaves none of {len(found['train'].paths):,} images; "
                "add test images or raise dataset.test_fraction"
            )
        return found

    def test_rule(self) -> str:
        if "test" in self.listed[1] or self.test_only:
            return ""
        return drawn_share(self.test_fraction, "the images of each class", self.split_seed)

    @cached_property
    def layout(self) -> Layout:
        """The folders that are classes and splits."""
        return arrange(self.path, self.classes, self.known_classes)

    def describe(self) -> None:
        """Log what of the folder is left out and what was decided about its folders, once."""
        if not self.described:
            for note in [*self.layout.notes, *self.empty_folders()]:
                log.warning(shown(note))
        self.described = True

    def empty_folders(self) -> list[str]:
        """Return a line on the class folders of a split that have no file in them.

        Training refuses its own.
        """
        names, found = self.listed
        lines = []
        for split, files in found.items():
            counts = torch.bincount(files.targets, minlength=len(names)).tolist()
            there = {shown(name) for name in self.layout.parts.get(split, ())}
            empty = [
                name
                for name, count in zip(names, counts, strict=True)
                if name in there and not count
            ]
            if empty and files.paths:
                lines.append(
                    f"{self.layout.places[split]}: there is no file in {shown_names(empty)}"
                )
        return lines

    @cached_property
    def listed(self) -> tuple[tuple[str, ...], dict[str, Files]]:
        """The names of the classes, and the files as they lie."""
        parts, places = self.layout.parts, self.layout.places
        names = sorted(parts.get("train") or {name for part in parts.values() for name in part})
        found = {"train": Files([], torch.zeros(0, dtype=torch.int64))}
        for split, classes in parts.items():
            if unknown := sorted(set(classes) - set(names)):
                raise InputError(
                    f"{places[split]} has the classes {shown_names(unknown)}, which {places['train']} does not have"
                )
            files = [
                [path for folder in classes.get(name, ()) for path in files_in(folder)]
                for name in names
            ]
            found[split] = Files(
                [path for paths in files for path in paths],
                torch.repeat_interleave(torch.tensor([len(paths) for paths in files])),
            )
            empty = [name for name, paths in zip(names, files, strict=True) if not paths]
            if empty and split == "train" and not self.test_only:
                raise InputError(f"{places[split]}: there is no file in {shown_names(empty)}")
        if not any(files.paths for files in found.values()):
            raise InputError(f"{self.path}: there is no file in its folders; expected {EXPECTED}")
        return tuple(shown(name) for name in names), found

    def read(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Every image, decoded by all threads; InputError with the names of odd files where they are refused."""
        progress = Progress(self.path, sum(len(files.paths) for files in self.files.values()))
        decoded = {split: self.decode(files.paths, progress) for split, files in self.files.items()}
        self.settle(values for _, found in decoded.values() for values in found.unsettled.values())
        sets: dict[str, tuple[Tensor, Tensor]] = {}
        odd: dict[str, str] = {}
        for split, files in self.files.items():
            images, found = decoded.pop(split)
            self.decode_settled(files.paths, images, found)
            good = torch.ones(len(files.paths), dtype=torch.bool)
            good[list(found.why)] = False
            odd |= {files.paths[i]: why for i, why in found.why.items()}
            sets[split] = (keep(images, good), files.targets[good])
        self.judge(odd)
        return sets

    def decode(self, paths: list[str], progress: Progress) -> tuple[Tensor, Odd]:
        """Return the images (N, C, H, W) in `paths`, and by their index why some of them are none,
        and those whose values the rule does not know.
        """
        images = torch.empty((len(paths), self.channels, *self.size), dtype=torch.uint8)
        rule = self.rule.surveying()

        def work(part: slice, job: Job) -> tuple[int, Odd]:
            return part.start, read_images(paths[part], images[part], job.at, rule)

        odd = Odd()
        for start, found in in_threads(work, len(paths), self.threads, self.timeout):
            odd.add(found, start)
            progress.step()
        return images, odd

    def settle(self, seen: Iterable[Values]) -> None:
        """Let the rule for pixels know what it did not, from what was seen of the whole set."""
        self.rule = self.rule.settled(seen, shown(str(self.path)))

    def decode_settled(self, paths: list[str], images: Tensor, found: Odd) -> None:
        """Decode again, into `images`, those that the rule has come to know since; what is odd is
        added to `found`.

        Over black, images with transparency are what they were.
        """
        again = [i for i, values in found.unsettled.items() if self.changed(values)]

        def work(part: slice, job: Job) -> list[tuple[int, str]]:
            odd = []
            for i in again[part]:
                job.at(paths[i])
                try:
                    images[i] = read_image(paths[i], tuple(images.shape[1:]), self.rule)
                except InputError as e:
                    odd.append((i, str(e)))
            return odd

        for part in in_threads(work, len(again), self.threads, self.timeout):
            found.why |= dict(part)

    def changed(self, values: Values) -> bool:
        """Return whether an image that a survey has seen is another one by the settled rule."""
        return values.sample_type != ALPHA or self.rule.background != "black"

    def judge(self, odd: dict[str, str]) -> None:
        """Warn of the files that cannot be read, or refuse them; InputError where a class has no other."""
        if not odd:
            return
        named = "\n".join(f"  {shown(why)}" for why in list(odd.values())[:NAMED])
        more = f"\n  and {len(odd) - NAMED:,} more" if len(odd) > NAMED else ""
        count = f"{len(odd):,} file{'s' if len(odd) > 1 else ''}"
        if self.odd_files == "refuse":
            raise InputError(
                f"{count} in {self.path} cannot be used; dataset.odd_files=skip leaves out\n{named}{more}"
            )
        train = self.listed[1]["train"]
        left = torch.tensor([path not in odd for path in train.paths], dtype=torch.bool)
        counts = [
            torch.bincount(t, minlength=len(self.class_names))
            for t in (train.targets, train.targets[left])
        ]
        lost = [
            name
            for name, had, has in zip(self.class_names, *counts, strict=True)
            if had and not has
        ]
        lost = [
            split for split, f in self.files.items() if f.paths and odd.keys() >= set(f.paths)
        ] or lost
        if lost and (not self.test_only or "test" in lost):
            raise InputError(
                f"no image is left of {shown_names(lost)} in {self.path}\n{named}{more}"
            )
        log.warning(f"{count} left out\n{named}{more}")

    def digest(self, times: bool = False) -> str:
        """Names what is there by the files' names and sizes, without opening them; with when they were changed, if asked."""
        found = hashlib.sha256()
        start = f"{self.path}{os.sep}"
        for split, files in sorted(self.listed[1].items()):
            for path in files.paths:
                try:
                    stat = os.stat(path)  # noqa: PTH116 - a Path for each of a million files takes seconds
                    size, changed = stat.st_size, stat.st_mtime_ns if times else 0
                except OSError:  # a link to nowhere: no image either
                    size, changed = -1, 0
                name = path.removeprefix(start)
                found.update(
                    f"{split} {name} {size} {changed}\n".encode("utf-8", "surrogateescape")
                )
        return found.hexdigest()

    def name(self, path: str) -> str:
        """Of a file within this folder, to be shown."""
        return shown(os.path.relpath(path, self.path))


def sizes_of(paths: list[str], job: Job) -> list[tuple[tuple[int, int], str]]:
    """(size, path) of those of `paths` whose headers say a size."""
    found = []
    for path in paths:
        job.at(path)
        if size := size_of(path):
            found.append((size, path))
    return found


class Progress:
    """A line now and then on how many of `total` images are read."""

    def __init__(self, path: Path, total: int) -> None:
        self.path, self.total, self.done, self.said = path, total, 0, time.monotonic()

    def step(self) -> None:
        """One more chunk."""
        self.done = min(self.done + CHUNK, self.total)
        if time.monotonic() - self.said > PROGRESS_SECONDS:
            log.info(f"reading {self.path}: {self.done:,} of {self.total:,} images")
            self.said = time.monotonic()


def files_in(folder: str) -> list[str]:
    """The paths of all files below `folder` that are not hidden, by name, and of folders that are called like images."""
    found = []
    for place, folders, names in os.walk(folder):
        names += [name for name in folders if name.lower().endswith(IMAGE_ENDINGS)]
        folders[:] = [
            name
            for name in folders
            if not is_hidden(name) and not name.lower().endswith(IMAGE_ENDINGS)
        ]
        found += [f"{place}{os.sep}{name}" for name in names if not is_hidden(name)]
    return sorted(found)


def keep(images: Tensor, good: Tensor) -> Tensor:
    """The images (N, C, H, W) where `good` (N,) is true, moved together in place: a copy might not fit in memory."""
    if good.all():
        return images
    kept = good.nonzero().squeeze(1)
    for start in range(0, len(kept), 1024):
        rows = kept[start : start + 1024]
        images[start : start + len(rows)] = images[rows]
    return images[: len(kept)]
