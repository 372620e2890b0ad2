"""One gradient step: its traps, and its figures against torch's own."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, get_swa_multi_avg_fn
from toys import GAN, Points

from dltrain import build, checkpoint
from dltrain.config.groups import groups, read_option
from dltrain.optim import Optim
from dltrain.optimizers.sgd import sgd
from dltrain.regularization.averaging import Averaging
from dltrain.regularization.clip import Clip
from dltrain.regularization.elastic_net import ElasticNet
from dltrain.regularization.ema import EMA
from dltrain.regularization.l1 import L1
from dltrain.regularization.l2 import L2
from dltrain.regularization.swa import SWA
from dltrain.schedules.constant import Constant
from dltrain.schedules.cosine import Cosine
from dltrain.schedules.onecycle import OneCycle
from dltrain.schedules.schedule import Schedule

OPTIMIZERS: dict[str, functools.partial[torch.optim.Optimizer]] = {
    name: build.make(read_option("optimizer", name), "optimizer", {}, []) for name in groups()["optimizer"]
}
X = torch.randn(12, 3, generator=torch.Generator().manual_seed(5))
Y = torch.randn(12, 2, generator=torch.Generator().manual_seed(6))


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


def loss_of(net: nn.Module, x: Tensor = X, y: Tensor = Y) -> Tensor:
    return (net(x) - y).square().mean()


def plain(lr: float = 0.1, **settings: Any) -> Callable[..., torch.optim.Optimizer]:
    return functools.partial(sgd, lr=lr, **settings)


def weights(net: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in net.parameters()]


def assert_equal(a: list[Tensor], b: list[Tensor], atol: float = 0.0) -> None:
    torch.testing.assert_close(a, b, rtol=0, atol=atol)


# The traps --------------------------------------------------------------------------------------------------------


def test_second_forward_under_autocast_sees_the_new_weights() -> None:
    """Autocast keeps half-precision copies of weights: `update` drops them, so the same step may go forward again."""
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
    """The generator's backward passes through the discriminator and leaves nothing there, also while accumulating."""
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


# Accumulation -----------------------------------------------------------------------------------------------------


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
    """What is in the window at a stage's end makes a step as if the window had been that long."""
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


# Regularization ---------------------------------------------------------------------------------------------------


def moved(net: nn.Module, before: list[Tensor]) -> Tensor:
    """How far all weights have moved, in one vector."""
    return torch.cat([(p.detach() - b).flatten() for p, b in zip(net.parameters(), before, strict=True)])


def settings(clip: Clip) -> dict[str, Any]:
    return {name.removeprefix("optim."): value for name, value in clip.settings().items()}


@pytest.mark.parametrize("norm", [0.01, 1e6])
def test_clip_by_norm(norm: float) -> None:
    """A step of plain descent at rate 1 is as long as the clipped gradient, and in its direction."""
    net, free = network(), network()
    before = weights(net)
    optim = Optim(net, plain(lr=1.0), **settings(Clip(norm)))
    optim.update(loss_of(net))
    Optim(free, plain(lr=1.0)).update(loss_of(free))
    step, full = moved(net, before), moved(free, before)
    torch.testing.assert_close(step.norm(), full.norm().clamp(max=norm))
    torch.testing.assert_close(step / step.norm(), full / full.norm())
    torch.testing.assert_close(optim.grad_norm, full.norm())  # what is reported is the norm before clipping


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
    """The proximal step shrinks each weight by lr * weight and stops at 0; biases are left alone."""
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
        [{"params": decayed, "weight_decay": 0.3}, {"params": rest}], **OPTIMIZERS[optimizer].keywords
    )
    for _ in range(4):
        optim.update(loss_of(net))
        torch_sgd.zero_grad()
        loss_of(other).backward()
        torch_sgd.step()
    assert_equal(weights(net), weights(other), atol=1e-6)


def test_the_elastic_net_makes_exact_zeros_and_shrinks_the_rest() -> None:
    """w <- softshrink((1 - lr * l2) * w, lr * l1), where no loss holds against it; biases are left alone."""
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


# Weight averaging -------------------------------------------------------------------------------------------------


def averager(regularizer: EMA | SWA | Averaging) -> Callable[[list[Tensor], list[Tensor], int, int], None]:
    average: Callable[[list[Tensor], list[Tensor], int, int], None] = regularizer.settings()["optim.average"]
    return average


def with_norm() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


@pytest.mark.parametrize(("decay", "steps"), [(0.5, 6), (0.15, 4), (0.999, 8)])
def test_ema_equals_torchs_averaged_model(decay: float, steps: int) -> None:
    """The average, of weights and of batch norm's statistics, is AveragedModel's with the same decays."""
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
    """Plain averaging: the mean of the weights after every update, the first weights not among them."""
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
def test_swa_is_the_weights_themselves_and_then_the_mean_of_the_last_part(start: float, first: int) -> None:
    """Of 8 updates: those before `first` leave no trace, the mean is of all from it on."""
    net = network()
    optim = Optim(net, plain(), average=averager(SWA(start)), total_updates=8)
    iterates: list[list[Tensor]] = []
    for update in range(8):
        optim.update(loss_of(net))
        iterates.append(weights(net))
        last = iterates[first:] or iterates[-1:]
        means = [torch.stack(column).mean(0) for column in zip(*last, strict=True)]
        with optim.averaged():
            assert_equal(weights(net), iterates[-1] if update <= first else means, atol=0 if update <= first else 1e-6)


def test_averaged_swaps_in_and_restores_exactly() -> None:
    """Inside the context the average, outside the trained values to the last bit, also after an exception."""
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


# Schedules --------------------------------------------------------------------------------------------------------


def rates(schedule: Schedule, updates: int, lr: float = 0.2) -> list[float]:
    """The learning rate of every update."""
    net = network()
    optim = Optim(net, plain(lr), schedule)
    found = []
    for _ in range(updates):
        optim.update(0 * loss_of(net))
        found.append(optim.lrs[0])
    return found


def torchs(make: Callable[[torch.optim.Optimizer], Any], updates: int, lr: float = 0.2) -> list[float]:
    optimizer = torch.optim.SGD(network().parameters(), lr=lr)
    scheduler = make(optimizer)
    found = []
    for _ in range(updates):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


@pytest.mark.parametrize("floor", [0.0, 0.1])
def test_cosine_equals_torchs(floor: float) -> None:
    """CosineAnnealingLR's rates."""
    annealing = functools.partial(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=20, eta_min=floor * 0.2)
    assert rates(Cosine(20, floor=floor), 20) == pytest.approx(torchs(annealing, 20), rel=1e-9)


@pytest.mark.parametrize("total", [10, 100])
@pytest.mark.parametrize("rise", [0.3, 0.5])
def test_onecycle_equals_torchs(total: int, rise: float) -> None:
    """OneCycleLR's rates, update by update."""
    cycle = functools.partial(
        torch.optim.lr_scheduler.OneCycleLR, max_lr=0.2, total_steps=total, pct_start=rise, cycle_momentum=False
    )
    assert rates(OneCycle(total, rise=rise), total) == pytest.approx(torchs(cycle, total), rel=1e-6)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (Constant(10), [0.2] * 10),
        (Constant(10, warmup=4), [0.05, 0.1, 0.15, 0.2] + [0.2] * 6),
        (Constant(10, warmup=0.4), [0.05, 0.1, 0.15, 0.2] + [0.2] * 6),
        (Cosine(6, warmup=2), [0.1, 0.2] + [0.1 * (1 + math.cos(math.pi * i / 4)) for i in range(4)]),
        (
            Cosine(4, floor=0.5),
            [0.2, 0.2 * (0.5 + 0.25 * (1 + math.sqrt(0.5))), 0.15, 0.2 * (0.75 - 0.25 * math.sqrt(0.5))],
        ),
    ],
)
def test_warmup_and_shapes(schedule: Schedule, expected: list[float]) -> None:
    """A line up to the full rate, then the curve over what is left."""
    assert rates(schedule, len(expected)) == pytest.approx(expected)


def test_schedules_stay_at_their_end() -> None:
    """A run that goes on beyond its plan keeps the last rate."""
    assert rates(Cosine(5, floor=0.1), 9)[5:] == pytest.approx([0.02] * 4)


def test_the_watched_metric_reaches_the_schedule() -> None:
    """`observe` hands the schedule what plateau schedules react to."""

    class Plateau(Constant):
        seen: float | None = None

        def observe(self, metric: float) -> None:
            self.seen = metric

    schedule = Plateau(3)
    Optim(network(), plain(), schedule).observe(0.25)
    Optim(network(), plain()).observe(0.5)
    assert schedule.seen == 0.25


# What is owned, what is measured ----------------------------------------------------------------------------------


def test_frozen_parameters_are_skipped() -> None:
    """A frozen layer is neither owned nor moved."""
    net = network()
    net[0].requires_grad_(False)
    optim = Optim(net, OPTIMIZERS["adamw"], average=averager(EMA()))
    before = weights(net)
    optim.update(loss_of(net))
    assert len(optim.params) == 2
    assert [torch.equal(a, b) for a, b in zip(weights(net), before, strict=True)] == [True, True, False, False]


@pytest.mark.parametrize("accumulate", [1, 2])
def test_unused_parameters_are_tolerated(accumulate: int) -> None:
    """A parameter that the loss does not reach stays as it is; clipping and penalties pass it by."""
    net = network()
    unused = nn.ModuleList([net, nn.Linear(2, 2)])
    optim = Optim(unused, OPTIMIZERS["adam"], accumulate=accumulate, clip_norm=1.0, clip_value=1.0, penalties=[L2()])
    before = weights(unused)
    optim.update(loss_of(net))
    optim.flush()
    same = [torch.equal(a, b) for a, b in zip(weights(unused), before, strict=True)]
    assert same == [False] * 4 + [True] * 2


def test_the_gradient_norm_is_measured_only_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measuring costs: it happens on the next step after `measure` is set, and no other."""
    calls: list[int] = []
    total_norm = nn.utils.get_total_norm
    monkeypatch.setattr(nn.utils, "get_total_norm", lambda grads: calls.append(1) or total_norm(grads))
    net = network()
    optim = Optim(net, plain(), accumulate=2)
    for i in range(6):
        if i == 2:
            optim.measure = True
            expected = torch.cat([g.flatten() for g in torch.autograd.grad(loss_of(net), net.parameters())]).norm()
        optim.update(loss_of(net))
    assert len(calls) == 1
    assert not optim.measure
    torch.testing.assert_close(optim.grad_norm, expected)
    assert Optim(net, plain()).grad_norm is None


# Loss scaling -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(
    "extra",
    [{}, {"clip_norm": 0.05}, {"accumulate": 2}, {"penalties": [L2(0.1)]}],
    ids=["plain", "clip", "accumulate", "l2"],
)
def test_scaling_changes_nothing_in_fp32(extra: dict[str, Any], optimizer: str) -> None:
    """With a scaler the same weights as without: gradients are unscaled before anything looks at them."""
    net, scaled = network(), network()
    plainly = Optim(net, OPTIMIZERS[optimizer], **extra)
    scaling = Optim(scaled, OPTIMIZERS[optimizer], scaler=torch.amp.GradScaler("cpu", enabled=True), **extra)
    for _ in range(4):
        plainly.update(loss_of(net))
        scaling.update(loss_of(scaled))
    assert scaling.scaler.is_enabled()
    assert not torch.equal(weights(net)[0], weights(network())[0])
    assert_equal(weights(net), weights(scaled), atol=2e-6)


@pytest.mark.parametrize("scaling", [False, True])
@pytest.mark.parametrize("extra", [{}, {"accumulate": 3}, {"clip_norm": 0.05}], ids=["plain", "accumulate", "clip"])
def test_gradients_that_are_given_do_what_those_of_a_loss_do(extra: dict[str, Any], scaling: bool) -> None:
    """Those of parameters that are not the optim's are passed over, and a parameter without one stays as it is."""
    nets = network(), network()
    by_loss, given = (
        Optim(net, OPTIMIZERS["adam"], scaler=torch.amp.GradScaler("cpu", enabled=scaling), **extra) for net in nets
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
    """The scaler leaves the weights alone and halves its scale; training goes on."""
    net = network()
    optim = Optim(net, OPTIMIZERS[optimizer], scaler=torch.amp.GradScaler("cpu", enabled=True), clip_norm=1.0)
    optim.update(loss_of(net))
    before, scale = weights(net), optim.scaler.get_scale()
    optim.update(loss_of(net) * 1e38 * 1e3)
    assert_equal(weights(net), before)
    assert optim.scaler.get_scale() == scale / 2
    optim.update(loss_of(net))
    assert not torch.equal(weights(net)[0], before[0])
    assert all(bool(p.isfinite().all()) for p in net.parameters())


# Saving -----------------------------------------------------------------------------------------------------------


def images(channels_last: bool) -> nn.Sequential:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.Flatten(), nn.Linear(20, 2))
    return net.to(memory_format=torch.channels_last) if channels_last else net


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("steps", [3, 4])
@pytest.mark.parametrize("channels_last", [False, True], ids=["", "channels-last"])
def test_a_saved_optim_goes_on_bit_identically(optimizer: str, steps: int, channels_last: bool) -> None:
    """Moments, pending gradients, averages, schedule and scaler: what is loaded does what the original does."""
    inputs = torch.randn(6, 4, 3, 4, 4, generator=torch.Generator().manual_seed(1))

    def make() -> tuple[nn.Module, Optim]:
        net = images(channels_last)
        scaler = torch.amp.GradScaler("cpu", enabled=True)
        average = averager(EMA(0.9))
        return net, Optim(net, OPTIMIZERS[optimizer], Cosine(9), accumulate=2, average=average, scaler=scaler)

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
