"""Structured pruning: whole channels are removed, and the network becomes smaller."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dltrain.errors import ConfigError
from dltrain.optim import Penalty
from dltrain.tasks.compression.pruned.couplings import (
    MISSING,
    STAYS,
    Side,
    couple,
    no_units,
    sides_of,
)
from dltrain.tasks.compression.pruned.selection import GONE, Scope, kept, require_rest
from dltrain.types import AuxiliaryHeads, Spec, Table
from dltrain.weights.freezing import matching_names
from dltrain.weights.shapes import replace_tensor, shrink_to, tensors_of, update_sizes

EXAMPLES = 2  # inputs of a trial pass
TRIED_FRACTION = 0.5  # of the channels are removed in a trial
MAX_REASON_CHARS = 200
COLUMNS = ("channels", "kept", "sparsity")
DIMENSIONS = {"out": 0, "in": 1}  # of a weight
WEIGHTS = "task.kind=weights prunes every network"


class Channels(nn.Module):
    """Removes the channels with the smallest weights from a network.

    A channel's score is the L2 norm of the weights that are removed with it (Fang et al. 2023);
    where all layers compete (`scope` "global") it is divided by the mean over the channels of the
    same layers. Layers with a name in `skip`, frozen ones and the output keep their channels.

    A checkpoint has the channels that depend on each other and those that are left, so it loads
    without torch-pruning.

    Raises:
        ValueError: Channels of this network cannot be removed, or a name in `skip` matches nothing.
    """

    def __init__(
        self, network: nn.Module, spec: Spec, scope: Scope, skip: Sequence[str | int]
    ) -> None:
        super().__init__()
        require_kind(network, spec)
        self.scope: Scope = scope
        self.sides: list[Side] = sides_of(network)
        self.dense_parameters = sum(p.numel() for p in network.parameters())
        example = torch.zeros(EXAMPLES, *spec.input_shape)
        self.is_known = True
        try:
            self.units, self.groups = couple(network, example, kept_layers(network, skip))
        except ImportError:
            self.is_known = False
            self.units, self.groups = no_units(self.sides)
        self.alive = torch.ones(len(self.units), dtype=torch.bool)  # of each unit
        if self.is_known:
            self._try(network, example)

    def _try(self, network: nn.Module, example: Tensor) -> None:
        """Raise ValueError if the network does not work with fewer channels."""
        name = type(network).__name__
        if not self.count:
            raise ValueError(f"{name} has no channels that can be removed; {WEIGHTS}")
        trial = copy.deepcopy(network).cpu().eval()
        equal = [torch.zeros(size) for size in self._group_sizes()]
        half = torch.cat(kept(equal, TRIED_FRACTION, "layer"))
        try:
            with torch.no_grad():
                self._remove(trial, half)
                trial(example)
        except (RuntimeError, ValueError) as e:
            reason = " ".join(str(e).split())[:MAX_REASON_CHARS]
            raise ValueError(
                f"{name} does not work with fewer channels ({reason}); {WEIGHTS}"
            ) from e

    @property
    def count(self) -> int:
        """The number of units."""
        return int(self.units.max()) + 1

    def _group_sizes(self) -> list[int]:
        """Return the number of units of each group; the units of a group follow each other."""
        return torch.bincount(self.groups[: self.count]).tolist()

    def get_extra_state(self) -> Tensor:
        """Return for checkpoints (3, N): the unit of each channel; group and rest of each unit."""
        return torch.stack([self.units, self.groups, self.alive.long()])

    def set_extra_state(self, state: Tensor) -> None:
        """Load the units of a checkpoint.

        Raises:
            ValueError: They are those of another network.
        """
        if state.shape != (3, len(self.units)):
            raise ValueError("the channels in the checkpoint are those of another network")
        self.units, self.groups, alive = state.to("cpu", copy=True)
        self.alive = alive.bool()
        self.is_known = bool(self.units.ne(STAYS).any())

    def require_library(self) -> None:
        """Raise ConfigError if torch-pruning is missing, and no checkpoint has its results."""
        if not self.is_known:
            raise ConfigError([("task.kind=channels", MISSING)])

    def fit(self, network: nn.Module, state: Mapping[str, Any], prefix: str) -> None:
        """Give `network` the shapes of its weights in `state`, whose names begin with `prefix`."""
        shrink_to(network, state, prefix)

    def reset(self) -> None:
        """Do nothing: removed channels do not return."""

    @torch.no_grad()
    def prune(self, network: nn.Module, fraction: float) -> None:
        """Remove so many channels that `fraction` of those that can be removed are gone."""
        self.require_library()
        scores = self._scores(network).split(self._group_sizes())
        if self.scope == "global":
            scores = tuple(own / own[own > 0].mean().nan_to_num(1) for own in scores)
        gone = (~self.alive[: self.count]).split(self._group_sizes())
        marked = [own.masked_fill(mask, GONE) for own, mask in zip(scores, gone, strict=True)]
        masks = kept(marked, fraction, self.scope)
        require_rest(masks, self._group_names(), "channels")
        rest = torch.cat(masks)
        self._remove(network, rest)
        self.alive[: self.count] = rest

    def _scores(self, network: nn.Module) -> Tensor:
        """Return the L2 norm of the weights of each unit (U,), on the CPU."""
        squares = torch.zeros(self.count)
        for side, units, present in zip(self.sides, self._units(), self._present(), strict=True):
            weight = network.get_parameter(f"{side.layer}.weight")
            dim = DIMENSIONS[side.end]
            others = [other for other in range(weight.ndim) if other != dim]
            sums = weight.float().square().sum(others) if others else weight.float().square()
            of_channels = on_host(sums)
            removable = units[present] != STAYS
            squares.index_add_(0, units[present][removable], of_channels[removable])
        return squares.sqrt()

    def _units(self) -> tuple[Tensor, ...]:
        """Return the units of the channels of each side of the dense network."""
        return self.units.split([side.size for side in self.sides])

    def _present(self, alive: Tensor | None = None) -> list[Tensor]:
        """Return for each side which channels of the dense network are left."""
        if alive is None:
            alive = self.alive
        return [(units == STAYS) | alive[units.clamp_min(0)] for units in self._units()]

    def _remove(self, network: nn.Module, rest: Tensor) -> None:
        """Remove the units that are not in `rest` (U,) from the layers of `network`."""
        for side, before, after in zip(
            self.sides, self._present(), self._present(rest), strict=True
        ):
            if torch.equal(before, after):
                continue
            layer = network.get_submodule(side.layer)
            select(layer, DIMENSIONS[side.end], after[before].nonzero().flatten())
            update_sizes(layer)

    def penalties(self, network: nn.Module) -> tuple[Penalty, ...]:
        """Return nothing: what is removed needs not be held."""
        return ()

    def apply_to(self, network: nn.Module) -> None:
        """Do nothing: the channels are removed."""

    def figures(self, network: nn.Module) -> dict[str, float]:
        """Return the sparsity of the channels and of all parameters, and those that are left."""
        left = sum(p.numel() for p in network.parameters())
        return {
            "sparsity": 1 - float(self.alive[: self.count].float().mean()),
            "parameter_sparsity": 1 - left / self.dense_parameters,
            "nonzero_parameters": float(left),
        }

    def table(self, network: nn.Module) -> Table:
        """Return a row for each layer that can lose output channels, and one for all of them."""
        rows = [*self._rows(), ("all", self.count, int(self.alive[: self.count].sum()))]
        values = [[float(size), float(left), 1 - left / size] for _, size, left in rows]
        names = tuple(name for name, _, _ in rows)
        return Table(torch.tensor(values), names, COLUMNS, "layer", "", plain=COLUMNS[:2])

    def _rows(self) -> Iterator[tuple[str, int, int]]:
        """Yield name, channels and channels that are left of the layers with weights."""
        for side, units, present in zip(self.sides, self._units(), self._present(), strict=True):
            if side.has_filters and side.end == "out" and units.ne(STAYS).any():
                yield side.layer, side.size, int(present.sum())

    def _group_names(self) -> list[str]:
        """Return the first layer of each group."""
        names: dict[int, str] = {}
        for side, units in zip(self.sides, self._units(), strict=True):
            if side.has_filters and side.end == "out":
                for group in self.groups[units[units != STAYS]].unique().tolist():
                    names.setdefault(group, side.layer)
        return [names[group] for group in range(len(self._group_sizes()))]


def require_kind(network: nn.Module, spec: Spec) -> None:
    """Raise ValueError for a network or data whose channels are not looked at."""
    if isinstance(network, AuxiliaryHeads) and network.auxiliary_heads():
        name = type(network).__name__
        raise ValueError(
            f"{name} has auxiliary heads, which channels are not removed from; {WEIGHTS}"
        )
    if spec.vocab_size or spec.num_states or not spec.input_shape:
        raise ValueError(f"channels are those of networks of images and numbers; {WEIGHTS}")


def kept_layers(network: nn.Module, skip: Sequence[str | int]) -> set[str]:
    """Return the layers that keep their channels: those that `skip` names, and frozen ones."""
    frozen = [name for name, p in network.named_parameters() if not p.requires_grad]
    return {name.rpartition(".")[0] for name in (*matching_names(network, skip), *frozen)}


def select(layer: nn.Module, dim: int, channels: Tensor) -> None:
    """Keep only some `channels` (N,) of a layer, along dimension `dim` of its weight."""
    for name, value in tensors_of(layer).items():
        if value.ndim > dim:
            part = value.detach().index_select(dim, channels.to(value.device))
            replace_tensor(layer, name, part)


def on_host(values: Tensor) -> Tensor:
    """Return values on the CPU, where it is decided between two stages what to remove."""
    return values.cpu()
