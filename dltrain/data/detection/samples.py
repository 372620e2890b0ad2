"""Detection samples: images with boxes around their objects, as they are described and as tensors.

It knows no file format.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from dltrain.data.images.decode import cores, read_image, size_of
from dltrain.data.images.pixel_rule import PixelRule, Unsettled, Values
from dltrain.data.io.memory import free_memory
from dltrain.data.io.workers import Job, in_threads
from dltrain.data.split import drawn_share
from dltrain.errors import InputError
from dltrain.rng import keyed
from dltrain.types import Spec
from dltrain.types.boxes import COUNTED, is_box, is_counted

log = logging.getLogger("dltrain")
BadBoxes: TypeAlias = Literal["refuse", "drop"]
MEAN, STD = (123.7, 116.3, 103.5), (58.4, 57.1, 57.4)  # of ImageNet's photographs, for colour
GREY_MEAN, GREY_STD = (114.0,), (58.0,)
SHARE = 0.5  # of the free memory, that images may take
NAMED = 10  # bad boxes that a message names
Corners: TypeAlias = tuple[float, float, float, float]
NONE = -1.0  # the class in a row that is no box
TIMEOUT = 60.0  # seconds that reading one file may take
MARKS = {"": False, "none": False, "0": False, "false": False, "no": False, "unspecified": False}
MARKS |= {"1": True, "true": True, "yes": True, "0.0": False, "1.0": True}
MAX_SHARE = 1.01  # of the image's width or height, with room for rounding
MIN_PIXELS = 4  # a side of an image, from which on a box within one pixel must be a mistake
MAX_CUT_PIXELS = (
    1.0  # that a box may reach out of its image without a word: some formats count corners from 1
)


class Absent(InputError):
    """What a data set is to be read from is not there at all."""


@dataclass(frozen=True)
class Box:
    """Corners x1, y1 (left, top) and x2, y2 (right, bottom), a class number, the place that says so
    (file:line), and how the object counts (see dltrain.types.boxes).
    """

    corners: tuple[float, float, float, float]
    label: int
    place: str
    flag: float = COUNTED


@dataclass
class Scene:
    """An image file and its boxes, in pixels or (`relative`) in shares of the image's width and
    height.

    `size` is the image's width and height as its description says, if it says them; `labelled` is
    false where nothing describes the image.
    """

    path: str
    boxes: list[Box] = field(default_factory=list)
    relative: bool = False
    size: tuple[int, int] | None = None
    labelled: bool = True


@dataclass(frozen=True)
class Listing:
    """The content of a set's files: the classes, and the scenes of each part that it has
    (train, perhaps val and test).

    `problems` are boxes that could not be read as such.
    """

    class_names: tuple[str, ...]
    parts: dict[str, list[Scene]]
    problems: list[str] = field(default_factory=list)


@dataclass
class Decoded:
    """The letterboxed images (N, C, H, W) of a part and the height and width of each file's.

    `rows` are those of each file; `unsettled` are the values of files that a rule for pixels does
    not know.
    """

    images: Tensor
    sizes: list[tuple[int, int]]
    rows: dict[str, list[int]] = field(default_factory=dict)
    unsettled: dict[str, Values] = field(default_factory=dict)


def place(root: Path, name: str) -> Path:
    """A file or folder of that name from here, or else from the data root; InputError where there is neither."""
    places = (Path(name).expanduser(), Path(root) / name)
    found = next((path for path in places if path.exists()), None)
    if found is None:
        raise Absent(
            f"there is no {' and no '.join(dict.fromkeys(str(path.absolute()) for path in places))}"
        )
    return found


def flag_of(value: object) -> bool | None:
    """Return a mark that files write as 0 or 1, false or true, or leave out; None for any other
    value.
    """
    return MARKS.get(str(value).strip().lower())


class SceneFiles:
    """Images (N, C, H, W) of one `image_size` and targets (N, M, 5) of the scenes that `listing`
    gives when it is called.

    An image is scaled to fit and padded at the right and the bottom with the mean color
    ("letterbox"), its boxes likewise; a target's rows are x1, y1, x2, y2 in the pixels of that and
    the class number, padded with class -1. If some objects do not count, as difficult ones,
    targets are (N, M, 6): a sixth column says which (dltrain.types.boxes). Without a part test,
    `test_fraction` of the training scenes, by `split_seed` alone, is that.

    What of a box lies outside the image is cut off, with a warning where it is more than a pixel. A
    box is refused (InputError that names file and line), or dropped with a warning, if it has no
    area inside the image, a coordinate that is not a number or an unknown class, if it is in shares
    of the image instead of pixels or the other way round, or if its image has another size than its
    description says. InputError also where an image is missing or broken, or where all of them take
    more than half of the free memory.
    """

    def __init__(
        self,
        listing: Callable[[], Listing],
        image_size: tuple[int, int],
        channels: int,
        bad_boxes: BadBoxes,
        test_fraction: float,
        split_seed: int,
    ) -> None:
        self.list, self.image_size, self.channels = listing, image_size, channels
        self.bad_boxes, self.test_fraction, self.split_seed = bad_boxes, test_fraction, split_seed
        self.rule = PixelRule()
        self.test_only = False  # without a part test, all images are that

    @cached_property
    def listing(self) -> Listing:
        return self.list()

    @cached_property
    def parts(self) -> dict[str, list[Scene]]:
        parts = dict(self.listing.parts)
        if not any(parts.values()):
            raise InputError("there is no image in the data set")
        if "test" not in parts:
            train = parts["train"]
            order = torch.randperm(len(train), generator=keyed(self.split_seed)).tolist()
            held = set(
                order[: len(train) if self.test_only else round(self.test_fraction * len(train))]
            )
            parts["test"] = [scene for i, scene in enumerate(train) if i in held]
            parts["train"] = [scene for i, scene in enumerate(train) if i not in held]
        return parts

    def digest(self) -> str:
        """Return a name for what the files describe: the same for images of the same names with the
        same boxes, wherever they are and however classes are numbered.
        """
        found, names = hashlib.sha256(), dict(enumerate(self.listing.class_names))
        for part, scenes in sorted(self.listing.parts.items()):
            for scene in scenes:
                boxes = [(box.corners, names.get(box.label)) for box in scene.boxes]
                found.update(
                    repr((part, Path(scene.path).name, boxes)).encode("utf-8", "surrogateescape")
                )
        return found.hexdigest()

    @property
    def spec(self) -> Spec:
        most = max((len(scene.boxes) for part in self.parts.values() for scene in part), default=0)
        return Spec(
            (self.channels, *self.image_size),
            self.listing.class_names,
            len(self.parts.get("train", ())),
            len(self.parts["test"]),
            MEAN if self.channels == 3 else GREY_MEAN,
            STD if self.channels == 3 else GREY_STD,
            boxes=max(1, most),
        )

    def test_rule(self) -> str:
        drawn = "test" not in self.listing.parts and not self.test_only
        return "" if not drawn else drawn_share(self.test_fraction, "the images", self.split_seed)

    def read(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Every image, decoded by all threads, and its boxes."""
        self.check_memory()
        problems, found = list(self.listing.problems), {}
        decoded = {part: self.decode(scenes) for part, scenes in self.parts.items()}
        self.settle_pixels(list(decoded.values()))
        for part, scenes in self.parts.items():
            found[part] = decoded[part].images, self.targets(scenes, decoded[part].sizes, problems)
        self.judge(problems)
        for part, (images, boxes) in found.items():
            if len(images) and not is_counted(boxes).any():
                scored = " that is scored" if is_box(boxes).any() else ""
                log.warning(
                    f"no image of the {part} split has an object{scored}, so {part}/map50 is 0"
                )
        return found

    @cached_property
    def columns(self) -> int:
        """The number of columns of the targets: 6 if an object of any part has a flag, else 5."""
        boxes = (box for part in self.parts.values() for scene in part for box in scene.boxes)
        return 6 if any(box.flag != COUNTED for box in boxes) else 5

    def check_memory(self) -> None:
        count, numbers = (
            sum(map(len, self.parts.values())),
            self.channels * math.prod(self.image_size),
        )
        if count * numbers > SHARE * (free := free_memory()):
            raise InputError(
                f"{count:,} images of {self.image_size[0]}x{self.image_size[1]} take {count * numbers / 2**30:.1f} GiB, "
                f"more than half of the free {free / 2**30:.1f} GiB: a smaller dataset.image_size, or fewer images"
            )

    def decode(self, scenes: Sequence[Scene]) -> Decoded:
        """Return the letterboxed images of `scenes`.

        Each file is read once; those whose values the rule for pixels does not know are left for
        `settle_pixels`.
        """
        images = torch.empty((len(scenes), self.channels, *self.image_size), dtype=torch.uint8)
        decoded = Decoded(images, [(0, 0)] * len(scenes))
        for i, scene in enumerate(scenes):
            decoded.rows.setdefault(scene.path, []).append(i)
        self.decode_files(list(decoded.rows), decoded, self.rule.surveying())
        return decoded

    def decode_files(self, paths: list[str], decoded: Decoded, rule: PixelRule) -> None:
        """Decode the files in `paths` into their rows of `decoded`, by all threads."""

        def work(chunk: slice, job: Job) -> None:
            for path in paths[chunk]:
                job.at(path)
                try:
                    pixels, size = letterbox(path, self.channels, self.image_size, rule)
                except Unsettled as e:
                    decoded.unsettled[path] = e.values
                    continue
                for i in decoded.rows[path]:
                    decoded.images[i], decoded.sizes[i] = pixels, size

        for _ in in_threads(work, len(paths), cores(), TIMEOUT):
            pass

    def settle_pixels(self, parts: Sequence[Decoded]) -> None:
        """Let the rule for pixels know what it did not, from all images, and decode those that it
        is about.
        """
        unsettled = {
            path: values for decoded in parts for path, values in decoded.unsettled.items()
        }
        self.rule = self.rule.settled(unsettled.values(), "the data set")
        for decoded in parts:
            self.decode_files(list(decoded.unsettled), decoded, self.rule)

    def targets(
        self, scenes: Sequence[Scene], sizes: Sequence[tuple[int, int]], problems: list[str]
    ) -> Tensor:
        """Return the boxes (N, M, 5 or 6) of `scenes`, whose files have `sizes`; add what is wrong
        with others to `problems`.
        """
        rows: list[list[list[float]]] = []
        cut: list[str] = []
        for scene, size in zip(scenes, sizes, strict=True):
            rows.append([])
            for box in scene.boxes:
                corners = in_pixels(box, scene, size)
                if why := wrong(corners, box, scene, size, len(self.listing.class_names)):
                    problems.append(f"{box.place}: {why}")
                    continue
                if reaches_out(corners, size):
                    cut.append(
                        f"{box.place}: from {numbers(corners[:2])} to {numbers(corners[2:])} in {shape(size)}"
                    )
                rows[-1].append(self.row(corners, box, size))
        if cut:
            count = (
                f"{len(cut):,} box{'es reach' if len(cut) > 1 else ' reaches'} out of the image and"
            )
            log.warning(
                f"{count} {'are' if len(cut) > 1 else 'is'} cut off at its edge{listed(cut)}"
            )
        most = max(1, max(map(len, rows), default=0))
        empty = [0.0, 0.0, 0.0, 0.0, NONE, COUNTED][: self.columns]
        filled = [[*row, *[empty] * (most - len(row))] for row in rows]
        return torch.tensor(filled).reshape(len(rows), most, self.columns)

    def row(self, corners: Corners, box: Box, size: tuple[int, int]) -> list[float]:
        """Return the target of a box whose `corners` are in pixels of its file, which has the
        height and width `size`.
        """
        x1, y1, x2, y2 = corners
        scale = fit(size, self.image_size)
        inside = (max(x1, 0.0), max(y1, 0.0), min(x2, float(size[1])), min(y2, float(size[0])))
        return [*(value * scale for value in inside), float(box.label), box.flag][: self.columns]

    def judge(self, problems: list[str]) -> None:
        if not problems:
            return
        count = f"{len(problems):,} box{'es' if len(problems) > 1 else ''}"
        if self.bad_boxes == "refuse":
            raise InputError(
                f"{count} cannot be used; dataset.bad_boxes=drop leaves out{listed(problems)}"
            )
        log.warning(f"{count} left out{listed(problems)}")


def listed(problems: Sequence[str]) -> str:
    """Return the first problems, a line each, and how many more there are."""
    named = "".join(f"\n  {problem}" for problem in problems[:NAMED])
    return named + (f"\n  and {len(problems) - NAMED:,} more" if len(problems) > NAMED else "")


def fit(size: tuple[int, int], into: tuple[int, int]) -> float:
    """By what an image of height and width `size` is scaled so that it just fits."""
    return min(into[0] / size[0], into[1] / size[1])


def letterbox(
    path: str, channels: int, into: tuple[int, int], rule: PixelRule
) -> tuple[Tensor, tuple[int, int]]:
    """Return the image in `path` (C, H, W), scaled to fit and padded at the right and the bottom
    with the mean color, and the file's own height and width; InputError if it is not an image. Its values
    become bytes by the `rule`.
    """
    size = size_of(path)
    if size is None:
        read_image(path, (channels, *into), rule)  # it says why
        raise InputError(f"{path} cannot be read as an image")
    scale = fit(size, into)
    height, width = (
        max(1, min(most, round(side * scale))) for side, most in zip(size, into, strict=True)
    )
    mean = torch.tensor(MEAN if channels == 3 else GREY_MEAN).round().to(torch.uint8)
    pixels = mean.view(-1, 1, 1).expand(-1, *into).clone()
    pixels[:, :height, :width] = read_image(path, (channels, height, width), rule)
    return pixels, size


def in_pixels(box: Box, scene: Scene, size: tuple[int, int]) -> Corners:
    """Return the corners of a box in pixels of its image file, which has the height and width
    `size`.
    """
    if not scene.relative:
        return box.corners
    (x1, y1, x2, y2), (height, width) = box.corners, size
    return x1 * width, y1 * height, x2 * width, y2 * height


def wrong(corners: Corners, box: Box, scene: Scene, size: tuple[int, int], num_classes: int) -> str:
    """Return why a box with `corners` in pixels cannot be one in an image of height and width
    `size`; empty if it can.
    """
    x1, y1, x2, y2 = corners
    if not all(map(math.isfinite, corners)):
        return "a corner is no number"
    if not 0 <= box.label < num_classes:
        return f"there is no class {box.label}: they are 0 to {num_classes - 1}"
    if scene.size is not None and scene.size != (size[1], size[0]):
        turned = " (turned as its EXIF data may say)" if scene.size == size else ""
        said = f"{scene.size[0]}x{scene.size[1]}"
        return f"its description says {said} pixels, and {scene.path} has {shape(size)}{turned}"
    if x2 <= x1 or y2 <= y1:
        return f"the box has no area: {x2 - x1:g} wide and {y2 - y1:g} high"
    if x2 <= 0 or y2 <= 0 or x1 >= size[1] or y1 >= size[0]:
        hint = "; its numbers are shares of the image, not pixels" if scene.relative else ""
        return f"the box lies outside the image of {shape(size)}: from {x1:g}, {y1:g} to {x2:g}, {y2:g}{hint}"
    return wrong_unit(corners, box, scene, size)


def wrong_unit(corners: Corners, box: Box, scene: Scene, size: tuple[int, int]) -> str:
    """Return that a box is in pixels where shares of the image are expected, or the other way
    round; empty if not.
    """
    if not scene.relative:
        if max(corners[2:]) <= 1 and min(size) >= MIN_PIXELS:
            return (
                "the box lies within one pixel; expected corners in pixels, not shares of the image"
            )
        return ""
    x1, y1, x2, y2 = box.corners
    if max((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1) > MAX_SHARE:
        return "a number is above 1; expected shares of the image's width and height, not pixels"
    return ""


def reaches_out(corners: Corners, size: tuple[int, int]) -> bool:
    """Return whether a box reaches out of an image of height and width `size` by more than rounding
    explains.
    """
    x1, y1, x2, y2 = corners
    allowed = MAX_CUT_PIXELS + (MAX_SHARE - 1) * max(size)
    return max(-x1, -y1, x2 - size[1], y2 - size[0]) > allowed


def numbers(values: Sequence[float]) -> str:
    """Return two coordinates as text."""
    return ", ".join(f"{value:g}" for value in values)


def shape(size: tuple[int, int]) -> str:
    """Return a height and width as people write it: width x height."""
    return f"{size[1]}x{size[0]}"
