"""The image classifiers of torchvision, by name."""

from __future__ import annotations

import copy
import difflib
import math
from typing import Any

import torch
from torch import Tensor, nn
from torchvision import models

WITH_AUXILIARY_HEADS = ("googlenet", "inception_v3")  # dltrain has models that train the heads


class TorchvisionClassifier(nn.Module):
    """The network `name` of torchvision with random weights.

    Maps images (B, C, H, W) to logits (B, num_classes). The first convolution is replaced for other
    numbers of channels; a transformer is built for the image size.

    Raises:
        ValueError: torchvision has no such classifier (the message has similar names), or the
            network cannot process the images.
    """

    def __init__(
        self,
        in_channels: int,
        image_size: tuple[int, int],
        num_classes: int,
        name: str = "resnet18",
    ) -> None:
        super().__init__()
        self.torchvision_name = name
        names = models.list_models(module=models)
        if name in WITH_AUXILIARY_HEADS:
            raise ValueError(f"{name} has auxiliary heads: model={name} trains them")
        if name not in names:
            close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
            hint = f"it has {', '.join(names)}"
            if close:
                hint = f"did you mean {', '.join(close)}?"
            raise ValueError(f"model.name={name}: torchvision has no such classifier; {hint}")
        settings = {"num_classes": num_classes, **size_settings(name, image_size)}
        try:
            self.network = adapted(models.get_model(name, weights=None, **settings), in_channels)
            shapes_only = copy.deepcopy(self.network).to("meta").eval()
            shapes_only(torch.empty(1, in_channels, *image_size, device="meta"))
        except (AssertionError, RuntimeError, ValueError) as e:
            raise ValueError(refusal(name, image_size, in_channels, e)) from e

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (B, num_classes) of images (B, C, H, W)."""
        logits: Tensor = self.network(x)
        return logits


def size_settings(name: str, image_size: tuple[int, int]) -> dict[str, Any]:
    """Return the arguments for a network that is built for an image size; {} for any other.

    Raises:
        ValueError: A vision transformer cannot divide the image into its patches.
    """
    if name.startswith("vit_"):
        height, width = image_size
        if height != width:
            raise ValueError(
                f'{name} takes square images, not {height}x{width}: use "preprocessing=[resize]"'
            )
        patch = int(name.rpartition("_")[2])
        if height % patch:
            size = math.ceil(height / patch) * patch
            raise ValueError(
                f"{name} divides images into patches of {patch} pixels, which do not tile "
                f'{height}x{width}: "preprocessing=[resize]" preprocessing.resize.size={size}'
            )
        return {"image_size": height}
    if name.startswith("maxvit"):
        return {"input_size": image_size}
    return {}


def refusal(name: str, image_size: tuple[int, int], in_channels: int, why: Exception) -> str:
    """Return the message for images that a network cannot process."""
    height, width = image_size
    reason = str(why).splitlines()[0]
    return (
        f"{name} does not take images of {in_channels}x{height}x{width} ({reason}): "
        'use "preprocessing=[resize]" preprocessing.resize.size=224, for which it is designed'
    )


def adapted(network: nn.Module, in_channels: int) -> nn.Module:
    """Replace the first convolution of `network` if it has another number of input channels."""
    place, first = next((n, m) for n, m in network.named_modules() if isinstance(m, nn.Conv2d))
    if first.in_channels == in_channels:
        return network
    replacement = nn.Conv2d(
        in_channels,
        first.out_channels,
        first.kernel_size,  # type: ignore[arg-type]
        stride=first.stride,  # type: ignore[arg-type]
        padding=first.padding,  # type: ignore[arg-type]
        dilation=first.dilation,  # type: ignore[arg-type]
        groups=first.groups,
        bias=first.bias is not None,
        padding_mode=first.padding_mode,
    )
    network.set_submodule(place, replacement)
    return network
