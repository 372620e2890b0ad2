"""Numbers the classes of samples in shards, whose labels are numbers or names."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from dltrain.errors import InputError, first_names

MAX_CLASSES = 2**20
MAX_NAMES_SHOWN = 20
NO_CLASS = re.compile(r"-\d+")  # a number that stands for no class, also as text
Label = int | str


class Labels:
    """The classes of samples in shards, numbered from 0 as they come."""

    def __init__(self, place: str) -> None:
        self.place = place
        self.numbers: dict[Label, int] = {}
        self.shards: dict[Label, str] = {}  # the first one with each label
        self.declared: tuple[str, ...] = ()
        self.declared_by = ""

    def declare(self, names: tuple[str, ...], shard: str) -> None:
        """Note the names of classes that a shard has; InputError if they are others than before."""
        if names and not self.declared:
            self.declared, self.declared_by = names, shard
        if names and set(names) != set(self.declared):
            raise InputError(
                f"{self.declared_by} names the classes "
                f"{first_names(self.declared, MAX_NAMES_SHOWN)}, but {shard} names "
                f"{first_names(names, MAX_NAMES_SHOWN)}: make both with the same names of classes"
            )

    def number(self, label: Label, shard: str, key: str) -> int:
        """Return the number of a sample's class; InputError for one that has none."""
        known = self.numbers.get(label)
        if known is not None:
            return known
        text = str(label).strip()
        if not text or NO_CLASS.fullmatch(text):
            raise InputError(
                f"{shard}/{key}: its class is {text or 'empty'}, which means that it has none; "
                "leave out shards without classes"
            )
        if len(self.numbers) >= MAX_CLASSES:
            raise InputError(
                f"{shard}: there are more than {MAX_CLASSES:,} classes; is the label "
                "the number of the sample?"
            )
        self.shards[label] = shard
        self.numbers[label] = len(self.numbers)
        return self.numbers[label]

    def classes(self) -> tuple[tuple[str, ...], NDArray[np.int32]]:
        """Return the names of the classes, and the number of each label in the order they came.

        Numbers are positions in the declared names. Without these, each number is a class of its
        own name, and names are sorted.
        """
        self.require_one_type()
        labels: list[Label] = list(self.numbers)
        names: list[Label] = [*self.declared] or sorted(labels, key=sort_key)
        positions = {name: i for i, name in enumerate(names)}
        unknown = [label for label in labels if label not in positions]
        if unknown:
            raise InputError(
                f"{self.shards[unknown[0]]} has the class {unknown[0]}, which is not one of those "
                f"that {self.declared_by} names: {first_names(self.declared, MAX_NAMES_SHOWN)}"
            )
        targets = np.array([positions[label] for label in labels], dtype=np.int32)
        return tuple(map(str, names)), targets

    def require_one_type(self) -> None:
        """Raise InputError for classes of which some are numbers and some are names."""
        by_type = {type(label): label for label in reversed(self.numbers)}
        if len(by_type) > 1:
            number, name = by_type[int], by_type[str]
            raise InputError(
                f"{self.place}: some classes are numbers, such as {number}, and some are names, "
                f"such as {name} (in {self.shards[number]} and {self.shards[name]}); use one of "
                "both in all shards"
            )


def sort_key(label: Label) -> tuple[int, str]:
    """Return what labels are sorted by: numbers by their values, names as texts."""
    return (label, "") if isinstance(label, int) else (0, label)
