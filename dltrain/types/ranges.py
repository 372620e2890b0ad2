"""Types for annotations: ranges of numbers, names of choices, how often something is done.

Ranges are those of the package `annotated-types`; its other metadata counts as well, see
`dltrain.config.checking.annotations`.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias

from annotated_types import Ge, Gt, Le, Lt

PositiveInt: TypeAlias = Annotated[int, Gt(0)]
PositiveFloat: TypeAlias = Annotated[float, Gt(0)]
NonNegative: TypeAlias = Annotated[float, Ge(0)]
Fraction: TypeAlias = Annotated[float, Ge(0), Lt(1)]
"""A share of a whole; it is never the whole."""
Probability: TypeAlias = Annotated[float, Ge(0), Le(1)]
Often: TypeAlias = PositiveInt | str
"""A number of steps, or a text that `Interval.parse` reads."""
BatchSize: TypeAlias = PositiveInt | Literal["all"]
Activation: TypeAlias = Literal["relu", "leaky_relu", "elu", "gelu", "tanh", "sigmoid", "softmax"]
Norm: TypeAlias = Literal["none", "batch", "layer"]
Pooling: TypeAlias = Literal["max", "average", "variance"]
BlockKind: TypeAlias = Literal["plain", "separable", "residual", "bottleneck"]

# Token numbers that mean the same in every vocabulary.
PAD = 0  # padding
UNKNOWN = 1  # a word that is not in the vocabulary
BEGIN = 2  # the begin of a text
END = 3  # the end of a text

SECONDS_PER_UNIT = {"s": 1, "min": 60, "h": 3600}


@dataclass(frozen=True)
class Names:
    """Marks a text that is a name chosen by the user, which may look like a number.

    dataset.target=1 is the column called 1.
    """


ColumnName: TypeAlias = Annotated[str, Names()]
"""The name of a column. It may arrive as a number; `column_name` makes text of it."""


@dataclass(frozen=True)
class Interval:
    """An interval between two actions: a number of steps, epochs or seconds.

    A unit that does not count is infinite.
    """

    steps: float = math.inf
    epochs: float = math.inf
    seconds: float = math.inf

    @classmethod
    def parse(cls, text: Often) -> Interval:
        """Read an interval: 20 is steps, "2ep" epochs, "30s", "10min" and "2h" time.

        Raises:
            ValueError: `text` is none of these, or the number is 0 or a fraction of a step.
        """
        refusal = f"{text!r} does not say how often: 20 (steps), 2ep, 30s, 10min or 2h does"
        match = re.fullmatch(r"(\d+(?:\.\d+)?) ?(ep|s|min|h)?", str(text))
        if match is None:
            raise ValueError(refusal)
        count = float(match[1])
        unit = match[2]
        if unit in SECONDS_PER_UNIT:
            seconds = count * SECONDS_PER_UNIT[unit]
            if not seconds:
                raise ValueError(refusal)
            return cls(seconds=seconds)
        if not count or not count.is_integer():
            raise ValueError(refusal)
        return cls(epochs=count) if unit == "ep" else cls(steps=count)
