"""Pictures that explain a convolutional network: its first filters, its feature maps, and HiResCAM.

It works on any network of convolutions, without knowing its layers by name, whether or not its
parameters are frozen and gradients are switched off around it. It looks at the network in
evaluation, and leaves it as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

NONE = "this network has no convolution with a map to look at"
HEAT_SHARE = 0.7  # of a picture's color; the image is the rest
NO_EVIDENCE = "no positive evidence"
CAM_TITLE = "HiResCAM: evidence for the predicted class"
CAM_SCALE = ("none", "most in its image")


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Inside, `model` is in evaluation."""
    before = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in before:
            module.training = training


class Watched:
    """What every layer of `model` gave for some inputs that is maps (B, K, h, w), in the order in which it came."""

    def __init__(self, model: nn.Module, inputs: Tensor) -> None:
        self.found: list[tuple[bool, Tensor]] = []  # whether a convolution gave it
        handles = [module.register_forward_hook(self.hook()) for module in model.modules()]
        try:
            with evaluating(model):
                self.logits: Tensor = model.forward(
                    inputs
                )  # not model(): hooks are not called where that is compiled
        finally:
            for handle in handles:
                handle.remove()

    def hook(self) -> Callable[[nn.Module, Any, Any], None]:
        def keep(module: nn.Module, inputs: Any, output: Any) -> None:
            if (
                isinstance(output, Tensor)
                and output.ndim == 4
                and output.shape[2] * output.shape[3] > 1
            ):
                self.found.append((isinstance(module, nn.Conv2d), output))

        return keep

    @property
    def first(self) -> Tensor:
        """The maps of the first convolution."""
        maps = next((output for convolved, output in self.found if convolved), None)
        if maps is None:
            raise ValueError(NONE)
        return maps

    @property
    def last(self) -> Tensor:
        """The last maps as large as those of the last convolution: behind its norm, activation and the sum of its block."""
        size = next(
            (output.shape[2:] for convolved, output in reversed(self.found) if convolved), None
        )
        maps = next(
            (output for _, output in reversed(self.found) if output.shape[2:] == size), None
        )
        if maps is None:
            raise ValueError(NONE)
        return maps


def hires_cam(model: nn.Module, inputs: Tensor, classes: Tensor | None = None) -> Tensor:
    """Return the evidence (B, H, W), in 0..1, at each place of images (B, C, H, W) for `classes`
    (B,).

    Without `classes` it is that for the predicted class. The method is HiResCAM (Draelos and Carin
    2020, "Use HiResCAM instead of Grad-CAM for faithful explanations of convolutional neural
    networks", equation 3): the maps of the last convolution times the gradient of the class's
    logit, summed over the maps; what is positive of it, enlarged and divided by its highest value.
    Grad-CAM (Selvaraju et al. 2017) first averages the gradient over each map. Where the network
    ends in the average of each map that is the same. Where it ends in a layer over all places,
    weights of both signs cancel in the average, and confident predictions are left without any
    evidence. An image with nothing positive is 0 everywhere. ValueError without convolutions.
    """
    with torch.inference_mode(False), torch.enable_grad():
        seen = Watched(model, inputs.detach().clone().requires_grad_())
        maps = seen.last
        logits = seen.logits
        chosen = logits.argmax(dim=1) if classes is None else classes
        score = logits.gather(
            1, chosen.unsqueeze(1)
        ).sum()  # an image's maps reach its own logits only
        (gradient,) = torch.autograd.grad(score, maps)
    with torch.no_grad():
        evidence = (
            (gradient.float() * maps.detach().float()).sum(dim=1, keepdim=True).relu()
        )  # (B, 1, h, w)
        heat = nn.functional.interpolate(evidence, inputs.shape[2:], mode="bilinear").squeeze(1)
        highest = heat.amax(dim=(1, 2), keepdim=True)
        return (heat / torch.where(highest > 0, highest, 1)).nan_to_num()


def first_filters(model: nn.Module) -> Tensor:
    """The weights (K, C, h, w) of the first convolution, each filter stretched to 0..1. ValueError where there is none."""
    layer = next((module for module in model.modules() if isinstance(module, nn.Conv2d)), None)
    if layer is None:
        raise ValueError(NONE)
    return stretched(layer.weight.detach().float())


def feature_maps(model: nn.Module, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """What the first convolution and the last layers of convolution make of images (B, C, H, W): maps (B, K, h, w), each
    stretched to 0..1."""
    with torch.no_grad():
        seen = Watched(model, inputs)
        found = [
            stretched(maps.float().flatten(0, 1).unsqueeze(1)) for maps in (seen.first, seen.last)
        ]
        return found[0].unflatten(0, (len(inputs), -1)).squeeze(2), found[1].unflatten(
            0, (len(inputs), -1)
        ).squeeze(2)


def stretched(pictures: Tensor) -> Tensor:
    """Each of the pictures (N, C, h, w) from its lowest value, as 0, to its highest, as 1."""
    low, high = (
        pictures.amin(dim=(1, 2, 3), keepdim=True),
        pictures.amax(dim=(1, 2, 3), keepdim=True),
    )
    return (pictures - low) / torch.where(high > low, high - low, 1)


def overlaid(pixels: Tensor, heat: Tensor) -> Tensor:
    """Return images (B, 3, H, W) in 0..1 under their heat (B, H, W): blue is 0, then green, yellow,
    red is 1.

    The colors make up `HEAT_SHARE` of each pixel.
    """
    middles = torch.tensor([3.0, 2.0, 1.0], device=heat.device).view(1, 3, 1, 1)
    colors = (1.5 - (4 * heat.unsqueeze(1) - middles).abs()).clamp(0, 1)
    return (1 - HEAT_SHARE) * pixels + HEAT_SHARE * colors


def colored(pixels: Tensor) -> Tensor:
    """Return pictures (B, 3, H, W) of images of any number of channels: of others than three, the
    first as grey.
    """
    return pixels if pixels.shape[1] == 3 else pixels[:, :1].expand(-1, 3, -1, -1)
