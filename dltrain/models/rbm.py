"""The restricted Boltzmann machine."""

from __future__ import annotations

from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dltrain.models.layers import random_int16, without_autocast
from dltrain.types import PositiveInt
from dltrain.types.rows import random_rows_by_default, same_rows

Units = Literal["bernoulli", "gaussian"]


class RBM(nn.Module):
    """A restricted Boltzmann machine with the energy E(v, h) = -v'b - h'c - h'Wv (Smolensky 1986).

    v (B, V) are visible units, h (B, H) hidden units. Units are binary ("bernoulli"), or normal
    with variance 1 ("gaussian"): then |v - b|^2 / 2 replaces -v'b, and h^2 / 2 is added for hidden
    units. `visible_bias` is b; `linear` holds W (H, V) and c. Initial weights have the scale of
    Glorot and Bengio (2010), so that the layer also learns without pretraining.
    """

    def __init__(
        self,
        visible: PositiveInt,
        hidden: PositiveInt,
        visible_units: Units = "bernoulli",
        hidden_units: Units = "bernoulli",
    ) -> None:
        super().__init__()
        self.linear = nn.Linear(visible, hidden)
        self.visible_bias = nn.Parameter(torch.zeros(visible))
        self.visible_units = visible_units
        self.hidden_units = hidden_units
        nn.init.xavier_normal_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, visible: Tensor) -> Tensor:
        """Return the expected hidden units (B, H) for visible units (B, V)."""
        return expected(self.linear(visible), self.hidden_units)

    def reconstruct(self, hidden: Tensor) -> Tensor:
        """Return the expected visible units (B, V) for hidden units (B, H)."""
        inputs = F.linear(hidden, self.linear.weight.T, self.visible_bias)
        return expected(inputs, self.visible_units)

    def gibbs(self, hidden: Tensor, steps: int) -> Tensor:
        """Return visible units (B, V) after `steps` (at least 1) steps of Gibbs sampling.

        Sampling starts from expected `hidden` units (B, H). Hidden units are sampled; visible units
        are expected values, which is less noisy (Hinton 2010, section 3.2).
        """
        visible = self.reconstruct(sampled(hidden, self.hidden_units))
        for _ in range(steps - 1):
            visible = self.reconstruct(sampled(self(visible), self.hidden_units))
        return visible

    def visible_energy(self, visible: Tensor) -> Tensor:
        """Return the part (B,) of the energy that depends only on the visible units."""
        if self.visible_units == "gaussian":
            return (visible - self.visible_bias).square().sum(1) / 2
        return -(visible @ self.visible_bias)

    def free_energy(self, visible: Tensor) -> Tensor:
        """Return the free energy (B,): -log of the sum of exp(-E(v, h)) over all h.

        For normal hidden units it is the integral, up to a constant.
        """
        activations = self.linear(visible).float()
        if self.hidden_units == "gaussian":
            hidden_energy = activations.square() / 2
        else:
            hidden_energy = F.softplus(activations)
        return self.visible_energy(visible).float() - hidden_energy.sum(1)

    @torch.no_grad()
    def contrastive_divergence(
        self, visible: Tensor, steps: int, chain: Tensor | None = None
    ) -> tuple[Tensor, dict[Tensor, Tensor]]:
        """Return the loss and the gradients of CD-k, by parameter (Hinton 2002).

        The loss is the energy of the data minus that of the samples. The gradient of the weights is
        <h v'> of the samples minus that of the data. It is not the gradient of any function
        (Sutskever and Tieleman 2010), so it is not computed by differentiation.

        The samples are the result of `steps` steps of Gibbs sampling, starting from the data. With
        a `chain` (B, H) of expected hidden units, sampling starts from the chain, which is updated
        in place: persistent CD (Tieleman 2008).
        """
        activations = self.linear(visible)
        hidden = expected(activations, self.hidden_units)
        if chain is None:
            samples = self.gibbs(hidden, steps)
        else:
            with same_rows():
                samples = self.gibbs(chain, steps)
        sample_activations = self.linear(samples)
        sample_hidden = expected(sample_activations, self.hidden_units)
        if chain is not None:
            chain.copy_(sample_hidden)
        dtype = self.visible_bias.dtype
        with without_autocast(visible.device):
            sizes = [len(visible), len(samples)]
            weights = visible.new_full((sum(sizes),), 1 / len(samples), dtype=dtype)
            weights[: len(visible)] = -1 / len(visible)
            v = torch.cat([visible, samples]).to(dtype)
            h = torch.cat([hidden, sample_hidden]).to(dtype)
            h.mul_(weights[:, None])
            gradients = {
                self.linear.weight: h.T @ v,
                self.linear.bias: h.sum(0),
                self.visible_bias: weights @ v,
            }
            data_part, sample_part = h.split(sizes)
            loss = torch.dot(data_part.flatten(), activations.flatten().to(dtype))
            loss = loss + torch.dot(sample_part.flatten(), sample_activations.flatten().to(dtype))
            if self.visible_units == "gaussian":
                data_energy = self.visible_energy(visible).mean()
                loss = loss + data_energy - self.visible_energy(samples).mean()
            else:
                loss = loss + torch.dot(gradients[self.visible_bias], self.visible_bias)
        return loss, gradients


def expected(inputs: Tensor, units: Units) -> Tensor:
    """Return the expected values of units with these `inputs`."""
    if units == "gaussian":
        return inputs
    return torch.sigmoid(inputs)


def sampled(means: Tensor, units: Units) -> Tensor:
    """Return samples of units with these `means`.

    A mean that is NaN gives a unit that is off, where torch.bernoulli would raise; the loss is NaN
    then.
    """
    if units == "gaussian":
        normal = partial(torch.randn, dtype=means.dtype, device=means.device)
        return means + random_rows_by_default(normal, means.shape)
    if means.device.type != "cpu":
        uniform = partial(torch.rand, device=means.device)
        return (random_rows_by_default(uniform, means.shape) < means).to(means)
    # Random numbers of 16 bits, because drawing is most of the cost: a unit with probability p is
    # on if its number is below 2^16 p - 2^15 - 1/2.
    threshold = torch.add(torch.tensor(-(2.0**15) - 0.5), means.float(), alpha=2**16)
    numbers = random_rows_by_default(random_int16, means.shape)
    return torch.lt(numbers, threshold, out=torch.empty_like(means))
