"""The space of a search, read from overrides in Hydra's grammar and from `sweep.space`."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from dltrain.config.grid import values_of
from dltrain.config.overrides import parse, raise_problems
from dltrain.errors import UsageError
from dltrain.shell import is_plain, quoted
from dltrain.sweeps.samplers.dimensions import (
    Choices,
    Continuous,
    Decimals,
    Dimension,
    Integers,
    Value,
)

log = logging.getLogger("dltrain")
LOG = "log"
MAX_NUMBERS = 100_000  # of a range with steps that are no integers
Values: TypeAlias = str | int | float | bool | list
"""The values of a key in `sweep.space`: what one types after the =, or a list of single values."""
EXAMPLE = "tag(log,interval(1e-4,1e-1))"


@dataclass(frozen=True)
class Space:
    """The overrides of a search: those that all trials have, and the dimensions, as typed."""

    parts: tuple[str | Dimension, ...]

    @property
    def dimensions(self) -> list[Dimension]:
        """The dimensions, in the order in which they were typed."""
        return [part for part in self.parts if isinstance(part, Dimension)]

    @property
    def size(self) -> int | None:
        """The number of combinations of values; None if it is infinite."""
        sizes = [dimension.size for dimension in self.dimensions]
        finite = [size for size in sizes if size is not None]
        if len(finite) < len(sizes):
            return None
        return math.prod(finite)

    def overrides(self, values: Mapping[str, Value]) -> list[str]:
        """Return the overrides of a run with these values, by the name of the dimension."""
        overrides = []
        for part in self.parts:
            if isinstance(part, Dimension):
                overrides.append(part.override(values[part.name]))
            else:
                overrides.append(part)
        return overrides

    def checked(self) -> Iterator[dict[str, Value]]:
        """Yield values with which each choice and the ends of each interval stand at least once."""
        first = {dimension.name: dimension.checked()[0] for dimension in self.dimensions}
        yield first
        for dimension in self.dimensions:
            for value in dimension.checked()[1:]:
                yield {**first, dimension.name: value}

    def combinations(self) -> Iterator[dict[str, Value]]:
        """Yield the values of all trials that a space with a size can have."""
        names = [dimension.name for dimension in self.dimensions]
        columns = [dimension.all_values() for dimension in self.dimensions]
        for values in itertools.product(*columns):
            yield dict(zip(names, values, strict=True))


def read_space(overrides: list[str]) -> Space:
    """Return the space that overrides describe; of several with the same key the last counts.

    Raises:
        ConfigError: An override cannot be read, or its values cannot be searched.
        UsageError: Nothing matches a pattern.
    """
    parsed, problems = parse(overrides, sweep=True)
    raise_problems(problems)
    fixed = [override.input_line for override in parsed if not override.is_sweep_override()]
    last = {override.key_or_group: override for override in parsed}
    parts: list[str | Dimension] = []
    for override in parsed:
        counted = last[override.key_or_group]
        is_searched = override.is_sweep_override() or counted.is_sweep_override()
        if override is not counted and is_searched:
            log.warning(f"{override.input_line} is not read: {counted.input_line} comes after it")
        elif override.is_sweep_override():
            try:
                parts.append(dimension_of(override, fixed))
            except ValueError as e:
                problems.append((override.input_line, str(e)))
        else:
            parts.append(override.input_line)
    raise_problems(problems)
    return Space(tuple(parts))


def dimension_of(override: Any, fixed: list[str]) -> Dimension:
    """Return the dimension that one of Hydra's overrides describes; ValueError if none is."""
    key = override.get_key_element()
    if override.is_delete():
        raise ValueError("what is deleted cannot be searched; leave out the ~")
    if override.is_interval_sweep():
        return interval_of(key, override.value())
    if override.is_range_sweep():
        return range_of(key, override)
    return choices_of(key, override, fixed)


def is_log(sweep: Any, name: str) -> bool:
    """Tell if a sweep has the tag log; ValueError for other tags."""
    others = sorted(sweep.tags - {LOG})
    if others:
        raise ValueError(f"unknown tag {', '.join(others)}; the only one is tag(log, {name}(...))")
    return LOG in sweep.tags


def interval_of(key: str, interval: Any) -> Dimension:
    """Return the dimension of interval(a,b), or of int(interval(a,b)), which includes b."""
    is_logarithmic = is_log(interval, "interval")
    low = interval.start
    high = interval.end
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError("the ends of an interval must be finite")
    if not low < high:
        raise ValueError(
            f"the first end of an interval must be the lower one, not {low} and {high}"
        )
    require_positive(low, is_logarithmic)
    if isinstance(low, int) and isinstance(high, int):
        return Integers(key, low, high, log=is_logarithmic)
    return Continuous(key, float(low), float(high), is_logarithmic)


def range_of(key: str, override: Any) -> Dimension:
    """Return the dimension of range(start,stop,step), which excludes the stop."""
    sweep = override.value()
    is_logarithmic = is_log(sweep, "range")
    if sweep.step == 0:
        raise ValueError("the step of a range must not be 0")
    if is_logarithmic and sweep.step not in (1, -1):
        raise ValueError("tag(log, range(...)) needs a step of 1; use tag(log, interval(...))")
    numbers = sweep.range()
    if isinstance(numbers, range):
        if not numbers:
            raise ValueError("the range is empty: it ends before its stop")
        ends = sorted([numbers[0], numbers[-1]])
        require_positive(ends[0], is_logarithmic)
        return Integers(key, ends[0], ends[1], abs(numbers.step), is_logarithmic)
    if is_logarithmic:
        raise ValueError("tag(log, range(...)) needs integers; use tag(log, interval(...))")
    texts = [str(number) for number in itertools.islice(numbers, MAX_NUMBERS + 1)]
    if not texts:
        raise ValueError("the range is empty: it ends before its stop")
    if len(texts) > MAX_NUMBERS:
        raise ValueError(f"the range has more than {MAX_NUMBERS:,} numbers; use interval(a,b)")
    return Decimals(key, tuple(sorted(texts, key=float)))


def require_positive(low: float, is_logarithmic: bool) -> None:
    """Raise ValueError if a logarithmic dimension begins at 0 or below."""
    if is_logarithmic and low <= 0:
        raise ValueError(f"tag(log, ...) needs numbers above 0, not {low}")


def choices_of(key: str, override: Any, fixed: list[str]) -> Choices:
    """Return the dimension of a list of values or a pattern; each text stands once."""
    sweep = override.value()
    if override.value_type.name != "GLOB_CHOICE_SWEEP":
        if is_log(sweep, "interval"):
            raise ValueError("tag(log, ...) is for interval(...) and range(...)")
        sweep.shuffle = False  # the order means nothing here, and must be the same on a resume
    return Choices(key, tuple(dict.fromkeys(values_of(override, fixed))))


def require_dimensions(space: Space, name: str) -> None:
    """Raise UsageError for a space that has nothing to search."""
    if not space.dimensions:
        raise UsageError(
            f"sweep={name} has nothing to search: give a key several values, such as "
            f'"optimizer.lr={EXAMPLE}" or model=cnn,mlp, or write them into sweep.space'
        )


def space_overrides(space: Mapping[str, Any]) -> list[str]:
    """Return `sweep.space` as overrides.

    A text is what one types after the =, in Hydra's grammar; a list has the values of a choice.
    """
    overrides = []
    for key, value in space.items():
        if isinstance(value, list | tuple):
            texts = ",".join(element_text(element) for element in value)
            overrides.append(f"{key}={texts}")
        elif isinstance(value, str):
            overrides.append(f"{key}={value}")
        else:
            overrides.append(f"{key}={element_text(value)}")
    return overrides


def element_text(value: Any) -> str:
    """Return a value of YAML as Hydra's grammar writes it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return value if is_plain(value) else quoted(value)
    if isinstance(value, list | tuple):
        return f"[{','.join(element_text(element) for element in value)}]"
    if isinstance(value, dict):
        pairs = [f"{element_text(key)}:{element_text(child)}" for key, child in value.items()]
        return f"{{{','.join(pairs)}}}"
    return repr(value)
