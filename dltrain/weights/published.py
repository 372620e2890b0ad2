"""The weights that torchvision publishes for its models."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from dltrain.config.suggestions.spelling import close_matches
from dltrain.errors import ConfigError, InputError
from dltrain.weights.initial import InitialWeights

KEY = "init.weights"
DEFAULT = "default"  # the best weights of a model, by torchvision's choice
MAX_REASON_CHARS = 200
MAX_PIXEL = 255
# These models were trained on pixels in -1..1 (`transform_input` in torchvision).
CENTERED = ("googlenet", "inception_v3")
CENTERED_MEAN = CENTERED_STD = (0.5, 0.5, 0.5)


@runtime_checkable
class HasPublishedWeights(Protocol):
    """A model with published weights; `torchvision_name` is empty for a variant without any."""

    torchvision_name: str


def published_weights(model: nn.Module, name: str) -> InitialWeights:
    """Return the published weights of `model` that torchvision calls `name`, such as IMAGENET1K_V1.

    They are read from torch's cache, or downloaded into it. The name "default" stands for
    torchvision's default weights.

    Raises:
        ConfigError: The model has no published weights, or none of that name.
        InputError: The weights cannot be downloaded, or the file in the cache is damaged.
    """
    if not isinstance(model, HasPublishedWeights) or not model.torchvision_name:
        why = (
            "there are no published weights of this model with these settings; "
            "model=resnet18 with images of 224 pixels has some"
        )
        raise ConfigError([(f"{KEY}={name}", why)])
    torchvision_name = model.torchvision_name
    entry = find_entry(torchvision_name, name)
    published = read_entry(entry)
    prefix = submodule_prefix(published, model.state_dict())
    transforms = entry.transforms()
    mean, std = transforms.mean, transforms.std
    if torchvision_name in CENTERED:
        mean, std = CENTERED_MEAN, CENTERED_STD
    return InitialWeights(
        key=KEY,
        source=f"{torchvision_name} {entry.name}",
        owner="the published network",
        weights={f"model.{prefix}{key}": value for key, value in published.items()},
        mean=to_pixel_range(mean),
        std=to_pixel_range(std),
    )


def to_pixel_range(values: Iterable[float]) -> tuple[float, ...]:
    """Scale values from 0..1 to 0..255."""
    return tuple(MAX_PIXEL * float(value) for value in values)


def find_entry(torchvision_name: str, name: str) -> Any:
    """Return the member `name` of the model's `WeightsEnum`; ConfigError if there is none."""
    from torchvision.models import get_model_weights

    entries: Any = get_model_weights(torchvision_name)
    if name.lower() == DEFAULT:
        return entries.DEFAULT
    names = [entry.name for entry in entries]
    if name.upper() in names:
        return entries[name.upper()]
    close = close_matches(name.upper(), names)
    if close:
        advice = f"did you mean {close[0]}?"
    else:
        advice = f"choose from {', '.join(names)} and {DEFAULT}"
    raise ConfigError([(f"{KEY}={name}", f"unknown weights of {torchvision_name}; {advice}")])


def submodule_prefix(published: Mapping[str, Tensor], model_state: Mapping[str, Tensor]) -> str:
    """Return the prefix of the published names in `model_state`, such as "backbone.".

    It is not empty if the published network is a submodule of the model.
    """
    first = next(iter(published))
    for name in model_state:
        if name.endswith(first):
            return name.removesuffix(first)
    return ""


def read_entry(entry: Any) -> dict[str, Tensor]:
    """Return the tensors of a `WeightsEnum` member, from the cache or downloaded into it."""
    folder = cache_folder()
    file = folder / Path(entry.url).name
    require_intact(file)
    try:
        published: dict[str, Tensor] = entry.get_state_dict(
            model_dir=str(folder),
            progress=False,
            check_hash=True,
            weights_only=True,
            map_location="cpu",
        )
    except (OSError, RuntimeError) as e:  # URLError is an OSError; a wrong hash is a RuntimeError
        reason = " ".join(str(e).split())[:MAX_REASON_CHARS]
        raise InputError(
            f"{KEY}: {file.name} is not in the cache and could not be downloaded ({reason}).\n"
            f"Put it into {folder}; its address is {entry.url}"
        ) from e
    return published


def cache_folder() -> Path:
    """Return the folder in which torch.hub caches weights."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("TORCH_HOME") or Path(cache) / "torch"
    return Path(home).expanduser() / "hub" / "checkpoints"


def require_intact(file: Path) -> None:
    """Raise InputError if `file` exists and is damaged.

    torchvision's file names contain the first digits of the sha256: resnet18-f37072fd.pth.
    """
    first_digits = re.search(r"-([0-9a-f]{8,})\.", file.name)
    if not first_digits or not file.exists():
        return
    with file.open("rb") as opened:
        checksum = hashlib.file_digest(opened, "sha256").hexdigest()
    if not checksum.startswith(first_digits[1]):
        raise InputError(
            f"{file} is damaged: its sha256 does not begin with {first_digits[1]}; delete it"
        )
