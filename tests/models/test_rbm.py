"""The restricted Boltzmann machine against sums over all states, in double precision."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable

import pytest
import torch
from torch import Tensor

from dltrain.models import rbm as module
from dltrain.models.rbm import RBM, Units

VISIBLE, HIDDEN = 4, 3
UNITS: tuple[Units, Units] = ("bernoulli", "gaussian")
KINDS: list[tuple[Units, Units]] = list(itertools.product(UNITS, UNITS))
Gradient = dict[str, Tensor]


def states(units: int) -> Tensor:
    """Return all states (2^units, units) of binary units."""
    return torch.tensor(list(itertools.product((0.0, 1.0), repeat=units)), dtype=torch.float64)


def made(visible_units: Units, hidden_units: Units) -> RBM:
    """Return a 4x3 machine in double precision, with weights and biases far from 0."""
    torch.manual_seed(0)
    machine = RBM(VISIBLE, HIDDEN, visible_units, hidden_units).double()
    for parameter in machine.parameters():
        torch.nn.init.normal_(parameter)
    return machine


def inputs(units: Units, count: int = 5) -> Tensor:
    """Return visible units (count, 4) like data: probabilities, or standardized values."""
    generator = torch.Generator().manual_seed(1)
    draw = torch.randn if units == "gaussian" else torch.rand
    return draw(count, VISIBLE, generator=generator, dtype=torch.float64)


def of_data(machine: RBM, visible: Tensor) -> Tensor:
    """Return E[h | v] (H,) by the textbook."""
    total = machine.linear.bias + machine.linear.weight @ visible
    return total if machine.hidden_units == "gaussian" else 1 / (1 + torch.exp(-total))


def of_fantasy(machine: RBM, hidden: Tensor) -> Tensor:
    """Return E[v | h] (V,) by the textbook."""
    total = machine.visible_bias + hidden @ machine.linear.weight
    return total if machine.visible_units == "gaussian" else 1 / (1 + torch.exp(-total))


@torch.no_grad()
def textbook(machine: RBM, v0: Tensor, v1: Tensor) -> Gradient:
    """Minus (<v h>_data - <v h>_recon), for one sample (V,) and its reconstruction (V,)."""
    h0, h1 = of_data(machine, v0), of_data(machine, v1)
    return {
        "visible_bias": v1 - v0,
        "linear.weight": torch.outer(h1, v1) - torch.outer(h0, v0),
        "linear.bias": h1 - h0,
    }


def learned(machine: RBM, visible: Tensor, steps: int, chain: Tensor | None = None) -> Gradient:
    """Return the gradients of contrastive divergence by the names of the parameters."""
    gradients = machine.contrastive_divergence(visible, steps, chain)[1]
    return {name: gradients[parameter] for name, parameter in machine.named_parameters()}


def mean(gradients: Iterable[Gradient], weights: Iterable[float]) -> Gradient:
    """Return the sum of `gradients`, each times its weight."""
    total: Gradient = {}
    for one, weight in zip(gradients, weights, strict=True):
        total = {name: total.get(name, torch.zeros_like(g)) + weight * g for name, g in one.items()}
    return total


def draws(monkeypatch: pytest.MonkeyPatch, *hidden: Tensor) -> list[Tensor]:
    """Replace the drawn `hidden` units by known ones; return the means that they are drawn from."""
    left, asked = iter(hidden), []

    def sampled(means: Tensor, units: Units) -> Tensor:
        asked.append(means.clone())
        return next(left).expand_as(means)

    monkeypatch.setattr(module, "sampled", sampled)
    return asked


def possible(machine: RBM, visible: Tensor) -> list[tuple[Tensor, float]]:
    """Return hidden states (H,) for `visible` (V,) and their probabilities; of normal ones some."""
    with torch.no_grad():
        means = of_data(machine, visible)
    if machine.hidden_units == "gaussian":
        noise = torch.randn(
            8, HIDDEN, generator=torch.Generator().manual_seed(2), dtype=torch.float64
        )
        return [(means + some, 1 / len(noise)) for some in noise]
    return [(h, float(torch.where(h > 0, means, 1 - means).prod())) for h in states(HIDDEN)]


@pytest.mark.parametrize("kind", KINDS, ids="-".join)
def test_the_gradient_of_contrastive_divergence_is_the_textbooks(
    kind: tuple[Units, Units], monkeypatch: pytest.MonkeyPatch
) -> None:
    """This holds for every hidden state that may be drawn, and so for the expected gradient."""
    machine = made(*kind)
    for v0 in inputs(kind[0], 2):
        found, wanted, weights = [], [], []
        for h0, probability in possible(machine, v0):
            asked = draws(monkeypatch, h0)
            found.append(learned(machine, v0[None], 1))
            torch.testing.assert_close(asked, [of_data(machine, v0)[None].detach()])
            wanted.append(textbook(machine, v0, of_fantasy(machine, h0)))
            weights.append(probability)
            torch.testing.assert_close(found[-1], wanted[-1], rtol=1e-10, atol=1e-12)
        assert sum(weights) == pytest.approx(1)
        torch.testing.assert_close(
            mean(found, weights), mean(wanted, weights), rtol=1e-10, atol=1e-12
        )


def test_the_gradient_of_a_batch_is_the_mean_over_its_samples(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine, data, h0 = made("gaussian", "bernoulli"), inputs("gaussian"), states(HIDDEN)[5]
    draws(monkeypatch, h0)
    found = learned(machine, data, 1)
    wanted = mean(
        [textbook(machine, v, of_fantasy(machine, h0)) for v in data], [1 / len(data)] * len(data)
    )
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS, ids="-".join)
def test_k_steps_draw_hidden_units_k_times(
    kind: tuple[Units, Units], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each draw follows from the expected visible units of the one before."""
    machine, (v0,), drawn = made(*kind), inputs(kind[0], 1), list(states(HIDDEN)[[3, 6, 1]])
    asked = draws(monkeypatch, *drawn)
    found = learned(machine, v0[None], 3)
    seen = [v0, *(of_fantasy(machine, h) for h in drawn)]
    torch.testing.assert_close(asked, [of_data(machine, v)[None].detach() for v in seen[:3]])
    torch.testing.assert_close(found, textbook(machine, v0, seen[3]), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS, ids="-".join)
def test_a_chain_continues_where_it_was(
    kind: tuple[Units, Units], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The chain, longer than the batch, gives the samples and ends with their hidden units."""
    machine, data = made(*kind), inputs(kind[0], 2)
    chain = torch.rand(6, HIDDEN, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    for number in (0, 1):
        before, h = chain.clone(), states(HIDDEN)[1 + number : 7 + number]
        asked = draws(monkeypatch, h)
        found = learned(machine, data, 1, chain)
        torch.testing.assert_close(asked, [before], rtol=0, atol=0)
        fantasies = [of_fantasy(machine, one).detach() for one in h]
        torch.testing.assert_close(
            chain, torch.stack([of_data(machine, v) for v in fantasies]).detach()
        )
        pairs = list(itertools.product(data, fantasies))
        wanted = mean([textbook(machine, *pair) for pair in pairs], [1 / len(pairs)] * len(pairs))
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)


def energies(machine: RBM, visible: Tensor, hidden: Tensor) -> Tensor:
    """Return E(v, h) (B, N) of visible units (B, V) and hidden units (N, H) by its definition."""
    b, c, weights = machine.visible_bias, machine.linear.bias, machine.linear.weight
    own = (
        (visible - b).square().sum(1) / 2 if machine.visible_units == "gaussian" else -(visible @ b)
    )
    return own[:, None] - hidden @ c - visible @ weights.T @ hidden.T


@pytest.mark.parametrize("visible_units", ["bernoulli", "gaussian"])
def test_the_free_energy_sums_over_all_hidden_states(visible_units: Units) -> None:
    machine, data = made(visible_units, "bernoulli"), inputs(visible_units)
    wanted = -torch.logsumexp(-energies(machine, data, states(HIDDEN)), dim=1)
    torch.testing.assert_close(machine.free_energy(data).double(), wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("visible_units", ["bernoulli", "gaussian"])
def test_the_free_energy_integrates_over_normal_hidden_units(visible_units: Units) -> None:
    """Hidden units are independent given v; the constant is that of the normal density."""
    machine, data = made(visible_units, "gaussian"), inputs(visible_units)
    own = energies(machine, data, torch.zeros(1, HIDDEN, dtype=torch.float64)).squeeze(1)
    h = torch.linspace(-30, 30, 20001, dtype=torch.float64)
    exponents = machine.linear(data)[..., None] * h - h.square() / 2  # (B, H, points)
    integrals = torch.trapezoid(exponents.exp(), h, dim=2).log().sum(1)
    constant = HIDDEN * math.log(2 * math.pi) / 2
    torch.testing.assert_close(
        machine.free_energy(data).double(), own - integrals + constant, rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize("kind", KINDS, ids="-".join)
def test_the_loss_is_the_energy_of_the_data_minus_that_of_the_samples(
    kind: tuple[Units, Units], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The energy is at expected hidden units, without the part h^2 / 2 of normal ones."""
    machine, data, h0 = made(*kind), inputs(kind[0]), states(HIDDEN)[5]
    draws(monkeypatch, h0)
    found = machine.contrastive_divergence(data, 1)[0]

    def energy(visible: Tensor) -> Tensor:
        return energies(machine, visible, machine(visible)).diagonal().mean()

    fantasies = of_fantasy(machine, h0).expand(len(data), -1)
    torch.testing.assert_close(found, energy(data) - energy(fantasies))


def test_binary_units_are_expected_as_the_energy_says() -> None:
    """The sum is over all 8 hidden and 16 visible states, weighted by exp(-E)."""
    machine = made("bernoulli", "bernoulli")
    v, h = states(VISIBLE), states(HIDDEN)
    energy = energies(machine, v, h)
    torch.testing.assert_close(machine(v), torch.softmax(-energy, dim=1) @ h)
    torch.testing.assert_close(machine.reconstruct(h), torch.softmax(-energy, dim=0).T @ v)


@pytest.mark.parametrize("units", ["bernoulli", "gaussian"])
def test_units_are_drawn_around_their_means(units: Units) -> None:
    """Binary ones are 0 or 1, normal ones have variance 1."""
    torch.manual_seed(0)
    means = torch.tensor([0.1, 0.5, 0.8])
    drawn = module.sampled(means.expand(20000, 3), units)
    torch.testing.assert_close(drawn.mean(0), means, rtol=0, atol=0.02)
    variance = torch.ones(3) if units == "gaussian" else means * (1 - means)
    torch.testing.assert_close(drawn.var(0), variance, rtol=0, atol=0.04)
    assert (units == "bernoulli") == bool(((drawn == 0) | (drawn == 1)).all())


@pytest.mark.parametrize("sizes", [(784, 500), (500, 2000)])
def test_initial_weights_have_the_scale_of_glorot(sizes: tuple[int, int]) -> None:
    machine = RBM(*sizes)
    assert float(machine.linear.weight.detach().std()) == pytest.approx(
        math.sqrt(2 / sum(sizes)), rel=0.02
    )
    assert not machine.linear.bias.any()
    assert not machine.visible_bias.any()
