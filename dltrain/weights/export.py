"""The weights of a network as other programs read them: under its own names, merged."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn

from dltrain.files import replace_file, writing
from dltrain.weights.lora import merged_weights

METADATA = {"format": "pt"}  # what other programs expect of a file of torch


def plain_weights(model: nn.Module) -> dict[str, Tensor]:
    """Return the weights and buffers of a network, with the products of LoRA merged into them.

    The names are those of the network without LoRA. Each tensor has memory of its own, as the file
    format requires, also where two layers share one.
    """
    tensors = {k: v for k, v in merged_weights(model.state_dict()).items() if torch.is_tensor(v)}
    return {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}


def write_safetensors(model: nn.Module, out: Path) -> int:
    """Write the weights of a network into a safetensors file; return how many tensors there are."""
    weights = plain_weights(model)
    with writing(f"--out {out}"):
        replace_file(out, save(weights, METADATA))
    return len(weights)
