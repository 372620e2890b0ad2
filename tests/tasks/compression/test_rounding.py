"""Numbers of few bits: rounding, observed ranges, int4 groups, and the kernels."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from dltrain.tasks.compression.quantized import layers
from dltrain.tasks.compression.quantized.grouped import (
    Int4Embedding,
    Int4Linear,
    packed_pairs,
    unpacked_pairs,
)
from dltrain.tasks.compression.quantized.layers import DynamicLinear, StaticConv2d, StaticLinear
from dltrain.tasks.compression.quantized.rounding import (
    activation_parameters,
    channel_scales,
    fake_activation,
    fake_weight,
    int8_weight,
    real_weight,
    uint8_steps,
)
from dltrain.tasks.compression.quantizing.following import only_readers
from dltrain.tasks.compression.quantizing.observing import ObservedRange


def test_a_weight_is_rounded_by_the_scale_of_its_channel() -> None:
    weight = torch.randn(5, 3, 2, 2) * torch.tensor([1e-3, 1, 10, 1e3, 0]).view(-1, 1, 1, 1)
    scales = channel_scales(weight)
    errors = (real_weight(int8_weight(weight, scales), scales) - weight).abs().flatten(1).amax(1)
    assert bool((errors <= 0.51 * scales).all())


@pytest.mark.parametrize("bits", [7, 8])
@pytest.mark.parametrize(("lowest", "highest"), [(-1.0, 3.0), (0.5, 2.0), (-2.0, -1.0), (0.0, 0.0)])
def test_zero_is_an_integer_and_the_range_fits(lowest: float, highest: float, bits: int) -> None:
    scale, zero_point = activation_parameters(torch.tensor(lowest), torch.tensor(highest), bits)
    steps = uint8_steps(torch.tensor([0.0, lowest, highest]), scale, zero_point)
    assert steps[0] == zero_point
    assert bool((steps <= 2**bits - 1).all())
    real = (steps - zero_point) * scale
    assert torch.allclose(real, torch.tensor([0.0, lowest, highest]), atol=float(scale))


def test_fake_rounding_equals_the_rounding_and_has_a_gradient_inside_the_range() -> None:
    x = torch.tensor([-5.0, -0.4, 0.3, 0.9, 5.0], requires_grad=True)
    scale, zero_point = activation_parameters(torch.tensor(-1.0), torch.tensor(1.0), 8)
    rounded = fake_activation(x, scale, zero_point)
    real = (uint8_steps(x.detach(), scale, zero_point) - zero_point) * scale
    assert torch.allclose(rounded.detach(), real, atol=1e-6)
    rounded.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == pytest.approx([0, 1, 1, 1, 0])
    weight = torch.randn(4, 6)
    scales = channel_scales(weight)
    assert torch.allclose(fake_weight(weight), real_weight(int8_weight(weight, scales), scales))


def test_observers_cut_off_what_is_rare() -> None:
    """One outlier widens the range of minmax alone; batches in either order give the same range."""
    values = torch.randn(2_000_000, generator=torch.Generator().manual_seed(0)).relu()
    outlier = torch.tensor([100.0])
    ranges = {}
    for order in ((values, outlier), (outlier, values)):
        observer = ObservedRange(torch.device("cpu"))
        for batch in order:
            observer.observe(batch)
        for kind in ("minmax", "percentile", "mse"):
            lowest, highest = observer.range(kind, 8)  # type: ignore[arg-type]
            assert lowest == 0
            ranges.setdefault(kind, []).append(float(highest))
    assert ranges["minmax"] == [100, 100]
    assert max(ranges["percentile"]) < 6
    assert max(ranges["mse"]) < 60
    assert ranges["mse"][0] == pytest.approx(ranges["mse"][1], abs=15)


def test_two_int4_numbers_are_a_byte() -> None:
    integers = torch.randint(0, 16, (3, 8))
    pairs = packed_pairs(integers)
    assert pairs.shape == (3, 4)
    assert torch.equal(unpacked_pairs(pairs).long(), integers)


def test_int4_layers_are_near_the_real_ones() -> None:
    torch.manual_seed(0)
    linear = nn.Linear(64, 32)
    table = nn.Embedding(20, 64)
    alike = torch.ones(64)
    x = torch.randn(100, 64)
    with torch.no_grad():
        error = Int4Linear(linear.weight, linear.bias, 16, alike)(x) - linear(x)
        assert error.square().mean() < 0.02 * linear(x).var()
        rows = Int4Embedding(table.weight, 16, alike)(torch.tensor([[3, 7]]))
        exact = table(torch.tensor([[3, 7]]))
        assert rows.shape == exact.shape
        assert (rows - exact).square().mean() < 0.02 * exact.var()


def test_important_inputs_have_smaller_errors() -> None:
    weight = torch.randn(64, 32, generator=torch.Generator().manual_seed(0))
    importance = torch.ones(32)
    importance[:4] = 1000
    plain = Int4Linear(weight, None, 32, torch.ones(32)).weight - weight
    weighted = Int4Linear(weight, None, 32, importance).weight - weight
    assert weighted[:, :4].square().mean() < plain[:, :4].square().mean()


def test_the_kernels_compute_what_the_real_path_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    inputs = activation_parameters(torch.tensor(-2.0), torch.tensor(2.0), 8)
    outputs = activation_parameters(torch.tensor(0.0), torch.tensor(4.0), 8)
    weight = torch.randn(8, 6, 3, 3) / 8
    settings = ((1, 1), (1, 1), (1, 1), 1)
    matrix = torch.randn(512, 300)
    calls = {
        "real maps": (StaticConv2d(weight, torch.randn(8), settings, inputs, None, False), 4),
        "integers": (StaticConv2d(weight, None, settings, inputs, outputs, True), 4),
        "static": (StaticLinear(matrix, torch.randn(512), inputs), 2),
        "dynamic": (DynamicLinear(matrix, None), 2),
    }
    for name, (layer, axes) in calls.items():
        x = torch.randn(2, 6, 5, 5) if axes == 4 else torch.randn(7, 300)
        fast = layer(x).float()
        with monkeypatch.context() as patch:
            patch.setattr(layers, "computes_integers", lambda x: False)
            real = layer(x).float()
        limit = 1 if name == "integers" else 1e-4 * float(real.abs().max())
        assert float((fast - real).abs().max()) <= limit, name


class Branched(nn.Module):
    """Two layers read the first one; the last two follow each other."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 2, 1)
        self.norm = nn.BatchNorm2d(2)
        self.second = nn.Conv2d(2, 2, 1)
        self.relu = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = self.first(x)
        return self.relu(self.second(first)) + self.norm(first)


class Untraceable(Branched):
    """Python decides by a value, so the network cannot be traced."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) if x.sum() > 0 else x


def test_only_the_sole_reader_of_a_layer_counts() -> None:
    assert only_readers(Branched()) == {"second": "relu"}
    assert only_readers(Untraceable()) == {}
    assert only_readers(nn.Sequential(Untraceable(), nn.Sequential(nn.ReLU(), nn.Tanh()))) == {
        "0": "1",
        "1.0": "1.1",
    }
