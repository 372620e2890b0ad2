"""The members by which a class declares what it can be combined with."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Declared:
    """Members of a class, with the values of a class that does not declare them.

    The base classes Task, Schedule, Regularizer and ImageTransform declare those that concern them.
    A loss or a schedule may also be of torch or of the user's own, without such a base.
    """

    networks: tuple[str, ...] = ()  # of a task: the networks that have an optimizer each
    mixes: bool = True  # of a task: it can train on mixed samples
    soft_targets: bool = True  # of a loss: its targets may be shares of classes
    needs_end: bool = False  # of a schedule or regularizer: it plans over the whole run
    mixes_targets: bool = False  # of a regularizer or transform: it mixes samples and targets


def declared(target: Any) -> Declared:
    """Return what the class `target` declares; no other code asks a class of the user's."""
    names = [field.name for field in dataclasses.fields(Declared)]
    return Declared(**{name: getattr(target, name) for name in names if hasattr(target, name)})
