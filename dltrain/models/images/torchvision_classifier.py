"""Any image classifier of torchvision by its name."""

from __future__ import annotations

import copy
import difflib
import inspect
from typing import Any

import torch
from torch import Tensor, nn
from torchvision import models

OWN = {
    "googlenet": "googlenet",
    "inception_v3": "inception_v3",
}  # whose auxiliary heads want to be trained


class TorchvisionClassifier(nn.Module):
    """Logits (B, num_classes) of images (B, C, H, W) by torchvision's network `name`, untrained.

    Its output layer has `num_classes`; a first convolution is made for the image's channels, a transformer for its size.
    ValueError, with names that are alike, for one that torchvision does not have, and for images that it does not take.
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
        if name in OWN:
            raise ValueError(f"{name} has auxiliary heads: model={OWN[name]} trains them")
        if name not in names:
            close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
            hint = (
                f"; did you mean {', '.join(close)}?" if close else f"; it has {', '.join(names)}"
            )
            raise ValueError(f"model.name={name}: torchvision has no such classifier{hint}")
        settings = {"num_classes": num_classes, **size_settings(name, image_size)}
        try:
            self.network = adapted(models.get_model(name, weights=None, **settings), in_channels)
            shapes_only = copy.deepcopy(self.network).to("meta").eval()
            shapes_only(torch.empty(1, in_channels, *image_size, device="meta"))
        except (AssertionError, RuntimeError, ValueError) as e:
            raise ValueError(refusal(name, image_size, in_channels, e)) from e

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(x)
        return logits


def size_settings(name: str, image_size: tuple[int, int]) -> dict[str, Any]:
    """What a network whose weights depend on the image's size has to be told of it; ValueError for what it cannot be."""
    if name.startswith("vit_"):
        height, width = image_size
        if height != width:
            raise ValueError(
                f"{name} takes square images, not {height}x{width}: preprocessing=[resize] makes them so"
            )
        patch = int(name.rpartition("_")[2])
        if height % patch:
            raise ValueError(
                f"{name} cuts images into patches of {patch} pixels, which do not tile {height}x{width}: "
                f"preprocessing=[resize] preprocessing.resize.size={-(-height // patch) * patch}"
            )
        return {"image_size": height}
    return {"input_size": image_size} if name.startswith("maxvit") else {}


def refusal(name: str, image_size: tuple[int, int], in_channels: int, why: Exception) -> str:
    height, width = image_size
    return (
        f"{name} does not take images of {in_channels}x{height}x{width} ({str(why).splitlines()[0]}): "
        f"preprocessing=[resize] preprocessing.resize.size=224 is what it is made for"
    )


def adapted(network: nn.Module, in_channels: int) -> nn.Module:
    """`network` with a first convolution that takes `in_channels`, initialized as torch does."""
    place, first = next((n, m) for n, m in network.named_modules() if isinstance(m, nn.Conv2d))
    if first.in_channels == in_channels:
        return network
    taken = inspect.signature(nn.Conv2d).parameters.keys() & vars(first).keys() - {
        "in_channels",
        "bias",
    }
    settings = {key: getattr(first, key) for key in taken}
    replaced = nn.Conv2d(in_channels, bias=first.bias is not None, **settings)
    network.set_submodule(place, replaced)
    return network
