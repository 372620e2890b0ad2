"""The options of the group `model`, for tests: their keys, and the models themselves."""

from __future__ import annotations

from typing import Any

from torch import nn

from dltrain.config.compose import compose
from dltrain.config.groups import groups, read_option
from dltrain.config.policy import locate
from dltrain.config.schema import arguments
from dltrain.experiment.instantiate import instantiate


def image_arguments(side: int, channels: int = 1, num_classes: int = 7) -> dict[str, Any]:
    """Return the arguments that a data set of images passes to a model."""
    return {
        "in_channels": channels,
        "image_size": (side, side),
        "in_features": channels * side * side,
        "num_classes": num_classes,
    }


def build(name: str, available: dict[str, Any], *overrides: str) -> nn.Module:
    """Build `model=name` as a run does."""
    config = compose([f"model={name}", *overrides]).config["model"]
    model: nn.Module = instantiate(config, "model", available, [])
    return model


def keys(name: str) -> dict[str, Any]:
    """Return the keys of `model=name`."""
    return read_option("model", name)


def required(name: str) -> set[str]:
    """Return the arguments of `model=name` that the data has to pass."""
    signature = arguments(locate(keys(name)["_target_"], []))
    return {name_ for name_, argument in signature.items() if argument.required} - keys(name).keys()


# Models with a defaults list choose a task of their own.
CLASSIFIERS = [name for name in groups()["model"] if "defaults" not in keys(name)]
# Networks with two forms, or of any size: tests/models/images/test_vision.py.
LARGE = [name for name in CLASSIFIERS if "stem" in keys(name) or name == "torchvision"]
IMAGE_CLASSIFIERS = [
    name
    for name in CLASSIFIERS
    if required(name) <= image_arguments(28).keys() and name not in LARGE
]
