"""Results that the jobs of a sweep share: what is equal in them is computed once.

Inside `sharing()`, a function under `@shared` keeps its results and returns them again for equal
arguments; outside, it is called each time. Nothing is kept when the block ends, so files, folders
and the environment may change between two sweeps.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar, TypeVarTuple

Arguments = TypeVarTuple("Arguments")
Result = TypeVar("Result")

_kept: ContextVar[dict[Any, Any] | None] = ContextVar("kept", default=None)


@contextmanager
def sharing() -> Iterator[None]:
    """Let the functions under `@shared` keep their results until the block ends."""
    token = _kept.set({})
    try:
        yield
    finally:
        _kept.reset(token)


def shared(function: Callable[[*Arguments], Result]) -> Callable[[*Arguments], Result]:
    """Return `function`, which keeps its results inside `sharing()`.

    Its arguments are hashable and passed by position, and nobody changes its results. An error is
    not kept.
    """

    @functools.wraps(function)
    def wrapper(*args: *Arguments) -> Result:
        kept = _kept.get()
        if kept is None:
            return function(*args)
        key = (function, args)
        if key not in kept:
            kept[key] = function(*args)
        result: Result = kept[key]
        return result

    return wrapper


def pooled(value: Result) -> Result:
    """Return an equal value of the same types that was pooled before, else `value` itself.

    Inside `sharing()` equal parts of many configurations take the memory of one.
    """
    kept = _kept.get()
    if kept is None:
        return value
    result: Result = kept.setdefault((pooled, repr(value)), value)
    return result
