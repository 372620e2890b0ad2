"""Couplings of channels: those of several layers that have to be removed together.

A convolution's output channel is also an entry of the batch norm after it, an input channel of the
next convolutions, and, across a residual connection, an output channel of others. One such set is a
unit. torch-pruning's dependency graph finds the units (Fang et al. 2023, "DepGraph: Towards Any
Structural Pruning").
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from dltrain.weights.shapes import CONVOLUTIONS, Convolution, is_depthwise

MISSING = 'channels are found by torch-pruning: pip install "dltrain-cli[compress]"'
STAYS = -1  # in place of the unit of a channel that cannot be removed
NORMS = (_BatchNorm, nn.LayerNorm, nn.GroupNorm, nn.PReLU)
End = Literal["out", "in"]
ENDS: dict[str, End] = {"prune_in_channels": "in"}  # by torch-pruning's functions; others: out


@dataclass(frozen=True)
class Side:
    """The output or the input channels of a layer, by the layer's name.

    `has_filters` is True for a convolution or a linear layer, False for a norm.
    """

    layer: str
    end: End
    size: int
    has_filters: bool


def sides_of(network: nn.Module) -> list[Side]:
    """Return the sides of the layers of `network` whose channels can be removed."""
    sides = []
    for name, layer in network.named_modules():
        for end, size in sizes_of(layer).items():
            sides.append(Side(name, end, size, not isinstance(layer, NORMS)))
    return sides


def sizes_of(layer: nn.Module) -> dict[End, int]:
    """Return the numbers of channels of a layer's sides; {} if its channels cannot be removed."""
    if isinstance(layer, NORMS):
        return norm_sizes(layer)
    if isinstance(layer, nn.Linear):
        return {"out": layer.out_features, "in": layer.in_features}
    if isinstance(layer, CONVOLUTIONS):
        return convolution_sizes(layer)
    return {}


def convolution_sizes(layer: Convolution) -> dict[End, int]:
    """Return the numbers of channels of a convolution; {} if it has groups of several channels."""
    if is_depthwise(layer):
        return {"out": layer.out_channels}
    if layer.groups > 1:
        return {}
    return {"out": layer.out_channels, "in": layer.in_channels}


def norm_sizes(layer: Any) -> dict[End, int]:
    """Return the number of channels of a norm; {} if they do not stand for themselves."""
    has_groups = isinstance(layer, nn.GroupNorm) and layer.num_groups > 1
    if layer.weight is None or layer.weight.ndim > 1 or has_groups:
        return {}
    return {"out": len(layer.weight)}


def no_units(sides: Sequence[Side]) -> tuple[Tensor, Tensor]:
    """Return the units of a network in which nothing can be removed; see `couple`."""
    total = sum(side.size for side in sides)
    stays = torch.full((total,), STAYS)
    return stays, stays.clone()


def couple(
    network: nn.Module, example: Tensor, kept: Collection[str] = ()
) -> tuple[Tensor, Tensor]:
    """Return the units of `network`, which takes inputs such as `example` (B, ...).

    Returns:
        The number of the unit of each channel (N,), one side after the other, or `STAYS`; and the
        number of the group of each unit, in the first entries of (N,). The units of a group are
        those of the same layers.

    Units with an output channel of one of the layers `kept`, or with an output of the network, are
    left out.

    Raises:
        ImportError: torch-pruning is missing.
        ValueError: A layer is of a kind whose channels cannot be removed.
    """
    traced = copy.deepcopy(network).cpu().eval().requires_grad_(True)
    table = UnitTable(sides_of(traced))
    names = {layer: name for name, layer in traced.named_modules()}
    for members in groups_of(traced, example):
        parts = list(parts_of(members, names))
        outputs = {part.layer for part in parts if part.end == "out"}
        if outputs.isdisjoint(kept):
            table.add(parts, size=len(members[0].idxs))
    return table.units, table.groups


class UnitTable:
    """The units of the channels of all sides, filled group by group; see `couple`."""

    def __init__(self, sides: Sequence[Side]) -> None:
        self.units, self.groups = no_units(sides)
        starts = accumulate((side.size for side in sides), initial=0)
        self.starts = {(side.layer, side.end): start for side, start in zip(sides, starts)}  # noqa: B905
        self.num_units = 0
        self.num_groups = 0

    def add(self, parts: Sequence[CoupledChannels], size: int) -> None:
        """Add a group of `size` units.

        Raises:
            ValueError: A channel belongs to another unit already.
        """
        for part in parts:
            entries = self.starts[part.layer, part.end] + torch.tensor(part.channels)
            if self.units[entries].ne(STAYS).any():
                raise ValueError(f"channels of {part.layer} depend on each other in several ways")
            self.units[entries] = self.num_units + torch.tensor(part.roots)
        self.groups[self.num_units : self.num_units + size] = self.num_groups
        self.num_units += size
        self.num_groups += 1


def groups_of(network: nn.Module, example: Tensor) -> Iterator[Any]:
    """Yield the groups of torch-pruning that do not reach the network's output."""
    import torch_pruning

    graph = torch_pruning.DependencyGraph()
    with warnings.catch_warnings(), torch.enable_grad():
        warnings.simplefilter("ignore")
        # an operation after the last layer: only then the output is a node of the graph
        graph.build_dependency(
            network, example, forward_fn=lambda net, x: marked(net(x)), verbose=False
        )
        yield from filter(is_within, graph.get_all_groups())


def is_within(members: Any) -> bool:
    """Return whether a group of torch-pruning does not reach the network's output."""
    return all(type(dep.target.module).__name__ != "_OutputOp" for dep, _ in members)


def marked(outputs: Any) -> Any:
    """Return outputs of a network after an operation that changes nothing."""
    if isinstance(outputs, Tensor):
        return outputs * 1
    return [marked(output) for output in outputs]


@dataclass(frozen=True)
class CoupledChannels:
    """Channels of a layer that are removed with others; `roots` numbers them in their group."""

    layer: str
    end: End
    channels: list[int]
    roots: list[int]


def parts_of(members: Any, names: Mapping[nn.Module, str]) -> Iterator[CoupledChannels]:
    """Yield the part of each layer in a group of torch-pruning.

    Raises:
        ValueError: A layer is of a kind whose channels cannot be removed.
    """
    for member in members.items:
        layer = member.dep.target.module
        if isinstance(layer, nn.Parameter):
            raise ValueError("a parameter outside of the layers depends on channels")
        if layer in names:  # and no operation such as an addition
            yield coupled(member, names[layer], layer)


def coupled(member: Any, name: str, layer: nn.Module) -> CoupledChannels:
    """Return the channels of a layer in a group of torch-pruning."""
    end = ENDS.get(member.dep.handler.__name__, "out")
    if end not in sizes_of(layer):
        raise ValueError(f"the channels of {name}, {layer}, cannot be removed")
    return CoupledChannels(name, end, list(member.idxs), list(member.root_idxs))
