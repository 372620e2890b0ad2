"""Turns pixel values of any depth, and transparency, into bytes: by one rule for all images of a
set.

Images of 8 bits a channel are taken as they are. Of the others a sample type ("16-bit", "32-bit",
"float", "signed 8-bit") has a range, whose ends become 0 and 255. A set that is trained on settles
it, and it belongs to the run. It opens no file.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from dltrain.data.dataset import invalid_description
from dltrain.errors import InputError

log = logging.getLogger("dltrain")
Range: TypeAlias = tuple[float, float]
Background: TypeAlias = Literal["auto", "black", "white", "gray"]
Pixels: TypeAlias = NDArray[Any]

ALPHA = "alpha"  # stands for the sample type of images with transparency
LEVELS = {"black": 0, "gray": 128, "white": 255}
WHOLE_RANGES = tuple((0.0, float(2**bits - 1)) for bits in (1, 8, 10, 12, 14, 16, 24, 31, 32))
FLOAT_RANGES = ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0), (0.0, 65535.0))
MIN_SHARE = (
    1 / 16
)  # of a usual range that values must fill: fewer than 16 of 256 levels would be left of them
OVERSHOOT = (
    0.05  # of a usual range, by which values of floats may leave it, as they do after resizing
)
LEGACY_RANGES = {
    "16-bit": (0.0, 65535.0),
    "32-bit": (0.0, 65535.0),
    "float": (0.0, 255.0),
}  # of older runs


@dataclass(frozen=True)
class Values:
    """The lowest and highest value of an image of a sample type, or of an image with transparency
    the names of the backgrounds over which nothing is to be seen of it.
    """

    sample_type: str
    low: float = 0.0
    high: float = 0.0
    hidden_over: frozenset[str] = frozenset()


class Unsettled(Exception):
    """An image for which the rule says nothing yet; `pixels` are those over black, of one with
    transparency.
    """

    def __init__(self, values: Values, pixels: Any = None) -> None:
        super().__init__(values.sample_type)
        self.values, self.pixels = values, pixels


@dataclass(frozen=True)
class PixelRule:
    """The range of each sample type and the background of transparent images, as far as they are
    known.

    What is not known is settled by each image alone, with a line in the log, or raises Unsettled
    where a `survey` of a whole set is made first.
    """

    ranges: Mapping[str, Range] = field(default_factory=dict)
    background: str | None = None
    survey: bool = False
    logged: set[str] = field(default_factory=set, compare=False)  # of single images: each line once

    def to_bytes(self, sample_type: str, values: Pixels, name: str) -> NDArray[np.uint8]:
        """Return values of a sample type in 0..255. InputError for those that are not finite, and
        for those that the range makes all black or clips; `name` is the file's.
        """
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            count = int((~np.isfinite(values)).sum())
            raise InputError(f"{count:,} of its values are not finite (NaN or infinite)")
        seen = Values(sample_type, float(values.min()), float(values.max()))
        limits = self.ranges.get(sample_type)
        if limits is None and self.survey:
            raise Unsettled(seen)
        if limits is None:
            limits = usual_range(seen.low, seen.high, sample_type)
            self.log_once(f"{sample_type} values: {text(limits)} scaled to 0..255", name)
        refuse_unlike(seen, limits)
        if is_dim(seen, limits):
            self.warn_once(dim_line(sample_type, limits), name)
        return scaled(values, limits)

    def backdrop(self, seen: Values, name: str) -> str:
        """Return the background for an image with transparency where the rule knows none."""
        chosen = visible_background([seen])
        if chosen != "black":
            self.log_once(
                f"transparent, put over {chosen}, because nothing would be visible over black", name
            )
        return chosen

    def log_once(self, line: str, name: str) -> None:
        """Log what was done with a single image, the first of all with which it was."""
        if line not in self.logged:
            self.logged.add(line)
            log.info(f"{name}: {line}")

    def warn_once(self, line: str, name: str) -> None:
        """Log what is odd with an image, the first of all with which it is."""
        if line not in self.logged:
            self.logged.add(line)
            log.warning(f"{name}: {line}")

    def settled(self, seen: Iterable[Values], place: str) -> PixelRule:
        """Return this rule with what the images of a set say of what it does not know; log it in a
        line each.
        """
        by_type: dict[str, list[Values]] = {}
        for values in seen:
            by_type.setdefault(values.sample_type, []).append(values)
        ranges, background = dict(self.ranges), self.background
        logged = set()
        for sample_type, found in sorted(by_type.items()):
            count = f"{len(found):,} image{'s' if len(found) > 1 else ''}"
            if sample_type == ALPHA:
                background = visible_background(found)
                log.info(
                    f"{place}: {count} with transparency, put over {background} (dataset.background)"
                )
                continue
            low, high = min(v.low for v in found), max(v.high for v in found)
            ranges[sample_type] = usual_range(low, high, sample_type)
            log.info(
                f"{place}: {count} of {sample_type} values, {low:g} to {high:g}: {text(ranges[sample_type])} becomes "
                "0..255 in every image (dataset.value_range=[LOW,HIGH] sets another range)"
            )
            limits = ranges[sample_type]
            if dim := sum(is_dim(values, limits) for values in found):
                logged.add(dim_line(sample_type, limits))
                log.warning(f"{place}: {dim:,} of {count} have {dim_line(sample_type, limits)}")
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


def given_rule(
    value_range: Range | None, background: Background, known: PixelRule | None = None
) -> PixelRule:
    """Return the rule that a user's settings make, over the one that is `known` of a run."""
    ranges = dict(known.ranges) if known else {}
    if value_range is not None:
        ranges = dict.fromkeys(LEGACY_RANGES, value_range) | {"signed 8-bit": value_range}
    chosen = background if background != "auto" else known.background if known else None
    return PixelRule(ranges, chosen)


def rule_from(description: Any) -> PixelRule:
    """Return the rule that `description` of a run describes; InputError for any other."""
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
    if background not in (None, *LEVELS) or not all(
        np.isfinite(r).all() and r[0] < r[1] for r in ranges.values()
    ):
        raise invalid_description("its pixel range or background is not valid")
    return PixelRule(ranges, background)


def usual_range(low: float, high: float, sample_type: str) -> Range:
    """Return the smallest of the usual ranges that values lie in, such as 0..1 or 0..4095, or else
    their own.

    Their own is also taken where they fill so little of the usual one that most of their levels
    would be lost.
    """
    usual = FLOAT_RANGES if sample_type == "float" else WHOLE_RANGES
    slack = OVERSHOOT if sample_type == "float" else 0.0
    for first, last in usual:
        inside = low >= first - slack * (last - first) and high <= last + slack * (last - first)
        if inside and high - low >= MIN_SHARE * (last - first):
            return first, last
        if inside and (low, high) != (0.0, 0.0):
            break
    return (low, high) if high > low else (low, low + 1.0)


def refuse_unlike(seen: Values, limits: Range) -> None:
    """Raise InputError for an image that the range makes all black although it is not, and for one
    far beyond it.
    """
    span = limits[1] - limits[0]
    advice = "dataset.value_range=[LOW,HIGH] says what becomes black and white"
    found = f"its {seen.sample_type} values, {seen.low:g} to {seen.high:g},"
    if seen.high > limits[1] + span or seen.low < limits[0] - span:
        raise InputError(
            f"{found} lie far outside {text(limits)}, the range of the images; {advice}"
        )
    if seen.low < seen.high < limits[0] + span / 256:
        raise InputError(
            f"{found} would all be black in {text(limits)}, the range of the images; {advice}"
        )


def is_dim(seen: Values, limits: Range) -> bool:
    """Return whether an image fills so little of a range that most of its levels are lost, as one
    of 12 bits does among others of 16.
    """
    return seen.low < seen.high < limits[0] + MIN_SHARE * (limits[1] - limits[0])


def dim_line(sample_type: str, limits: Range) -> str:
    """Return what is odd with a dim image."""
    highest = limits[0] + MIN_SHARE * (limits[1] - limits[0])
    return (
        f"{sample_type} values below {highest:.6g} alone, which are nearly black in {text(limits)}, the range of the "
        "images; if they are of fewer bits than the others, scale them to the same range before"
    )


def scaled(values: Pixels, limits: Range) -> NDArray[np.uint8]:
    """Return values with the ends of a range at 0 and 255; whole numbers of 8 bits and more lose
    their lowest bits.
    """
    low, high = limits
    levels = high + 1
    if (
        low == 0
        and levels >= 256
        and levels == 2 ** round(np.log2(levels))
        and values.dtype.kind in "iu"
    ):
        return (values.clip(0, high).astype(np.int64) * 256 // int(levels)).astype(np.uint8)
    share = (values.astype(np.float64) - low) / (high - low)
    return np.rint(share.clip(0, 1) * 255).astype(np.uint8)


def hidden_over(pixels: NDArray[np.uint8]) -> frozenset[str]:
    """Return the names of the backgrounds over which an image (H, W, 4) shows nothing, though its
    transparency does.
    """
    colors, alpha = pixels[..., :3].astype(np.float64), pixels[..., 3:].astype(np.float64) / 255
    if alpha.min() == alpha.max():
        return frozenset()
    over = {name: colors * alpha + level * (1 - alpha) for name, level in LEVELS.items()}
    return frozenset(name for name, shown in over.items() if np.ptp(shown) < 1)


def visible_background(seen: Iterable[Values]) -> str:
    """Return the first background over which every image shows something: black, white or gray."""
    hidden: set[str] = set().union(*(values.hidden_over for values in seen))
    return next((name for name in ("black", "white", "gray") if name not in hidden), "gray")


def text(limits: Range) -> str:
    """Return a range for a message."""
    return f"{limits[0]:.6g}..{limits[1]:.6g}"
