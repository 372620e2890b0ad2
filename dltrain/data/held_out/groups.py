"""Groups of samples that stay on one side of a split, such as all images of a patient."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dltrain.errors import InputError, first_names
from dltrain.rng import keyed

log = logging.getLogger("dltrain")
NEAR_SHARE = 0.05  # by which a share may miss the fraction that was asked for, without a warning
NEAR_RATIO = 0.5  # or by so much of the fraction
MAX_GROUPS_NAMED = 3

Numbers: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True)
class Groups:
    """The group of each of N samples: `codes` (N,) are positions in `names`.

    `setting` is what the user typed, such as dataset.group=patient.
    """

    codes: Tensor
    names: Sequence[str]
    setting: str

    @classmethod
    def from_names(cls, names: Iterable[str], setting: str) -> Groups:
        """Return the groups of samples whose group has a name each."""
        numbers: dict[str, int] = {}
        codes = [numbers.setdefault(name, len(numbers)) for name in names]
        return cls(torch.tensor(codes, dtype=torch.int64), list(numbers), setting)

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, rows: Tensor) -> Groups:
        """Return the groups of some samples, chosen by their numbers or by a mask (N,)."""
        return Groups(self.codes[rows], self.names, self.setting)

    @property
    def present(self) -> set[str]:
        """The names of the groups that have a sample."""
        return {self.names[code] for code in self.codes.unique().tolist()}

    def deal(self, classes: Tensor, folds: int, seed: int) -> Tensor:
        """Return the fold (N,) of each sample; samples of a group are in the same fold.

        The folds have about the same number of samples, and of each of the `classes` (N,).

        Raises:
            InputError: there are fewer groups than folds.
        """
        number = len(self.present)
        if number < folds:
            raise InputError(
                f"{self.setting}: {count_groups(number)} in {len(self):,} training samples cannot "
                f"be divided into {folds} folds: {self.fewer_folds(number)}"
            )
        shares = np.full(folds, 1 / folds)
        return self.part_of_each(classes, shares, seed)

    def fewer_folds(self, number: int) -> str:
        """Return what to set if there are too few groups for the folds."""
        if number < 2:
            return "choose another group, or leave out dataset.group"
        return f"set dataset.folds={number} or fewer"

    def hold_out(self, classes: Tensor, fraction: float, seed: int) -> Tensor:
        """Return a mask (N,) of whole groups that are held out, about a `fraction` of the samples.

        At least one group is held out unless the fraction is 0, and at least one is left. The
        share of each of the `classes` (N,) is about the same on both sides.

        Raises:
            InputError: there is only one group.
        """
        if not fraction or not len(self):
            return torch.zeros(len(self), dtype=torch.bool)
        if len(self.present) < 2:
            raise InputError(
                f"{self.setting}: only {count_groups(len(self.present))} is left, of "
                f"{len(self):,} samples ({named_groups(self.present)}), so none can be held out: "
                "choose another group, or set dataset.val_fraction=0 or dataset.test_fraction=0"
            )
        shares = np.array([fraction, 1 - fraction])
        is_held = self.part_of_each(classes, shares, seed) == 0
        self.warn_of_share(is_held, fraction)
        return is_held

    def part_of_each(self, classes: Tensor, shares: NDArray[np.float64], seed: int) -> Tensor:
        """Return the part (N,) of each sample, where part p has about `shares[p]` of the samples.

        `shares` (P,) has the sum 1, and no part is empty if there are as many groups as parts.
        """
        _, codes = np.unique(self.codes.numpy(), return_inverse=True)
        _, labels = np.unique(classes.numpy(), return_inverse=True)
        parts = distribute(codes, labels, shares, seed)
        return torch.from_numpy(parts[codes])

    def warn_of_share(self, is_held: Tensor, fraction: float) -> None:
        """Warn if the groups are so large that another share of the samples is held out."""
        share = is_held.float().mean().item()
        if abs(share - fraction) <= max(NEAR_SHARE, NEAR_RATIO * fraction):
            return
        sizes = torch.bincount(self.codes)
        largest = int(sizes.argmax())
        log.warning(
            f"{self.setting}: {100 * share:.0f} % of {len(self):,} samples are held out instead of "
            f"{100 * fraction:g} %, because groups stay whole: {count_groups(len(self.present))}, "
            f"the largest {self.names[largest]!r} with {int(sizes[largest]):,} samples"
        )

    def warn_of_shared(self, other: Groups, this_set: str, other_set: str) -> None:
        """Warn of groups that have samples in this set and in another one that is given."""
        shared = self.present & other.present
        if shared:
            log.warning(
                f"{self.setting}: {count_groups(len(shared))} of {len(other.present):,} in the "
                f"{other_set} set have samples in the {this_set} set too ({named_groups(shared)}), "
                f"so {other_set} metrics are too good for new groups"
            )


def named_groups(names: Iterable[str]) -> str:
    """Return the first of some groups in order, for a message."""
    return first_names(sorted(names), MAX_GROUPS_NAMED)


def count_groups(count: int) -> str:
    """Return a number of groups in words."""
    if count == 1:
        return "1 group"
    return f"{count:,} groups"


def distribute(
    codes: Numbers, labels: Numbers, shares: NDArray[np.float64], seed: int
) -> NDArray[np.int64]:
    """Return the part (G,) of each group, where part p gets about `shares[p]` of every class.

    Groups are assigned one by one, large ones first, to the part that they fit best: the one in
    which they add least to sum over parts p and classes k of (n_pk / n_k)^2 / shares_p, which is
    smallest where n_pk = shares_p n_k. All samples together count as one more class.

    Args:
        codes: The group (N,) of each sample, from 0.
        labels: The class (N,) of each sample, from 0.
        shares: The share (P,) of each part.
        seed: The seed of the order of groups of about the same size.
    """
    sizes = np.bincount(codes)
    counts = ClassCounts(codes, labels)
    loads = np.zeros((len(shares), counts.num_columns))
    parts = np.zeros(len(sizes), dtype=np.int64)
    for group in large_first(sizes, seed).tolist():
        own = slice(counts.starts[group], counts.starts[group + 1])
        columns, added = counts.columns[own], counts.counts[own]
        costs = (2 * loads[:, columns] + added) @ counts.weights[own] / shares
        part = costs.argmin()
        loads[part, columns] += added
        parts[group] = part
    fill_empty(parts, sizes, len(shares))
    return parts


class ClassCounts:
    """The samples of each class in each group: groups have few of the classes.

    The columns `starts[g]` to `starts[g + 1]` are the classes of group g. The last class is that of
    all samples. `weights` are the counts over the squared sizes of their classes.
    """

    def __init__(self, codes: Numbers, labels: Numbers) -> None:
        all_samples = np.full_like(labels, labels.max() + 1)
        self.num_columns = int(all_samples[0]) + 1
        keys = np.concatenate([labels, all_samples]) + np.tile(codes, 2) * self.num_columns
        pairs, counts = np.unique(keys, return_counts=True)
        self.columns = pairs % self.num_columns
        self.counts = counts.astype(np.float64)
        self.starts = np.searchsorted(pairs // self.num_columns, np.arange(codes.max() + 2))
        sizes = np.bincount(self.columns, weights=self.counts)
        self.weights = self.counts / sizes[self.columns] ** 2


def large_first(sizes: Numbers, seed: int) -> Numbers:
    """Return the groups by their `sizes` (G,), large ones first.

    Those whose sizes have the same power of two are in random order, so that another seed gives
    another split.
    """
    order = torch.randperm(len(sizes), generator=keyed(seed)).numpy()
    powers = np.frexp(sizes[order])[1]
    return order[np.argsort(-powers, kind="stable")]


def fill_empty(parts: Numbers, sizes: Numbers, num_parts: int) -> None:
    """Move a small group into each part without any, in place, from a part that has several."""
    for part in range(num_parts):
        if (parts == part).any():
            continue
        numbers = np.bincount(parts, minlength=num_parts)
        can_move = numbers[parts] > 1
        smallest = np.where(can_move, sizes, sizes.max() + 1).argmin()
        parts[smallest] = part
