"""LoRA: fine-tuning by a product of two small matrices beside each linear layer.

A checkpoint has the original weights under their own names, and beside them `lora_a`, `lora_b` and
`lora_scale` of each layer. `merged_weights` adds the products to the original weights.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch.nn.functional as F
from torch import Tensor, nn

from dltrain.models.layers import Dropout
from dltrain.weights.freezing import (
    frozen_batch_norms,
    matches,
    matching_names,
    trainable_parameters,
    use_running_statistics,
)

A, B, SCALE = "lora_a", "lora_b", "lora_scale"  # names in a state, after the name of a layer
KAIMING_SLOPE = math.sqrt(5)  # with which torch initializes linear layers
MAX_LAYERS_NAMED = 8  # in a message


class LoraSettings(Protocol):
    """The top-level setting `lora`; see `dltrain.config.settings.Lora`."""

    @property
    def rank(self) -> int | None:
        """The rank r of the product; None trains the network itself."""

    @property
    def alpha(self) -> float | None:
        """The product is multiplied by alpha / r; None: alpha = r, a factor of 1."""

    @property
    def dropout(self) -> float:
        """The fraction of the inputs of the product that is set to 0 in training."""

    @property
    def targets(self) -> Sequence[str | int]:
        """The layers that get a product, as `freeze` names them; empty: every linear layer."""

    @property
    def train(self) -> Sequence[str | int]:
        """Parameters that are trained as well, such as a new head."""


class LoraLinear(nn.Linear):
    """A linear layer plus a product of two matrices: W x + b + (alpha / r) B A x.

    This is equation 3 of Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models",
    with A (r, in) and B (out, r). A is random and B is 0, so that the layer begins as it was. Some
    networks use the `weight` of a layer without a call of the layer: they get W + (alpha / r) B A.

    Args:
        layer: The layer, whose weight and bias this one has.
        rank: The rank r.
        alpha: See `LoraSettings`.
        dropout: See `LoraSettings`.
    """

    lora_scale: Tensor

    def __init__(self, layer: nn.Linear, rank: int, alpha: float, dropout: float) -> None:
        nn.Module.__init__(self)
        self.in_features = layer.in_features
        self.out_features = layer.out_features
        self._parameters["weight"] = layer.get_parameter("weight")
        self.register_parameter("bias", layer.bias)
        self.dropout = Dropout(dropout)
        like = layer.weight.detach()
        self.lora_a = nn.Parameter(like.new_empty(rank, layer.in_features))
        self.lora_b = nn.Parameter(like.new_zeros(layer.out_features, rank))
        nn.init.kaiming_uniform_(self.lora_a, a=KAIMING_SLOPE)
        self.register_buffer(SCALE, like.new_tensor(alpha / rank))

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        """The weight (out, in) with the product added; the parameter of that name is without."""
        return self.original + self.lora_scale * (self.lora_b @ self.lora_a)

    @property
    def original(self) -> Tensor:
        """The weight (out, in) without the product."""
        weight = self._parameters["weight"]
        assert weight is not None
        return weight

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs (..., out) of x (..., in)."""
        outputs = F.linear(x, self.original, self.bias)
        narrow = F.linear(self.dropout(x), self.lora_a)
        return outputs + self.lora_scale * F.linear(narrow, self.lora_b)


@dataclass(frozen=True)
class Adapters:
    """The layers that LoRA has changed, and the numbers of parameters that are trained and not."""

    layers: Sequence[str]
    trained: int
    total: int

    def message(self, rank: int) -> str:
        """Return a line for the log."""
        percent = 100 * self.trained / self.total
        return (
            f"lora.rank={rank}: {len(self.layers)} linear layers, {self.trained:,} of "
            f"{self.total:,} parameters are trained ({percent:.2f} %)"
        )


def add_adapters(model: nn.Module, settings: LoraSettings) -> Adapters:
    """Give linear layers of `model` a trained product, and freeze everything else.

    Batch norm whose parameters are frozen uses the statistics that it has.

    Raises:
        ValueError: No linear layer is left to adapt, or a pattern matches none.
    """
    assert settings.rank is not None
    fully_trained = set(matching_names(model, settings.train))
    names = adapted_layers(model, settings.targets, fully_trained)
    total = sum(p.numel() for p in model.parameters())
    trainable = trainable_parameters(model)
    for name, p in trainable.items():
        p.requires_grad_(name in fully_trained)
    frozen = [p for name, p in trainable.items() if name not in fully_trained]
    for norm in frozen_batch_norms(model, frozen):
        norm.register_forward_pre_hook(use_running_statistics)
    for name in names:
        owner, _, own_name = name.rpartition(".")
        layer = model.get_submodule(name)
        assert isinstance(layer, nn.Linear)
        alpha = settings.alpha or settings.rank
        adapted = LoraLinear(layer, settings.rank, alpha, settings.dropout)
        setattr(model.get_submodule(owner), own_name, adapted)
    trained = sum(p.numel() for p in trainable_parameters(model).values())
    return Adapters(names, trained, total)


def adapted_layers(
    model: nn.Module, targets: Sequence[str | int], fully_trained: set[str]
) -> list[str]:
    """Return the names of the linear layers to adapt; see `LoraSettings.targets`.

    A layer that shares its weight with another, as an output layer with the embeddings, is left
    alone: the sum of its weight and a product could not be shared.

    Raises:
        ValueError: There is none, or a pattern matches none of the linear layers.
    """
    shared = shared_weights(model)
    linear = []
    for name, layer in model.named_modules():
        is_alone = isinstance(layer, nn.Linear) and id(layer.weight) not in shared
        if is_alone and name and f"{name}.weight" not in fully_trained:
            linear.append(name)
    unmatched = [t for t in targets if not any(matches(f"{name}.weight", t) for name in linear)]
    if unmatched or not linear:
        more = ", ..." if len(linear) > MAX_LAYERS_NAMED else ""
        names = ", ".join(linear[:MAX_LAYERS_NAMED]) + more
        what = f"{unmatched[0]} matches no linear layer" if unmatched else "nothing to adapt"
        raise ValueError(
            f"{what}: the linear layers with weights of their own are {names or 'none'}"
        )
    if not targets:
        return linear
    return [name for name in linear if any(matches(f"{name}.weight", t) for t in targets)]


def shared_weights(model: nn.Module) -> set[int]:
    """Return the ids of parameters that stand in several modules."""
    counts: dict[int, int] = {}
    for module in model.modules():
        for p in module.parameters(recurse=False):
            counts[id(p)] = counts.get(id(p), 0) + 1
    return {key for key, count in counts.items() if count > 1}


def is_of_product(name: str) -> bool:
    """Return whether a name of a state is that of a part of a product."""
    return name.endswith((f".{A}", f".{B}", f".{SCALE}"))


def merged_weights(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return a state with each product added to the weight beside it, and without the products.

    W + scale B A is computed in double precision. A state without products is returned as it is.
    """
    merged = dict(state)
    layers = [name.removesuffix(A) for name in state if name.endswith(f".{A}")]
    for layer in layers:
        a, b, scale = (merged.pop(f"{layer}{part}").double() for part in (A, B, SCALE))
        weight = merged[f"{layer}weight"]
        merged[f"{layer}weight"] = (weight.double() + scale * (b @ a)).to(weight.dtype)
    return merged
