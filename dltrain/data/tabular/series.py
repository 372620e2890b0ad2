"""A series of numbers that was read and standardized, its description, and messages about it."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from dltrain.data.dataset import require
from dltrain.data.io.number_format import NumberFormat
from dltrain.data.tabular.footer import missing_to_the_end
from dltrain.data.tabular.table import Table
from dltrain.data.tabular.time_column import TimeColumn

log = logging.getLogger("dltrain")


@dataclass(frozen=True)
class StandardizedSeries:
    """A standardized series (N,), and where the windows of each split begin.

    `format` is how the column `column` writes its numbers; `digest` names its content. `where`
    returns file and line of a value.
    """

    values: Tensor
    mean: float
    std: float
    format: NumberFormat
    column: str
    train: Tensor
    val: Tensor
    test: Tensor
    digest: str
    where: Callable[[int], str]

    def size_in_bytes(self) -> int:
        """Return how much memory the series occupies."""
        return self.values.nbytes

    def fingerprint(self) -> str:
        """Return the digest of the series."""
        return self.digest


@dataclass(frozen=True)
class LearnedSeries:
    """Everything that a run learned from its training series.

    Runs of older versions have no `format`.
    """

    mean: float
    std: float
    format: NumberFormat | None
    time: TimeColumn | None
    digest: str


def parse_series(description: dict[str, Any]) -> LearnedSeries:
    """Return the content of a description.

    Raises KeyError, TypeError or ValueError for a malformed one.
    """
    mean, std = float(description["mean"]), float(description["std"])
    require(math.isfinite(mean), "mean is not finite")
    require(0 < std < math.inf, "std is not a positive number")
    number_format = description.get("format")
    time = description.get("time")
    return LearnedSeries(
        mean=mean,
        std=std,
        format=NumberFormat(**number_format) if number_format else None,
        time=TimeColumn(**time) if time else None,
        digest=description["digest"],
    )


def missing_value(table: Table, name: str, absent: NDArray[np.bool_]) -> str:
    """Return where a series has no value, and what to do: the end may be what is to be forecast."""
    end = missing_to_the_end(table, absent)
    place = f"{table.where(int(absent.argmax()))}: column '{name}' is empty"
    if end:
        return f"{place}{end}: if these are steps to be forecast, cut the rows off"
    start = int((~absent).argmax())
    if start and not absent[start:].any():
        return f"{place} up to {table.where(start - 1)}: cut the rows off"
    count = int(absent.sum())
    more = ""
    if count > 1:
        more = f" ({count:,} such rows)"
    return f"{place}{more}: a series has no gaps; fill the value in"


def warn_of_flat_part(
    table: Table, part: str, values: NDArray[np.float64], start: int, end: int
) -> None:
    """Log that a part of the series does not change, so that no forecast of it can be judged."""
    if end > start and (values[start:end] == values[start]).all():
        log.warning(
            f"{table.where(start)}: from here on the {part} part of the series is "
            f"{values[start]:g} throughout: its R2 is 0 or 1, and its error relative to the naive "
            "forecast is undefined"
        )
