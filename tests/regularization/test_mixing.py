"""Mixup and CutMix: what becomes of images and targets, from which key, and that evaluation sees
nothing of it.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from dltrain.config.check import problems_of
from dltrain.config.compose import compose
from dltrain.experiment.experiment import Experiment
from dltrain.regularization.cutmix import CutMix
from dltrain.regularization.mixup import Mixup, draw_ratio
from dltrain.rng import keyed

MIXERS = ["mixup", "cutmix"]
# samples a batch, each of a class of its own: the mixed targets then say which samples were mixed,
# and how
B = 16


def mixed(mixer: Any, images: Tensor, position: int) -> tuple[Tensor, Tensor]:
    """Images and shares (B, B): row i holds what of every sample is in the i-th mixed one."""
    inputs, shares = mixer(images.clone(), torch.eye(B), keyed(0, 0, position))
    assert torch.allclose(shares.sum(dim=1), torch.ones(B))
    assert (shares >= 0).all()
    return inputs, shares


def built(*overrides: str) -> Experiment:
    composed = compose(["dataset=synthetic", *overrides])
    assert not composed.problems
    return Experiment.on_fake_data(composed.config)


def test_mixup_blends_pairs_by_one_share_a_batch() -> None:
    """The blend of the images is that of the targets: x' = S x, with one share l and 1 - l in every
    row of S.
    """
    images = torch.randn(B, 3, 8, 6, generator=keyed(1))
    for position in range(20):
        inputs, shares = mixed(Mixup(1.0), images, position)
        assert torch.allclose(inputs.flatten(1), shares @ images.flatten(1), atol=1e-5)
        own = shares.diagonal()[shares.diagonal() < 1]  # a sample may be its own partner
        assert torch.equal(own, own[:1].expand_as(own))
        assert torch.allclose(
            shares.sum(dim=0), torch.ones(B)
        )  # every sample is the partner of one


def test_cutmix_pastes_one_box_and_counts_its_pixels() -> None:
    """Image i is all i's: the values in a mixed image say where each pixel is from, and how many
    are.
    """
    images = torch.arange(B).float().view(B, 1, 1, 1).expand(B, 3, 8, 6)
    pasted = 0
    for position in range(20):
        inputs, shares = mixed(CutMix(1.0), images, position)
        for i in range(B):
            foreign = inputs[i] != i
            assert shares[i, i].item() == pytest.approx(1 - foreign.float().mean().item())
            partner = inputs[i][foreign].unique().long()
            assert len(partner) <= 1
            assert shares[i, partner].tolist() == pytest.approx(
                [1 - shares[i, i].item()] * len(partner)
            )
            rows, columns = foreign[0].any(dim=1), foreign[0].any(dim=0)
            assert torch.equal(
                foreign, (rows[:, None] & columns[None]).expand(3, 8, 6)
            )  # a box, in every channel
            for side in (rows, columns):
                assert torch.diff(
                    side.int(), prepend=torch.zeros(1), append=torch.zeros(1)
                ).abs().sum() in (0, 2)
            pasted += int(foreign.any())
    assert pasted > 5 * B


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_shares_are_drawn_from_beta(alpha: float) -> None:
    """Mean 1/2 and variance 1 / (4 (2 alpha + 1)), each within five standard errors or so of 4000
    draws.
    """
    shares = torch.tensor([draw_ratio(alpha, keyed(0, i)) for i in range(4000)])
    assert ((shares >= 0) & (shares <= 1)).all()
    assert shares.mean().item() == pytest.approx(0.5, abs=0.03)
    assert shares.var().item() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.1)


def test_the_area_of_a_box_is_what_was_drawn_and_less_at_the_border() -> None:
    """A side of a share r of the image, around a uniform center, covers r - r^2 / 4 of it on
    average.
    """
    differences = []
    for position in range(400):
        _, shares = CutMix(1.0)(torch.zeros(2, 1, 100, 100), torch.eye(2), keyed(0, position))
        area, drawn = 1 - shares[0, 0].item(), 1 - draw_ratio(1.0, keyed(0, position))
        assert area <= drawn + 1e-6
        if shares[0, 0] < 1:  # else each was its own partner
            differences.append(area - (drawn**0.5 - drawn / 4) ** 2)
    assert len(differences) > 100
    assert torch.tensor(differences).mean().item() == pytest.approx(0, abs=0.03)


@pytest.mark.parametrize("mixer", MIXERS)
def test_mixing_reaches_the_training_batches_and_no_others(mixer: str) -> None:
    """Training batches hold shares of the classes in rows of sum 1; validation and test are what
    they are without.
    """
    resized = "preprocessing=[resize]"  # evaluation goes through this transform too
    plain, mixing = built(resized), built(resized, f"regularization=[{mixer}]")
    (x, y), (mixed_x, shares) = (next(e.data.train.epoch(0)) for e in (plain, mixing))
    assert shares.shape == (len(y), 10)
    assert torch.allclose(shares.sum(dim=1), torch.ones(len(y)))
    assert (shares.gather(1, y.unsqueeze(1)) > 0).any()
    assert not torch.equal(mixed_x, x)
    for split in ("val", "test"):
        for (a, b), (c, d) in zip(
            *(getattr(e.data, split).epoch(0) for e in (plain, mixing)), strict=True
        ):
            assert torch.equal(a, c)
            assert torch.equal(b, d)
            assert d.dtype == torch.int64


@pytest.mark.parametrize("mixer", MIXERS)
def test_a_mixed_batch_is_a_function_of_its_position(mixer: str) -> None:
    """Begun in the middle of an epoch, the batches are the same; another position or epoch draws
    again.
    """
    train = built(
        f"regularization=[{mixer}]", f"regularization.{mixer}.alpha=2", "dataset.batch_size=8"
    ).data.train
    whole, tail = list(train.epoch(1)), list(train.epoch(1, start=1))
    for (x, y), (tx, ty) in zip(whole[1:], tail, strict=True):
        assert torch.equal(x, tx)
        assert torch.equal(y, ty)
    tops = {round(y.max(dim=1).values.min().item(), 6) for x, y in [*whole, *train.epoch(2)]}
    assert len(tops) > 1, "every batch was mixed by the same share"


def test_both_mix_one_after_the_other_and_after_preprocessing() -> None:
    train = built("regularization=[mixup,cutmix]", "preprocessing=[flip]").data.train
    shares = torch.cat([y for _, y in train.epoch(0)])
    assert torch.allclose(shares.sum(dim=1), torch.ones(len(shares)))
    assert int((shares > 0).sum(dim=1).max()) > 2


def test_mixup_blends_the_numbers_of_a_regression() -> None:
    """Targets that are floats already are mixed as they are."""
    x = torch.randn(B, 5, generator=keyed(2))
    inputs, targets = Mixup(1.0)(x, 3 * x[:, :2], keyed(0))
    assert torch.allclose(targets, 3 * inputs[:, :2], atol=1e-5)
    assert not torch.equal(inputs, x)


def test_cutmix_is_for_images() -> None:
    assert Mixup().shape((7,)) == (7,)
    with pytest.raises(ValueError, match=r"needs images, not inputs of shape \(7,\)"):
        CutMix().shape((7,))


@pytest.mark.parametrize("mixer", MIXERS)
def test_training_learns_from_mixed_samples(mixer: str, dltrain) -> None:
    """Digits in one epoch: far above chance, with a training loss that the blends keep above the
    plain one.
    """
    short = ["model=mlp", "trainer.epochs=1", "trainer.steps=80", "callbacks=quiet", "--json"]
    plain = dltrain(*short).json["metrics"]
    mixing = dltrain(*short, f"regularization=[{mixer}]", f"regularization.{mixer}.alpha=1")
    assert mixing.code == 0, mixing.err
    assert mixing.json["metrics"]["test/accuracy"] > 0.7
    assert mixing.json["metrics"]["train/loss"] > 0.3 + plain["train/loss"]


def test_a_distribution_that_does_not_exist_is_refused() -> None:
    composed = compose(["regularization=[mixup]", "regularization.mixup.alpha=0"])
    assert [why for _, why in problems_of(composed)] == ["expected a number > 0, got 0"]
