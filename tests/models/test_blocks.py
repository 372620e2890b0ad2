"""Kinds of blocks of the CNN, and the scalars that set its depth and width."""

from __future__ import annotations

import typing

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dltrain.models.blocks import WithShortcut
from dltrain.models.images.cnn import CNN, block_widths
from dltrain.models.mlp import MLP
from dltrain.types import BlockKind, Norm
from dltrain.weights.freezing import trainable_count

IMAGES = (3, (16, 16), 7)


@pytest.mark.parametrize("pool_first", [False, True])
@pytest.mark.parametrize("norm", typing.get_args(Norm))
@pytest.mark.parametrize("block", typing.get_args(BlockKind))
def test_every_kind_of_block_learns_with_every_parameter(
    block: BlockKind, norm: Norm, pool_first: bool
) -> None:
    torch.manual_seed(0)
    model = CNN(*IMAGES, block=block, norm=norm, repeats=2, pool_first=pool_first)
    logits = model(torch.randn(4, 3, 16, 16))
    assert logits.shape == (4, 7)
    F.cross_entropy(logits, torch.tensor([0, 1, 2, 3])).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_depth_width_and_repeats_set_the_channels() -> None:
    assert block_widths((32, 64), None, 1.0, 1) == [(32,), (64,)]
    assert block_widths((32, (64, 48)), 3, 0.5, 1) == [(16,), (32, 24), (64, 48)]
    assert block_widths((32, 64), 1, 0.01, 3) == [(1, 1, 1)]
    with pytest.raises(ValueError, match="give it one"):
        block_widths((), 2, 1.0, 1)


def test_depth_and_width_set_the_hidden_layers() -> None:
    def sizes(**settings: typing.Any) -> list[int]:
        model = MLP(9, 4, hidden_sizes=(8, 6), **settings)
        return [layer.out_features for layer in model if isinstance(layer, nn.Linear)]

    assert sizes() == [8, 6, 4]
    assert sizes(depth=4, width=0.5) == [4, 3, 3, 3, 4]
    assert sizes(depth=1) == [8, 4]
    with pytest.raises(ValueError, match="give it one"):
        MLP(9, 4, hidden_sizes=(), depth=2)


def test_a_separable_block_has_the_parameters_of_its_two_convolutions() -> None:
    plain = CNN(8, (16, 16), 7, channels=(16,), norm="none", head="average")
    separable = CNN(8, (16, 16), 7, channels=(16,), norm="none", head="average", block="separable")
    head = 16 * 7 + 7
    assert trainable_count(plain) == 8 * 16 * 9 + 16 + head
    assert trainable_count(separable) == (8 * 9 + 8) + (8 * 16 + 16) + head


def test_a_residual_block_of_equal_channels_adds_its_input() -> None:
    model = CNN(8, (16, 16), 7, channels=(8,), block="residual")
    block = next(layer for layer in model if isinstance(layer, WithShortcut))
    nn.init.zeros_(block.body[-1].weight)
    x = torch.randn(2, 8, 16, 16)
    assert torch.equal(block(x), x)
    assert trainable_count(block.shortcut) == 0


@pytest.mark.parametrize("block", ["residual", "bottleneck"])
def test_shortcuts_need_images_that_keep_their_size(block: BlockKind) -> None:
    with pytest.raises(ValueError, match=r"which need model\.padding=same"):
        CNN(*IMAGES, block=block, padding="valid")
