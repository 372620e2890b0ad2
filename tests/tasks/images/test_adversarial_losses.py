"""Losses of adversarial learning against the papers' formulas, and the gradient penalty."""

from __future__ import annotations

import functools
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from adversaries import BF16, LOSSES, adversarial_task, batch, optim_of, probability, small_gan
from torch import Tensor, nn

from dltrain import rng
from dltrain.models.images.gan import GAN
from dltrain.tasks.images.adversarial import discriminator_loss, generator_loss

# --- Losses

REAL = torch.tensor([-3.0, -0.4, 0.0, 0.7, 2.5], dtype=torch.float64)
FAKE = torch.tensor([-2.0, -0.1, 0.3, 1.5, 4.0], dtype=torch.float64)
CROSS_ENTROPY = -probability(REAL).log().mean() - (1 - probability(FAKE)).log().mean()
FORMULAS: dict[Any, tuple[Tensor, Tensor]] = {  # of the discriminator, of the generator
    "nonsaturating": (CROSS_ENTROPY, -probability(FAKE).log().mean()),
    "minimax": (CROSS_ENTROPY, (1 - probability(FAKE)).log().mean()),
    "least_squares": (
        (REAL - 1).pow(2).mean() / 2 + FAKE.pow(2).mean() / 2,
        (FAKE - 1).pow(2).mean() / 2,
    ),
    "hinge": ((1 - REAL).clamp_min(0).mean() + (1 + FAKE).clamp_min(0).mean(), -FAKE.mean()),
    "wasserstein": (FAKE.mean() - REAL.mean(), -FAKE.mean()),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_losses_match_the_papers(loss: Any) -> None:
    expected = FORMULAS[loss]
    torch.testing.assert_close(discriminator_loss(loss, REAL, FAKE), expected[0])
    torch.testing.assert_close(generator_loss(loss, FAKE), expected[1])


@pytest.mark.parametrize("loss", ["nonsaturating", "minimax"])
def test_smoothed_losses_are_cross_entropies_with_soft_targets(loss: Any) -> None:
    """One-sided: only the target of real images changes."""
    expected = (
        -(0.9 * probability(REAL).log() + 0.1 * (1 - probability(REAL)).log()).mean()
        - (1 - probability(FAKE)).log().mean()
    )
    torch.testing.assert_close(discriminator_loss(loss, REAL, FAKE, real_target=0.9), expected)


@pytest.mark.parametrize("loss", LOSSES)
def test_gradients_have_the_right_sign(loss: Any) -> None:
    """The discriminator's loss falls with real and rises with fake logits."""
    real, fake = (torch.linspace(0.05, 0.95, 7).requires_grad_() for _ in range(2))
    of_real, of_fake = torch.autograd.grad(discriminator_loss(loss, real, fake), [real, fake])
    assert (of_real < 0).all()
    assert (of_fake > 0).all()
    (of_fake,) = torch.autograd.grad(generator_loss(loss, fake), fake)
    assert (of_fake < 0).all()


def test_only_the_minimax_gradient_vanishes_where_the_discriminator_is_sure() -> None:
    fake = torch.tensor([-30.0]).requires_grad_()
    slopes = {
        loss: float(torch.autograd.grad(generator_loss(loss, fake), fake)[0])
        for loss in ("nonsaturating", "minimax")
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
@pytest.mark.parametrize(
    ("loss", "inverse"), [("nonsaturating", torch.logit), ("least_squares", lambda t: t)]
)
def test_the_minimum_of_a_smoothed_loss_is_at_its_target(
    loss: Any, inverse: Any, target: float
) -> None:
    best = inverse(torch.tensor(target, dtype=torch.float64))
    slopes = []
    for shift in (-0.1, 0.0, 0.1):
        real = (best + shift).unsqueeze(0).requires_grad_()
        slopes.append(
            float(torch.autograd.grad(discriminator_loss(loss, real, FAKE, target), real)[0])
        )
    assert slopes[0] < 0 < slopes[2]
    assert slopes[1] == pytest.approx(0, abs=1e-12)


def test_label_smoothing_is_used_in_the_step() -> None:
    losses = []
    for smoothing in (0.0, 0.2):
        task = adversarial_task(label_smoothing=smoothing)
        rng.seed_all(0)
        scores = task.step(
            batch(), optim_of(task.model.generator), optim_of(task.model.discriminator)
        )
        losses.append(float(scores["discriminator_loss"]))
    task = adversarial_task()
    rng.seed_all(0)
    real, fake = task.centered(batch()[0]), task.model.generate(torch.randn(8, 4))
    with torch.no_grad():
        expected = float(
            discriminator_loss("nonsaturating", task.model(real), task.model(fake), 0.8)
        )
    assert losses[1] == pytest.approx(expected, rel=1e-6)
    assert losses[0] != pytest.approx(expected, rel=1e-3)


# --- The gradient penalty


def linear_critic(size: float, conditional: bool = False) -> GAN:
    """Return a critic whose gradient is its weight, of norm `size`, everywhere."""
    model = small_gan(discriminator_sizes=(), conditional=conditional)
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
def test_the_penalty_of_a_linear_critic(size: float, precision: str) -> None:
    """It is (|w| - 1)^2, with the gradient 2 (|w| - 1) w / |w|, also in half precision.

    Half precision would round it or, for a norm of 300, overflow.
    """
    task = adversarial_task(linear_critic(size), loss="wasserstein")
    head = task.model.discriminator.head
    with PRECISIONS[precision]():
        real, fake = task.centered(batch()[0]), task.model.generate(torch.randn(8, 4)).detach()
        penalty = task.gradient_penalty(real, fake, None)
    assert penalty.dtype == torch.float32
    assert float(penalty.detach()) == pytest.approx((size - 1) ** 2, rel=1e-5, abs=1e-10)
    (gradient,) = torch.autograd.grad(penalty, head.weight)
    torch.testing.assert_close(
        gradient, 2 * (size - 1) * head.weight.detach() / size, rtol=1e-4, atol=1e-5
    )


def test_the_penalty_is_a_mean_over_images() -> None:
    """The gradient norm of a conditional critic differs by image: |w + v_class|."""
    model = linear_critic(0.8, conditional=True)
    images, classes = batch()
    task = adversarial_task(model, loss="wasserstein")
    assert model.discriminator.of_class is not None
    slopes = (model.discriminator.head.weight + model.discriminator.of_class.weight[classes]).norm(
        dim=1
    )
    penalty = task.gradient_penalty(task.centered(images), torch.zeros(8, 1, 8, 8), classes)
    torch.testing.assert_close(penalty, (slopes - 1).square().mean())


def test_the_penalty_is_measured_between_real_and_generated_images() -> None:
    """At one random point of the line between each pair."""
    task = adversarial_task(loss="wasserstein")
    seen: list[Tensor] = []
    task.model.discriminator.register_forward_hook(
        lambda module, inputs, output: seen.append(inputs[0].detach())
    )
    real, fake = task.centered(batch()[0]), torch.full((8, 1, 8, 8), -4.0)
    task.gradient_penalty(real, fake, None)
    along = ((seen[0] - real) / (fake - real)).flatten(1)  # 0 at the real image, 1 at the generated
    torch.testing.assert_close(along, along[:, :1].expand_as(along), rtol=1e-4, atol=1e-4)
    assert along.min() >= 0
    assert along.max() <= 1
    assert along[:, 0].std() > 0.1


def test_the_penalty_has_a_gradient_in_every_weight_of_the_critic() -> None:
    """Through the gradient of the gradient."""
    task = adversarial_task(small_gan(discriminator_sizes=(8, 8)), loss="wasserstein")
    penalty = task.gradient_penalty(task.centered(batch()[0]), torch.zeros(8, 1, 8, 8), None)
    layers = [m.weight for m in task.model.discriminator.modules() if isinstance(m, nn.Linear)]
    for gradient in torch.autograd.grad(penalty, layers):
        assert gradient.abs().sum() > 0


@pytest.mark.parametrize("weight", [0.0, 10.0])
def test_the_wasserstein_loss_includes_the_weighted_penalty(weight: float) -> None:
    """The penalty of a linear critic with a gradient norm of 3 is 4."""
    task = adversarial_task(linear_critic(3.0), loss="wasserstein", penalty=weight)
    rng.seed_all(0)
    real, fake = task.centered(batch()[0]), task.model.generate(torch.randn(8, 4))
    with torch.no_grad():
        apart = float(task.model(fake).mean() - task.model(real).mean())
    rng.seed_all(0)
    scores = task.step(batch(), optim_of(task.model.generator), optim_of(task.model.discriminator))
    assert float(scores["discriminator_loss"]) == pytest.approx(
        apart + weight * 4, rel=1e-4, abs=1e-4
    )


@pytest.mark.parametrize("loss", LOSSES[:-1])
def test_other_losses_have_no_penalty(loss: Any) -> None:
    found = []
    for weight in (0.0, 10.0):
        task = adversarial_task(loss=loss, penalty=weight)
        rng.seed_all(0)
        scores = task.step(
            batch(), optim_of(task.model.generator), optim_of(task.model.discriminator)
        )
        found.append(float(scores["discriminator_loss"]))
    assert found[0] == found[1]
