"""Stacked networks give each run's outputs and gradients; their weights are those of the runs."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from dltrain.engine import Objective
from dltrain.models.layers import Dropout
from dltrain.optim import Optim
from dltrain.optimizers.direct import DirectAdam
from dltrain.vectorized.program import Program, RunPart
from dltrain.vectorized.updates import is_plain, update_together

RUNS = 3
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "convolution": lambda: nn.Conv2d(2, 3, 3),
    "without a bias": lambda: nn.Conv2d(2, 3, 3, bias=False),
    "stride and padding": lambda: nn.Conv2d(2, 3, 3, stride=2, padding=(1, 0), dilation=2),
    "groups": lambda: nn.Conv2d(2, 4, 3, groups=2),
    "padding by name": lambda: nn.Conv2d(2, 3, 3, padding="same"),
    "average": lambda: nn.Sequential(nn.Conv2d(2, 3, 3), nn.AvgPool2d(2)),
    "average of other blocks": lambda: nn.Sequential(nn.Conv2d(2, 3, 3), nn.AvgPool2d((2, 3))),
    "average that overlaps": lambda: nn.Sequential(nn.Conv2d(2, 3, 3), nn.AvgPool2d(3, 2, 1)),
    "average of a cut image": lambda: nn.Sequential(nn.Conv2d(2, 3, 4), nn.AvgPool2d(2)),
    "maximum": lambda: nn.Sequential(nn.Conv2d(2, 3, 3), nn.MaxPool2d(2)),
    "adaptive": lambda: nn.Sequential(nn.Conv2d(2, 3, 3), nn.AdaptiveAvgPool2d(1)),
    "pooling first": lambda: nn.Sequential(nn.AvgPool2d(2), nn.MaxPool2d(2), nn.Conv2d(2, 3, 1)),
    "batch norm": lambda: nn.Sequential(
        nn.Conv2d(2, 3, 3, bias=False), nn.BatchNorm2d(3), nn.Tanh()
    ),
    "dense": lambda: nn.Sequential(nn.Flatten(), nn.Linear(128, 5), nn.Tanh()),
    "dropout": lambda: nn.Sequential(nn.Conv2d(2, 3, 3), Dropout(0.4), nn.Flatten()),
    "dropout of torch": lambda: nn.Sequential(nn.Flatten(), nn.Dropout(0.3), nn.Linear(128, 5)),
    "dropout of channels": lambda: nn.Sequential(nn.Conv2d(2, 3, 3), nn.Dropout2d(0.5)),
}


def square_mean(outputs: Tensor, targets: Tensor) -> tuple[Tensor, int]:
    return (outputs.flatten(1).sum(1) - targets).square().mean(), len(targets)


def draw(number: int, layer: nn.Module, ones: Tensor) -> Tensor:
    """The mask of a run, from a generator of its own that begins again for every mask."""
    with torch.random.fork_rng():
        torch.manual_seed(number)
        mask: Tensor = layer(ones)
    return mask


def parts_of(models: list[nn.Module]) -> list[RunPart]:
    optimizer = partial(DirectAdam, lr=1e-2, fused=True)
    return [RunPart(Objective(model, square_mean), Optim(model, optimizer)) for model in models]


def batches(shape: tuple[int, ...] = (2, 8, 8)) -> list[tuple[Tensor, Tensor]]:
    torch.manual_seed(1)
    return [(torch.randn(5, *shape), torch.randn(5)) for _ in range(RUNS)]


class Opaque(nn.Module):
    """A network that is no plain sequence, so that vmap maps over it."""

    def __init__(self, layers: nn.Module) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.layers(x)
        return outputs


KINDS = {"vmap": Opaque, "sequence": nn.Sequential}
ONLY_VMAP = ("padding by name", "dropout of channels")


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NETWORKS)
def test_a_program_gives_the_losses_and_gradients_of_each_run(
    name: str, kind: str, memory_format: torch.memory_format
) -> None:
    networks = [KINDS[kind](NETWORKS[name]()) for _ in range(RUNS)]
    models = [network.to(memory_format=memory_format) for network in networks]
    alone = copy.deepcopy(models)
    program = Program(parts_of(models), draw)
    assert (program.sequence is None) == (kind == "vmap" or name in ONLY_VMAP)
    for number, answer in enumerate(program.train(batches())):
        loss, weight, gradients = answer
        inputs, targets = batches()[number]
        with torch.random.fork_rng():
            torch.manual_seed(number)
            expected, _ = square_mean(alone[number](inputs), targets)
        expected.backward()
        assert weight == 5
        torch.testing.assert_close(loss, expected.detach())
        for own, p in zip(models[number].parameters(), alone[number].parameters(), strict=True):
            torch.testing.assert_close(gradients[own], p.grad, atol=1e-4, rtol=1e-4)
            assert gradients[own].stride() == own.stride()
    for model, other in zip(models, alone, strict=True):
        for buffer, expected in zip(model.buffers(), other.buffers(), strict=True):
            torch.testing.assert_close(buffer, expected)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("are_shared", [True, False])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("first", ["convolution", "pooling", "norm", "dense"])
def test_a_program_gives_the_outputs_of_each_run(
    first: str, kind: str, are_shared: bool, channels: int
) -> None:
    later = [nn.Conv2d(channels, 3, 3), nn.AvgPool2d(2), nn.BatchNorm2d(3), nn.Conv2d(3, 6, 1)]
    layers: dict[str, list[nn.Module]] = {
        "convolution": later,
        "pooling": [nn.MaxPool2d(2), *later],
        "norm": [nn.BatchNorm2d(channels), *later],
        "dense": [nn.Flatten(), nn.Linear(64 * channels, 5), nn.BatchNorm1d(5), nn.Dropout(0.5)],
    }
    models = [copy.deepcopy(KINDS[kind](nn.Sequential(*layers[first]))) for _ in range(RUNS)]
    for model in models:
        model.eval()
        for p in model.parameters():
            nn.init.normal_(p)
    images = [inputs for inputs, _ in batches((channels, 8, 8))]
    if are_shared:
        images = images[:1] * RUNS
    expected = [model(x) for model, x in zip(models, images, strict=True)]
    outputs = Program(parts_of(models), draw).predict(images)
    for one, other in zip(outputs, expected, strict=True):
        torch.testing.assert_close(one, other)
        assert not one.requires_grad


def test_parameters_of_runs_are_slices_of_the_stacked_ones() -> None:
    models: list[nn.Module] = [nn.Linear(128, 2) for _ in range(RUNS)]
    parts = parts_of(models)
    program = Program(parts, draw)
    with torch.no_grad():
        next(models[1].parameters()).fill_(7)
    assert torch.equal(program.parameters["weight"][1], torch.full((2, 128), 7.0))
    assert torch.equal(parts[1].optim.averaged_values[0], torch.full((2, 128), 7.0))
    names = {p.untyped_storage().data_ptr() for model in models for p in model.parameters()}
    assert len(names) == 2


@pytest.mark.parametrize("rates", [(1e-2, 1e-2, 1e-2), (1e-3, 1e-2, 1e-1)], ids=str)
def test_updates_together_are_those_of_each_optimizer(
    rates: tuple[float, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    models = [nn.Linear(4, 2) for _ in range(RUNS)]
    alone = copy.deepcopy(models)
    make = [partial(DirectAdam, lr=rate, fused=True) for rate in rates]
    optims = [Optim(model, one) for model, one in zip(models, make, strict=True)]
    others = [Optim(model, one) for model, one in zip(alone, make, strict=True)]
    calls = []
    kernel = DirectAdam.update
    monkeypatch.setattr(DirectAdam, "update", lambda *a: (calls.append(1), kernel(*a)))
    for step in range(4):
        gradients = [{p: torch.randn_like(p) for p in model.parameters()} for model in models]
        for optim, other, of_run in zip(optims, others, gradients, strict=True):
            pairs = zip(other.params, of_run.values(), strict=True)
            other.update(torch.zeros(()), {p: g.clone() for p, g in pairs})
            if not step:  # the moments are made by the first step
                optim.update(torch.zeros(()), of_run)
        if step:
            calls.clear()
            assert update_together(optims, gradients)
            assert len(calls) == len(set(rates))
    for model, expected in zip(models, alone, strict=True):
        for p, other in zip(model.parameters(), expected.parameters(), strict=True):
            assert torch.equal(p, other)
    assert {optim.updates for optim in optims} == {4}


def test_updates_that_are_more_than_a_kernel_are_left_to_each_run() -> None:
    model = nn.Linear(4, 2)
    optim = Optim(model, partial(DirectAdam, lr=1e-2, fused=True))
    gradients = {p: torch.ones_like(p) for p in model.parameters()}
    assert not is_plain(optim)  # it has no moments
    optim.update(torch.zeros(()), gradients)
    assert is_plain(optim)
    optim.record_grad_norm = True
    assert not update_together([optim], [gradients])
    optim.record_grad_norm = False
    assert not update_together([optim], [{}])
    assert update_together([optim], [gradients])
