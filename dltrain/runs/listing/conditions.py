"""Conditions on runs, as `--where` takes them: model=cnn, optimizer.lr>0.01, test/accuracy>=0.9."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from dltrain.errors import UsageError
from dltrain.runs.listing.summary import STATUSES, RunSummary
from dltrain.runs.listing.values import value_of

CONDITION = re.compile(r"([^=<>!\s]+)\s*(>=|<=|!=|==|=|>|<)\s*(.*)", re.DOTALL)
ORDERS: dict[str, Callable[[Any, Any], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
KEYWORDS = {"null": None, "none": None, "true": True, "false": False}
RELATIVE_TOLERANCE = 1e-9  # 0.1 is equal to what was computed as 0.1
HOW = "a condition is KEY=VALUE, KEY!=VALUE, or KEY and >, >=, < or <= with a number"


@dataclass(frozen=True)
class Condition:
    """One comparison of a key's value; `texts` are the values as they were typed.

    With = and != there may be several.
    """

    key: str
    sign: str
    texts: tuple[str, ...]

    def accepts(self, run: RunSummary) -> bool:
        """Tell if a run meets the condition; one that lacks the key meets only `!=` and `=null`."""
        value = value_of(run, self.key)
        if self.sign in ORDERS:
            return is_ordered(value, self.sign, self.texts[0])
        is_any = any(is_equal(value, text) for text in self.texts)
        return is_any == (self.sign != "!=")


def parse_condition(text: str) -> Condition:
    """Return the condition that a text means; UsageError if it cannot be read."""
    match = CONDITION.fullmatch(text.strip())
    if match is None:
        raise UsageError(
            f"--where {text}: {HOW}; quote > and <, which a shell reads as a file: "
            "--where 'optimizer.lr>0.01'"
        )
    key, sign, typed = match.groups()
    condition = Condition(key, sign, parts_of(typed))
    require_values(text, condition)
    return condition


def require_values(text: str, condition: Condition) -> None:
    """Raise UsageError for values that no run can have, or that have no order."""
    if condition.sign in ORDERS and condition.texts[0] in ("", *KEYWORDS):
        raise UsageError(f"--where {text}: {HOW}")
    if condition.key == "status" and condition.sign not in ORDERS:
        require_statuses(condition.texts)


def require_statuses(texts: tuple[str, ...]) -> None:
    """Raise UsageError for a status that no run can have."""
    for text in texts:
        if not any(is_equal(status, text) for status in STATUSES):
            raise UsageError(f"--where status={text}: expected one of {', '.join(STATUSES)}")


def parts_of(typed: str) -> tuple[str, ...]:
    """Return the values that commas separate; a list in brackets is one value."""
    if typed.startswith("["):
        return (typed,)
    return tuple(part.strip() for part in typed.split(","))


def as_value(text: str) -> Any:
    """Return a typed value: a number, true, false, null, a list, or text."""
    if text.lower() in KEYWORDS:
        return KEYWORDS[text.lower()]
    if text.startswith("["):
        return [as_value(part.strip()) for part in text.strip("[]").split(",") if part.strip()]
    return as_number(text)


def as_number(text: str) -> float | str:
    """Return the number that a text is, or the text."""
    try:
        return float(text)
    except ValueError:
        return text


def is_equal(value: Any, text: str) -> bool:
    """Tell if a value is what was typed; a text may match a pattern with * or ?."""
    if isinstance(value, str):
        return fnmatchcase(value, text)
    wanted = as_value(text)
    if is_number(value) and is_number(wanted):
        return math.isclose(value, wanted, rel_tol=RELATIVE_TOLERANCE)
    return bool(value == wanted) and isinstance(value, bool) == isinstance(wanted, bool)


def is_ordered(value: Any, sign: str, text: str) -> bool:
    """Tell if a value is on the right side of a bound; a value of another type is not."""
    if isinstance(value, str):
        return ORDERS[sign](value, text)
    bound = as_value(text)
    if is_number(value) and is_number(bound):
        return ORDERS[sign](value, bound)
    return False


def is_number(value: Any) -> bool:
    """Tell if a value is a number, not true or false."""
    return isinstance(value, int | float) and not isinstance(value, bool)
