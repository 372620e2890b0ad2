"""Unstructured pruning: single weights are held at zero by masks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dltrain.optim import Params, Penalty
from dltrain.tasks.compression.pruned.selection import GONE, Scope, kept, require_rest
from dltrain.types import Table
from dltrain.weights.freezing import matching_names, trainable_parameters

COLUMNS = ("weights", "nonzero", "sparsity")


class WeightMasks(nn.Module):
    """Masks of the weights of a network that are kept, in checkpoints beside the weights.

    Every trained parameter with two dimensions or more has one, so biases and norms have none;
    those that `skip` names have none either. The weights with the smallest magnitude are removed
    (Han et al. 2015).

    Raises:
        ValueError: A name in `skip` matches nothing, or nothing is left to prune.
    """

    def __init__(self, network: nn.Module, scope: Scope, skip: Sequence[str | int]) -> None:
        super().__init__()
        self.scope: Scope = scope
        skipped = set(matching_names(network, skip))
        trained = trainable_parameters(network)
        shapes = {name: p.shape for name, p in trained.items() if p.ndim > 1}
        self.names = [name for name in shapes if name not in skipped]
        if not self.names:
            raise ValueError("skip leaves no weights to prune")
        for name in self.names:
            self.register_buffer(buffer_name(name), torch.ones(shapes[name], dtype=torch.bool))

    def masks(self) -> list[Tensor]:
        """Return the mask of each of `names`: True where a weight is kept."""
        return [self.get_buffer(buffer_name(name)) for name in self.names]

    def weights(self, network: nn.Module) -> list[nn.Parameter]:
        """Return the parameter of each of `names`."""
        return [network.get_parameter(name) for name in self.names]

    def require_library(self) -> None:
        """Do nothing: masks need no further library."""

    def fit(self, network: nn.Module, state: Mapping[str, Any], prefix: str) -> None:
        """Do nothing: masks change no shapes."""

    def reset(self) -> None:
        """Keep all weights."""
        for mask in self.masks():
            mask.fill_(True)

    @torch.no_grad()
    def prune(self, network: nn.Module, fraction: float) -> None:
        """Remove so many weights that `fraction` of them are gone."""
        pairs = zip(self.weights(network), self.masks(), strict=True)
        scores = [p.abs().masked_fill(~mask, GONE) for p, mask in pairs]
        masks = kept(scores, fraction, self.scope)
        require_rest(masks, self.names, "weights")
        for own, mask in zip(self.masks(), masks, strict=True):
            own.copy_(mask)
        self.apply_to(network)

    @torch.no_grad()
    def apply_to(self, network: nn.Module) -> None:
        """Set the weights of `network` that are removed to zero."""
        for p, mask in zip(self.weights(network), self.masks(), strict=True):
            p.masked_fill_(~mask, 0)

    def penalties(self, network: nn.Module) -> tuple[Penalty, ...]:
        """Return what holds removed weights at zero during training."""
        return (Zeros(dict(zip(self.weights(network), self.masks(), strict=True))),)

    def figures(self, network: nn.Module) -> dict[str, float]:
        """Return the sparsity of the weights and of all parameters, and those that are left."""
        weights = sum(mask.numel() for mask in self.masks())
        removed = weights - sum(int(mask.sum()) for mask in self.masks())
        parameters = sum(p.numel() for p in network.parameters())
        return {
            "sparsity": removed / weights,
            "parameter_sparsity": removed / parameters,
            "nonzero_parameters": float(parameters - removed),
        }

    def table(self, network: nn.Module) -> Table:
        """Return a row for each pruned parameter, and one for all of them."""
        rows = list(self._rows())
        names = (*self.names, "all")
        return Table(torch.tensor(rows), names, COLUMNS, "layer", "", plain=COLUMNS[:2])

    def _rows(self) -> Iterator[tuple[float, float, float]]:
        counts = [(mask.numel(), int(mask.sum())) for mask in self.masks()]
        total, rest = (sum(column) for column in zip(*counts, strict=True))
        for weights, left in (*counts, (total, rest)):
            yield float(weights), float(left), 1 - left / weights


class Zeros:
    """A penalty that holds weights at exactly zero, whatever the optimizer and its moments do.

    `masks` {parameter: mask of what is kept}.
    """

    def __init__(self, masks: Mapping[nn.Parameter, Tensor]) -> None:
        self.removed = {id(p): ~mask for p, mask in masks.items()}

    def before_step(self, params: Params) -> None:
        """Leave removed weights without a gradient, so that no moment of theirs grows."""
        for p in params:
            if id(p) in self.removed and p.grad is not None and not p.grad.is_sparse:
                p.grad.masked_fill_(self.removed[id(p)], 0)

    @torch.no_grad()
    def after_step(self, params: Params, lr: float) -> None:
        """Set removed weights to zero."""
        for p in params:
            if id(p) in self.removed:
                p.masked_fill_(self.removed[id(p)], 0)


def buffer_name(name: str) -> str:
    """Return the name of the mask of a parameter: names of buffers have no dots."""
    return name.replace(".", "/")
