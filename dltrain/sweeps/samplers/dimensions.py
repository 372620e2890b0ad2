"""The dimensions of a search: the values that one key may have, and how Optuna describes them.

A value of a dimension is a number, or the text of a choice. Each has one text, which is typed as
the value of an override.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

DIGITS = 6  # of a number from an interval that is wide in relation to its ends

Value = str | int | float


@dataclass(frozen=True)
class Dimension(ABC):
    """One key of a search.

    `key` is typed before the =, with + or ++ where it adds a key.
    """

    key: str

    @property
    def name(self) -> str:
        """The key without + signs."""
        return self.key.lstrip("+")

    @property
    @abstractmethod
    def size(self) -> int | None:
        """The number of values; None if it is infinite."""

    @abstractmethod
    def distribution(self) -> Any:
        """Return Optuna's distribution of the values."""

    @abstractmethod
    def admitted(self, value: Any) -> Value:
        """Return the value that comes closest to one that Optuna proposes.

        Raises ValueError for what is no value of the dimension, such as one of another space.
        """

    @abstractmethod
    def text(self, value: Value) -> str:
        """Return the text of a value."""

    @abstractmethod
    def checked(self) -> list[Value]:
        """Return the values that are tried before the search begins: all choices, or the ends."""

    @abstractmethod
    def all_values(self) -> Iterator[Value]:
        """Yield all values of a dimension that has a size."""

    def override(self, value: Value) -> str:
        """Return the override that sets the key to a value."""
        return f"{self.key}={self.text(value)}"


@dataclass(frozen=True)
class Choices(Dimension):
    """A few values without an order, as they were typed."""

    texts: tuple[str, ...]

    @property
    def size(self) -> int:
        return len(self.texts)

    def distribution(self) -> Any:
        from optuna.distributions import CategoricalDistribution

        return CategoricalDistribution(self.texts)

    def admitted(self, value: Any) -> Value:
        if value not in self.texts:
            raise ValueError(f"{value} is not one of {', '.join(self.texts)}")
        return str(value)

    def text(self, value: Value) -> str:
        return str(value)

    def checked(self) -> list[Value]:
        return list(self.texts)

    def all_values(self) -> Iterator[Value]:
        yield from self.texts


@dataclass(frozen=True)
class Integers(Dimension):
    """The integers from `low` to `high`, both included, in steps."""

    low: int
    high: int
    step: int = 1
    log: bool = False

    @property
    def size(self) -> int:
        return (self.high - self.low) // self.step + 1

    def distribution(self) -> Any:
        from optuna.distributions import IntDistribution

        return IntDistribution(self.low, self.high, log=self.log, step=self.step)

    def admitted(self, value: Any) -> Value:
        if not isinstance(value, int) or value not in range(self.low, self.high + 1, self.step):
            raise ValueError(f"{value} is not one of {self.low} to {self.high}")
        return value

    def text(self, value: Value) -> str:
        return str(value)

    def checked(self) -> list[Value]:
        return list(dict.fromkeys([self.low, self.high]))

    def all_values(self) -> Iterator[Value]:
        yield from range(self.low, self.high + 1, self.step)


@dataclass(frozen=True)
class Decimals(Dimension):
    """The numbers of a range with steps that are no integers, as in range(0,1,0.1).

    A value is the place of a number among them, so that no rounding changes a number.
    """

    texts: tuple[str, ...]  # in ascending order

    @property
    def size(self) -> int:
        return len(self.texts)

    def distribution(self) -> Any:
        from optuna.distributions import IntDistribution

        return IntDistribution(0, len(self.texts) - 1)

    def admitted(self, value: Any) -> Value:
        if not isinstance(value, int) or value not in range(len(self.texts)):
            raise ValueError(f"{value} is not the number of one of {', '.join(self.texts)}")
        return value

    def text(self, value: Value) -> str:
        return self.texts[int(value)]

    def checked(self) -> list[Value]:
        return list(dict.fromkeys([0, len(self.texts) - 1]))

    def all_values(self) -> Iterator[Value]:
        yield from range(len(self.texts))


@dataclass(frozen=True)
class Continuous(Dimension):
    """The numbers from `low` to `high`, with as many digits as the interval needs."""

    low: float
    high: float
    log: bool = False

    @property
    def size(self) -> int | None:
        return None

    @property
    def digits(self) -> int:
        """The number of significant digits of a value."""
        width = (self.high - self.low) / max(abs(self.low), abs(self.high))
        return DIGITS + max(0, round(-math.log10(width)))

    def distribution(self) -> Any:
        from optuna.distributions import FloatDistribution

        return FloatDistribution(self.low, self.high, log=self.log)

    def admitted(self, value: Any) -> Value:
        if not isinstance(value, int | float) or not self.low <= value <= self.high:
            raise ValueError(f"{value} is not between {self.low} and {self.high}")
        rounded = float(f"{value:.{self.digits}g}")
        return min(max(rounded, self.low), self.high)

    def text(self, value: Value) -> str:
        return repr(float(value))

    def checked(self) -> list[Value]:
        return [self.low, self.high]

    def all_values(self) -> Iterator[Value]:
        raise ValueError(f"{self.key} has no last value")
