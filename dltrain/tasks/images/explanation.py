"""Pictures that explain a convolutional network: first filters, feature maps and HiResCAM.

The functions work on any network with convolutions, without its layers' names, with frozen
parameters and where gradients are switched off. They run the network in evaluation mode and restore
its mode.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

NO_CONVOLUTION = "this network has no convolution with a map to look at"
HEAT_OPACITY = 0.7  # of the colors over an image
NO_EVIDENCE = "no positive evidence"
CAM_TITLE = "HiResCAM: evidence for the predicted class"
CAM_SCALE = ("none", "most in its image")


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put `model` into evaluation mode inside the context."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


class RecordedMaps:
    """The feature maps (B, K, h, w) that the layers of `model` gave, in their order.

    `logits` are the outputs of the network.
    """

    def __init__(self, model: nn.Module, inputs: Tensor) -> None:
        self.outputs: list[tuple[bool, Tensor]] = []  # (is a convolution's, maps)
        handles = [module.register_forward_hook(self._record) for module in model.modules()]
        try:
            with evaluating(model):
                # forward, since a compiled model does not call hooks.
                self.logits: Tensor = model.forward(inputs)
        finally:
            for handle in handles:
                handle.remove()

    def _record(self, module: nn.Module, inputs: Any, output: Any) -> None:
        if not isinstance(output, Tensor) or output.ndim != 4:
            return
        height, width = output.shape[2:]
        if height * width > 1:
            self.outputs.append((isinstance(module, nn.Conv2d), output))

    @property
    def first(self) -> Tensor:
        """Return the maps of the first convolution; ValueError without one."""
        for is_convolution, maps in self.outputs:
            if is_convolution:
                return maps
        raise ValueError(NO_CONVOLUTION)

    @property
    def last(self) -> Tensor:
        """Return the last maps of the same size as those of the last convolution.

        They come after its norm, its activation and the sum of its block. ValueError without a
        convolution.
        """
        sizes = [maps.shape[2:] for is_convolution, maps in self.outputs if is_convolution]
        if not sizes:
            raise ValueError(NO_CONVOLUTION)
        return [maps for _, maps in self.outputs if maps.shape[2:] == sizes[-1]][-1]


def hires_cam(model: nn.Module, inputs: Tensor, classes: Tensor | None = None) -> Tensor:
    """Return the evidence (B, H, W) in 0..1 in images (B, C, H, W) for `classes` (B,).

    Without `classes` it is the evidence for the predicted class. The method is HiResCAM (Draelos
    and Carin 2020, "Use HiResCAM instead of Grad-CAM for faithful explanations of convolutional
    neural networks", equation 3): the maps of the last convolution times the gradient of the
    class's logit, summed over the maps; the positive part is enlarged and divided by its highest
    value. An image with no positive evidence is 0 everywhere.

    Grad-CAM (Selvaraju et al. 2017) first averages the gradient over each map. Both agree where the
    network ends in global average pooling. Where it ends in a fully connected layer, weights of
    both signs cancel in the average, and Grad-CAM finds no evidence for confident predictions.

    Raises:
        ValueError: The network has no convolution with maps of more than one pixel.
    """
    with torch.inference_mode(False), torch.enable_grad():
        recorded = RecordedMaps(model, inputs.detach().clone().requires_grad_())
        maps = recorded.last
        logits = recorded.logits
        chosen = logits.argmax(dim=1) if classes is None else classes
        # The sum over the batch: an image's maps reach its own logits alone.
        score = logits.gather(1, chosen.unsqueeze(1)).sum()
        (gradient,) = torch.autograd.grad(score, maps)
    with torch.no_grad():
        products = gradient.float() * maps.detach().float()
        evidence = products.sum(dim=1, keepdim=True).relu()  # (B, 1, h, w)
        heat = nn.functional.interpolate(evidence, inputs.shape[2:], mode="bilinear").squeeze(1)
        highest = heat.amax(dim=(1, 2), keepdim=True)
        return (heat / torch.where(highest > 0, highest, 1)).nan_to_num()


def first_filters(model: nn.Module) -> Tensor:
    """Return the filters (K, C, h, w) of the first convolution, each scaled to 0..1.

    Raises:
        ValueError: The network has no convolution.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            return scaled_to_unit(module.weight.detach().float())
    raise ValueError(NO_CONVOLUTION)


def feature_maps(model: nn.Module, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Return the first and the last maps (B, K, h, w) of images (B, C, H, W), each scaled to 0..1.

    Raises:
        ValueError: The network has no convolution with maps of more than one pixel.
    """
    with torch.no_grad():
        recorded = RecordedMaps(model, inputs)
        first = recorded.first.float()
        last = recorded.last.float()
        return _scaled_maps(first), _scaled_maps(last)


def _scaled_maps(maps: Tensor) -> Tensor:
    pictures = maps.flatten(0, 1).unsqueeze(1)  # (B K, 1, h, w)
    return scaled_to_unit(pictures).unflatten(0, (len(maps), -1)).squeeze(2)


def scaled_to_unit(pictures: Tensor) -> Tensor:
    """Return pictures (N, C, h, w), each scaled so that its values reach from 0 to 1."""
    low = pictures.amin(dim=(1, 2, 3), keepdim=True)
    high = pictures.amax(dim=(1, 2, 3), keepdim=True)
    return (pictures - low) / torch.where(high > low, high - low, 1)


def overlaid(pixels: Tensor, heat: Tensor) -> Tensor:
    """Return images (B, 3, H, W) in 0..1 under the colors of their heat (B, H, W) in 0..1.

    The colors go from blue (0) over green and yellow to red (1), with opacity `HEAT_OPACITY`.
    """
    middles = torch.tensor([3.0, 2.0, 1.0], device=heat.device).view(1, 3, 1, 1)
    colors = (1.5 - (4 * heat.unsqueeze(1) - middles).abs()).clamp(0, 1)
    return (1 - HEAT_OPACITY) * pixels + HEAT_OPACITY * colors


def three_channels(pixels: Tensor) -> Tensor:
    """Return images (B, 3, H, W) of images with any number of channels.

    Where there are not three, the first one is shown in gray.
    """
    if pixels.shape[1] == 3:
        return pixels
    return pixels[:, :1].expand(-1, 3, -1, -1)
