"""The states of an evaluation, combined where each of several processes has scored some batches.

A task adds batches to states, and computes its scores from them. Between the two it calls
`combined`, and needs to know nothing else of processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, TypeAlias


class Combinable(Protocol):
    """The state of an evaluation, to which batches are added; it can be sent to a process."""

    def state_dict(self) -> dict[str, Any]:
        """Return what was gathered, in tensors and plain types, without memory for more."""

    def merge(self, state: dict[str, Any]) -> None:
        """Add what another process has gathered of the batches that come after those of this."""


States: TypeAlias = Sequence[dict[str, Any]]
Exchange: TypeAlias = Callable[[Sequence[Combinable]], Sequence[States] | None]
"""Returns the states of the other processes in their order; None in one that has sent its own."""


class _Current:
    """The part of this process in the evaluation that runs now."""

    def __init__(self) -> None:
        self.first_row = 0
        self.exchange: Exchange | None = None


_current = _Current()


def first_row() -> int:
    """Return the number of samples of the split that come before those of this process."""
    return _current.first_row


def combined(*states: Combinable) -> bool:
    """Merge the states of all processes into those of process 0, and return whether this is it.

    Another process has sent its states, and has no scores. Without other processes nothing is
    done. An evaluation calls this once, after its last batch.
    """
    if _current.exchange is None:
        return True
    all_others = _current.exchange(states)
    if all_others is None:
        return False
    for others in all_others:
        for gathered, other in zip(states, others, strict=True):
            gathered.merge(other)
    return True


@contextmanager
def combining(exchange: Exchange, first_row: int) -> Iterator[None]:
    """Combine states by `exchange` within the block, in which this process scores some batches.

    The first of its samples is number `first_row` of the split.
    """
    _current.exchange = exchange
    _current.first_row = first_row
    try:
        yield
    finally:
        _current.exchange = None
        _current.first_row = 0
