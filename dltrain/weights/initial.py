"""Initial weights of a task, and the standardization of the images that they were trained on."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from dltrain.engine import Task
from dltrain.errors import InputError
from dltrain.runs.checkpoint import Store
from dltrain.runs.checkpoint import load as load_checkpoint
from dltrain.runs.folder import CHECKPOINTS, RunFolder
from dltrain.types import ShapesNetwork, Standardizes
from dltrain.weights.lora import is_of_product, merged_weights

log = logging.getLogger("dltrain")
QUANTIZED = ("_int8", "_int4")  # end the names of weights in a few bits
VOCABULARIES = ("tokenizer", "target_tokenizer", "words")  # keys of a data set's description
REMOVED_CHANNELS = "pruner._extra_state"  # a state of a task that removes channels has this


@dataclass(frozen=True)
class InitialWeights:
    """Weights by the names that a task has for them.

    `key` is the setting that asks for them, `source` where they are from and `owner` a name for
    that. `mean` and `std` are those of each channel of the images that they were trained on, in
    0..255; empty if they are not known. `vocabularies` are those of the texts that they were
    trained on, by their names in a description.
    """

    key: str
    source: str
    owner: str
    weights: Mapping[str, Tensor]
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    vocabularies: Mapping[str, Any] = field(default_factory=dict)

    def standardize(self, data: Standardizes) -> None:
        """Let `data` standardize its inputs as the weights require, if it has as many channels."""
        if self.mean and data.standardize_by(self.mean, self.std):
            log.info(f"{self.key}: inputs are standardized as those of {self.source}")

    def digest(self) -> str:
        """Return a hash of the names and the values of all weights."""
        digest = hashlib.sha256()
        for name, value in sorted(self.weights.items()):
            digest.update(name.encode())
            digest.update(
                value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data
            )
        return digest.hexdigest()

    def load_into(self, task: Task) -> None:
        """Load all weights whose name and shape are those of the task's, and log which are not.

        The products of LoRA begin as they are.

        Raises InputError if none are, or the weights are quantized.
        """
        replace(self, weights=task.named_weights(self.weights))._load_into(task)

    def _load_into(self, task: Task) -> None:
        if isinstance(task, ShapesNetwork):
            task.shape_like(self.weights)
        state = task.state_dict()
        own = {name: value for name, value in state.items() if not is_of_product(name)}
        self._require_channels(own)
        self._require_real()
        matched = {
            name: self.weights[name]
            for name, value in own.items()
            if name in self.weights and self.weights[name].shape == value.shape
        }
        if not matched:
            raise InputError(
                f"{self.key}: no weight of {self.source} has the name and shape of one here"
            )
        task.load_state_dict(matched, strict=False)
        log.info(f"{self.key} {self.source}: {len(matched)} of {len(own)} tensors loaded")
        for name in own:
            if name not in matched:
                log.info(f"  fresh   {name} {tuple(own[name].shape)}: {self._difference(name)}")
        self._log_unused(own)

    def _require_channels(self, own: Mapping[str, Any]) -> None:
        """Raise InputError if a network with fewer channels would be loaded only in parts."""
        if REMOVED_CHANNELS not in self.weights:
            return
        for name, value in own.items():
            if name in self.weights and self.weights[name].shape != value.shape:
                raise InputError(
                    f"{self.key}: channels of {self.source} were removed ({name} is "
                    f"{tuple(self.weights[name].shape)}, not {tuple(value.shape)}); task=pruning "
                    "task.kind=channels continues with the smaller network"
                )

    def _require_real(self) -> None:
        """Raise InputError for weights in a few bits, with which no training can begin."""
        if any(name.endswith(QUANTIZED) for name in self.weights):
            raise InputError(
                f"{self.key}: the weights of {self.source} are quantized, and training cannot "
                "begin with them; name a run that is not"
            )

    def _log_unused(self, own: Collection[str]) -> None:
        """Log the weights that the task, with the names `own`, does not have."""
        for name in sorted(self.weights.keys() - set(own)):
            log.info(f"  unused  {name} {tuple(self.weights[name].shape)} of {self.owner}")

    def _difference(self, name: str) -> str:
        """Return why a weight of the task is not loaded."""
        if name not in self.weights:
            return f"{self.owner} has none of that name"
        return f"{self.owner}'s is {tuple(self.weights[name].shape)}"


def weights_of_run(run: RunFolder) -> InitialWeights:
    """Return the weights of a trained run, those of LoRA merged; InputError without checkpoint."""
    description = run.description() or {}
    weights = trained_weights(run, "init.from")
    mean = tuple(description.get("mean") or ())
    std = tuple(description.get("std") or ())
    vocabularies = {key: description[key] for key in VOCABULARIES if key in description}
    return InitialWeights(
        "init.from", str(run.folder), "the run", merged_weights(weights), mean, std, vocabularies
    )


def trained_weights(run: RunFolder, key: str) -> dict[str, Any]:
    """Return the state of a run's task in its named checkpoint, else in the best or the last one.

    Raises InputError, naming the `key` that asks for them, for a run without a checkpoint.
    """
    store = Store(run.folder / CHECKPOINTS)
    if run.checkpoint:
        state = load_checkpoint(run.checkpoint)
    elif newest := store.read("best") or store.read("last"):
        _, state = newest
    else:
        raise InputError(f"{key}: {run.folder} has no checkpoint")
    weights: dict[str, Any] = state["task"]
    return weights
