"""One body for every model: shapes, a finite loss, a gradient for every parameter; and what each promises of itself."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dltrain import build
from dltrain.config.compose import compose, groups
from dltrain.errors import ConfigError
from dltrain.models.cnn import CNN
from dltrain.models.lenet5 import LeNet5
from dltrain.models.mlp import MLP
from dltrain.models.perceptron import Perceptron


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [8, 28, 32, 40])
@pytest.mark.parametrize("name", groups()["model"])
def test_every_model_maps_images_to_logits_and_learns_with_every_parameter(name: str, side: int, channels: int) -> None:
    torch.manual_seed(0)
    available = {
        "in_channels": channels,
        "image_size": (side, side),
        "in_features": channels * side * side,
        "num_classes": 7,
    }
    model: nn.Module = build.make(compose([f"model={name}"]).config["model"], "model", available, [])
    logits: Tensor = model(torch.randn(4, channels, side, side))  # (B, K)
    assert logits.shape == (4, 7)
    loss = F.cross_entropy(logits, torch.tensor([0, 1, 2, 3]))
    assert torch.isfinite(loss)
    loss.backward()
    for parameter, p in model.named_parameters():
        assert p.grad is not None, parameter
        assert torch.isfinite(p.grad).all(), parameter
        assert p.grad.abs().sum() > 0, parameter


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "elu", "gelu", "tanh", "sigmoid"])
@pytest.mark.parametrize("name", ["mlp", "cnn", "lenet5"])
def test_the_activation_is_a_choice_that_takes_effect(name: str, activation: str) -> None:
    from dltrain.models.layers import ACTIVATIONS

    config = compose([f"model={name}", f"model.activation={activation}"]).config
    task = build.build(config, fake=True).task
    kinds = {type(m) for m in task.modules()} & set(ACTIVATIONS.values())
    assert kinds == {ACTIVATIONS[activation]}


@pytest.mark.parametrize(
    ("model", "count"),
    [
        (Perceptron(784, 10), 7850),
        (MLP(784, 10, (256, 128)), 235146),
        (CNN(1, (28, 28), 10), 50282),
        (LeNet5(1, (28, 28), 10), 61706),
    ],
    ids=["perceptron", "mlp", "cnn", "lenet5"],
)
def test_parameters_on_mnist(model: nn.Module, count: int) -> None:
    """By hand: LeNet-5 is 156 + 2416 + 48120 + 10164 + 850 (its C3 sees all maps of S2)."""
    assert build.parameter_count(model) == count


def test_an_image_too_small_for_the_cnn_is_refused_with_what_to_change() -> None:
    config = compose(["model.channels=[8,8,8,8]"]).config
    with pytest.raises(ConfigError, match=r"8x8 pixels are too few; give model.channels fewer entries"):
        build.build(config)


def test_the_perceptron_rule_moves_the_right_class_towards_the_sample_and_the_winner_away() -> None:
    from dltrain.losses import PerceptronLoss

    model = Perceptron(2, 3)
    linear = model[1]
    assert isinstance(linear, nn.Linear)
    with torch.no_grad():
        linear.weight.copy_(torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 0.0]]))
    x = torch.tensor([[2.0, 3.0]])
    PerceptronLoss()(model(x), torch.tensor([0])).backward()
    assert linear.weight.grad is not None
    assert torch.equal(linear.weight.grad, torch.tensor([[-2.0, -3.0], [2.0, 3.0], [0.0, 0.0]]))
    right = Perceptron(2, 3)
    with torch.no_grad():
        right[1].weight.copy_(torch.tensor([[9.0, 9.0], [0.0, 0.0], [0.0, 0.0]]))  # type: ignore[operator, union-attr]
    assert PerceptronLoss()(right(x), torch.tensor([0])) == 0
