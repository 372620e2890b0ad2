"""Weights to begin with: of a run, or published ones; and what the images that they know are standardized by."""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from dltrain.config.spelling import close_matches
from dltrain.engine import Task
from dltrain.errors import ConfigError, InputError
from dltrain.runs.checkpoint import Store
from dltrain.runs.checkpoint import load as load_checkpoint
from dltrain.runs.folder import CHECKPOINTS, Run
from dltrain.types import Standardizes

log = logging.getLogger("dltrain")
CENTRED = (
    "googlenet",
    "inception_v3",
)  # whose published weights know pixels in -1..1: torchvision's `transform_input`
HALVES = (0.5, 0.5, 0.5)


@runtime_checkable
class Published(Protocol):
    """A network whose weights are published: torchvision's name of it."""

    torchvision_name: str


@dataclass(frozen=True)
class InitialWeights:
    """Weights by the names that a task has for them, which `key` asked for, where they are from and what to call that; and
    the mean and standard deviation of each channel of their images, in 0..255 (empty where that is not known)."""

    key: str
    source: str
    owner: str
    weights: Mapping[str, Tensor]
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def standardize(self, data: Standardizes) -> None:
        """Let `data` make inputs as the weights know them, where it has as many channels."""
        if self.mean and data.standardize_by(self.mean, self.std):
            log.info(f"{self.key}: inputs are standardized as those of {self.source}")

    def load_into(self, task: Task) -> None:
        """Begin with the weights wherever name and shape are the same, and say which were not; InputError if none are."""
        own = task.state_dict()
        matched = [
            name
            for name, value in own.items()
            if name in self.weights and self.weights[name].shape == value.shape
        ]
        if not matched:
            raise InputError(
                f"{self.key}: no weight of {self.source} has the name and shape of one here"
            )
        task.load_state_dict({name: self.weights[name] for name in matched}, strict=False)
        log.info(f"{self.key} {self.source}: {len(matched)} of {len(own)} tensors taken over")
        for name, value in own.items():
            if name not in self.weights:
                log.info(
                    f"  fresh   {name} {tuple(value.shape)}: {self.owner} has none of that name"
                )
            elif self.weights[name].shape != value.shape:
                log.info(
                    f"  fresh   {name} {tuple(value.shape)}: {self.owner}'s is {tuple(self.weights[name].shape)}"
                )
        for name in sorted(self.weights.keys() - own.keys()):
            log.info(f"  unused  {name} {tuple(self.weights[name].shape)} of {self.owner}")


def of_run(run: Run) -> InitialWeights:
    """What `run` ended with. InputError where it has no checkpoint."""
    about = run.description() or {}
    weights = trained_weights(run, "init.from")
    mean, std = (tuple(about.get(name) or ()) for name in ("mean", "std"))
    return InitialWeights("init.from", str(run.folder), "the run", weights, mean, std)


def trained_weights(run: Run, key: str) -> dict[str, Any]:
    """What a run's task ended with: of the checkpoint that was named, the best or else the last one. InputError, naming the
    `key` that asks, where there is none."""
    store = Store(run.folder / CHECKPOINTS)
    found = (
        (run.checkpoint, load_checkpoint(run.checkpoint))
        if run.checkpoint
        else store.read("best") or store.read("last")
    )
    if found is None:
        raise InputError(f"{key}: {run.folder} has no checkpoint")
    weights: dict[str, Any] = found[1]["task"]
    return weights


def published(model: nn.Module, name: str) -> InitialWeights:
    """torchvision's weights of `model`: "default", the best that there are, or those of a `name`.

    ConfigError for a model or a name without any. They come from torch's cache, else they are downloaded into it;
    InputError, with the file and the folder to put it in, where that cannot be.
    """
    from torchvision.models import get_model_weights

    if not isinstance(model, Published) or not model.torchvision_name:
        why = "there are no published weights of this model in this form: model=resnet18 at 224 pixels has some"
        raise ConfigError([(f"init.weights={name}", why)])
    known: Any = get_model_weights(model.torchvision_name)
    names = [entry.name for entry in known]
    if name.lower() != "default" and name.upper() not in names:
        close = close_matches(name.upper(), names)
        meant = (
            f"did you mean {close[0]}?"
            if close
            else f"there are {', '.join(names) or 'none'}, and default"
        )
        raise ConfigError(
            [(f"init.weights={name}", f"{model.torchvision_name} has no such weights; {meant}")]
        )
    chosen = known.DEFAULT if name.lower() == "default" else known[name.upper()]
    state = read(chosen)
    prefix = common_prefix(state, model.state_dict())
    transforms = chosen.transforms()
    of_unit = (
        (HALVES, HALVES) if model.torchvision_name in CENTRED else (transforms.mean, transforms.std)
    )
    mean, std = (tuple(255 * float(v) for v in values) for values in of_unit)
    source = f"{model.torchvision_name} {chosen.name}"
    return InitialWeights(
        "init.weights",
        source,
        "the published network",
        {f"model.{prefix}{key}": v for key, v in state.items()},
        mean,
        std,
    )


def common_prefix(theirs: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> str:
    """What the names of `own` begin with where the rest is a name of `theirs`: a network may stand inside another."""
    first = next(iter(theirs))
    return next((name.removesuffix(first) for name in own if name.endswith(first)), "")


def read(weights: Any) -> dict[str, Tensor]:
    """The tensors of a torchvision `WeightsEnum`, whose file's name holds the beginning of its sha256."""
    home = Path(
        os.environ.get("TORCH_HOME")
        or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "torch"
    )
    folder = home.expanduser() / "hub" / "checkpoints"
    file = folder / Path(weights.url).name
    begins = re.search(r"-([0-9a-f]{8,})\.", file.name)
    if begins and file.exists():
        with file.open("rb") as opened:
            if not hashlib.file_digest(opened, "sha256").hexdigest().startswith(begins[1]):
                raise InputError(
                    f"{file} is damaged: its sha256 does not begin with {begins[1]}; delete it"
                )
    try:
        state: dict[str, Tensor] = weights.get_state_dict(
            model_dir=str(folder),
            progress=False,
            check_hash=True,
            weights_only=True,
            map_location="cpu",
        )
    except (OSError, RuntimeError) as e:  # URLError is one; a wrong hash is a RuntimeError
        why = f"init.weights: {file.name} is not here and could not be downloaded ({' '.join(str(e).split())[:200]})"
        raise InputError(f"{why}.\nPut it into {folder}: it is {weights.url}") from e
    return state
