"""The restricted Boltzmann machine."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dltrain.models.layers import words
from dltrain.types import PositiveInt

Units = Literal["bernoulli", "gaussian"]


class RBM(nn.Module):
    """Visible units v (B, V) and hidden units h (B, H) with the energy E(v, h) = -v'b - h'c - h'Wv (Smolensky 1986).

    Units are binary, or normal with variance 1 (then |v - b|^2 / 2 stands for -v'b, and h^2 / 2 is added).
    `visible_bias` is b; `linear` holds W (H, V) and c. Weights begin at the scale of Glorot and Bengio 2010, so that the same
    layer also learns without pretraining.
    """

    def __init__(
        self,
        visible: PositiveInt,
        hidden: PositiveInt,
        visible_units: Units = "bernoulli",
        hidden_units: Units = "bernoulli",
    ) -> None:
        super().__init__()
        self.linear, self.visible_bias = (
            nn.Linear(visible, hidden),
            nn.Parameter(torch.zeros(visible)),
        )
        self.visible_units, self.hidden_units = visible_units, hidden_units
        nn.init.xavier_normal_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, visible: Tensor) -> Tensor:
        """Expected hidden units (B, H)."""
        return expected(self.linear(visible), self.hidden_units)

    def reconstruct(self, hidden: Tensor) -> Tensor:
        """Expected visible units (B, V)."""
        return expected(
            F.linear(hidden, self.linear.weight.T, self.visible_bias), self.visible_units
        )

    def gibbs(self, hidden: Tensor, steps: int) -> Tensor:
        """Visible units (B, V) after `steps` (at least 1) of alternating sampling from expected `hidden` units (B, H) on.

        Hidden units are sampled; visible ones are expected values, which is less noisy (Hinton 2010, section 3.2).
        """
        visible = self.reconstruct(sampled(hidden, self.hidden_units))
        for _ in range(steps - 1):
            visible = self.reconstruct(sampled(self(visible), self.hidden_units))
        return visible

    def of_visible(self, visible: Tensor) -> Tensor:
        """The part (B,) of the energy that no hidden unit has a share in."""
        if self.visible_units == "gaussian":
            return (visible - self.visible_bias).square().sum(1) / 2
        return -(visible @ self.visible_bias)

    def free_energy(self, visible: Tensor) -> Tensor:
        """F(v) (B,): -log of the sum of exp(-E(v, h)) over all h (for normal h the integral, up to a constant)."""
        activations = self.linear(visible).float()
        of_hidden = (
            activations.square() / 2 if self.hidden_units == "gaussian" else F.softplus(activations)
        )
        return self.of_visible(visible).float() - of_hidden.sum(1)

    @torch.no_grad()
    def contrastive_divergence(
        self, visible: Tensor, steps: int, chain: Tensor | None = None
    ) -> tuple[Tensor, dict[Tensor, Tensor]]:
        """The energy of the data less that of a fantasy, and what CD-k takes for each gradient, by parameter (Hinton 2002).

        That of the weights is <h v'> of the fantasy less that of the data: no function's gradient (Sutskever and Tieleman
        2010), and so not made by differentiation. The fantasy is what `steps` of Gibbs sampling make of the data; with a
        `chain` (B, H) of expected hidden units they begin there instead, and leave their end there: persistent CD (Tieleman
        2008).
        """
        activations = self.linear(visible)
        hidden = expected(activations, self.hidden_units)
        fantasy = self.gibbs(hidden if chain is None else chain, steps)
        dreamt = self.linear(fantasy)
        dreamt_hidden = expected(dreamt, self.hidden_units)
        if chain is not None:
            chain.copy_(dreamt_hidden)
        dtype, device = self.visible_bias.dtype, visible.device.type
        with (
            torch.autocast(device, enabled=False)
            if torch.is_autocast_enabled(device)
            else nullcontext()
        ):
            share = visible.new_full((len(visible) + len(fantasy),), 1 / len(fantasy), dtype=dtype)
            share[: len(visible)] = -1 / len(visible)
            v, h = (
                torch.cat([visible, fantasy]).to(dtype),
                torch.cat([hidden, dreamt_hidden]).to(dtype),
            )
            h.mul_(share[:, None])
            gradients = {
                self.linear.weight: h.T @ v,
                self.linear.bias: h.sum(0),
                self.visible_bias: share @ v,
            }
            of_data, of_fantasy = h.split([len(visible), len(fantasy)])
            value = torch.dot(of_data.flatten(), activations.flatten().to(dtype))
            value = value + torch.dot(of_fantasy.flatten(), dreamt.flatten().to(dtype))
            if self.visible_units == "gaussian":
                value = value + self.of_visible(visible).mean() - self.of_visible(fantasy).mean()
            else:
                value = value + torch.dot(gradients[self.visible_bias], self.visible_bias)
        return value, gradients


def expected(inputs: Tensor, units: Units) -> Tensor:
    """Of units with these `inputs`."""
    return inputs if units == "gaussian" else torch.sigmoid(inputs)


def sampled(means: Tensor, units: Units) -> Tensor:
    """Units with these `means`; not a number gives a unit that is off, and the loss says so (torch.bernoulli would raise)."""
    if units == "gaussian":
        return means + torch.randn_like(means)
    if means.device.type != "cpu":
        return (torch.rand(means.shape, device=means.device) < means).to(means)
    # of 16 bits, for drawing is most of the cost: a word w below 2^16 p - 2^15 - 1/2 is a unit that is on
    threshold = torch.add(torch.tensor(-(2.0**15) - 0.5), means.float(), alpha=2**16)
    return torch.lt(words(means.shape), threshold, out=torch.empty_like(means))
