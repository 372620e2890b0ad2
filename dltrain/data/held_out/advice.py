"""Advice on groups of samples that the user may have overlooked: ids in columns and in paths."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dltrain.data.held_out.groups import Groups
from dltrain.data.held_out.path_groups import FOLDER, PREFIX, PathRule
from dltrain.data.io.values import words
from dltrain.errors import InputError

# Columns of these names say which samples belong together.
OWNERS = words(
    "patient subject participant proband person individual user customer client member household "
    "family student pupil employee driver speaker author writer donor animal mouse"
)
# Columns of these names do so if they have many values, as do those that end in "id".
PLACES = words(
    "group session visit site hospital clinic device machine sensor camera video clip scene slide "
    "scan study experiment batch plate trial document article page book case"
)
ID_WORDS = words("id ids uid uuid guid identifier")
NAME_WORDS = ID_WORDS | words("no nr num number name code key")
# The ids of categories, which may be on both sides.
CATEGORIES = words("category country type class label color state region city kind status level")
NAME_PART = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
MIN_OWNERS = 5
MIN_GROUPS = 10
MIN_GROUPS_PER_CLASS = 3  # of files: fewer may be kinds of the class
MIN_MEAN_SAMPLES = 2.0  # of a group
MIN_REPEATED = 0.5  # of the groups have more than one sample
EXAMPLES = {
    FOLDER: "files in the same folder below that of the class",
    PREFIX: "files whose names begin alike, up to the first _ or -",
}


@dataclass(frozen=True)
class Sides:
    """N samples: their classes (N,), and which of them (N,) are for training; others are held out.

    Samples without classes have class 0.
    """

    classes: Tensor
    is_training: Tensor


def column_advice(name: str, groups: Groups, sides: Sides) -> str:
    """Return a line on a column whose values seem to be groups; "" if there is nothing to say.

    `groups` has the value (N,) of each sample.
    """
    min_groups = min_number_of_groups(name)
    if not min_groups or not look_like_groups(groups, min_groups):
        return ""
    crossing, _ = crossing_groups(groups, sides)
    if not crossing:
        return ""
    return (
        f"column {name}: {crossing:,} of {len(groups.present):,} values have rows on both sides of "
        f"the split; {groups.setting} keeps them together"
    )


def path_advice(paths: Sequence[str], class_folders: frozenset[str], sides: Sides) -> str:
    """Return a line on files that seem to belong together by their paths; "" if there is none."""
    for rule in (FOLDER, PREFIX):
        try:
            groups = PathRule(rule).groups(paths, class_folders)
        except InputError:  # a file without a group
            continue
        if not look_like_groups(groups, MIN_GROUPS) or are_kinds(groups, sides.classes):
            continue
        crossing, example = crossing_groups(groups, sides)
        if crossing:
            return (
                f"{crossing:,} of {len(groups.present):,} groups of {EXAMPLES[rule]} (such as "
                f"{example}) are on both sides of the split; if they belong together, "
                f"{groups.setting} keeps them together"
            )
    return ""


def id_columns(names: Sequence[str]) -> list[str]:
    """Return the columns whose names say that their values may be groups."""
    return [name for name in names if min_number_of_groups(name)]


def min_number_of_groups(name: str) -> int:
    """Return how many values make a column of this name one of groups; 0 for other names."""
    parts = [word.lower() for word in NAME_PART.findall(name)]
    rest = [word for word in parts if word not in NAME_WORDS]
    if len(rest) > 1 or CATEGORIES.intersection(rest):
        return 0
    singular = {word.removesuffix("s") for word in rest}
    if OWNERS & singular:
        return MIN_OWNERS
    if PLACES & singular or ID_WORDS.intersection(parts):
        return MIN_GROUPS
    return 0


def look_like_groups(groups: Groups, min_groups: int) -> bool:
    """Return whether there are so many groups, most of them with several samples."""
    sizes = torch.bincount(groups.codes)
    sizes = sizes[sizes > 0]
    if len(sizes) < min_groups or sizes.float().mean() < MIN_MEAN_SAMPLES:
        return False
    return bool((sizes > 1).float().mean() >= MIN_REPEATED)


def are_kinds(groups: Groups, classes: Tensor) -> bool:
    """Return whether the classes (N,) have so few groups each that these may be kinds of them."""
    pairs = torch.stack([groups.codes, classes]).unique(dim=1)
    return pairs.shape[1] <= MIN_GROUPS_PER_CLASS * len(classes.unique())


def crossing_groups(groups: Groups, sides: Sides) -> tuple[int, str]:
    """Return the number of groups on both sides of the split, and the first of them."""
    train = groups[sides.is_training].present
    held = groups[~sides.is_training].present
    both = sorted(train & held)
    return len(both), next(iter(both), "")
