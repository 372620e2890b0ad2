"""Turns pixel values of any depth, and transparency, into bytes by one rule.

Images of 8 bits a channel are taken as they are. Of the others a sample type ("16-bit", "32-bit",
"float", "signed 8-bit") has a range, whose ends become 0 and 255. A set that is trained on settles
it, and it belongs to the run. This module opens no file.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from dltrain.data.dataset import counted, invalid_description
from dltrain.errors import InputError

log = logging.getLogger("dltrain")
Range: TypeAlias = tuple[float, float]
Background: TypeAlias = Literal["auto", "black", "white", "gray"]
Pixels: TypeAlias = NDArray[Any]

ALPHA = "alpha"  # stands for the sample type of images with transparency
LEVELS = {"black": 0, "gray": 128, "white": 255}
WHOLE_RANGES = tuple((0.0, float(2**bits - 1)) for bits in (1, 8, 10, 12, 14, 16, 24, 31, 32))
FLOAT_RANGES = ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0), (0.0, 65535.0))
# The fraction of a usual range that values must fill: else fewer than 16 of 256 levels are left.
MIN_FILLED = 1 / 16
# The fraction of a usual range by which floats may leave it, as they do after resizing.
OVERSHOOT = 0.05
# The ranges of older runs, whose descriptions have none.
LEGACY_RANGES = {"16-bit": (0.0, 65535.0), "32-bit": (0.0, 65535.0), "float": (0.0, 255.0)}


@dataclass(frozen=True)
class Values:
    """The lowest and highest value of an image of a sample type.

    For an image with transparency, `hidden_over` are the backgrounds over which nothing of it is
    visible.
    """

    sample_type: str
    low: float = 0.0
    high: float = 0.0
    hidden_over: frozenset[str] = frozenset()


class Unsettled(Exception):
    """An image about whose values the rule says nothing yet.

    `pixels` are those over black, for an image with transparency.
    """

    def __init__(self, values: Values, pixels: Any = None) -> None:
        super().__init__(values.sample_type)
        self.values = values
        self.pixels = pixels


@dataclass(frozen=True)
class PixelRule:
    """The range of each sample type and the background of transparent images, as far as known.

    What is not known is settled by each image alone, with a line in the log, or raises Unsettled if
    a `survey` of a whole set is made first.
    """

    ranges: Mapping[str, Range] = field(default_factory=dict)
    background: str | None = None
    survey: bool = False
    logged: set[str] = field(default_factory=set, compare=False)  # of single images: each line once

    def to_bytes(self, sample_type: str, values: Pixels, name: str) -> NDArray[np.uint8]:
        """Return values of a sample type as bytes; `name` is the file's.

        Raises InputError for values that are not finite, and for those that the range makes all
        black or clips.
        """
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            count = int((~np.isfinite(values)).sum())
            raise InputError(f"{count:,} of its values are not finite (NaN or infinite)")
        extremes = Values(sample_type, float(values.min()), float(values.max()))
        limits = self.ranges.get(sample_type)
        if limits is None:
            if self.survey:
                raise Unsettled(extremes)
            limits = usual_range(extremes.low, extremes.high, sample_type)
            self.log_once(f"{sample_type} values: {text(limits)} scaled to 0..255", name)
        refuse_unlike(extremes, limits)
        if is_dim(extremes, limits):
            self.warn_once(dim_line(sample_type, limits), name)
        return scaled(values, limits)

    def backdrop(self, values: Values, name: str) -> str:
        """Return the background for an image with transparency if the rule knows none."""
        background = visible_background([values])
        if background != "black":
            self.log_once(
                f"transparent, put over {background}, because nothing would be visible over black",
                name,
            )
        return background

    def log_once(self, line: str, name: str) -> None:
        """Log what was done with an image, only for the first one with which it was done."""
        if line not in self.logged:
            self.logged.add(line)
            log.info(f"{name}: {line}")

    def warn_once(self, line: str, name: str) -> None:
        """Warn of what is odd with an image, only for the first one with which it is."""
        if line not in self.logged:
            self.logged.add(line)
            log.warning(f"{name}: {line}")

    def settled(self, values: Iterable[Values], place: str) -> PixelRule:
        """Return this rule with what it lacked, settled by the `values` of images; log it."""
        by_type: dict[str, list[Values]] = {}
        for one in values:
            by_type.setdefault(one.sample_type, []).append(one)
        ranges, background = dict(self.ranges), self.background
        logged: set[str] = set()
        for sample_type, some in sorted(by_type.items()):
            if sample_type == ALPHA:
                background = settled_background(some, place)
            else:
                ranges[sample_type] = settled_range(sample_type, some, place, logged)
        return PixelRule(ranges, background, logged=logged)

    def surveying(self) -> PixelRule:
        """Return this rule for a survey of a whole set."""
        return PixelRule(self.ranges, self.background, survey=True, logged=self.logged)

    def description(self) -> dict[str, Any]:
        """Return the rule as plain values, for a run's manifest."""
        return {
            "ranges": {name: list(limits) for name, limits in self.ranges.items()},
            "background": self.background,
        }


LEGACY_RULE = PixelRule(LEGACY_RANGES, "black")


def settled_background(values: Sequence[Values], place: str) -> str:
    """Return the background for images with transparency, and log it."""
    background = visible_background(values)
    count = counted(len(values), "image", "images")
    log.info(f"{place}: {count} with transparency, put over {background} (dataset.background)")
    return background


def settled_range(
    sample_type: str, values: Sequence[Values], place: str, logged: set[str]
) -> Range:
    """Return the range for images of a sample type, and log it.

    Images that fill little of it are counted in a warning, which is added to the `logged` ones.
    """
    low, high = min(one.low for one in values), max(one.high for one in values)
    limits = usual_range(low, high, sample_type)
    count = counted(len(values), "image", "images")
    log.info(
        f"{place}: {count} of {sample_type} values, {low:g} to {high:g}: {text(limits)} becomes "
        '0..255 in every image ("dataset.value_range=[LOW,HIGH]" sets another range)'
    )
    dim = sum(is_dim(one, limits) for one in values)
    if dim:
        line = dim_line(sample_type, limits)
        logged.add(line)
        log.warning(f"{place}: {dim:,} of {count} have {line}")
    return limits


def given_rule(
    value_range: Range | None, background: Background, known: PixelRule | None = None
) -> PixelRule:
    """Return the rule that a user's settings make, over the one that is `known` of a run."""
    known = known or PixelRule()
    ranges = dict(known.ranges)
    if value_range is not None:
        ranges = dict.fromkeys((*LEGACY_RANGES, "signed 8-bit"), value_range)
    return PixelRule(ranges, known.background if background == "auto" else background)


def rule_from(description: Any) -> PixelRule:
    """Return the rule that the `description` of a run has; InputError for any other content."""
    if description is None:
        return LEGACY_RULE
    try:
        ranges = {
            str(name): (float(low), float(high))
            for name, (low, high) in description["ranges"].items()
        }
        background = description["background"]
    except (AttributeError, KeyError, TypeError, ValueError) as e:
        raise invalid_description(e) from e
    if background not in (None, *LEVELS) or not all(map(is_range, ranges.values())):
        raise invalid_description("its pixel range or background is not valid")
    return PixelRule(ranges, background)


def is_range(limits: Range) -> bool:
    """Return whether two values are finite and rising."""
    return bool(np.isfinite(limits).all()) and limits[0] < limits[1]


def usual_range(low: float, high: float, sample_type: str) -> Range:
    """Return the smallest usual range that values lie in, such as 0..1 or 0..4095, or their own.

    Their own is also taken if they fill so little of the usual one that most of their levels would
    be lost.
    """
    is_float = sample_type == "float"
    overshoot = OVERSHOOT if is_float else 0.0
    ranges = FLOAT_RANGES if is_float else WHOLE_RANGES
    possible = [limits for limits in ranges if is_within(low, high, limits, overshoot)]
    filled = [limits for limits in possible if high - low >= MIN_FILLED * length(limits)]
    if filled and (filled[0] == possible[0] or low == high == 0):
        return filled[0]
    return (low, high) if high > low else (low, low + 1.0)


def length(limits: Range) -> float:
    """Return the length of a range."""
    return limits[1] - limits[0]


def is_within(low: float, high: float, limits: Range, overshoot: float) -> bool:
    """Return whether values lie in a range or leave it by a small fraction of its length."""
    first, last = limits
    slack = overshoot * (last - first)
    return first - slack <= low and high <= last + slack


def refuse_unlike(values: Values, limits: Range) -> None:
    """Raise InputError for an image that does not fit a range.

    That is one which the range makes all black although it is not, or one far beyond the range.
    """
    span = limits[1] - limits[0]
    advice = '"dataset.value_range=[LOW,HIGH]" says what becomes black and white'
    described = f"its {values.sample_type} values, {values.low:g} to {values.high:g},"
    if values.high > limits[1] + span or values.low < limits[0] - span:
        raise InputError(
            f"{described} lie far outside {text(limits)}, the range of the images; {advice}"
        )
    if values.low < values.high < limits[0] + span / 256:
        raise InputError(
            f"{described} would all be black in {text(limits)}, the range of the images; {advice}"
        )


def is_dim(values: Values, limits: Range) -> bool:
    """Return whether an image fills so little of a range that most of its levels are lost.

    An image of 12 bits does among others of 16.
    """
    return values.low < values.high < limits[0] + MIN_FILLED * (limits[1] - limits[0])


def dim_line(sample_type: str, limits: Range) -> str:
    """Return the text about a dim image."""
    highest = limits[0] + MIN_FILLED * (limits[1] - limits[0])
    return (
        f"{sample_type} values below {highest:.6g} alone, which are nearly black in "
        f"{text(limits)}, the range of the images; "
        "if they are of fewer bits than the others, scale them to the same range before"
    )


def scaled(values: Pixels, limits: Range) -> NDArray[np.uint8]:
    """Return values with the ends of a range at 0 and 255.

    Whole numbers of 8 bits and more lose their lowest bits.
    """
    low, high = limits
    levels = high + 1
    is_whole_bits = low == 0 and levels >= 256 and levels == 2 ** round(np.log2(levels))
    if is_whole_bits and values.dtype.kind in "iu":
        return (values.clip(0, high).astype(np.int64) * 256 // int(levels)).astype(np.uint8)
    fraction = (values.astype(np.float64) - low) / (high - low)
    return np.rint(fraction.clip(0, 1) * 255).astype(np.uint8)


def hidden_over(pixels: NDArray[np.uint8]) -> frozenset[str]:
    """Return the backgrounds over which a transparent image (H, W, 4) shows nothing."""
    colors = pixels[..., :3].astype(np.float64)
    alpha = pixels[..., 3:].astype(np.float64) / 255
    if alpha.min() == alpha.max():
        return frozenset()
    hidden = []
    for name, level in LEVELS.items():
        composed = colors * alpha + level * (1 - alpha)
        if np.ptp(composed) < 1:
            hidden.append(name)
    return frozenset(hidden)


def visible_background(values: Iterable[Values]) -> str:
    """Return the first background over which every image shows something: black, white or gray."""
    hidden: set[str] = set().union(*(one.hidden_over for one in values))
    for name in ("black", "white"):
        if name not in hidden:
            return name
    return "gray"


def text(limits: Range) -> str:
    """Return a range for a message."""
    return f"{limits[0]:.6g}..{limits[1]:.6g}"
