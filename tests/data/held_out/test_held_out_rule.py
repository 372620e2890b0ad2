"""Folds and fractions: stratified, a partition, and a function of split_seed alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.model_selection import StratifiedGroupKFold
from torch import Tensor

from dltrain.data.held_out.groups import Groups
from dltrain.data.held_out.rule import check_fold, fold_numbers, held_out_mask
from dltrain.errors import InputError
from dltrain.rng import keyed

SETTING = "dataset.group=patient"


def random_classes(samples: int, num_classes: int, seed: int = 0) -> Tensor:
    """Classes of different sizes."""
    generator = np.random.default_rng(seed)
    weights = generator.random(num_classes) + 0.1
    drawn = generator.choice(num_classes, samples, p=weights / weights.sum())
    return torch.from_numpy(drawn)


def random_groups(samples: int, number: int, seed: int = 0) -> Groups:
    """Groups of very different sizes."""
    generator = np.random.default_rng(seed)
    weights = generator.pareto(1.5, number) + 0.2
    codes = generator.choice(number, samples, p=weights / weights.sum())
    codes[:number] = np.arange(number)
    return Groups.from_names([f"p{code}" for code in codes], SETTING)


def counts_of(classes: Tensor, parts: Tensor, folds: int) -> Tensor:
    """The samples of each class in each fold (folds, classes)."""
    num_classes = int(classes.max()) + 1
    return torch.stack(
        [classes[parts == fold].bincount(minlength=num_classes) for fold in range(folds)]
    )


@pytest.mark.parametrize("folds", [2, 3, 5, 10])
@pytest.mark.parametrize("num_classes", [1, 2, 7, 30])
def test_each_sample_is_in_one_fold_and_classes_are_divided_evenly(
    folds: int, num_classes: int
) -> None:
    classes = random_classes(613, num_classes)
    masks = [held_out_mask(classes, 0.1, 3, folds, fold) for fold in range(folds)]
    assert (torch.stack(masks).sum(dim=0) == 1).all()
    counts = counts_of(classes, fold_numbers(classes, folds, 3), folds)
    assert int((counts.max(dim=0).values - counts.min(dim=0).values).max()) <= 1
    sizes = counts.sum(dim=1)
    assert int(sizes.max() - sizes.min()) <= num_classes


def test_numbers_as_targets_make_folds_of_equal_size() -> None:
    """They are not stratified, as in scikit-learn's KFold."""
    for targets in (torch.rand(53), torch.rand(53, 2)):
        sizes = fold_numbers(targets, 5, 0).bincount(minlength=5)
        assert sizes.tolist() == [11, 11, 11, 10, 10]


def test_folds_are_those_of_earlier_versions() -> None:
    """So that a run that was trained on a fold is scored on the same samples."""
    classes = random_classes(101, 4)
    for fold in range(5):
        expected = torch.zeros(len(classes), dtype=torch.bool)
        for label in range(4):
            members = (classes == label).nonzero().squeeze(1)
            order = members[torch.randperm(len(members), generator=keyed(7, label))]
            expected[order[(fold + label) % 5 :: 5]] = True
        assert torch.equal(held_out_mask(classes, 0.1, 7, 5, fold), expected)


@pytest.mark.parametrize("groups", [None, random_groups(200, 40)])
def test_another_split_seed_gives_other_samples_and_the_same_one_the_same(
    groups: Groups | None,
) -> None:
    classes = random_classes(200, 3)
    for settings in ({"fraction": 0.2}, {"fraction": 0.1, "folds": 5, "fold": 1}):
        keys: dict[str, Any] = {**settings, "groups": groups}
        first, again = (held_out_mask(classes, seed=0, **keys) for _ in range(2))
        assert torch.equal(first, again)
        assert not torch.equal(first, held_out_mask(classes, seed=1, **keys))


@pytest.mark.parametrize(
    ("folds", "fold", "words"),
    [
        (5, None, r"dataset.folds=5 needs the fold to validate on, 0 to 4: dataset.fold=0"),
        (5, 5, "dataset.fold=5 is not one of the 5 folds, 0 to 4"),
        (None, 2, "dataset.fold=2 needs the number of folds, such as dataset.folds=5"),
    ],
)
def test_a_fold_without_folds_and_folds_without_a_fold_are_refused(
    folds: int | None, fold: int | None, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        check_fold(folds, fold)


@pytest.mark.parametrize(("folds", "fold"), [(None, None), (None, 0), (2, 0), (2, 1)])
def test_settings_of_earlier_versions_are_valid(folds: int | None, fold: int | None) -> None:
    check_fold(folds, fold)


# groups


def spread(counts: Tensor) -> float:
    """The mean standard deviation of the shares of the classes over folds; 0 if all are equal."""
    shares = counts / counts.sum(dim=0).clamp_min(1)
    return float(shares.std(dim=0, correction=0).mean())


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("num_groups", "num_classes", "folds"), [(40, 3, 5), (200, 10, 4)])
def test_groups_stay_in_one_fold_and_are_as_even_as_those_of_scikit_learn(
    num_groups: int, num_classes: int, folds: int, seed: int
) -> None:
    classes = random_classes(1500, num_classes, seed)
    groups = random_groups(1500, num_groups, seed)
    numbers = fold_numbers(classes, folds, seed, groups)
    assert set(numbers.tolist()) == set(range(folds))
    for code in range(num_groups):
        assert len(numbers[groups.codes == code].unique()) == 1
    theirs = torch.zeros(len(classes), dtype=torch.int64)
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    for fold, (_, held) in enumerate(splitter.split(classes, classes, groups.codes)):
        theirs[torch.from_numpy(held)] = fold
    ours = spread(counts_of(classes, numbers, folds))
    assert ours < 1.25 * spread(counts_of(classes, theirs, folds)) + 0.005


@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.5, 0.8])
@pytest.mark.parametrize("seed", range(4))
def test_a_fraction_of_whole_groups_is_held_out_of_every_class(fraction: float, seed: int) -> None:
    classes = random_classes(2000, 3, seed)
    generator = np.random.default_rng(seed)
    groups = Groups.from_names(map(str, generator.integers(0, 100, 2000)), SETTING)
    held = held_out_mask(classes, fraction, seed, groups=groups)
    assert groups[held].present.isdisjoint(groups[~held].present)
    assert abs(held.float().mean().item() - fraction) < 0.01
    for label in range(3):
        assert abs(held[classes == label].float().mean().item() - fraction) < 0.05


def test_groups_of_one_sample_are_stratified_like_samples() -> None:
    classes = random_classes(300, 4)
    groups = Groups.from_names(map(str, range(300)), SETTING)
    counts = counts_of(classes, fold_numbers(classes, 5, 0, groups), 5)
    assert int((counts.max(dim=0).values - counts.min(dim=0).values).max()) <= 1


def grouped(*sizes: int) -> tuple[Tensor, Groups]:
    """Groups of these sizes, all of one class."""
    names = [f"p{i}" for i, size in enumerate(sizes) for _ in range(size)]
    return torch.zeros(len(names), dtype=torch.int64), Groups.from_names(names, SETTING)


@pytest.mark.parametrize(
    ("sizes", "held"), [((50, 50, 1), 1), ((90, 10), 10), ((10, 90), 10), ((10,) * 10, 10)]
)
def test_at_least_one_group_is_held_out_and_one_is_left(sizes: tuple[int, ...], held: int) -> None:
    classes, groups = grouped(*sizes)
    for fraction in (0.01, 0.1):
        assert int(held_out_mask(classes, fraction, 0, groups=groups).sum()) == held
    nearly_all = held_out_mask(classes, 0.99, 0, groups=groups)
    assert 0 < int(nearly_all.sum()) < len(classes)
    assert not held_out_mask(classes, 0.0, 0, groups=groups).any()


def test_a_share_far_from_the_fraction_is_said(caplog: pytest.LogCaptureFixture) -> None:
    classes, groups = grouped(50, 50)
    held_out_mask(classes, 0.1, 0, groups=groups)
    assert "50 % of 100 samples are held out instead of 10 %" in caplog.text
    assert "2 groups, the largest 'p0' with 50 samples" in caplog.text
    caplog.clear()
    classes, groups = grouped(*(10,) * 10)
    held_out_mask(classes, 0.1, 0, groups=groups)
    assert not caplog.text


def test_too_few_groups_are_refused_with_their_number() -> None:
    classes, groups = grouped(5, 5, 5)
    with pytest.raises(InputError, match=r"3 groups in 15 training samples .* into 5 folds: set"):
        held_out_mask(classes, 0.1, 0, 5, 0, groups)
    classes, groups = grouped(5)
    with pytest.raises(InputError, match=r"only 1 group is left, of 5 samples \(p0\)"):
        held_out_mask(classes, 0.1, 0, groups=groups)


@pytest.mark.parametrize(
    ("targets", "folds", "advice"),
    [
        (torch.zeros(9), 10, "set dataset.folds=9 or fewer"),
        (torch.tensor([0] * 5 + [1] * 5), 8, "set dataset.folds=5 or fewer"),  # 2 would be empty
        (torch.arange(3) * 3, 3, "add data, or leave out dataset.folds"),
    ],
)
def test_folds_without_samples_are_refused(targets: Tensor, folds: int, advice: str) -> None:
    """A fold without samples would be a run that is validated on nothing."""
    with pytest.raises(InputError, match=rf"dataset.folds={folds}: {len(targets)} .*{advice}"):
        fold_numbers(targets, folds, seed=0)


def test_every_fold_of_the_advised_number_has_samples() -> None:
    numbers = fold_numbers(torch.tensor([0] * 5 + [1] * 5), 5, seed=0)
    assert numbers.bincount(minlength=5).tolist() == [2] * 5
