"""Freezing by name, thawing, and learning rates of single layers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from dltrain.optim import Optim
from dltrain.optimizers.adam import adam
from dltrain.weights.freezing import Freezing, learning_rate_groups, matching_names


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 3))


def trained(model: nn.Module) -> list[str]:
    return [name for name, p in model.named_parameters() if p.requires_grad]


@pytest.mark.parametrize(
    ("patterns", "left"),
    [
        (["0"], ["1.weight", "1.bias", "3.weight", "3.bias"]),
        (["0.weight"], ["0.bias", "1.weight", "1.bias", "3.weight", "3.bias"]),
        (["model.0", "1"], ["3.weight", "3.bias"]),
        (["*.weight"], ["0.bias", "1.bias", "3.bias"]),
        ([], ["0.weight", "0.bias", "1.weight", "1.bias", "3.weight", "3.bias"]),
    ],
)
def test_a_pattern_names_parameters_and_the_modules_around_them(
    patterns: list[str], left: list[str]
) -> None:
    model = network()
    Freezing(model, patterns)
    assert trained(model) == left


def test_a_frozen_batch_norm_keeps_its_statistics_and_computes_by_them() -> None:
    model, images = network(), torch.randn(4, 1, 4, 4) + 3
    before = {name: value.clone() for name, value in model.state_dict().items()}
    freezing = Freezing(model, ["0", "1"])
    model.train()
    outputs = model(images)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(outputs, model.eval()(images))
    model.train()
    freezing.thaw()
    assert not torch.equal(model(images), outputs)
    assert not torch.equal(model[1].running_mean, before["1.running_mean"])


def test_a_batch_norm_of_which_a_part_is_trained_continues_gathering() -> None:
    model = network()
    Freezing(model, ["1.weight"])
    model.train()(torch.randn(4, 1, 4, 4))
    assert model[1].num_batches_tracked == 1


def test_thawing_leaves_what_others_froze() -> None:
    model = network()
    model[0].bias.requires_grad_(False)
    freezing = Freezing(model, ["0", "1"])
    freezing.thaw()
    assert trained(model) == ["0.weight", "1.weight", "1.bias", "3.weight", "3.bias"]


def test_a_name_of_nothing_is_refused_with_the_names_that_there_are() -> None:
    with pytest.raises(
        ValueError, match=r"layer1 matches no parameter of this model: its parts are 0, 1, 3"
    ):
        Freezing(network(), ["0", "layer1"])


def test_all_is_too_much() -> None:
    with pytest.raises(ValueError, match="nothing is left to train"):
        Freezing(network(), ["*"])


def test_the_last_pattern_that_matches_says_the_factor() -> None:
    model = network()
    model[1].bias.requires_grad_(False)
    found = learning_rate_groups(model, {"*": 0.1, "3": 1, "3.bias": 2})
    sizes = {group["lr_factor"]: [tuple(p.shape) for p in group["params"]] for group in found}
    assert sizes == {0.1: [(2, 1, 3, 3), (2,), (2,)], 1: [(3, 8)], 2: [(3,)]}
    assert matching_names(model, ["3", "0.bias"]) == ["0.bias", "3.weight", "3.bias"]


def test_a_layer_moves_at_its_own_learning_rate() -> None:
    """Adam's first step is the learning rate, whatever the gradient."""
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    before = [p.detach().clone() for p in model.parameters()]
    optim = Optim(model, lambda params: adam(params, lr=0.1), lr_factors={"0": 0.01})
    optim.update(model(torch.ones(1, 2)).sum())
    moved = [
        float((p.detach() - b).abs().max()) for p, b in zip(model.parameters(), before, strict=True)
    ]
    assert moved == pytest.approx([0.001, 0.001, 0.1, 0.1], rel=1e-3)
    again = Optim(model, lambda params: adam(params, lr=0.1), lr_factors={"0": 0.01})
    again.load_state_dict(optim.state_dict())
    assert again.lrs == [0.001, 0.1]
