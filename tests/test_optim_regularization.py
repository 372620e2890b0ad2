"""Regularization in a gradient step: clipping, penalties and averages, against torch's own."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from descent import OPTIMIZERS, assert_equal, averager, loss_of, network, plain, weights
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, get_swa_multi_avg_fn

from dltrain.optim import Optim
from dltrain.regularization.averaging import Averaging
from dltrain.regularization.clip import Clip
from dltrain.regularization.elastic_net import ElasticNet
from dltrain.regularization.ema import EMA
from dltrain.regularization.l1 import L1
from dltrain.regularization.l2 import L2
from dltrain.regularization.lookahead import Lookahead
from dltrain.regularization.swa import SWA

# Regularization -----------------------------------------------------------------------------------


def moved(net: nn.Module, before: list[Tensor]) -> Tensor:
    """Return the changes of all weights as one vector."""
    return torch.cat(
        [(p.detach() - b).flatten() for p, b in zip(net.parameters(), before, strict=True)]
    )


def settings(clip: Clip) -> dict[str, Any]:
    return {name.removeprefix("optim."): value for name, value in clip.settings().items()}


@pytest.mark.parametrize("norm", [0.01, 1e6])
def test_clip_by_norm(norm: float) -> None:
    """A step of plain descent at rate 1 is as long as the clipped gradient, and in its
    direction.
    """
    net, free = network(), network()
    before = weights(net)
    optim = Optim(net, plain(lr=1.0), **settings(Clip(norm)))
    optim.update(loss_of(net))
    Optim(free, plain(lr=1.0)).update(loss_of(free))
    step, full = moved(net, before), moved(free, before)
    torch.testing.assert_close(step.norm(), full.norm().clamp(max=norm))
    torch.testing.assert_close(step / step.norm(), full / full.norm())
    torch.testing.assert_close(
        optim.grad_norm, full.norm()
    )  # what is reported is the norm before clipping


def test_clip_by_value() -> None:
    """No entry of the gradient is above the bound, and smaller ones are as they were."""
    net, free = network(), network()
    before = weights(net)
    Optim(net, plain(lr=1.0), **settings(Clip(0.0, 0.02))).update(loss_of(net))
    Optim(free, plain(lr=1.0)).update(loss_of(free))
    full = moved(free, before)
    assert full.abs().max() > 0.02
    torch.testing.assert_close(moved(net, before), full.clamp(-0.02, 0.02))


def test_l1_makes_exact_zeros() -> None:
    """The proximal step shrinks each weight by lr * weight and stops at 0; biases are
    left alone.
    """
    net = network()
    before = weights(net)
    optim = Optim(net, plain(lr=0.5), penalties=[L1(0.2)])
    optim.update(0 * loss_of(net))
    shrunk = [b.sign() * (b.abs() - 0.1).clamp(min=0) if b.ndim > 1 else b for b in before]
    assert_equal(weights(net), shrunk, atol=1e-7)
    for _ in range(20):
        optim.update(0 * loss_of(net))
    assert all(bool((p == 0).all()) == (p.ndim > 1) for p in net.parameters())


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "nesterov"])
def test_l2_is_weight_decay_on_weights(optimizer: str) -> None:
    """L2 equals torch's SGD with weight_decay on the matrices, and leaves biases alone."""
    net, other = network(), network()
    optim = Optim(net, OPTIMIZERS[optimizer], penalties=[L2(0.3)])
    decayed = [p for p in other.parameters() if p.ndim > 1]
    rest = [p for p in other.parameters() if p.ndim == 1]
    torch_sgd = torch.optim.SGD(
        [{"params": decayed, "weight_decay": 0.3}, {"params": rest}],
        **OPTIMIZERS[optimizer].keywords,
    )
    for _ in range(4):
        optim.update(loss_of(net))
        torch_sgd.zero_grad()
        loss_of(other).backward()
        torch_sgd.step()
    assert_equal(weights(net), weights(other), atol=1e-6)


def test_the_elastic_net_makes_exact_zeros_and_shrinks_the_rest() -> None:
    """w <- softshrink((1 - lr * l2) * w, lr * l1), where no loss holds against it; biases are left
    alone.
    """
    net = network()
    before = weights(net)
    optim = Optim(net, plain(lr=0.5), penalties=ElasticNet(0.2, 0.4).settings()["optim.penalties"])
    optim.update(0 * loss_of(net))
    shrunk = [b.sign() * (0.8 * b.abs() - 0.1).clamp(min=0) if b.ndim > 1 else b for b in before]
    assert any(bool((b == 0).any()) for b in shrunk)
    assert any(bool((b != 0).any()) for b in shrunk if b.ndim > 1)
    assert_equal(weights(net), shrunk, atol=1e-7)


def test_the_elastic_net_is_l1_and_l2() -> None:
    net, other = network(), network()
    together = Optim(net, plain(), penalties=ElasticNet(0.1, 0.3).settings()["optim.penalties"])
    apart = Optim(other, plain(), penalties=[L1(0.1), L2(0.3)])
    for _ in range(3):
        together.update(loss_of(net))
        apart.update(loss_of(other))
    assert_equal(weights(net), weights(other))


# Weight averaging --------------------------------------------------------------------------------


def with_norm() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


@pytest.mark.parametrize(("decay", "steps"), [(0.5, 6), (0.15, 4), (0.999, 8)])
def test_ema_equals_torchs_averaged_model(decay: float, steps: int) -> None:
    """The average, of weights and of batch norm's statistics, is AveragedModel's with the same
    decays.
    """
    net = with_norm()
    model = AveragedModel(net, use_buffers=True)
    model.n_averaged += 1  # begin from the first weights instead of copying the first iterate
    optim = Optim(net, OPTIMIZERS["adam"], average=averager(EMA(decay)))
    for n in range(steps):
        optim.update(loss_of(net))
        model.multi_avg_fn = get_ema_multi_avg_fn(min(decay, (1 + n) / (10 + n)))
        model.update_parameters(net)
    with optim.averaged():
        for name, value in net.state_dict().items():
            if value.is_floating_point():
                assert torch.equal(value, model.module.state_dict()[name]), name


def test_averaging_is_the_mean_of_all_iterates() -> None:
    """Plain averaging: the mean of the weights after every update, the first weights not among
    them.
    """
    net = network()
    optim = Optim(net, plain(), average=averager(Averaging()))
    model = AveragedModel(net, multi_avg_fn=get_swa_multi_avg_fn())
    iterates = []
    for _ in range(7):
        optim.update(loss_of(net))
        iterates.append(weights(net))
        model.update_parameters(net)
    means = [torch.stack(column).mean(0) for column in zip(*iterates, strict=True)]
    with optim.averaged():
        assert_equal(weights(net), means, atol=1e-6)
        assert_equal(weights(net), weights(model.module), atol=1e-7)


@pytest.mark.parametrize(("start", "first"), [(0.5, 4), (0.3, 3), (0.9, 8), (0.0, 0)])
def test_swa_is_the_weights_themselves_and_then_the_mean_of_the_last_part(
    start: float, first: int
) -> None:
    """Updates before `first` leave no trace, the mean is of all 8 from it on."""
    net = network()
    optim = Optim(net, plain(), average=averager(SWA(start)), total_updates=8)
    iterates: list[list[Tensor]] = []
    for update in range(8):
        optim.update(loss_of(net))
        iterates.append(weights(net))
        last = iterates[first:] or iterates[-1:]
        means = [torch.stack(column).mean(0) for column in zip(*last, strict=True)]
        with optim.averaged():
            assert_equal(
                weights(net),
                iterates[-1] if update <= first else means,
                atol=0 if update <= first else 1e-6,
            )


def test_averaged_swaps_in_and_restores_exactly() -> None:
    """Inside the context the average, outside the trained values to the last bit, also after an
    exception.
    """
    net = with_norm()
    optim = Optim(net, OPTIMIZERS["adam"], average=averager(EMA(0.9)))
    for _ in range(3):
        optim.update(loss_of(net))
    trained = copy.deepcopy(net.state_dict())

    def same() -> bool:
        return all(torch.equal(v, trained[name]) for name, v in net.state_dict().items())

    def swap_and_fail() -> None:
        with optim.averaged():
            assert not same()
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        swap_and_fail()
    assert same()
    unaveraged = Optim(net, plain())
    with unaveraged.averaged():
        assert same()


def test_lookahead_follows_its_formula() -> None:
    """Ten updates: copies up to the third, then a return at the fourth, eighth and no other.

    At update n the average keeps rho = 0.5 ** 4 * n / 10 of itself.
    """
    lookahead = Lookahead(decay=0.5, every=4, power=1.0, start=0.3)
    slow, trained = [torch.zeros(2)], [torch.zeros(2)]
    expected = torch.zeros(2)
    for count in range(10):
        trained[0] += torch.tensor([1.0, count])
        moved = trained[0].clone()
        lookahead.average(slow, trained, count, 10)
        update = count + 1
        if update <= 3:
            expected = moved
        elif update in (4, 8):
            rho = 0.5**4 * update / 10
            expected = rho * expected + (1 - rho) * moved
            torch.testing.assert_close(trained[0], expected)
        else:
            assert torch.equal(trained[0], moved)
        torch.testing.assert_close(slow[0], expected)


def test_lookahead_moves_the_network_and_its_statistics() -> None:
    net = with_norm()
    optim = Optim(net, plain(), average=averager(Lookahead(0.9, 1, 0.0, 0.0)), total_updates=3)
    before = net[1].running_mean.clone()
    optim.update(loss_of(net))
    with optim.averaged():
        averaged = [v.clone() for v in net.state_dict().values()]
    assert all(torch.equal(a, v) for a, v in zip(averaged, net.state_dict().values(), strict=True))
    assert not torch.equal(net[1].running_mean, before)
