"""k-fold validation: folds are a stratified partition of the training set."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from small_pictures import data, lay

from dltrain.data.images.digits import Digits
from dltrain.data.images.in_memory import InMemory
from dltrain.errors import InputError


@pytest.mark.parametrize("folds", [2, 5, 10])
def test_folds_partition_the_training_set_and_are_stratified(folds: int) -> None:
    sets = [InMemory(Digits(), folds=folds, fold=fold) for fold in range(folds)]
    held = [d.rows[1] for d in sets]
    assert sorted(torch.cat(held).tolist()) == list(range(1438))
    for d, rows in zip(sets, held, strict=True):
        assert sorted(torch.cat([rows, d.rows[0]]).tolist()) == list(range(1438))
    targets = sets[0].stored["train"][1]
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


def test_folds_of_images_with_a_validation_folder_are_refused() -> None:
    """They would all be validated on the same images."""
    for split in ("train", "val", "test"):
        lay(Path("pets") / split, count=4)
    with pytest.raises(InputError, match=r"dataset.folds=2 .* comes with a validation set"):
        _ = data("pets", folds=2, fold=0).train
    assert data("pets").val.samples == 8


def test_check_counts_the_steps_of_a_fold(dltrain) -> None:
    fold = ("dataset.folds=2", "dataset.fold=0")
    outcome = dltrain("check", "dataset=digits", "model=perceptron", *fold, "--json")
    assert outcome.json["steps_per_epoch"] == 45  # of 16 of 719 samples
