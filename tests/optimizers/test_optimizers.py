"""Every optimizer option finds a minimum and makes torch's steps; `Optim` is in test_optim.py."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dltrain.config.groups import groups, read_option
from dltrain.experiment.instantiate import instantiate
from dltrain.optim import Optim
from dltrain.optimizers.decoupled_sgd import decoupled_sgd
from dltrain.optimizers.muon import Muon, orthogonalized
from dltrain.schedules.cosine import Cosine

TORCHS = {
    "sgd": functools.partial(torch.optim.SGD, lr=0.1),
    "momentum": functools.partial(torch.optim.SGD, lr=0.05, momentum=0.9),
    "nesterov": functools.partial(torch.optim.SGD, lr=0.05, momentum=0.9, nesterov=True),
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "rmsprop": functools.partial(torch.optim.RMSprop, lr=0.001, alpha=0.9),
    "adagrad": torch.optim.Adagrad,
    "adadelta": functools.partial(torch.optim.Adadelta, rho=0.95),
}


@functools.cache
def option(name: str) -> Any:
    """The optimizer as its file has it."""
    return instantiate(read_option("optimizer", name), "optimizer", {}, [])


def network() -> nn.Sequential:
    """A kernel, a matrix, an output layer, their biases, and a normalization's vectors."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3),
        nn.BatchNorm2d(4),
        nn.Flatten(),
        nn.Linear(16, 5),
        nn.Tanh(),
        nn.Linear(5, 3),
    )


def targets_of(params: list[Tensor]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [p.detach() + 0.015 * torch.randn(p.shape, generator=generator) for p in params]


def distance(params: list[Tensor], targets: list[Tensor]) -> Tensor:
    """Convex in all weights: half the squared distance from `targets`."""
    return torch.stack(
        [(p - t).square().sum() / 2 for p, t in zip(params, targets, strict=True)]
    ).sum()


@pytest.mark.parametrize("name", groups()["optimizer"])
def test_every_optimizer_finds_the_minimum_of_a_convex_function(name: str) -> None:
    """Default settings and a decreasing rate bring every parameter within 10 % of the distance."""
    net = network()
    params: list[Tensor] = list(net.parameters())
    targets = targets_of(params)
    optim = Optim(net, option(name), Cosine(200))
    start = [float(distance([p], [t]).detach()) for p, t in zip(params, targets, strict=True)]
    for _ in range(200):
        optim.update(distance(params, targets))
    end = [float(distance([p], [t]).detach()) for p, t in zip(params, targets, strict=True)]
    assert all(e < 0.01 * s for s, e in zip(start, end, strict=True)), list(
        zip(start, end, strict=True)
    )


@pytest.mark.parametrize("name", TORCHS)
def test_the_options_take_torchs_steps(name: str) -> None:
    """Ten steps of each option end where torch's class does with the same settings."""
    ours, theirs = network(), network()
    optim = Optim(ours, option(name))
    optimizer = TORCHS[name](theirs.parameters())
    targets = targets_of(list(ours.parameters()))
    for _ in range(10):
        optim.update(distance(list(ours.parameters()), targets))
        optimizer.zero_grad()
        distance(list(theirs.parameters()), targets).backward()
        optimizer.step()
    torch.testing.assert_close(
        list(ours.parameters()), list(theirs.parameters()), rtol=0, atol=1e-6
    )


def test_every_option_is_compared_with_torch_or_has_tests_of_its_own() -> None:
    own = {"decoupled_sgd", "muon", "row_adagrad", "sparse_adam"}
    assert {*TORCHS, *own} == set(groups()["optimizer"])


def test_decoupled_sgd_is_nesterovs_momentum_with_settings_of_its_own() -> None:
    """With m = 0.75, k = 5: torch's rate is lr / 5, and its decay is relative to the rate."""
    ours, theirs = network(), network()
    optim = Optim(ours, functools.partial(decoupled_sgd, lr=0.5, momentum=0.75, weight_decay=0.02))
    settings = {"lr": 0.1, "momentum": 0.75, "nesterov": True, "weight_decay": 0.04}
    torchs = torch.optim.SGD(theirs.parameters(), **settings)
    targets = targets_of(list(ours.parameters()))
    for _ in range(5):
        optim.update(distance(list(ours.parameters()), targets))
        torchs.zero_grad()
        distance(list(theirs.parameters()), targets).backward()
        torchs.step()
    torch.testing.assert_close(
        list(ours.parameters()), list(theirs.parameters()), rtol=0, atol=1e-6
    )


def test_decoupled_sgd_decays_layers_with_other_rates_alike() -> None:
    """Without a gradient each step leaves 1 - 0.05 / k of a weight, whatever its rate is."""
    net = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    for p in net.parameters():
        nn.init.ones_(p)
    make = functools.partial(decoupled_sgd, lr=0.3, momentum=0.5, weight_decay=0.06)
    optim = Optim(net, make, lr_factors={"1": 10.0})
    assert optim.lrs == pytest.approx([0.1, 1.0])
    inputs = torch.zeros(1, 2)
    optim.update(net(inputs).sum())
    # k = 3, and the first step of Nesterov's momentum is 1 + m = 1.5 times the gradient
    for p in net.parameters():
        torch.testing.assert_close(p.detach(), torch.full((2, 2), 1 - 1.5 * 0.06 / 3))


def test_muon_tells_hidden_matrices_from_the_output_layer_and_the_vectors_by_order() -> None:
    net = network()
    hidden, rest = Muon(list(net.parameters())).param_groups
    assert [p.shape for p in hidden["params"]] == [(4, 2, 3, 3), (5, 16)]
    assert {id(p) for p in hidden["params"] + rest["params"]} == {id(p) for p in net.parameters()}
    assert any(p is net[5].weight for p in rest["params"])
    assert (hidden["lr"], rest["lr"]) == (0.02, 0.001)


@pytest.mark.parametrize("shape", [(5, 16), (16, 5), (6, 6)])
def test_muon_takes_the_steps_of_torchs_muon_on_matrices(shape: tuple[int, int]) -> None:
    """The steps agree within a few percent, because torch runs its iteration in bfloat16."""
    torch.manual_seed(0)
    start = torch.randn(shape)
    ours, theirs, output = (
        nn.Parameter(start.clone()),
        nn.Parameter(start.clone()),
        nn.Parameter(torch.ones(2, 2)),
    )
    settings = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1}
    muon, torchs = Muon([ours, output], **settings), torch.optim.Muon([theirs], **settings)
    for _ in range(3):
        ours.grad = torch.randn(shape)
        theirs.grad = ours.grad.clone()
        muon.step()
        torchs.step()
    moved, expected = (ours - start).detach(), (theirs - start).detach()
    assert float((moved - expected).norm() / expected.norm()) < 0.02


def test_muon_steps_a_kernel_along_an_orthogonal_matrix() -> None:
    kernel, output = nn.Parameter(torch.zeros(4, 2, 3, 3)), nn.Parameter(torch.ones(2, 2))
    torch.manual_seed(0)
    kernel.grad = torch.randn(4, 2, 3, 3)
    Muon([kernel, output], lr=0.5).step()
    singular = torch.linalg.svdvals(kernel.detach().flatten(1))
    assert len(singular) == 4
    assert bool(((singular > 0.5 * 0.65) & (singular < 0.5 * 1.25)).all())
    assert output.tolist() == [[1, 1], [1, 1]], "no gradient, no step"


def test_orthogonalized_keeps_directions_and_evens_out_their_sizes() -> None:
    torch.manual_seed(0)
    u, _, vt = torch.linalg.svd(torch.randn(6, 4), full_matrices=False)
    found = orthogonalized(u @ torch.diag(torch.tensor([3.0, 1.0, 0.3, 0.1])) @ vt, 5)
    sizes = u.T @ found @ vt.T
    assert bool((sizes.diag() > 0.65).all())
    assert bool((sizes.diag() < 1.25).all())
    torch.testing.assert_close(sizes, torch.diag(sizes.diag()), atol=1e-4, rtol=0)
    assert not orthogonalized(torch.zeros(3, 2), 5).any()


@pytest.mark.parametrize("shape", [(6, 60), (60, 6), (6, 18), (18, 6), (1, 9)])
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_a_wide_matrix_takes_the_iterations_by_its_gram_matrix_alone(
    shape: tuple[int, int], steps: int
) -> None:
    """To rounding, also where most singular values are small: as the iteration is written."""
    torch.manual_seed(0)
    u, _, vt = torch.linalg.svd(torch.randn(shape), full_matrices=False)
    matrix = u * torch.logspace(0, -3, len(vt if shape[0] > shape[1] else u)) @ vt
    x = (matrix / matrix.norm()).double()
    for _ in range(steps):
        gram = x @ x.T
        x = 3.4445 * x - 4.7750 * gram @ x + 2.0315 * gram @ gram @ x
    torch.testing.assert_close(orthogonalized(matrix, steps), x.float(), rtol=1e-3, atol=1e-3)


def test_muon_trains_a_single_layer_by_adamw() -> None:
    ours, theirs = nn.Linear(3, 2), nn.Linear(3, 2)
    theirs.load_state_dict(ours.state_dict())
    muon = Muon(list(ours.parameters()), adamw_lr=0.01, weight_decay=0.1)
    adamw = torch.optim.AdamW(theirs.parameters(), lr=0.01, betas=(0.9, 0.95), weight_decay=0.1)
    for _ in range(5):
        for net, optimizer in ((ours, muon), (theirs, adamw)):
            optimizer.zero_grad()
            net(torch.ones(1, 3)).square().sum().backward()
            optimizer.step()
    torch.testing.assert_close(list(ours.parameters()), list(theirs.parameters()))


def test_a_schedule_moves_both_rates_of_muon() -> None:
    net = network()
    optim = Optim(net, option("muon"), Cosine(2))
    for _ in range(2):
        optim.update(sum((p.sum() for p in net.parameters()), torch.zeros(())))
    assert optim.lrs == pytest.approx([0.01, 0.0005])
