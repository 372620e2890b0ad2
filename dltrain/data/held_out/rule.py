"""The samples that are held out: a fraction of all or one of several folds, by class and group."""

from __future__ import annotations

import torch
from torch import Tensor

from dltrain.data.held_out.groups import Groups
from dltrain.errors import InputError
from dltrain.rng import keyed

MIN_FOLDS = 2


def held_out_mask(
    targets: Tensor,
    fraction: float,
    seed: int,
    folds: int | None = None,
    fold: int | None = None,
    groups: Groups | None = None,
) -> Tensor:
    """Return a mask (N,) of the held-out samples: a `fraction` of all, or fold `fold` of `folds`.

    Integer targets (N,) are classes, and the same fraction of each is held out; samples with other
    targets are held out at random. All samples of a group are on one side. `seed` is that of the
    split, not of the run, so that runs with other seeds are compared on the same samples.

    Raises:
        InputError: there are too few groups.
    """
    if folds is not None:
        return fold_numbers(targets, folds, seed, groups) == (fold or 0)
    if groups is not None:
        return groups.hold_out(class_numbers(targets), fraction, seed)
    mask = torch.zeros(len(targets), dtype=torch.bool)
    for _, order in shuffled_classes(class_numbers(targets), seed):
        mask[order[: round(fraction * len(order))]] = True
    return mask


def fold_numbers(targets: Tensor, folds: int, seed: int, groups: Groups | None = None) -> Tensor:
    """Return the fold (N,) in which each sample is held out, a number from 0 to `folds` - 1.

    In any two folds the numbers of samples of a class differ by at most one, unless groups of
    samples stay together. What is left over of each class goes to other folds.

    Raises:
        InputError: there are fewer groups than folds, or so few samples that a fold has none.
    """
    if groups is not None:
        return groups.deal(class_numbers(targets), folds, seed)
    numbers = torch.zeros(len(targets), dtype=torch.int64)
    largest = 0
    for label, order in shuffled_classes(class_numbers(targets), seed):
        numbers[order] = (torch.arange(len(order)) - label) % folds
        largest = max(largest, len(order))
    if len(numbers.unique()) < folds:
        raise InputError(too_many_folds(folds, len(targets), largest))
    return numbers


def too_many_folds(folds: int, samples: int, largest_class: int) -> str:
    """Return the message for folds without samples; a class that large has some in each fold."""
    advice = "add data, or leave out dataset.folds"
    if largest_class >= MIN_FOLDS:
        advice = f"set dataset.folds={largest_class} or fewer"
    return (
        f"dataset.folds={folds}: {samples:,} training samples are too few, some folds would have "
        f"none: {advice}"
    )


def class_numbers(targets: Tensor) -> Tensor:
    """Return the class (N,) of each sample; one class for all if the targets are not classes."""
    if targets.ndim == 1 and not targets.is_floating_point():
        return targets
    return torch.zeros(len(targets), dtype=torch.int64)


def shuffled_classes(classes: Tensor, seed: int) -> list[tuple[int, Tensor]]:
    """Return each class with its positions in `classes` (N,), in random order."""
    labels, counts = classes.unique(return_counts=True)
    by_class = classes.argsort(stable=True).split(counts.tolist())
    shuffled = []
    for label, members in zip(labels.tolist(), by_class, strict=True):
        order = torch.randperm(len(members), generator=keyed(seed, int(label)))
        shuffled.append((int(label), members[order]))
    return shuffled


def check_fold(folds: int | None, fold: int | None) -> None:
    """Raise ValueError if there are folds and no number of one of them, or the other way round.

    `fold` 0 without folds is allowed: earlier versions wrote it into every configuration.
    """
    if folds is None:
        if fold:
            raise ValueError(
                f"dataset.fold={fold} needs the number of folds, such as dataset.folds=5"
            )
        return
    numbers = f"0 to {folds - 1}"
    if fold is None:
        raise ValueError(
            f"dataset.folds={folds} needs the fold to validate on, {numbers}: dataset.fold=0; "
            f"`dltrain dataset.folds={folds}` with the other settings trains on all of them"
        )
    if fold >= folds:
        raise ValueError(f"dataset.fold={fold} is not one of the {folds} folds, {numbers}")


def refuse_own_validation_set(folds: int | None) -> None:
    """Raise InputError if there are folds of data that comes with a validation set of its own."""
    if folds is not None:
        raise InputError(
            f"dataset.folds={folds} divides the training set into folds, but this data comes with "
            "a validation set, which would be the same for every fold: leave out dataset.folds, or "
            "move the validation samples to the training set"
        )


def describe_random_split(
    fraction: float, samples: str, split_seed: int, group_setting: str = ""
) -> str:
    """Describe a random test split: "20 % of the images, chosen with dataset.split_seed=0"."""
    text = f"{100 * fraction:g} % of {samples}, chosen with dataset.split_seed={split_seed}"
    if group_setting:
        text += f" and {group_setting}"
    return text
