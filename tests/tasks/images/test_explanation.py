"""HiResCAM against its equations, on any network and in any mode; filters, maps and views."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dltrain.models.images.cnn import CNN
from dltrain.models.images.lenet5 import LeNet5
from dltrain.rng import keyed
from dltrain.tasks.images.explanation import (
    NO_CONVOLUTION,
    feature_maps,
    first_filters,
    hires_cam,
    overlaid,
    three_channels,
)
from dltrain.tasks.images.views import VIEWS, mean_logits, views_of


def images(count: int = 5, channels: int = 3, side: int = 16) -> Tensor:
    return torch.randn(count, channels, side, side, generator=keyed(0))


class Averaging(nn.Module):
    """Maps, global average pooling, logits: the network of CAM (Zhou et al. 2016).

    By equation 1 the last layer's weights divided by the number of pixels are the gradient.
    """

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 6, 3, stride=2, padding=1)
        )
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).mean(dim=(2, 3)))


def test_hires_cam_equals_grad_cam_after_global_average_pooling() -> None:
    """For given classes or the predicted ones; the highest value of an image is 1."""
    torch.manual_seed(0)
    model, x = Averaging().eval(), images()
    maps = model.features(x).detach()
    for classes in (None, torch.tensor([0, 1, 2, 0, 1])):
        chosen = model(x).argmax(dim=1) if classes is None else classes
        heat = (model.head.weight[chosen, :, None, None] * maps).sum(dim=1, keepdim=True).relu()
        heat = nn.functional.interpolate(heat, (16, 16), mode="bilinear").squeeze(1)
        found = hires_cam(model, x, classes)
        assert torch.allclose(
            found, heat / heat.amax(dim=(1, 2), keepdim=True).clamp_min(1e-12), atol=1e-5
        )
        assert found.shape == (5, 16, 16)
        assert float(found.amax()) == pytest.approx(1)


def test_weights_of_both_signs_do_not_cancel() -> None:
    """A fully connected layer whose mean weight is negative: Grad-CAM finds no evidence there."""
    maps = nn.Conv2d(1, 1, 1, bias=False)
    head = nn.Linear(4, 2, bias=False)
    nn.init.ones_(maps.weight)
    head.weight.data = torch.tensor([[3.0, -2.0, -2.0, -2.0], [0.0, 0.0, 0.0, 0.0]])
    model, x = nn.Sequential(maps, nn.Flatten(), head), torch.tensor([[[[1.0, 0.1], [0.1, 0.1]]]])
    assert int(model(x).argmax()) == 0
    heat = hires_cam(model, x)
    assert heat[0].tolist() == [[1.0, 0.0], [0.0, 0.0]], (
        "the weight of each place times what is there"
    )


def test_an_image_without_positive_evidence_has_no_heat() -> None:
    model = Averaging().eval()
    nn.init.zeros_(model.head.weight)
    assert torch.equal(hires_cam(model, images()), torch.zeros(5, 16, 16))


@pytest.mark.parametrize(
    "mode", [nullcontext, torch.no_grad, torch.inference_mode], ids=lambda mode: mode.__name__
)
@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_it_works_in_any_mode_and_restores_the_network(
    mode: Any, frozen: bool, training: bool
) -> None:
    """With frozen parameters, inside no_grad, in training mode: the same picture each time."""
    torch.manual_seed(0)
    model = CNN(3, (16, 16), 4).train(training)
    expected = hires_cam(model.eval(), images())
    model.train(training).requires_grad_(not frozen)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    context: AbstractContextManager[Any] = mode()
    with context:
        found = hires_cam(model, images())
    assert torch.allclose(found, expected)
    assert model.training is training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())


def test_it_uses_the_maps_after_norm_activation_and_residual_sum() -> None:
    """Before pooling shrinks them: the ReLU of a CNN's last block, a residual block's sum."""
    torch.manual_seed(0)
    model, kept = CNN(3, (16, 16), 4, channels=(8, 12)), []
    relus = [module for module in model if isinstance(module, nn.ReLU)]
    relus[-1].register_forward_hook(lambda module, inputs, output: kept.append(output))
    _, last = feature_maps(model, images(2))
    assert torch.equal(last[0, 0], (m := kept[0][0, 0]).sub(m.min()) / (m.max() - m.min()))

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.conv(x)

    model = nn.Sequential(Block(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    _, last = feature_maps(model, x := images(1))
    total = model[0](x)[0, 0]
    assert torch.allclose(
        last[0, 0], (total - total.min()) / (total.max() - total.min()), atol=1e-5
    )


def test_filters_and_maps_are_scaled_one_by_one() -> None:
    model = LeNet5(1, (28, 28), 10)
    filters = first_filters(model)
    assert filters.shape == (6, 1, 5, 5)
    first, last = feature_maps(model, images(2, 1, 28))
    assert first.shape[:2] == (2, 6)
    assert last.shape[:2] == (2, 16)
    for pictures in (filters, first.flatten(0, 1), last.flatten(0, 1)):
        lows, highs = pictures.flatten(1).amin(dim=1), pictures.flatten(1).amax(dim=1)
        assert set(lows.tolist()) == {0.0}
        assert set(highs.tolist()) <= {0.0, 1.0}


@pytest.mark.parametrize("ask", [hires_cam, lambda model, x: first_filters(model), feature_maps])
def test_a_network_without_convolutions_is_refused(ask: Any) -> None:
    with pytest.raises(ValueError, match=NO_CONVOLUTION):
        ask(nn.Sequential(nn.Flatten(), nn.Linear(768, 3)), images())


def test_heat_goes_from_blue_to_red() -> None:
    """Over the image, or its first channel in gray."""
    black, heat = torch.zeros(1, 3, 1, 3), torch.tensor([[[0.0, 0.5, 1.0]]])
    colors = torch.tensor([[0, 0, 0.5], [0.5, 1, 0.5], [0.5, 0, 0]])
    assert torch.allclose(overlaid(black, heat)[0, :, 0].T, 0.7 * colors)
    assert float(overlaid(black + 1, heat).min()) == pytest.approx(0.3)
    assert torch.equal(
        three_channels(torch.ones(2, 5, 4, 4) * torch.arange(5).view(1, 5, 1, 1)),
        torch.zeros(2, 3, 4, 4),
    )


# --- Views


def test_views_have_the_size_of_the_image_and_start_with_the_center() -> None:
    x = torch.arange(2 * 32 * 48.0).view(1, 2, 32, 48)
    assert torch.equal(VIEWS["flip"](x)[1], x.flip(3))
    middle, *moved = VIEWS["shift"](x)
    assert torch.equal(middle, x)
    assert torch.equal(moved[0][:, :, 2:], x[:, :, :-2])  # down by 2 of 32
    assert torch.equal(moved[1][:, :, :-2], x[:, :, 2:])
    assert torch.equal(moved[2][..., 3:], x[..., :-3])  # right by 3 of 48
    assert torch.equal(moved[3][..., :-3], x[..., 3:])
    crops = VIEWS["crops"](x)
    assert [view.shape for view in crops] == [x.shape] * 5
    assert float(crops[1].min()) == float(x.min())
    assert float(crops[4].max()) == float(x.max())
    assert float(crops[0].mean()) == pytest.approx(float(x.mean()))


def test_probabilities_are_averaged_over_every_combination_of_views() -> None:
    torch.manual_seed(0)
    model, x = CNN(3, (16, 16), 4).eval(), images()
    answers = [model(view).softmax(dim=1) for view in (x, x.flip(3))]
    assert torch.allclose(
        mean_logits(model, x, ["flip"]).exp(), (answers[0] + answers[1]) / 2, atol=1e-6
    )
    assert torch.equal(mean_logits(model, x, []), model(x))
    assert len(views_of(x, ["crops", "flip", "flip"])) == 10
