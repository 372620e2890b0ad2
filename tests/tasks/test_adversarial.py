"""Adversarial learning: whose gradient meets which weights, losses, the gradient penalty, figures, resume, refusals."""

from __future__ import annotations

import copy
import functools
import itertools
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image as Picture
from torch import Tensor, nn
from toys import History

from dltrain import checkpoint, metrics, rng
from dltrain.callbacks.checkpoint import Checkpoint
from dltrain.checkpoint import Store
from dltrain.data.digits import Digits
from dltrain.data.fake import Fake
from dltrain.data.in_memory import InMemory
from dltrain.engine import Engine, Resume
from dltrain.models.dcgan import DCGAN
from dltrain.models.gan import GAN
from dltrain.optim import Optim
from dltrain.optimizers.adam import adam
from dltrain.optimizers.sgd import sgd
from dltrain.tasks.adversarial import Adversarial, discriminator_loss, generator_loss
from dltrain.types import Data, Spec

SPEC = Spec((1, 8, 8), tuple("0123456789"), 60, 20)
LOSSES = ["nonsaturating", "minimax", "least_squares", "hinge", "wasserstein"]
BF16 = functools.partial(torch.autocast, "cpu", torch.bfloat16)


def pair(**settings: Any) -> GAN:
    """Smooth networks without batch norm and dropout: a step is a function of the weights, the batch and the noise."""
    torch.manual_seed(1)
    plain = {"latent_size": 4, "generator_sizes": (8,), "discriminator_sizes": (8,), "norm": "none"}
    return GAN(1, (8, 8), 10, **{**plain, "discriminator_dropout": 0.0, **settings})


def judge() -> nn.Sequential:
    torch.manual_seed(2)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))


def made(model: nn.Module | None = None, data: Data | None = None, epochs: int = 1, **settings: Any) -> Adversarial:
    """A task whose optimizers are plain SGD, unless `optim` is another."""
    settings.setdefault("optim", lambda modules, steps, network, mode=None: optim_of(modules))
    return Adversarial(data or Fake(SPEC, 8, 0), model or pair(), epochs=epochs, **settings)


def optim_of(module: nn.Module, accumulate: int = 1, lr: float = 0.5) -> Optim:
    return Optim(module, functools.partial(sgd, lr=lr), accumulate=accumulate)


def batch(count: int = 8) -> tuple[Tensor, Tensor]:
    return torch.randn(count, 1, 8, 8, generator=rng.keyed(5)), torch.arange(count) % 10


def gradients(module: nn.Module) -> list[Tensor]:
    return [p.grad.clone() for p in module.parameters() if p.grad is not None]


def weights(module: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in module.parameters()]


def caught(optim: Optim) -> list[list[Tensor]]:
    """The gradients that `optim` makes its steps of, as it goes."""
    found: list[list[Tensor]] = []
    optim.optimizer.register_step_pre_hook(lambda *_: found.append([p.grad.clone() for p in optim.params]))
    return found


# Whose gradient meets which weights -------------------------------------------------------------------------------


def by_hand(
    task: Adversarial, samples: tuple[Tensor, Tensor], precision: Any, lr: float, updated: bool
) -> tuple[list[Tensor], float]:
    """The generator's gradient and loss by copies, each network used in an autocast of its own, which caches nothing."""
    model = copy.deepcopy(task.model)
    real, classes = task.centred(samples[0]), task.told(samples[1])
    noise = torch.randn(len(real), model.latent_size)
    with precision():
        fake = model.generate(noise, classes).detach()
        loss = discriminator_loss(task.loss, model(real, classes).float(), model(fake, classes).float())
    if updated:
        for p, gradient in zip(
            model.discriminator.parameters(),
            torch.autograd.grad(loss, list(model.discriminator.parameters())),
            strict=True,
        ):
            p.data -= lr * gradient
    with precision():
        loss = generator_loss(task.loss, model(model.generate(noise, classes), classes).float())
    return list(torch.autograd.grad(loss, list(model.generator.parameters()))), float(loss.detach())


@pytest.mark.parametrize("precision", [nullcontext, BF16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("conditional", [False, True], ids=["", "conditional"])
def test_the_generator_meets_the_discriminator_just_updated(
    conditional: bool, precision: type[AbstractContextManager[Any]]
) -> None:
    """In half precision too, where autocast keeps copies of the weights as they were before the update."""
    task = made(pair(conditional=conditional))
    generating, discriminating = optim_of(task.model.generator), optim_of(task.model.discriminator)
    torch.manual_seed(0)
    expected, loss = by_hand(task, batch(), precision, lr=0.5, updated=True)
    torch.manual_seed(0)
    stale, _ = by_hand(task, batch(), precision, lr=0.5, updated=False)
    found = caught(generating)
    torch.manual_seed(0)
    with precision():
        scores = task.step(batch(), generating, discriminating)
    assert float(scores["loss"]) == pytest.approx(loss, rel=1e-6)
    torch.testing.assert_close(found[0], expected, rtol=1e-5, atol=1e-7)
    size = max(float(g.norm()) for g in expected)
    assert max(float((s - e).norm()) for s, e in zip(stale, expected, strict=True)) > 0.05 * size


@pytest.mark.parametrize("conditional", [False, True], ids=["", "conditional"])
@pytest.mark.parametrize("loss", LOSSES)
def test_a_step_leaves_no_gradient_behind(loss: Any, conditional: bool) -> None:
    task = made(pair(conditional=conditional), loss=loss, judge=judge())
    generating, discriminating = optim_of(task.model.generator), optim_of(task.model.discriminator)
    before = weights(task.model.generator), weights(task.model.discriminator), weights(task.judge)
    for _ in range(2):
        scores = task.step(batch(), generating, discriminating)
        assert gradients(task) == []
        assert all(value.isfinite() and not value.requires_grad for value in scores.values())
    after = weights(task.model.generator), weights(task.model.discriminator), weights(task.judge)
    moved = [any(not torch.equal(a, b) for a, b in zip(x, y, strict=True)) for x, y in zip(before, after, strict=True)]
    assert moved == [True, True, False]


@pytest.mark.parametrize("loss", LOSSES)
def test_the_generators_turn_adds_nothing_to_the_discriminators_gradient(loss: Any) -> None:
    """Within an accumulation window each network holds the gradient of its own loss alone."""
    held = []
    for discriminator_steps in (1, 2):  # of the first update, the generator's turn and not
        task = made(loss=loss, discriminator_steps=discriminator_steps)
        optims = optim_of(task.model.generator, 2), optim_of(task.model.discriminator, 2)
        torch.manual_seed(0)
        task.step(batch(), *optims)
        held.append(gradients(task.model.discriminator))
        assert len(gradients(task.model.generator)) == (4 if discriminator_steps == 1 else 0)
    assert len(held[0]) == 4
    torch.testing.assert_close(held[0], held[1], rtol=0, atol=0)


@pytest.mark.parametrize("loss", ["nonsaturating", "least_squares", "hinge"])
def test_a_discriminators_two_half_batches_are_one_whole(loss: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs, classes = batch()
    noise = torch.randn(8, 4, generator=rng.keyed(6))
    ends = []
    for parts in (1, 2):
        task = made(loss=loss)
        optims = optim_of(task.model.generator, parts), optim_of(task.model.discriminator, parts)
        draws = iter(noise.chunk(parts))
        with monkeypatch.context() as patch:
            patch.setattr(torch, "randn", lambda *shape, draws=draws, **kwargs: next(draws))
            before = weights(task.model.generator)
            for i, part in enumerate(zip(inputs.chunk(parts), classes.chunk(parts), strict=True)):
                assert [o.updates for o in optims] == [0, 0]
                torch.testing.assert_close(weights(task.model.generator), before, rtol=0, atol=0, msg=f"part {i}")
                task.step(part, *optims)
        assert [o.updates for o in optims] == [1, 1]
        ends.append(weights(task.model.discriminator))
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("every", [1, 2, 3])
def test_the_generator_takes_its_turn_at_every_kth_update(every: int, accumulate: int) -> None:
    """At the k-th, not the first; `loss` is measured in its turns alone, and no turn is begun in between."""
    task = made(discriminator_steps=every)
    optims = optim_of(task.model.generator, accumulate), optim_of(task.model.discriminator, accumulate)
    for steps in range(1, 2 * every * accumulate + 1):
        turn = (steps - 1) // accumulate % every == every - 1
        scores = task.step(batch(), *optims)
        assert scores.keys() == {"discriminator_loss", *(["loss"] if turn else [])}
        assert optims[1].updates == steps // accumulate
        assert optims[0].updates == optims[1].updates // every
        assert bool(optims[0].pending) == (turn and bool(steps % accumulate))


def test_each_network_has_an_optimizer_of_its_name_for_as_long_as_it_is_trained() -> None:
    """The generator's schedule counts its own updates, a third as many."""
    asked: list[tuple[str, int, nn.Module]] = []

    def optim(modules: nn.Module, steps: int, network: str, mode: str | None = None) -> Optim:
        asked.append((network, steps, modules))
        return optim_of(modules)

    task = made(epochs=6, optim=optim, judge=judge(), judge_epochs=2, discriminator_steps=3)
    stages = list(task.stages())
    per_epoch = len(task.data.train)
    assert [(name, steps) for name, steps, _ in asked] == [
        ("judge", 2 * per_epoch),
        ("discriminator", 6 * per_epoch),
        ("generator", 2 * per_epoch),
    ]
    networks = [task.judge, task.model.discriminator, task.model.generator]
    assert all(got is network for (*_, got), network in zip(asked, networks, strict=True))
    assert [(s.name, s.epochs, s.watch, s.mode, len(s.optims)) for s in stages] == [
        ("judge", 2, "val/accuracy", "max", 1),
        ("adversarial", 6, "val/distance", "min", 2),
    ]


# Resume -----------------------------------------------------------------------------------------------------------


def on_digits(accumulate: int) -> Adversarial:
    model = pair(norm="batch", discriminator_dropout=0.3, conditional=True)
    optim = lambda m, steps, network, mode=None: Optim(m, functools.partial(adam, lr=0.01), accumulate=accumulate)  # noqa: E731
    data = InMemory(Digits(), batch_size=400, eval_batch_size=100)
    return made(model, data, epochs=2, optim=optim, judge=judge(), discriminator_steps=3)


def run(task: Adversarial, folder: Path, resume: Resume | None = None) -> tuple[Engine, History]:
    """Fit with history and, of a whole run, a checkpoint at every step; the generators start at the same place."""
    rng.seed_all(3)
    saver, history = Checkpoint(Store(folder)), History()
    engine = Engine([history, saver])
    if resume is None:
        engine.listeners["step_end"].append(saver.save)
    saver.store.prune = lambda keep: None  # type: ignore[method-assign]  # keep all of them
    engine.fit(task, resume)
    return engine, history


def figures(scores: list[tuple[int, dict[str, Any]]]) -> list[Any]:
    """Scores, and the pixels of the samples."""
    return [
        (step, {k: v.pixels.tolist() if k.endswith("samples") else v for k, v in found.items() if "shares" not in k})
        for step, found in scores
    ]


@pytest.mark.usefixtures("save_every_epoch")
@pytest.mark.parametrize("accumulate", [1, 2])
def test_resume_is_bit_identical_from_any_step(
    accumulate: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In either stage, between two turns of the generator and within a window: same metrics, samples and weights. The odd
    steps of one run, the even ones of the other."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    whole, history = run(on_digits(accumulate), tmp_path / "whole")
    store = Store(tmp_path / "whole")
    ends = store.stage_ends()
    states = [checkpoint.load(folder) for folder in store.steps()]
    assert {s["index"] for s in states} == {0, 1}
    turns = [s["optims"][1]["updates"] % 3 for s in states if s["index"] == 1]
    assert set(turns) == {0, 1, 2}
    for number, state in enumerate(states[accumulate % 2 :: 2]):
        before = {i: end for i, end in ends.items() if i < state["index"]}
        engine, again = run(on_digits(accumulate), tmp_path / str(number), Resume(state, before))
        where = f"from step {state['step']}"
        assert again.metrics == {s: m for s, m in history.metrics.items() if s > state["step"]}, where
        late = [(s, m) for s, m in history.scores if s > state["step"] or (s == state["step"] and not state["settled"])]
        assert figures(again.scores) == figures(late), where
        for key in ("task", "optims"):
            torch.testing.assert_close(whole.state_dict()[key], engine.state_dict()[key], rtol=0, atol=0, msg=where)


# Losses -----------------------------------------------------------------------------------------------------------

REAL = torch.tensor([-3.0, -0.4, 0.0, 0.7, 2.5], dtype=torch.float64)
FAKE = torch.tensor([-2.0, -0.1, 0.3, 1.5, 4.0], dtype=torch.float64)


def d(logits: Tensor) -> Tensor:
    """The probability of being real, D of the papers."""
    return 1 / (1 + (-logits).exp())


CROSS_ENTROPY = -d(REAL).log().mean() - (1 - d(FAKE)).log().mean()
FORMULAS: dict[Any, tuple[Tensor, Tensor]] = {  # of the discriminator, of the generator
    "nonsaturating": (CROSS_ENTROPY, -d(FAKE).log().mean()),
    "minimax": (CROSS_ENTROPY, (1 - d(FAKE)).log().mean()),
    "least_squares": ((REAL - 1).pow(2).mean() / 2 + FAKE.pow(2).mean() / 2, (FAKE - 1).pow(2).mean() / 2),
    "hinge": ((1 - REAL).clamp_min(0).mean() + (1 + FAKE).clamp_min(0).mean(), -FAKE.mean()),
    "wasserstein": (FAKE.mean() - REAL.mean(), -FAKE.mean()),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_losses_are_the_papers(loss: Any) -> None:
    expected = FORMULAS[loss]
    torch.testing.assert_close(discriminator_loss(loss, REAL, FAKE), expected[0])
    torch.testing.assert_close(generator_loss(loss, FAKE), expected[1])


@pytest.mark.parametrize("loss", ["nonsaturating", "minimax"])
def test_smoothed_losses_are_cross_entropies_with_a_share_of_the_other_answer(loss: Any) -> None:
    """One-sided: only the target of real images moves."""
    expected = -(0.9 * d(REAL).log() + 0.1 * (1 - d(REAL)).log()).mean() - (1 - d(FAKE)).log().mean()
    torch.testing.assert_close(discriminator_loss(loss, REAL, FAKE, real_target=0.9), expected)


@pytest.mark.parametrize("loss", LOSSES)
def test_losses_pull_the_right_way(loss: Any) -> None:
    """Between the two targets: up with real logits and down with fake ones for one network, up with fake for the other."""
    real, fake = (torch.linspace(0.05, 0.95, 7).requires_grad_() for _ in range(2))
    of_real, of_fake = torch.autograd.grad(discriminator_loss(loss, real, fake), [real, fake])
    assert (of_real < 0).all()
    assert (of_fake > 0).all()
    (of_fake,) = torch.autograd.grad(generator_loss(loss, fake), fake)
    assert (of_fake < 0).all()


def test_where_the_discriminator_is_sure_only_the_minimax_gradient_vanishes() -> None:
    fake = torch.tensor([-30.0]).requires_grad_()
    slopes = {
        loss: float(torch.autograd.grad(generator_loss(loss, fake), fake)[0]) for loss in ("nonsaturating", "minimax")
    }
    assert slopes["nonsaturating"] == pytest.approx(-1)
    assert slopes["minimax"] == pytest.approx(0, abs=1e-9)


def test_losses_of_extreme_logits_are_finite() -> None:
    logits = torch.tensor([-1e4, 1e4])
    for loss in LOSSES:
        kind: Any = loss
        assert discriminator_loss(kind, logits, logits, 1.0).isfinite()
        assert generator_loss(kind, logits).isfinite()


@pytest.mark.parametrize("target", [0.6, 0.9, 0.99])
@pytest.mark.parametrize(("loss", "inverse"), [("nonsaturating", torch.logit), ("least_squares", lambda t: t)])
def test_the_minimum_of_a_smoothed_loss_is_at_its_target(loss: Any, inverse: Any, target: float) -> None:
    best = inverse(torch.tensor(target, dtype=torch.float64))
    slopes = []
    for shift in (-0.1, 0.0, 0.1):
        real = (best + shift).unsqueeze(0).requires_grad_()
        slopes.append(float(torch.autograd.grad(discriminator_loss(loss, real, FAKE, target), real)[0]))
    assert slopes[0] < 0 < slopes[2]
    assert slopes[1] == pytest.approx(0, abs=1e-12)


def test_label_smoothing_reaches_the_loss() -> None:
    losses = []
    for smoothing in (0.0, 0.2):
        task = made(label_smoothing=smoothing)
        torch.manual_seed(0)
        scores = task.step(batch(), optim_of(task.model.generator), optim_of(task.model.discriminator))
        losses.append(float(scores["discriminator_loss"]))
    task = made()
    torch.manual_seed(0)
    real, fake = task.centred(batch()[0]), task.model.generate(torch.randn(8, 4))
    with torch.no_grad():
        expected = float(discriminator_loss("nonsaturating", task.model(real), task.model(fake), 0.8))
    assert losses[1] == pytest.approx(expected, rel=1e-6)
    assert losses[0] != pytest.approx(expected, rel=1e-3)


# The gradient penalty ---------------------------------------------------------------------------------------------


def linear_critic(size: float, conditional: bool = False) -> GAN:
    """A critic whose slope is its weight, of norm `size`, everywhere."""
    model = pair(discriminator_sizes=(), conditional=conditional)
    weight = torch.randn(1, 64, generator=rng.keyed(7))
    model.discriminator.head.weight.data = weight / weight.norm() * size
    return model


PRECISIONS = {
    "fp32": nullcontext,
    "bf16": BF16,
    "fp16": functools.partial(torch.autocast, "cpu", torch.float16),
}


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("size", [0.3, 1.0, 2.7, 300.0])
def test_the_penalty_of_a_linear_critic_is_known(size: float, precision: str) -> None:
    """(|w| - 1)^2, in half precision too, which would round it or, of 300, overflow; its gradient is 2 (|w| - 1) w / |w|."""
    task = made(linear_critic(size), loss="wasserstein")
    head = task.model.discriminator.head
    with PRECISIONS[precision]():
        real, fake = task.centred(batch()[0]), task.model.generate(torch.randn(8, 4)).detach()
        penalty = task.gradient_penalty(real, fake, None)
    assert penalty.dtype == torch.float32
    assert float(penalty.detach()) == pytest.approx((size - 1) ** 2, rel=1e-5, abs=1e-10)
    (gradient,) = torch.autograd.grad(penalty, head.weight)
    torch.testing.assert_close(gradient, 2 * (size - 1) * head.weight.detach() / size, rtol=1e-4, atol=1e-5)


def test_the_penalty_is_a_mean_over_images() -> None:
    """Of a critic that is told the class the slope differs from image to image: |w + v_class|."""
    model = linear_critic(0.8, conditional=True)
    images, classes = batch()
    task = made(model, loss="wasserstein")
    assert model.discriminator.of_class is not None
    slopes = (model.discriminator.head.weight + model.discriminator.of_class.weight[classes]).norm(dim=1)
    penalty = task.gradient_penalty(task.centred(images), torch.zeros(8, 1, 8, 8), classes)
    torch.testing.assert_close(penalty, (slopes - 1).square().mean())


def test_the_penalty_is_measured_between_real_and_generated_images() -> None:
    """At one point of the line between each pair, drawn for each."""
    task = made(loss="wasserstein")
    seen: list[Tensor] = []
    task.model.discriminator.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].detach()))
    real, fake = task.centred(batch()[0]), torch.full((8, 1, 8, 8), -4.0)
    task.gradient_penalty(real, fake, None)
    along = ((seen[0] - real) / (fake - real)).flatten(1)  # 0 at the real image, 1 at the generated
    torch.testing.assert_close(along, along[:, :1].expand_as(along), rtol=1e-4, atol=1e-4)
    assert along.min() >= 0
    assert along.max() <= 1
    assert along[:, 0].std() > 0.1


def test_the_penalty_teaches_every_weight_of_the_critic() -> None:
    """Through the gradient of its gradient."""
    task = made(pair(discriminator_sizes=(8, 8)), loss="wasserstein")
    penalty = task.gradient_penalty(task.centred(batch()[0]), torch.zeros(8, 1, 8, 8), None)
    layers = [m.weight for m in task.model.discriminator.modules() if isinstance(m, nn.Linear)]
    for gradient in torch.autograd.grad(penalty, layers):
        assert gradient.abs().sum() > 0


@pytest.mark.parametrize("weight", [0.0, 10.0])
def test_the_penalty_is_weighed_into_the_wasserstein_loss(weight: float) -> None:
    """That of a linear critic with a slope of 3 is 4."""
    task = made(linear_critic(3.0), loss="wasserstein", penalty=weight)
    torch.manual_seed(0)
    real, fake = task.centred(batch()[0]), task.model.generate(torch.randn(8, 4))
    with torch.no_grad():
        apart = float(task.model(fake).mean() - task.model(real).mean())
    torch.manual_seed(0)
    scores = task.step(batch(), optim_of(task.model.generator), optim_of(task.model.discriminator))
    assert float(scores["discriminator_loss"]) == pytest.approx(apart + weight * 4, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("loss", LOSSES[:-1])
def test_other_losses_have_no_penalty(loss: Any) -> None:
    found = []
    for weight in (0.0, 10.0):
        task = made(loss=loss, penalty=weight)
        torch.manual_seed(0)
        scores = task.step(batch(), optim_of(task.model.generator), optim_of(task.model.discriminator))
        found.append(float(scores["discriminator_loss"]))
    assert found[0] == found[1]


# The Frechet distance ---------------------------------------------------------------------------------------------


def rows(count: int, size: int, seed: int = 0) -> Tensor:
    return torch.randn(count, size, generator=rng.keyed(seed), dtype=torch.float64)


def test_equal_sets_have_no_distance_and_a_shift_counts_squared() -> None:
    x = rows(200, 6) @ rows(6, 6, 1)
    assert metrics.frechet_distance(x, x) == pytest.approx(0, abs=1e-8)
    shift = torch.tensor([1.0, -2.0, 0, 0, 3, 0.5])
    assert metrics.frechet_distance(x, x + shift) == pytest.approx(float(shift.square().sum()), rel=1e-6)


def test_the_distance_of_diagonal_covariances_is_that_of_spreads() -> None:
    """|m1 - m2|^2 + sum (s1 - s2)^2, of corners of boxes, whose covariance is exactly diagonal."""
    corners = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=3)))
    one, other = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([2.0, 2.0, 0.5])
    mean = torch.tensor([0.5, 0.0, -1.0])
    expected = float(mean.square().sum() + 8 / 7 * (one - other).square().sum())  # of an unbiased variance
    assert metrics.frechet_distance(corners * one, corners * other + mean) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("one", "other", "size"), [(50, 80, 6), (5, 9, 20), (4, 200, 12), (30, 30, 1)])
def test_the_distance_is_symmetric_and_takes_fewer_samples_than_features(one: int, other: int, size: int) -> None:
    """Against a formula of its own: tr (C1 C2)^(1/2) is the sum of the singular values of X1 X2^T, centred and scaled."""
    x, y = rows(one, size, 1), 2 * rows(other, size, 2) + 0.3
    centred = [(z - z.mean(0)) / (len(z) - 1) ** 0.5 for z in (x, y)]
    shared = torch.linalg.svdvals(centred[0] @ centred[1].T).sum()
    expected = (x.mean(0) - y.mean(0)).square().sum() + sum(z.square().sum() for z in centred) - 2 * shared
    assert metrics.frechet_distance(x, y) == pytest.approx(float(expected), rel=1e-5)
    assert metrics.frechet_distance(y, x) == pytest.approx(metrics.frechet_distance(x, y), rel=1e-5)


def test_features_that_are_always_the_same_are_fine() -> None:
    """A generator that has collapsed: no covariance at all."""
    x = rows(40, 3)
    expected = float(x.mean(0).square().sum() + x.var(0).sum())
    assert metrics.frechet_distance(x, torch.zeros(30, 3)) == pytest.approx(expected, rel=1e-6)
    assert metrics.frechet_distance(torch.zeros(30, 3), x) == pytest.approx(expected, rel=1e-6)


def test_the_distance_is_torchmetrics() -> None:
    """Their FID of the very features, by a network of our own in place of Inception."""
    from torchmetrics.image.fid import FrechetInceptionDistance

    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(48, 12), nn.Tanh())
    theirs = FrechetInceptionDistance(network, normalize=True, input_img_size=(3, 4, 4))
    images = {True: torch.rand(150, 3, 4, 4), False: torch.rand(150, 3, 4, 4).square()}
    for real, pixels in images.items():
        theirs.update(pixels, real=real)
    with torch.no_grad():
        ours = metrics.frechet_distance(network(images[True]), network(images[False]))
    assert ours == pytest.approx(float(theirs.compute()), rel=1e-3)
    assert ours > 0.01


# Evaluation -------------------------------------------------------------------------------------------------------


def scripted(task: Adversarial, images: Iterator[Tensor]) -> Adversarial:
    """`task` with a generator that hands out `images` (B, C, H, W)."""
    task.model.generate = lambda noise, classes=None: next(images)
    return task.eval()


def digits_task(**settings: Any) -> Adversarial:
    """A task on digits with a judge that knows them, after a few steps."""
    task = made(data=InMemory(Digits(), batch_size=64), judge=judge(), **settings)
    learn = optim_of(task.judge, lr=0.1)
    for number in range(3):
        for samples in task.data.train.epoch(number):
            task.learn_to_judge(samples, learn)
    return task.eval()


def evaluated(task: Adversarial) -> dict[str, Any]:
    with torch.no_grad():
        return task.evaluate(task.data.val.epoch(0))


def test_real_images_have_no_distance_and_all_of_the_diversity() -> None:
    task = digits_task()
    batches = [task.centred(inputs) for inputs, _ in task.data.val.epoch(0)]
    scores = evaluated(scripted(task, iter([*batches, batches[0]])))
    assert scores["distance"] == pytest.approx(0, abs=1e-4)
    assert scores["diversity"] == pytest.approx(1, rel=1e-5)
    assert 0.02 < scores["least_share"] <= 0.1
    assert scores["real_score"] == pytest.approx(scores["fake_score"])


def test_a_generator_that_makes_one_image_shows() -> None:
    task = digits_task()
    sizes = [*(len(inputs) for inputs, _ in task.data.val.epoch(0)), 64]
    image = task.centred(next(task.data.val.epoch(0))[0])[:1]
    scores = evaluated(scripted(task, (image.expand(n, -1, -1, -1) for n in sizes)))
    assert scores["diversity"] == pytest.approx(0, abs=1e-6)
    assert scores["least_share"] == 0
    assert scores["distance"] > 1
    shares = scores["shares"].values
    assert shares.sum(0).tolist() == pytest.approx([1, 1])
    assert sorted(shares[:, 1].tolist()) == [0.0] * 9 + [1.0]


def test_half_the_contrast_is_a_quarter_of_the_diversity_of_pixels() -> None:
    """Without a judge samples are measured by their pixels."""
    task = made(data=InMemory(Digits(), batch_size=64)).eval()
    batches = [task.centred(inputs) for inputs, _ in task.data.val.epoch(0)]
    scores = evaluated(scripted(task, iter([*(0.5 * b for b in batches), batches[0]])))
    assert scores["diversity"] == pytest.approx(0.25, rel=1e-5)


def test_scores_are_mean_probabilities_of_being_real() -> None:
    """A Wasserstein critic has none: its scores are as they are."""
    images, probabilities = torch.rand(64, 1, 8, 8) * 2 - 1, {}
    for loss in LOSSES:
        task = scripted(made(loss=loss), itertools.repeat(images))
        inputs, classes = batch()
        task.model.generate = lambda noise, classes=None: images[: len(noise)]
        with torch.no_grad():
            scores = task.evaluate(iter([(inputs, classes)]))
            real, fake = task.model(task.centred(inputs)), task.model(images[:8])
        real, fake = (x if loss == "wasserstein" else d(x) for x in (real, fake))
        assert scores["real_score"] == pytest.approx(float(real.mean()), rel=1e-5)
        assert scores["fake_score"] == pytest.approx(float(fake.mean()), rel=1e-5)
        probabilities[loss] = scores["real_score"]
    assert probabilities["wasserstein"] != pytest.approx(probabilities["hinge"], rel=1e-3)


@pytest.mark.parametrize("conditional", [False, True], ids=["", "conditional"])
def test_samples_are_the_same_for_the_same_weights(conditional: bool) -> None:
    """Whatever the process has drawn before; in 0..1, and of a conditional pair all classes in turn."""
    task = made(pair(conditional=conditional)).eval()
    scores = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        scores.append(evaluated(task))
    first, again = (s.pop("samples").pixels for s in scores)
    assert torch.equal(first, again)
    assert scores[0] == scores[1]
    assert first.shape == (64, 1, 8, 8)
    assert first.min() >= 0
    assert first.max() <= 1
    classes = torch.arange(64) % 10 if conditional else None
    with torch.no_grad():
        torch.testing.assert_close(first, task.model.generate(task.noise, classes) / 2 + 0.5)
        for p in task.model.generator.parameters():
            p.mul_(1.1)
    assert not torch.equal(first, evaluated(task)["samples"].pixels)


def test_without_a_judge_there_is_no_distance_and_nothing_is_watched() -> None:
    """But for what the user names; data need no classes then."""
    task = made()
    (stage,) = task.stages()
    assert (stage.name, stage.watch) == ("adversarial", "")
    assert evaluated(task.eval()).keys() == {"real_score", "fake_score", "diversity", "samples"}
    assert [s.watch for s in made(watch="val/diversity").stages()] == ["val/diversity"]
    bare = Spec((1, 8, 8), (), 60, 20, target_names=("depth",))
    assert evaluated(made(data=Fake(bare, 8, 0)).eval())["diversity"] > 0


def test_an_empty_split_is_a_clear_error() -> None:
    with pytest.raises(ValueError, match="there is nothing to evaluate"):
        made().evaluate(iter(()))


def test_the_networks_see_pixels_in_minus_one_to_one_however_data_are_scaled() -> None:
    stored = Digits().read()["train"][0].float() / 255 * 2 - 1
    for scaling in ("standardize", "unit"):
        task = made(data=InMemory(Digits(), batch_size=64, scaling=scaling))
        seen = torch.cat([task.centred(inputs) for inputs, _ in task.data.train.epoch(0)])
        assert float(seen.min()) == pytest.approx(-1, abs=1e-5)
        assert float(seen.max()) == pytest.approx(1, abs=1e-5)
        assert float(seen.mean()) == pytest.approx(float(stored.mean()), abs=0.01)


# Predictions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("conditional", [False, True], ids=["", "conditional"])
def test_predictions_are_a_probability_an_image(conditional: bool) -> None:
    """Of a conditional pair as the class that suits the image best."""
    task = made(pair(conditional=conditional)).eval()
    inputs = batch(5)[0]
    with torch.no_grad():
        answers = task.answers(task.predict(inputs))
        told = [torch.full((5,), c) for c in range(10)] if conditional else [None]
        expected = torch.stack([d(task.model(task.centred(inputs), c)) for c in told]).amax(0)
    assert [list(answer) for answer in answers] == [["real"]] * 5
    assert [answer["real"] for answer in answers] == pytest.approx(expected.tolist(), rel=1e-5)


@pytest.mark.parametrize("conditional", ["false", "true"])
def test_predict_says_how_real_files_look(conditional: str, dltrain, tmp_path: Path) -> None:
    sizes = ("model.generator_sizes=[16]", "model.discriminator_sizes=[16]", f"model.conditional={conditional}")
    trained = dltrain("dataset=digits", "model=gan", *sizes, "trainer.steps=90", "callbacks=quiet", "--json")
    assert trained.code == 0, trained.err
    inputs = Digits().read()["test"][0]
    for i in range(3):
        Picture.fromarray(inputs[i, 0].numpy()).save(tmp_path / f"{i}.png")
    outcome = dltrain("predict", trained.json["run"], *(str(tmp_path / f"{i}.png") for i in range(3)), "--json")
    assert outcome.code == 0, outcome.err
    found = [row["real"] for row in outcome.json["rows"]]
    assert len(found) == len(set(found)) == 3
    assert all(0 < p < 1 for p in found)


# It learns --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "settings"),
    [
        (GAN, {"norm": "batch"}),
        (GAN, {"norm": "batch", "conditional": True}),
        (DCGAN, {"channels": (16, 8)}),
    ],
    ids=["gan", "conditional gan", "dcgan"],
)
def test_the_distance_falls_on_digits(model: type[Any], settings: dict[str, Any]) -> None:
    """To a fifth of what it is before training, in a few hundred steps; and the samples differ."""
    torch.manual_seed(0)
    sizes = {"generator_sizes": (64,), "discriminator_sizes": (64,)} if model is GAN else {}
    network = model(1, (8, 8), 10, latent_size=8, **sizes, **settings)
    optim = lambda m, steps, network, mode=None: Optim(m, functools.partial(adam, lr=0.002, beta1=0.5))  # noqa: E731
    task = digits_task(model=network, optim=optim)
    before = evaluated(task)["distance"]
    stage = list(task.stages())[1]
    torch.manual_seed(0)
    task.train()
    for number in range(8):
        for samples in task.data.train.epoch(number):
            stage.step(samples)
    scores = evaluated(task.eval())
    print("DIST", before, {k: v for k, v in scores.items() if isinstance(v, float)})
    assert scores["distance"] < before / 5
    assert scores["diversity"] > 0.2


# Refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (["model.latent_size=0"], "model.latent_size=0"),
        (["model=dcgan", "model.channels=[8,8,8,8]"], "an image of 8x8 pixels cannot be halved 4 times"),
        (["model=dcgan", "task.loss=wasserstein"], "model.discriminator_norm=layer"),
        (["task.loss=hinge", "task.label_smoothing=0.1"], "the hinge loss has no targets that could be smoothed"),
        (["task.label_smoothing=1"], "task.label_smoothing=1"),
        (["model=mlp", "task=adversarial"], "this model is no pair of a generator and a discriminator"),
        (["task.loss=hingee"], "did you mean hinge?"),
        (["dataset=diabetes", "task=adversarial"], "image_size"),
        (["task.judge={_target_: dltrain.models.gan.GAN}"], "expected a sequential classifier"),
        (["task.discriminator_steps=0"], "task.discriminator_steps=0"),
        (["regularization=[mixup]"], "mixup mixes images"),
        (["task=classification"], "this model gives no logits of classes"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_with_the_reason(overrides: list[str], reason: str, dltrain) -> None:
    chosen = [] if any(o.startswith("dataset=") for o in overrides) else ["dataset=digits"]
    model = [] if any(o.startswith("model=") for o in overrides) else ["model=gan"]
    outcome = dltrain("check", *chosen, *model, *overrides)
    assert outcome.code == 2, outcome.err + outcome.out
    assert reason in outcome.err


def test_a_judge_needs_classes() -> None:
    bare = Spec((1, 8, 8), (), 60, 20, target_names=("depth",))
    with pytest.raises(ValueError, match=r"data with classes \(task\.judge=null for none\)"):
        made(data=Fake(bare, 8, 0), judge=judge())


@pytest.mark.parametrize("norm", ["layer", "none"])
def test_a_wasserstein_dcgan_without_batch_norm_trains(norm: str, dltrain) -> None:
    words = ("dataset=digits", "model=dcgan", "task.loss=wasserstein", f"model.discriminator_norm={norm}")
    outcome = dltrain(*words, "model.channels=[8,4]", "debug=smoke", "callbacks=quiet", "--json")
    assert outcome.code == 0, outcome.err
