"""Which layers are trained, from when on and how fast, by the names of their parameters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

WHERE = "dltrain check shows the layers"


class Freezing:
    """Keeps the layers of a network as they are, which is how one that was trained elsewhere serves new classes
    (Yosinski et al. 2014, "How transferable are features in deep neural networks?").

    A parameter is frozen where one of `patterns` is its name or that of a module around it; * stands for any letters. Batch
    norm whose own parameters are all frozen computes by the statistics that it has, and keeps them. After `epochs`
    epochs, where that is not 0, a task that asks for this object thaws it: a new stage, with an optimizer of its own,
    trains all. ValueError for a pattern without a match, and if nothing is left to train.
    """

    def __init__(self, model: nn.Module, patterns: Iterable[str | int], epochs: int = 0) -> None:
        self.epochs, self.model = epochs, model
        self.names = chosen(model, patterns)
        trained = {name for name, p in model.named_parameters() if p.requires_grad}
        if self.names and trained <= set(self.names):
            raise ValueError("all parameters are frozen: nothing is left to train")
        parameters = dict(model.named_parameters())
        self.parameters = [
            parameters[name] for name in self.names if parameters[name].requires_grad
        ]
        for p in self.parameters:
            p.requires_grad_(False)
        frozen = set(map(id, self.parameters))
        norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
        still = [
            m for m in norms if (own := list(m.parameters())) and all(id(p) in frozen for p in own)
        ]
        self.hooks = [m.register_forward_pre_hook(as_evaluated) for m in still]

    def thaw(self) -> None:
        """Train everything that this object froze, from the next optimizer on."""
        for p in self.parameters:
            p.requires_grad_(True)
        for hook in self.hooks:
            hook.remove()
        self.model.train(self.model.training)


def as_evaluated(module: nn.Module, inputs: Any) -> None:
    """Before a forward pass: whatever mode the network is in, this layer is not in training."""
    module.eval()


def matches(name: str, pattern: str | int) -> bool:
    """Whether `pattern` is the parameter's `name`, or that of a module around it; both with or without "model." before."""
    name, pattern = name.removeprefix("model."), str(pattern).removeprefix("model.")
    return fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*")


def chosen(model: nn.Module, patterns: Iterable[str | int]) -> list[str]:
    """The names of all parameters that one of `patterns` matches, in the order of the model; ValueError naming a pattern
    that matches none."""
    names = [name for name, _ in model.named_parameters()]
    for pattern in patterns:
        if not any(matches(name, pattern) for name in names):
            first = list(dict.fromkeys(name.split(".")[0] for name in names))
            shown = ", ".join(first[:8]) + (", ..." if len(first) > 8 else "")
            raise ValueError(
                f"{pattern} matches no parameter of this model: its parts are {shown} ({WHERE})"
            )
    return [name for name in names if any(matches(name, pattern) for pattern in patterns)]


def groups(modules: nn.Module, factors: Mapping[Any, float]) -> list[dict[str, Any]]:
    """The trained parameters in groups of one learning rate each: {"params": [...], "lr_factor": f}, as optimizers take them.

    The last pattern of `factors` that matches a parameter says its factor; it is 1 where none does (Howard and Ruder 2018,
    section 3.2, discriminative fine-tuning).
    """
    found: dict[float, list[Tensor]] = {}
    for name, p in modules.named_parameters():
        if p.requires_grad:
            factor = next(
                (f for pattern, f in reversed(list(factors.items())) if matches(name, pattern)), 1.0
            )
            found.setdefault(factor, []).append(p)
    return [{"params": params, "lr_factor": factor} for factor, params in found.items()]


def trainable_count(module: nn.Module) -> int:
    """Return the number of trainable values in the parameters of `module`."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)
