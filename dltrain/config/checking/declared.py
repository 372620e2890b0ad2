"""The class members that declare what a class can be combined with."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Declared:
    """The declarations of a class; the defaults hold for a class that does not declare a member.

    The base classes Task, Schedule, Regularizer and ImageTransform declare the members that concern
    them. A loss or a schedule may come from torch or from the user, without such a base class.

    Attributes:
        networks: The networks of a task that have an optimizer each.
        mixes: True for a task that can train on mixed samples.
        soft_targets: True for a loss whose targets may be class probabilities.
        needs_end: True for a schedule or regularizer that needs a known number of updates.
        run_keys: The settings of a task that name finished runs.
        training_only: True for a transform that leaves evaluation and prediction alone.
        mixes_targets: True for a regularizer or transform that mixes samples and their targets.
    """

    networks: tuple[str, ...] = ()
    mixes: bool = True
    soft_targets: bool = True
    needs_end: bool = False
    mixes_targets: bool = False
    run_keys: tuple[str, ...] = ()
    training_only: bool = False


def declared(target: Any) -> Declared:
    """Return the declarations of the class `target`, which may be the user's own.

    This is the only place that asks a class for a member that it may not have.
    """
    names = [field.name for field in dataclasses.fields(Declared)]
    found = {name: getattr(target, name) for name in names if hasattr(target, name)}
    return Declared(**found)
