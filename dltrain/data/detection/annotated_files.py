"""Images of the user's own with boxes around their objects, from annotations to tensors.

It knows no file format: a subclass reads the annotations.
"""

from __future__ import annotations

import hashlib
import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain, compress
from operator import not_
from pathlib import Path
from typing import ClassVar, Literal, TypeAlias

import torch
from torch import Tensor

from dltrain.data.dataset import counted
from dltrain.data.detection.box_checks import (
    box_problem,
    in_pixels,
    numbers_text,
    reaches_out,
    size_text,
)
from dltrain.data.detection.letterbox import (
    MEAN,
    STD,
    letterbox,
)
from dltrain.data.detection.samples import (
    NO_CLASS,
    AnnotatedImage,
    AnnotatedSet,
    Box,
    Corners,
    DetectionTensors,
    DrawnTestSplit,
    Size,
)
from dltrain.data.images.decode import cores
from dltrain.data.images.pixel_rule import PixelRule, Unsettled, Values
from dltrain.data.io.memory import free_memory
from dltrain.data.io.workers import Job, in_threads
from dltrain.errors import ConfigError, InputError
from dltrain.types import Spec
from dltrain.types.boxes import COUNTED, FLAG, is_box, is_counted, scale_to_fit

log = logging.getLogger("dltrain")
BadBoxes: TypeAlias = Literal["refuse", "drop"]
MEMORY_FRACTION = 0.5  # of the free memory, that images may take
MAX_PROBLEMS_SHOWN = 10
READ_SECONDS = 60.0  # that one file may take
CHANNELS = 3


def square(image_size: int | tuple[int, int]) -> Size:
    """Return a height and width; a single number is both."""
    if isinstance(image_size, int):
        return image_size, image_size
    return image_size


class AnnotatedFiles(ABC):
    """Images (N, C, H, W) of one `image_size` and targets (N, M, 5) of annotated files.

    An image is scaled to fit and padded at the right and the bottom with the mean color
    ("letterbox"), its boxes likewise; the rows of a target are described in dltrain.types.boxes. If
    some objects do not count, as difficult ones, targets are (N, M, 6): a sixth column says which.

    The part of a box outside the image is cut off, with a warning if it is more than a pixel. A box
    is refused (InputError with file and line), or dropped with a warning, if it has no area inside
    the image, a coordinate that is not a number or an unknown class, if it is in fractions of the
    image instead of pixels or the other way round, or if its image has another size than the
    annotation says. InputError also if an image is missing or broken, or if all images take more
    than half of the free memory.
    """

    has_files: ClassVar[bool] = True

    def __init__(self, image_size: int | tuple[int, int], bad_boxes: BadBoxes) -> None:
        self.image_size = square(image_size)
        self.bad_boxes = bad_boxes

    # What a format has to say.

    @property
    @abstractmethod
    def named(self) -> bool:
        """False if the user has not named the files."""

    @property
    @abstractmethod
    def how_to_name(self) -> tuple[str, str]:
        """The setting that names no files, and what to write instead."""

    @abstractmethod
    def read_annotations(self) -> AnnotatedSet:
        """Return the content of the annotation files; InputError for what is broken or missing."""

    # What is the same for all.

    @cached_property
    def annotated(self) -> AnnotatedSet:
        """The content of the annotation files."""
        annotated = self.read_annotations()
        if not any(annotated.parts.values()):
            raise InputError("there is no image in the data set")
        return annotated

    def find_files(self) -> None:
        """Raise ConfigError where no files are named and InputError where one is absent."""
        if not self.named:
            raise ConfigError([self.how_to_name])
        _ = self.annotated

    def has_test_set(self) -> bool:
        """Return whether the set comes with a test split of its own."""
        return "test" in self.annotated.parts

    def parts(self, test_split: DrawnTestSplit) -> dict[str, list[AnnotatedImage]]:
        """Return the images of every split, with a test split."""
        parts = dict(self.annotated.parts)
        if "test" in parts:
            return parts
        images = parts["train"]
        is_test = test_split.mask(len(images))
        parts["test"] = list(compress(images, is_test))
        parts["train"] = list(compress(images, map(not_, is_test)))
        return parts

    def image_names(self, test_split: DrawnTestSplit) -> dict[str, list[str]]:
        """Return the files of the images of every split."""
        parts = self.parts(test_split)
        return {part: [image.path for image in images] for part, images in parts.items()}

    def digest(self) -> str:
        """Return a name for what the files describe.

        It is the same for images of the same names with the same boxes, wherever they are and
        however classes are numbered.
        """
        digest = hashlib.sha256()
        names = dict(enumerate(self.annotated.class_names))
        for part, images in sorted(self.annotated.parts.items()):
            for image in images:
                boxes = [(box.corners, names.get(box.label)) for box in image.boxes]
                described = repr((part, Path(image.path).name, boxes))
                digest.update(described.encode("utf-8", "surrogateescape"))
        return digest.hexdigest()

    def spec(self, test_split: DrawnTestSplit) -> Spec:
        """Return the shape of the images and the number of samples; no image is decoded."""
        parts = self.parts(test_split)
        box_counts = [len(image.boxes) for images in parts.values() for image in images]
        return Spec(
            input_shape=(CHANNELS, *self.image_size),
            class_names=self.annotated.class_names,
            train_samples=len(parts.get("train", ())),
            test_samples=len(parts["test"]),
            mean=MEAN,
            std=STD,
            boxes=max([1, *box_counts]),
        )

    def read(self, test_split: DrawnTestSplit, rule: PixelRule) -> DetectionTensors:
        """Return every image, decoded by all threads and the `rule` for pixels, and its boxes."""
        parts = self.parts(test_split)
        self.check_memory(sum(map(len, parts.values())))
        decoded = {part: self.decode(images, rule) for part, images in parts.items()}
        rule = self.settle_pixels(list(decoded.values()), rule)
        columns = target_columns(chain.from_iterable(parts.values()))
        problems = list(self.annotated.problems)
        sets: dict[str, tuple[Tensor, Tensor]] = {}
        for part, images in parts.items():
            targets = self.targets(images, decoded[part].sizes, columns, problems)
            sets[part] = decoded[part].pixels, targets
        self.report_problems(problems)
        warn_of_parts_without_objects(sets)
        return DetectionTensors(sets, rule)

    def check_memory(self, count: int) -> None:
        """Raise InputError if `count` images take too much memory."""
        height, width = self.image_size
        needed = count * CHANNELS * math.prod(self.image_size)
        free = free_memory()
        if needed > MEMORY_FRACTION * free:
            raise InputError(
                f"{count:,} images of {height}x{width} take {needed / 2**30:.1f} GiB, "
                f"more than half of the free {free / 2**30:.1f} GiB: "
                "a smaller dataset.image_size, or fewer images"
            )

    def decode(self, images: Sequence[AnnotatedImage], rule: PixelRule) -> Decoded:
        """Return the letterboxed pixels of some images.

        Each file is read once; those whose values the rule does not know are left for
        `settle_pixels`.
        """
        pixels = torch.empty((len(images), CHANNELS, *self.image_size), dtype=torch.uint8)
        decoded = Decoded(pixels, [(0, 0)] * len(images))
        for row, image in enumerate(images):
            decoded.rows.setdefault(image.path, []).append(row)
        self.decode_files(list(decoded.rows), decoded, rule.surveying())
        return decoded

    def decode_files(self, paths: list[str], decoded: Decoded, rule: PixelRule) -> None:
        """Decode the files in `paths` into their rows of `decoded`, by all threads."""

        def work(chunk: slice, job: Job) -> None:
            for path in paths[chunk]:
                job.at(path)
                try:
                    pixels, size = letterbox(path, CHANNELS, self.image_size, rule)
                except Unsettled as e:
                    decoded.unsettled[path] = e.values
                    continue
                for row in decoded.rows[path]:
                    decoded.pixels[row] = pixels
                    decoded.sizes[row] = size

        for _ in in_threads(work, len(paths), cores(), READ_SECONDS):
            pass

    def settle_pixels(self, parts: Sequence[Decoded], rule: PixelRule) -> PixelRule:
        """Return the rule as all images settle it, and decode those that it was settled for."""
        unsettled: dict[str, Values] = {}
        for decoded in parts:
            unsettled |= decoded.unsettled
        rule = rule.settled(unsettled.values(), "the data set")
        for decoded in parts:
            self.decode_files(list(decoded.unsettled), decoded, rule)
        return rule

    def targets(
        self,
        images: Sequence[AnnotatedImage],
        sizes: Sequence[Size],
        columns: int,
        problems: list[str],
    ) -> Tensor:
        """Return the boxes (N, M, columns) of images whose files have the `sizes`.

        What is wrong with a box that is left out is added to `problems`.
        """
        num_classes = len(self.annotated.class_names)
        rows: list[list[list[float]]] = []
        cut: list[str] = []
        for image, size in zip(images, sizes, strict=True):
            rows.append([])
            for box in image.boxes:
                corners = in_pixels(box, image, size)
                problem = box_problem(corners, box, image, size, num_classes)
                if problem:
                    problems.append(f"{box.place}: {problem}")
                    continue
                if reaches_out(corners, size):
                    start, end = numbers_text(corners[:2]), numbers_text(corners[2:])
                    cut.append(f"{box.place}: from {start} to {end} in {size_text(size)}")
                rows[-1].append(self.target(corners, box, size)[:columns])
        warn_of_cut_boxes(cut)
        most = max([1, *map(len, rows)])
        padding = [0.0, 0.0, 0.0, 0.0, NO_CLASS, COUNTED][:columns]
        padded = [row + [padding] * (most - len(row)) for row in rows]
        return torch.tensor(padded).reshape(len(rows), most, columns)

    def target(self, corners: Corners, box: Box, size: Size) -> list[float]:
        """Return the target row of a box with `corners` in pixels of a file of that `size`."""
        scale = scale_to_fit(size, self.image_size)
        x1, y1, x2, y2 = corners
        height, width = float(size[0]), float(size[1])
        inside = (max(x1, 0.0), max(y1, 0.0), min(x2, width), min(y2, height))
        return [*(value * scale for value in inside), float(box.label), box.flag]

    def report_problems(self, problems: list[str]) -> None:
        """Refuse the boxes that cannot be used (InputError), or warn that they are left out."""
        if not problems:
            return
        count = counted(len(problems), "box", "boxes")
        if self.bad_boxes == "refuse":
            raise InputError(
                f"{count} cannot be used; "
                f"dataset.bad_boxes=drop leaves out{problem_lines(problems)}"
            )
        log.warning(f"{count} left out{problem_lines(problems)}")


def target_columns(images: Iterable[AnnotatedImage]) -> int:
    """Return the number of columns of targets: 6 if an object has a flag, else 5."""
    boxes = chain.from_iterable(image.boxes for image in images)
    has_flags = any(box.flag != COUNTED for box in boxes)
    return FLAG + has_flags


@dataclass
class Decoded:
    """The letterboxed pixels (N, C, H, W) of some images and the height and width of each file.

    `rows` are those of each file; `unsettled` are the values of files that the rule for pixels does
    not know.
    """

    pixels: Tensor
    sizes: list[Size]
    rows: dict[str, list[int]] = field(default_factory=dict)
    unsettled: dict[str, Values] = field(default_factory=dict)


def warn_of_parts_without_objects(sets: dict[str, tuple[Tensor, Tensor]]) -> None:
    """Warn of splits with images but without an object to score."""
    for part, (images, targets) in sets.items():
        if not len(images) or is_counted(targets).any():
            continue
        scored = " that is scored" if is_box(targets).any() else ""
        log.warning(f"no image of the {part} split has an object{scored}, so {part}/map50 is 0")


def warn_of_cut_boxes(cut: Sequence[str]) -> None:
    """Warn of boxes that are cut off at the edge of their image."""
    if not cut:
        return
    start = counted(
        len(cut), "box reaches out of the image and is", "boxes reach out of the image and are"
    )
    log.warning(f"{start} cut off at its edge{problem_lines(cut)}")


def problem_lines(problems: Sequence[str]) -> str:
    """Return the first problems, a line each, and how many more there are."""
    lines = "".join(f"\n  {problem}" for problem in problems[:MAX_PROBLEMS_SHOWN])
    rest = len(problems) - MAX_PROBLEMS_SHOWN
    if rest > 0:
        lines += f"\n  and {rest:,} more"
    return lines
