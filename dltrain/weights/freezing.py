"""Selects by name which parameters are trained, from when on, and with which learning rates."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

MAX_PARTS_NAMED = 8  # in a message
PREFIX = "model."  # of the parameters of a task's model; may be left out


class Freezing:
    """Freezes layers of a network, such as those that were trained on other data.

    Yosinski et al. 2014, "How transferable are features in deep neural networks?".

    A parameter is frozen if one of `patterns` is its name or the name of a module around it; *
    stands for any letters. Batch norm whose parameters are all frozen uses the statistics that it
    has, and keeps them. After `epochs` epochs, if that is not 0, a task that takes this object
    unfreezes the parameters: a new stage, with an optimizer of its own, trains all of them. Raises
    ValueError for a pattern without a match, and if nothing is left to train.
    """

    def __init__(self, model: nn.Module, patterns: Iterable[str | int], epochs: int = 0) -> None:
        self.model = model
        self.epochs = epochs
        self.names = matching_names(model, patterns)
        trainable = trainable_parameters(model)
        if self.names and trainable.keys() <= set(self.names):
            raise ValueError("all parameters are frozen: nothing is left to train")
        self.parameters = [trainable[name] for name in self.names if name in trainable]
        for p in self.parameters:
            p.requires_grad_(False)
        self.hooks = [
            norm.register_forward_pre_hook(use_running_statistics)
            for norm in frozen_batch_norms(model, self.parameters)
        ]

    def thaw(self) -> None:
        """Train everything that this object froze, from the next optimizer on."""
        for p in self.parameters:
            p.requires_grad_(True)
        for hook in self.hooks:
            hook.remove()
        self.model.train(self.model.training)


def trainable_parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters of `module` that require a gradient, by name."""
    return {name: p for name, p in module.named_parameters() if p.requires_grad}


def frozen_batch_norms(model: nn.Module, frozen: Iterable[Tensor]) -> list[nn.Module]:
    """Return the batch-norm layers with running statistics whose parameters are all `frozen`."""
    frozen_ids = {id(p) for p in frozen}
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    return [norm for norm in norms if norm.track_running_stats and all_among(norm, frozen_ids)]


def all_among(module: nn.Module, ids: Collection[int]) -> bool:
    """Return whether a module has parameters, and their ids are all among `ids`."""
    own_ids = {id(p) for p in module.parameters()}
    return bool(own_ids) and own_ids.issubset(ids)


def use_running_statistics(module: nn.Module, inputs: Any) -> None:
    """Put a layer into evaluation mode before its forward pass, whatever mode the network is in."""
    module.eval()


def matches(name: str, pattern: str | int) -> bool:
    """Return whether `pattern` is a parameter's `name`, or the name of a module around it."""
    name = name.removeprefix(PREFIX)
    pattern = str(pattern).removeprefix(PREFIX)
    return fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*")


def matching_names(model: nn.Module, patterns: Iterable[str | int]) -> list[str]:
    """Return the names of all parameters that one of `patterns` matches, in the order of the model.

    Raises ValueError for a pattern that matches none.
    """
    names = [name for name, _ in model.named_parameters()]
    matched: set[str] = set()
    for pattern in patterns:
        matched.update(_matching(names, pattern))
    return [name for name in names if name in matched]


def _matching(names: Sequence[str], pattern: str | int) -> list[str]:
    """Return the names that a pattern matches; ValueError if it matches none."""
    matching = [name for name in names if matches(name, pattern)]
    if not matching:
        raise ValueError(
            f"{pattern} matches no parameter of this model: its parts are "
            f"{_parts(names)} (dltrain check shows the layers)"
        )
    return matching


def _parts(names: Iterable[str]) -> str:
    """Return the first parts of dotted names, for a message."""
    parts = list(dict.fromkeys(name.split(".")[0] for name in names))
    more = ", ..." if len(parts) > MAX_PARTS_NAMED else ""
    return ", ".join(parts[:MAX_PARTS_NAMED]) + more


def learning_rate_groups(modules: nn.Module, factors: Mapping[Any, float]) -> list[dict[str, Any]]:
    """Return the trainable parameters in groups of one learning rate each, as optimizers take them.

    A group is {"params": [...], "lr_factor": f}. The last pattern of `factors` {pattern: factor}
    that matches a parameter decides; without a match the factor is 1. Howard and Ruder 2018,
    "Universal Language Model Fine-tuning", section 3.2, discriminative fine-tuning.
    """
    groups: dict[float, list[Tensor]] = {}
    for name, p in trainable_parameters(modules).items():
        factor = 1.0
        for pattern, own_factor in factors.items():
            if matches(name, pattern):
                factor = own_factor
        groups.setdefault(factor, []).append(p)
    return [{"params": params, "lr_factor": factor} for factor, params in groups.items()]


def trainable_count(module: nn.Module) -> int:
    """Return the number of trainable values in the parameters of `module`."""
    return sum(p.numel() for p in trainable_parameters(module).values())
