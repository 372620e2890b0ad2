"""Words for annotations: ranges of numbers, names of choices, how often something is done."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias


@dataclass(frozen=True)
class Gt:
    """Greater than `bound`."""

    bound: float

    def holds(self, value: float) -> bool:
        return value > self.bound

    def __str__(self) -> str:
        return f"> {self.bound:g}"


@dataclass(frozen=True)
class Ge:
    """At least `bound`."""

    bound: float

    def holds(self, value: float) -> bool:
        return value >= self.bound

    def __str__(self) -> str:
        return f">= {self.bound:g}"


@dataclass(frozen=True)
class Lt:
    """Less than `bound`."""

    bound: float

    def holds(self, value: float) -> bool:
        return value < self.bound

    def __str__(self) -> str:
        return f"< {self.bound:g}"


@dataclass(frozen=True)
class Le:
    """At most `bound`."""

    bound: float

    def holds(self, value: float) -> bool:
        return value <= self.bound

    def __str__(self) -> str:
        return f"<= {self.bound:g}"


PositiveInt: TypeAlias = Annotated[int, Gt(0)]
PositiveFloat: TypeAlias = Annotated[float, Gt(0)]
NonNegative: TypeAlias = Annotated[float, Ge(0)]
Fraction: TypeAlias = Annotated[float, Ge(0), Lt(1)]
"""Of a whole: 0 is none of it, 1 would be all of it."""
Probability: TypeAlias = Annotated[float, Ge(0), Le(1)]
Often: TypeAlias = PositiveInt | str
"""Every so many steps, or a text that `Interval.parse` reads."""
BatchSize: TypeAlias = PositiveInt | Literal["all"]
Activation: TypeAlias = Literal["relu", "leaky_relu", "elu", "gelu", "tanh", "sigmoid", "softmax"]
Norm: TypeAlias = Literal["none", "batch", "layer"]
Pooling: TypeAlias = Literal["max", "average", "variance"]
PAD, UNKNOWN, BEGIN, END = 0, 1, 2, 3
"""Token numbers that mean the same in every vocabulary: filling up, a word that is none of it, a text's two ends."""


@dataclass(frozen=True)
class Names:
    """Marks a text that names something of the user's, so that a name may look like a number:
    dataset.target=1.
    """


ColumnName: TypeAlias = Annotated[str, Names()]
"""The name of a column; `dltrain.data.tabular.table.column_name` makes text of one that was read as a number."""


@dataclass(frozen=True)
class Interval:
    """How often something is done: every so many steps, epochs or seconds; infinite where that does not count."""

    steps: float = math.inf
    epochs: float = math.inf
    seconds: float = math.inf

    @classmethod
    def parse(cls, text: Often) -> Interval:
        """20 is steps, "2ep" epochs, "30s", "10min" and "2h" time; ValueError for anything else."""
        match = re.fullmatch(r"(\d+(?:\.\d+)?) ?(ep|s|min|h)?", str(text))
        count, unit = (float(match[1]), match[2]) if match else (0.0, None)
        whole = unit in ("s", "min", "h") or count.is_integer()
        if not count or not whole:
            raise ValueError(
                f"{text!r} does not say how often: 20 (steps), 2ep, 30s, 10min or 2h does"
            )
        if unit is None:
            return cls(steps=count)
        return (
            cls(epochs=count)
            if unit == "ep"
            else cls(seconds=count * {"s": 1, "min": 60, "h": 3600}[unit])
        )
