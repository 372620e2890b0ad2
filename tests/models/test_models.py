"""One test body for every model: shapes, a finite loss, a gradient in every parameter; and more."""

from __future__ import annotations

import math
import typing
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from model_options import IMAGE_CLASSIFIERS, build, image_arguments, keys
from torch import Tensor, nn

from dltrain.config.compose import compose
from dltrain.errors import ConfigError
from dltrain.experiment.experiment import Experiment
from dltrain.models import layers
from dltrain.models.images.cnn import CNN
from dltrain.models.images.lenet5 import LeNet5
from dltrain.models.layers import Dropout
from dltrain.models.mlp import MLP
from dltrain.models.perceptron import Perceptron
from dltrain.types import Activation, Norm, Pooling
from dltrain.weights.freezing import trainable_count

CHOICES = [
    (name, key, option)
    for key, options in {"activation": Activation, "norm": Norm, "pooling": Pooling}.items()
    for name in IMAGE_CLASSIFIERS
    if key in keys(name)
    for option in typing.get_args(options)
]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [8, 28, 32, 40])
@pytest.mark.parametrize("name", IMAGE_CLASSIFIERS)
def test_every_model_maps_images_to_logits_and_learns_with_every_parameter(
    name: str, side: int, channels: int
) -> None:
    torch.manual_seed(0)
    model = build(name, image_arguments(side, channels))
    logits: Tensor = model(torch.randn(4, channels, side, side))  # (B, K)
    assert logits.shape == (4, 7)
    loss = F.cross_entropy(logits, torch.tensor([0, 1, 2, 3]))
    assert torch.isfinite(loss)
    loss.backward()
    for parameter, p in model.named_parameters():
        assert p.grad is not None, parameter
        assert torch.isfinite(p.grad).all(), parameter
        assert p.grad.abs().sum() > 0, parameter


@pytest.mark.parametrize(("name", "key", "option"), CHOICES, ids=lambda value: str(value))
def test_every_model_with_a_choice_of_layers_takes_each_and_it_takes_effect(
    name: str, key: str, option: str
) -> None:
    """The same weights with another layer give other logits; the layers are those of the option."""
    other = next(o for n, k, o in CHOICES if (n, k) == (name, key) and o != option)
    models = []
    for chosen in (option, other):
        torch.manual_seed(0)
        models.append(build(name, image_arguments(28), f"model.{key}={chosen}"))
    x = torch.randn(4, 1, 28, 28)
    logits, others = (model(x) for model in models)
    assert torch.isfinite(logits).all()
    assert not torch.allclose(logits, others)
    present = {type(m) for m in models[0].modules()}
    wanted, replaced = ({type(layer) for layer in layers_of(key, o)} for o in (option, other))
    assert present & wanted or option == "none"
    assert not present & replaced


def layers_of(key: str, option: Any) -> list[nn.Module]:
    """Return the layers of an option of a key."""
    if key == "activation":
        return [layers.activation(option)]
    if key == "pooling":
        return [layers.pool(option)]
    return [*layers.feature_norm(option, 1), *layers.channel_norm(option, 1)]


ACTIVATIONS: dict[str, Callable[[float], float]] = {
    "relu": lambda x: max(0.0, x),
    "leaky_relu": lambda x: x if x > 0 else 0.01 * x,
    "elu": lambda x: x if x > 0 else math.exp(x) - 1,
    "gelu": lambda x: x * (1 + math.erf(x / math.sqrt(2))) / 2,
    "tanh": lambda x: (math.exp(2 * x) - 1) / (math.exp(2 * x) + 1),
    "sigmoid": lambda x: 1 / (1 + math.exp(-x)),
}


@pytest.mark.parametrize("name", typing.get_args(Activation))
def test_an_activation_is_its_formula(name: Activation) -> None:
    """Element by element; softmax over the features of a row, or over the channels of a pixel."""
    x = torch.linspace(-3, 3, 24, dtype=torch.float64)
    if name == "softmax":
        for z in (x.view(4, 6), x.view(2, 3, 2, 2)):
            assert torch.allclose(
                layers.activation(name)(z), z.exp() / z.exp().sum(dim=1, keepdim=True)
            )
    else:
        expected = [ACTIVATIONS[name](value) for value in x.tolist()]
        assert layers.activation(name)(x).tolist() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", ["mlp", "cnn"])
@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_a_norm_gives_mean_0_and_standard_deviation_1_before_the_activation(
    name: str, norm: str
) -> None:
    """Batch norm: every feature or channel over the batch; layer norm: every sample."""
    torch.manual_seed(0)
    model = build(name, image_arguments(28), f"model.norm={norm}")
    seen: list[Tensor] = []
    children = list(model.children())
    at = next(i for i, m in enumerate(children) if isinstance(m, nn.ReLU))
    children[at - 1].register_forward_hook(
        lambda _module, args, output: seen.extend([args[0], output])
    )
    with torch.no_grad():
        model(5 + 3 * torch.randn(16, 1, 28, 28))
    before, after = (
        (x.transpose(0, 1) if norm == "batch" else x).flatten(1) for x in seen
    )  # a row is normalized
    expected = (before - before.mean(1, keepdim=True)) / before.std(1, correction=0, keepdim=True)
    assert torch.allclose(after, expected, atol=1e-3)
    layer = children[at - 2]
    assert isinstance(layer, nn.Linear | nn.Conv2d)
    assert layer.bias is None


@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_without_a_norm_layers_have_a_bias(name: str) -> None:
    model = build(name, image_arguments(28), "model.norm=none")
    assert all(m.bias is not None for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d))


@pytest.mark.parametrize(
    ("name", "expected"),
    [("max", [[4.0, 8.0]]), ("average", [[2.5, 5.0]]), ("variance", [[1.25, 9.0]])],
)
def test_pooling_of_two_hand_written_windows(name: Pooling, expected: list[list[float]]) -> None:
    """1, 2, 3, 4: mean 2.5, squared deviations 2.25 + .25 + .25 + 2.25. 8, 2, 2, 8: mean 5.

    A third row and a fifth column fill no window.
    """
    x = torch.tensor([[1.0, 2, 8, 2, 99], [3, 4, 2, 8, 99], [99, 99, 99, 99, 99]])
    assert layers.pool(name)(x.view(1, 1, 3, 5)).squeeze((0, 1)).tolist() == expected


def test_variance_pooling_is_exact_far_from_zero_and_has_its_gradient() -> None:
    """In single precision E[x^2] - E[x]^2 of values about 10000 is noise, and negative at times."""
    pool = layers.VariancePool2d(2)
    x = torch.randint(0, 8, (2, 3, 6, 6), generator=torch.Generator().manual_seed(0)).float()
    assert torch.equal(pool(x + 10000), pool(x))
    assert pool(torch.full((1, 1, 2, 2), 10000.1)).item() == 0
    small = x[:1, :1].double().requires_grad_()
    assert torch.autograd.gradcheck(pool, small)


def test_the_cnn_can_be_the_classic_keras_example() -> None:
    """conv 32 3x3 valid, max-pool, dropout .25, dense 128, dropout .5, dense 10.

    It has 320 + 692352 + 1290 parameters.
    """
    model = CNN(
        *(1, (28, 28), 10),
        channels=(32,),
        padding="valid",
        norm="none",
        conv_dropout=0.25,
        hidden_sizes=(128,),
        dropout=0.5,
    )
    convolution = [nn.Conv2d, nn.ReLU, nn.MaxPool2d, Dropout, nn.Flatten]
    assert [type(m) for m in model] == [*convolution, nn.Linear, nn.ReLU, Dropout, nn.Linear]
    assert [m.p for m in model if isinstance(m, nn.Dropout)] == [0.25, 0.5]
    assert trainable_count(model) == 693962


def test_the_default_cnn_keeps_its_parameter_names() -> None:
    """Checkpoints hold them."""
    layer, norm = ("weight",), ("weight", "bias")
    expected = [
        f"{i}.{n}"
        for i, names in ((0, layer), (1, norm), (4, layer), (5, norm), (9, norm))
        for n in names
    ]
    assert [name for name, _ in build("cnn", image_arguments(28)).named_parameters()] == expected


def test_a_list_in_channels_is_several_convolutions_before_one_pooling(dltrain) -> None:
    """1-4-4 | 8-8 on 8x8 pixels, with batch norms, and 2x2x8 features to 10 classes."""
    count = 9 * (1 * 4 + 4 * 4 + 4 * 8 + 8 * 8) + 2 * (4 + 4 + 8 + 8) + (32 * 10 + 10)
    outcome = dltrain("check", "model.channels=[[4,4],[8,8]]", "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.json["parameters"] == count
    assert dltrain("check", "model.channels=[[4,0],8]").code == 2


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("kernel_size", [1, 3, 5])
@pytest.mark.parametrize("channels", [(), (4,), (4, (4, 4)), ((2, 2, 2), 2, 2)], ids=str)
def test_the_cnn_fits_every_image_or_refuses_it(
    padding: Any, kernel_size: Any, channels: Any
) -> None:
    """A CNN that is built also runs; it is refused exactly if no pixel would be left."""
    for side in range(1, 40):
        left = side
        for block in channels:
            for _ in (block,) if isinstance(block, int) else block:
                left = max(0, left - (kernel_size - 1 if padding == "valid" else 0))
            left //= 2
        sizes = (side, 40)
        if left:
            model = CNN(1, sizes, 3, channels, kernel_size, padding)
            assert model.eval()(torch.zeros(1, 1, *sizes)).shape == (1, 3)
        else:
            with pytest.raises(
                ValueError, match=r"pixels are too few; give model.channels fewer entries"
            ):
                CNN(1, sizes, 3, channels, kernel_size, padding)


def test_the_average_head_uses_one_number_per_channel() -> None:
    """Its logits are the output layer of the maps' means, for images of any size."""
    model = build("cnn", image_arguments(28), "model.head=average").eval()
    output = model[-1]  # type: ignore[index]
    assert isinstance(output, nn.Linear)
    assert output.in_features == 64
    x = torch.randn(2, 1, 40, 40)
    maps = nn.Sequential(*list(model)[:-3])(x)  # type: ignore[call-overload]
    assert maps.shape == (2, 64, 10, 10)
    assert torch.allclose(model(x), output(maps.mean(dim=(2, 3))), atol=1e-5)


def test_dropout_follows_every_dense_layer_or_stands_before_the_output() -> None:
    def places(**settings: Any) -> list[str]:
        return [
            type(m).__name__ for m in list(CNN(1, (8, 8), 3, (4,), dropout=0.5, **settings))[5:]
        ]

    assert places() == ["Dropout", "Linear"]
    assert places(hidden_sizes=(6, 5)) == [*["Linear", "ReLU", "Dropout"] * 2, "Linear"]


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
    """LeNet-5 has 156 + 2416 + 48120 + 10164 + 850 (C3 gets all maps of S2)."""
    assert trainable_count(model) == count


def test_an_image_too_small_for_the_cnn_is_refused_with_what_to_change() -> None:
    config = compose(["model.channels=[8,8,8,8]"]).config
    with pytest.raises(
        ConfigError, match=r"8x8 pixels are too few; give model.channels fewer entries"
    ):
        Experiment.to_train(config).build()


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
        weight = torch.tensor([[9.0, 9.0], [0.0, 0.0], [0.0, 0.0]])
        right[1].weight.copy_(weight)  # type: ignore[operator, union-attr]
    assert PerceptronLoss()(right(x), torch.tensor([0])) == 0


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_drops_its_share_and_keeps_the_mean(p: float) -> None:
    layer, x = Dropout(p), torch.full((301, 333), 2.0, requires_grad=True)
    torch.manual_seed(0)
    outputs = layer(x)
    outputs.sum().backward()
    y = outputs.detach()
    assert float((y == 0).float().mean()) == pytest.approx(p, abs=0.005)
    assert float(y.mean()) == pytest.approx(2, abs=0.05)
    assert float(y.max()) == pytest.approx(2 / (1 - p))
    assert torch.equal(x.grad, y / 2)
    assert not torch.equal(layer(x), outputs)
    assert layer.eval()(x) is x or torch.equal(layer(x), x)
    assert torch.equal(Dropout(0.0)(x), x)


def test_dropout_follows_the_seed_and_half_precision() -> None:
    layer, x = Dropout(0.3), torch.ones(7, 5, dtype=torch.bfloat16)
    torch.manual_seed(3)
    first = layer(x)
    torch.manual_seed(3)
    assert first.dtype == torch.bfloat16
    assert torch.equal(layer(x), first)
