"""Published weights of torchvision's networks."""

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
DEFAULT = "default"  # torchvision's best weights of a network
MAX_REASON_CHARS = 200
MAX_BYTE = 255
# these networks were trained on pixels in -1..1: torchvision's `transform_input`
CENTERED = ("googlenet", "inception_v3")
CENTERED_MEAN = CENTERED_STD = (0.5, 0.5, 0.5)


@runtime_checkable
class Published(Protocol):
    """A network with published weights; `torchvision_name` is empty for a form without any."""

    torchvision_name: str


def published_weights(model: nn.Module, name: str) -> InitialWeights:
    """Return the published weights of `model` that torchvision calls `name`, or its default ones.

    They are read from torch's cache, or downloaded into it. Raises ConfigError for a model or a
    name without any; InputError, with the file and the folder to put it in, if they cannot be
    downloaded.
    """
    if not isinstance(model, Published) or not model.torchvision_name:
        why = (
            "there are no published weights of this model in this form: "
            "model=resnet18 at 224 pixels has some"
        )
        raise ConfigError([(f"{KEY}={name}", why)])
    network = model.torchvision_name
    entry = find_entry(network, name)
    state = read_entry(entry)
    prefix = common_prefix(state, model.state_dict())
    transforms = entry.transforms()
    mean, std = transforms.mean, transforms.std
    if network in CENTERED:
        mean, std = CENTERED_MEAN, CENTERED_STD
    return InitialWeights(
        KEY,
        f"{network} {entry.name}",
        "the published network",
        {f"model.{prefix}{key}": value for key, value in state.items()},
        in_byte_range(mean),
        in_byte_range(std),
    )


def in_byte_range(values: Iterable[float]) -> tuple[float, ...]:
    """Return values of 0..1 in the unit of bytes, 0..255."""
    return tuple(MAX_BYTE * float(value) for value in values)


def find_entry(network: str, name: str) -> Any:
    """Return the `WeightsEnum` member of that name; ConfigError for an unknown one."""
    from torchvision.models import get_model_weights

    entries: Any = get_model_weights(network)
    if name.lower() == DEFAULT:
        return entries.DEFAULT
    names = [entry.name for entry in entries]
    if name.upper() in names:
        return entries[name.upper()]
    close = close_matches(name.upper(), names)
    if close:
        advice = f"did you mean {close[0]}?"
    else:
        advice = f"there are {', '.join(names) or 'none'}, and {DEFAULT}"
    raise ConfigError([(f"{KEY}={name}", f"{network} has no such weights; {advice}")])


def common_prefix(published: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> str:
    """Return what precedes the published names in `own`: the network may be a part of another."""
    first = next(iter(published))
    for name in own:
        if name.endswith(first):
            return name.removesuffix(first)
    return ""


def read_entry(entry: Any) -> dict[str, Tensor]:
    """Return the tensors of a `WeightsEnum` member, after checking the file in the cache."""
    folder = cache_folder()
    file = folder / Path(entry.url).name
    require_intact(file)
    try:
        state: dict[str, Tensor] = entry.get_state_dict(
            model_dir=str(folder),
            progress=False,
            check_hash=True,
            weights_only=True,
            map_location="cpu",
        )
    except (OSError, RuntimeError) as e:  # URLError is an OSError; a wrong hash is a RuntimeError
        reason = " ".join(str(e).split())[:MAX_REASON_CHARS]
        raise InputError(
            f"{KEY}: {file.name} is not here and could not be downloaded ({reason}).\n"
            f"Put it into {folder}: it is {entry.url}"
        ) from e
    return state


def cache_folder() -> Path:
    """Return the folder of torch's cache for weights, as torch.hub determines it."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("TORCH_HOME") or Path(cache) / "torch"
    return Path(home).expanduser() / "hub" / "checkpoints"


def require_intact(file: Path) -> None:
    """Raise InputError if a file is there whose sha256 does not begin as its name says."""
    beginning = re.search(r"-([0-9a-f]{8,})\.", file.name)
    if not beginning or not file.exists():
        return
    with file.open("rb") as opened:
        checksum = hashlib.file_digest(opened, "sha256").hexdigest()
    if not checksum.startswith(beginning[1]):
        raise InputError(
            f"{file} is damaged: its sha256 does not begin with {beginning[1]}; delete it"
        )
