"""Every initialization option: what it fills and what not, and the spread that its paper gives."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dltrain.config.groups import groups, read_option
from dltrain.experiment.instantiate import instantiate
from dltrain.initialization.constant import Constant
from dltrain.initialization.he import He
from dltrain.initialization.normal import Normal
from dltrain.initialization.orthogonal import Orthogonal
from dltrain.initialization.uniform import Uniform
from dltrain.initialization.xavier import Xavier

SCHEMES = sorted({*groups()["initialization"]} - {"default"})
LINEAR = (300, 200)  # out, in
KERNEL = (60, 40, 3, 3)  # fan_in 360, fan_out 540


def option(name: str, **settings: Any) -> Any:
    """The scheme as its file has it, with `settings` over it."""
    return instantiate(
        {**read_option("initialization", name), **settings}, "initialization", {}, []
    )


def network() -> nn.ModuleDict:
    torch.manual_seed(0)
    layers: dict[str, nn.Module] = {
        "linear": nn.Linear(*reversed(LINEAR)),
        "unbiased": nn.Linear(3, 4, bias=False),
        "conv": nn.Conv2d(40, 60, 3),
        "batch": nn.BatchNorm2d(60),
        "layer": nn.LayerNorm(7),
        "lstm": nn.LSTM(8, 5, num_layers=2),
        "attention": nn.MultiheadAttention(8, 2),
        "embedding": nn.Embedding(9, 6, padding_idx=0),
    }
    for p in (
        layers["batch"].weight,
        layers["batch"].bias,
        layers["layer"].weight,
        layers["layer"].bias,
    ):
        nn.init.uniform_(p)
    return nn.ModuleDict(layers)


@pytest.mark.parametrize("name", SCHEMES)
def test_every_scheme_fills_weights_sets_biases_and_leaves_norms_alone(name: str) -> None:
    net = network()
    before = {key: p.clone() for key, p in net.named_parameters()}
    option(name, bias=0.25)(net)
    for key, p in net.named_parameters():
        if key.startswith(("batch", "layer")):
            assert torch.equal(p, before[key]), key
        elif p.ndim == 1:
            assert bool((p == 0.25).all()), key
        else:
            assert not torch.equal(p, before[key]), key
            assert bool(p.isfinite().all()), key
    assert bool((net["embedding"].weight[0] == 0).all()), "padding stays zero"


@pytest.mark.parametrize("name", SCHEMES)
def test_every_scheme_is_the_same_for_the_same_seed_and_can_be_undone_by_none(name: str) -> None:
    """The generator decides, and the default touches nothing."""
    first, second, default = network(), network(), network()
    for net in (first, second):
        torch.manual_seed(5)
        option(name)(net)
    option("default")(default)
    assert all(
        torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True)
    )
    assert all(
        torch.equal(a, b) for a, b in zip(default.parameters(), network().parameters(), strict=True)
    )


@pytest.mark.parametrize(
    ("scheme", "value"),
    [
        (option("zeros"), 0.0),
        (option("ones"), 1.0),
        (option("constant"), 0.1),
        (Constant(-3.0), -3.0),
    ],
)
def test_constants_are_exact(scheme: Constant, value: float) -> None:
    weight = torch.rand(LINEAR)
    scheme.fill(weight)
    assert bool((weight == value).all())


@pytest.mark.parametrize("shape", [LINEAR, KERNEL], ids=["linear", "conv"])
@pytest.mark.parametrize(
    ("scheme", "std", "uniform"),
    [
        (Normal(), lambda fan_in, fan_out: 0.01, False),
        (Uniform(), lambda fan_in, fan_out: 0.05 / math.sqrt(3), True),
        (Xavier(), lambda fan_in, fan_out: math.sqrt(2 / (fan_in + fan_out)), True),
        (
            Xavier("normal", gain=3.0),
            lambda fan_in, fan_out: 3 * math.sqrt(2 / (fan_in + fan_out)),
            False,
        ),
        (He(), lambda fan_in, fan_out: math.sqrt(2 / fan_in), False),
        (He("uniform", "fan_out"), lambda fan_in, fan_out: math.sqrt(2 / fan_out), True),
        (He(negative_slope=0.5), lambda fan_in, fan_out: math.sqrt(1.6 / fan_in), False),
        (He(negative_slope=1.0), lambda fan_in, fan_out: math.sqrt(1 / fan_in), False),
    ],
    ids=[
        "normal",
        "uniform",
        "xavier",
        "xavier-normal",
        "he",
        "he-uniform-out",
        "he-leaky",
        "he-linear",
    ],
)
def test_the_spread_is_what_the_formula_says(
    scheme: Any, std: Any, uniform: bool, shape: tuple[int, ...]
) -> None:
    """Over some twenty thousand weights: mean, standard deviation, and how far the largest lies."""
    torch.manual_seed(0)
    weight = torch.empty(shape)
    scheme.fill(weight)
    field = math.prod(shape[2:])
    expected = std(shape[1] * field, shape[0] * field)
    assert float(weight.mean()) == pytest.approx(0, abs=0.04 * expected)
    assert float(weight.std()) == pytest.approx(expected, rel=0.02)
    largest = float(weight.abs().max()) / expected
    assert largest <= math.sqrt(3) * 1.0001 if uniform else 3.5 < largest < 6


def test_means_and_ranges_are_shifted() -> None:
    weight = torch.empty(LINEAR)
    Normal(std=0.1, mean=2.0).fill(weight)
    assert float(weight.mean()) == pytest.approx(2, abs=0.01)
    Uniform(1.0, 3.0).fill(weight)
    assert 1 <= float(weight.min()) < 1.01
    assert 2.99 < float(weight.max()) <= 3
    with pytest.raises(ValueError, match=r"low=1\.0 is above"):
        Uniform(1.0, 0.0)


@pytest.mark.parametrize("shape", [(30, 20), (20, 30), (16, 4, 3, 3), (64, 3, 2, 2)], ids=str)
@pytest.mark.parametrize("gain", [1.0, 2.0])
def test_orthogonal_rows_or_columns(shape: tuple[int, ...], gain: float) -> None:
    weight = torch.empty(shape)
    Orthogonal(gain).fill(weight)
    matrix: Tensor = weight.flatten(1)
    short = matrix if len(matrix) <= matrix.shape[1] else matrix.T
    torch.testing.assert_close(short @ short.T, gain**2 * torch.eye(len(short)), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("name", "lowest", "highest"), [("he", 0.5, 2.0), ("xavier", 0.0, 0.01), ("normal", 0.0, 1e-6)]
)
def test_he_keeps_activations_through_ten_relu_layers(
    name: str, lowest: float, highest: float
) -> None:
    """The mean square of the activations, 1 before, is checked after ten layers."""
    torch.manual_seed(0)
    net = nn.Sequential(*(layer for _ in range(10) for layer in (nn.Linear(256, 256), nn.ReLU())))
    option(name)(net)
    assert lowest <= float(net(torch.randn(64, 256)).square().mean().detach()) * 2 <= highest


def test_zeros_keep_a_hidden_layer_from_learning(dltrain) -> None:
    """All units alike: an MLP from zeros stays at guessing, one from He's weights does not."""
    argv = ("model=mlp", "trainer.epochs=1", "callbacks=quiet", "--json")
    stuck, learning = (dltrain(*argv, f"initialization={name}") for name in ("zeros", "he"))
    assert stuck.json["metrics"]["test/accuracy"] < 0.2
    assert learning.json["metrics"]["test/accuracy"] > 0.8
