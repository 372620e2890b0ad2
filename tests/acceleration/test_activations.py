"""Recomputed activations: the same numbers bit for bit, with less memory for the backward pass."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dltrain.acceleration.activations import recompute_activations, repeated_blocks
from dltrain.models.images.densenet import DenseNet
from dltrain.models.images.resnet import ResNet, SmallResNet
from dltrain.models.text.transformer import TransformerLanguageModel


class System(nn.Module):
    """A task, as far as recomputation knows one: a network."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model


class Spectral(nn.Sequential):
    """Blocks whose spectral norm changes in every forward pass, with dropout."""

    def __init__(self) -> None:
        super().__init__(*(self.block() for _ in range(3)))

    @staticmethod
    def block() -> nn.Sequential:
        layer = nn.utils.parametrizations.spectral_norm(nn.Linear(6, 6))
        return nn.Sequential(layer, nn.Tanh(), nn.Dropout(0.5))


IMAGES = {"in_channels": 1, "image_size": (32, 32), "num_classes": 3}


def images() -> Tensor:
    return torch.randn(4, 1, 32, 32)


NETWORKS: dict[str, tuple[Any, Any, int]] = {
    "resnet": (lambda: ResNet(**IMAGES), images, 8),
    "resnet_small": (lambda: SmallResNet(**IMAGES, blocks=2), images, 8),
    "densenet": (lambda: DenseNet(**IMAGES), images, 7),
    "transformer_lm": (
        lambda: TransformerLanguageModel(
            vocab_size=11, max_length=8, num_layers=3, dim=16, num_heads=2
        ),
        lambda: torch.randint(11, (3, 8)),
        3,
    ),
    "spectral": (Spectral, lambda: torch.randn(5, 6), 3),
}


def step(model: nn.Module, batch: Tensor) -> tuple[Tensor, int]:
    """Train on a batch; return the loss, and the bytes that are kept for the backward pass."""
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    torch.manual_seed(1)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = model(batch)
    out = out[0] if isinstance(out, tuple) else out
    loss = out.float().square().mean()
    loss.backward()
    return loss.detach(), sum(kept.values())


@pytest.mark.parametrize("name", NETWORKS)
def test_recomputation_changes_memory_and_nothing_else(name: str) -> None:
    build, draw, count = NETWORKS[name]
    torch.manual_seed(0)
    plain = System(build())
    batch = draw()
    recomputing = copy.deepcopy(plain)
    assert recompute_activations(recomputing) == count
    for _ in range(2):
        loss, kept = step(plain.model, batch)
        loss_again, kept_again = step(recomputing.model, batch)
        assert loss_again.equal(loss)
    assert kept_again < 0.7 * kept
    gradients = dict(recomputing.named_parameters())
    for key, parameter in plain.named_parameters():
        assert parameter.grad is not None, key
        gradient = gradients[key].grad
        assert gradient is not None, key
        assert gradient.equal(parameter.grad), key
    state = recomputing.state_dict()
    assert list(state) == list(plain.state_dict())
    for key, value in plain.state_dict().items():
        assert state[key].equal(value), key


def test_a_network_without_repeated_blocks_says_so(caplog: Any) -> None:
    task = System(nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2)))
    assert recompute_activations(task) == 0
    (message,) = caplog.messages
    assert "recomputes nothing" in message


def test_a_stage_is_recomputed_block_by_block() -> None:
    def block() -> nn.Sequential:
        return nn.Sequential(nn.Linear(2, 2), nn.ReLU())

    stages = [nn.Sequential(block(), block()) for _ in range(2)]
    blocks = repeated_blocks(nn.Sequential(*stages))
    assert [id(one) for one in blocks] == [id(one) for stage in stages for one in stage]
