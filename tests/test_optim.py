"""One gradient step: its traps, accumulation, what it owns and measures, loss scaling, saving."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from descent import OPTIMIZERS, X, Y, assert_equal, averager, loss_of, network, plain, weights
from torch import Tensor, nn
from toys import GAN, Points

from dltrain.optim import Optim
from dltrain.regularization.ema import EMA
from dltrain.regularization.l2 import L2
from dltrain.runs import checkpoint
from dltrain.schedules.cosine import Cosine

# The traps ----------------------------------------------------------------------------------------


def test_second_forward_under_autocast_sees_the_new_weights() -> None:
    """Autocast keeps half-precision copies of weights: `update` drops them, so the same step may go
    forward again.
    """
    net = network()
    optim = Optim(net, plain(lr=1.0))
    with torch.autocast("cpu", torch.bfloat16):
        before = net(X).detach().clone()
        optim.update(loss_of(net))
        after = net(X).detach().clone()
    with torch.autocast("cpu", torch.bfloat16):
        fresh = net(X).detach().clone()
    assert not torch.equal(before, after)
    assert torch.equal(after, fresh)


@pytest.mark.parametrize("accumulate", [1, 3])
def test_no_gradient_is_left_on_other_networks(accumulate: int) -> None:
    """The generator's backward passes through the discriminator and leaves nothing there, also
    while accumulating.
    """
    task = GAN(accumulate=accumulate)
    stage = next(task.stages())
    for real in Points(5).epoch(0):
        fake = task.generator(torch.randn_like(real))
        task.optim_g.update(task.discriminator(fake).mean())
        assert all(p.grad is None for p in task.discriminator.parameters())
    assert task.optim_g.pending == 5 % accumulate
    assert all((p.grad is None) == (accumulate == 1) for p in task.generator.parameters())
    assert len(stage.optims) == 2


def test_accumulation_is_not_disturbed_by_the_other_optim() -> None:
    """Two optims that accumulate in turn do what two that never meet would do."""
    task, alone = GAN(accumulate=3), GAN(accumulate=3)
    next(task.stages()), next(alone.stages())
    for real in Points(6).epoch(0):
        task.optim_d.update(task.discriminator.eval()(real).square().mean())
        task.optim_g.update(task.discriminator(task.generator.eval()(real)).mean())
        alone.optim_d.update(alone.discriminator.eval()(real).square().mean())
    assert_equal(weights(task.discriminator), weights(alone.discriminator))


def test_optimizers_made_inside_stages_are_fresh() -> None:
    """Every walk through `stages` makes new optims, without moments or counts of the last."""
    task = GAN()
    first = next(task.stages()).optims
    first[0].update(task.generator(torch.ones(1, 2)).sum())
    second = next(task.stages()).optims
    assert not set(map(id, first)) & set(map(id, second))
    assert (first[0].updates, second[0].updates) == (1, 0)
    assert second[0].optimizer.state_dict()["state"] == {}


# Accumulation -------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_accumulated_batches_equal_one_large_one(k: int, optimizer: str) -> None:
    """k batches make the step of one batch of k times the size."""
    small, large = network(), network()
    parts = Optim(small, OPTIMIZERS[optimizer], accumulate=k)
    whole = Optim(large, OPTIMIZERS[optimizer])
    for _ in range(3):
        for x, y in zip(X.chunk(k), Y.chunk(k), strict=True):
            parts.update(loss_of(small, x, y))
        whole.update(loss_of(large))
    assert parts.updates == whole.updates == 3
    assert_equal(weights(small), weights(large), atol=1e-6)
    assert not torch.equal(weights(small)[0], weights(network())[0])


@pytest.mark.parametrize("arrived", [0, 1, 2])
def test_an_incomplete_window_is_flushed_as_the_mean_of_what_is_in(arrived: int) -> None:
    """The batches in the window at a stage's end make a step as if the window had been
    that long.
    """
    small, large = network(), network()
    parts, whole = Optim(small, plain(), accumulate=3), Optim(large, plain())
    for x, y in list(zip(X.chunk(3), Y.chunk(3), strict=True))[:arrived]:
        parts.update(loss_of(small, x, y))
    assert_equal(weights(small), weights(network()))
    parts.flush()
    if arrived:
        whole.update(loss_of(large, X[: 4 * arrived], Y[: 4 * arrived]))
    assert_equal(weights(small), weights(large), atol=1e-6)
    assert (parts.updates, parts.pending) == (whole.updates, 0)
    parts.flush()
    assert parts.updates == whole.updates


@pytest.mark.parametrize("weighed", [float, torch.tensor], ids=["number", "tensor"])
def test_losses_of_nothing_count_nothing(weighed: Callable[[int], float | Tensor]) -> None:
    """A window may begin or end with a batch without a pair of words, or hold no other."""
    small, large = network(), network()
    parts, whole = Optim(small, plain(), accumulate=3), Optim(large, plain())
    nothing = lambda: (small(X) * 0).sum()  # noqa: E731
    parts.update(nothing(), weight=weighed(0))
    parts.update(loss_of(small), weight=weighed(12))
    parts.update(nothing(), weight=weighed(0))
    whole.update(loss_of(large))
    assert_equal(weights(small), weights(large), atol=1e-6)
    for _ in range(3):
        parts.update(nothing(), weight=weighed(0))
    assert parts.updates == 2
    assert_equal(weights(small), weights(large), atol=1e-6)


# What is owned, what is measured -----------------------------------------------------------------


def test_frozen_parameters_are_skipped() -> None:
    """A frozen layer is neither owned nor moved."""
    net = network()
    net[0].requires_grad_(False)
    optim = Optim(net, OPTIMIZERS["adamw"], average=averager(EMA()))
    before = weights(net)
    optim.update(loss_of(net))
    assert len(optim.params) == 2
    assert [torch.equal(a, b) for a, b in zip(weights(net), before, strict=True)] == [
        True,
        True,
        False,
        False,
    ]


@pytest.mark.parametrize("accumulate", [1, 2])
def test_unused_parameters_are_tolerated(accumulate: int) -> None:
    """A parameter that the loss does not reach stays as it is; clipping and penalties
    pass it by.
    """
    net = network()
    unused = nn.ModuleList([net, nn.Linear(2, 2)])
    optim = Optim(
        unused,
        OPTIMIZERS["adam"],
        accumulate=accumulate,
        clip_norm=1.0,
        clip_value=1.0,
        penalties=[L2()],
    )
    before = weights(unused)
    optim.update(loss_of(net))
    optim.flush()
    same = [torch.equal(a, b) for a, b in zip(weights(unused), before, strict=True)]
    assert same == [False] * 4 + [True] * 2


def test_the_gradient_norm_is_measured_only_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measuring costs: it happens on the next step after `measure` is set, and no other."""
    calls: list[int] = []
    total_norm = nn.utils.get_total_norm
    monkeypatch.setattr(
        nn.utils, "get_total_norm", lambda grads: calls.append(1) or total_norm(grads)
    )
    net = network()
    optim = Optim(net, plain(), accumulate=2)
    for i in range(6):
        if i == 2:
            optim.record_grad_norm = True
            expected = torch.cat(
                [g.flatten() for g in torch.autograd.grad(loss_of(net), net.parameters())]
            ).norm()
        optim.update(loss_of(net))
    assert len(calls) == 1
    assert not optim.record_grad_norm
    torch.testing.assert_close(optim.grad_norm, expected)
    assert Optim(net, plain()).grad_norm is None


# Loss scaling -------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(
    "extra",
    [{}, {"clip_norm": 0.05}, {"accumulate": 2}, {"penalties": [L2(0.1)]}],
    ids=["plain", "clip", "accumulate", "l2"],
)
def test_scaling_changes_nothing_in_fp32(extra: dict[str, Any], optimizer: str) -> None:
    """With a scaler the same weights as without: gradients are unscaled before anything looks at
    them.
    """
    net, scaled = network(), network()
    plainly = Optim(net, OPTIMIZERS[optimizer], **extra)
    scaling = Optim(
        scaled, OPTIMIZERS[optimizer], scaler=torch.amp.GradScaler("cpu", enabled=True), **extra
    )
    for _ in range(4):
        plainly.update(loss_of(net))
        scaling.update(loss_of(scaled))
    assert scaling.scaler.is_enabled()
    assert not torch.equal(weights(net)[0], weights(network())[0])
    assert_equal(weights(net), weights(scaled), atol=2e-6)


@pytest.mark.parametrize("scaling", [False, True])
@pytest.mark.parametrize(
    "extra", [{}, {"accumulate": 3}, {"clip_norm": 0.05}], ids=["plain", "accumulate", "clip"]
)
def test_gradients_that_are_given_do_what_those_of_a_loss_do(
    extra: dict[str, Any], scaling: bool
) -> None:
    """Those of parameters that are not the optim's are passed over, and a parameter without one
    stays as it is.
    """
    nets = network(), network()
    by_loss, given = (
        Optim(net, OPTIMIZERS["adam"], scaler=torch.amp.GradScaler("cpu", enabled=scaling), **extra)
        for net in nets
    )
    for _ in range(5):
        by_loss.update(loss_of(nets[0]))
        loss, parameters = loss_of(nets[1]), list(nets[1].parameters())
        gradients = dict(zip(parameters, torch.autograd.grad(loss, parameters), strict=True))
        given.update(loss.detach(), gradients | {torch.ones(2): torch.ones(2)})
    for optim in (by_loss, given):
        optim.flush()
    assert_equal(weights(nets[0]), weights(nets[1]), atol=1e-7)
    assert not torch.equal(weights(nets[0])[0], weights(network())[0])
    first, *rest = nets[1].parameters()
    before = first.detach().clone()
    given.update(torch.zeros(()), {p: torch.ones_like(p) for p in rest})
    assert "accumulate" in extra or not torch.equal(rest[0], weights(nets[0])[1])
    assert torch.equal(first, before)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_step_with_an_infinite_gradient_is_skipped(optimizer: str) -> None:
    """The scaler leaves the weights alone and halves its scale; training continues."""
    net = network()
    optim = Optim(
        net, OPTIMIZERS[optimizer], scaler=torch.amp.GradScaler("cpu", enabled=True), clip_norm=1.0
    )
    optim.update(loss_of(net))
    before, scale = weights(net), optim.scaler.get_scale()
    optim.update(loss_of(net) * 1e38 * 1e3)
    assert_equal(weights(net), before)
    assert optim.scaler.get_scale() == scale / 2
    optim.update(loss_of(net))
    assert not torch.equal(weights(net)[0], before[0])
    assert all(bool(p.isfinite().all()) for p in net.parameters())


# Saving -------------------------------------------------------------------------------------------


def images(channels_last: bool) -> nn.Sequential:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.Flatten(), nn.Linear(20, 2))
    return net.to(memory_format=torch.channels_last) if channels_last else net


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("steps", [3, 4])
@pytest.mark.parametrize("channels_last", [False, True], ids=["", "channels-last"])
def test_a_saved_optim_continues_bit_identically(
    optimizer: str, steps: int, channels_last: bool
) -> None:
    """Moments, pending gradients, averages, schedule and scaler: what is loaded does what the
    original does.
    """
    inputs = torch.randn(6, 4, 3, 4, 4, generator=torch.Generator().manual_seed(1))

    def make() -> tuple[nn.Module, Optim]:
        net = images(channels_last)
        scaler = torch.amp.GradScaler("cpu", enabled=True)
        average = averager(EMA(0.9))
        return net, Optim(
            net, OPTIMIZERS[optimizer], Cosine(9), accumulate=2, average=average, scaler=scaler
        )

    def train(net: nn.Module, optim: Optim) -> list[Tensor]:
        for x in inputs[:3]:
            optim.update(net(x).square().mean())
        with optim.averaged():
            averages = list(copy.deepcopy(net.state_dict()).values())
        return [*averages, *net.state_dict().values()]

    net, optim = make()
    for x in inputs[:steps]:
        optim.update(net(x).square().mean())
    saved = checkpoint.snapshot({"task": net.state_dict(), "optim": optim.state_dict()})
    assert optim.pending == steps % 2
    again, loaded = make()
    again.load_state_dict(saved["task"])
    loaded.load_state_dict(saved["optim"])
    assert_equal(train(net, optim), train(again, loaded))
    assert loaded.updates == optim.updates
