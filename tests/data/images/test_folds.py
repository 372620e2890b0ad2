"""k-fold validation: folds are a stratified partition of the training set."""

from __future__ import annotations

import pytest
import torch

from dltrain.data.images.digits import Digits
from dltrain.data.images.in_memory import InMemory


@pytest.mark.parametrize("folds", [2, 5, 10])
def test_folds_partition_the_training_set_and_are_stratified(folds: int) -> None:
    data = [InMemory(Digits(), folds=folds, fold=fold) for fold in range(folds)]
    held = [d.rows[1] for d in data]
    assert sorted(torch.cat(held).tolist()) == list(range(1438))
    for d, rows in zip(data, held, strict=True):
        assert sorted(torch.cat([rows, d.rows[0]]).tolist()) == list(range(1438))
    targets = data[0].stored["train"][1]
    counts = torch.stack(
        [targets[rows].bincount(minlength=10) for rows in held]
    )  # (folds, classes)
    assert int((counts.max(dim=0).values - counts.min(dim=0).values).max()) <= 1
    sizes = [len(rows) for rows in held]
    assert max(sizes) - min(sizes) <= 4, "what is left over of each class goes to other folds"


def test_folds_are_a_function_of_split_seed_alone() -> None:
    first = InMemory(Digits(), folds=5, fold=2).rows[1]
    assert torch.equal(first, InMemory(Digits(), folds=5, fold=2, seed=9, val_fraction=0.3).rows[1])
    assert not torch.equal(first, InMemory(Digits(), folds=5, fold=2, split_seed=1).rows[1])
