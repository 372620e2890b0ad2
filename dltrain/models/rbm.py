"""The restricted Boltzmann machine."""

from __future__ import annotations

from typing import Any, Literal

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
        self.linear, self.visible_bias = nn.Linear(visible, hidden), nn.Parameter(torch.zeros(visible))
        self.visible_units, self.hidden_units = visible_units, hidden_units
        nn.init.xavier_normal_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, visible: Tensor) -> Tensor:
        """Expected hidden units (B, H)."""
        return expected(self.linear(visible), self.hidden_units)

    def reconstruct(self, hidden: Tensor) -> Tensor:
        """Expected visible units (B, V)."""
        return expected(F.linear(hidden, self.linear.weight.T, self.visible_bias), self.visible_units)

    def gibbs(self, hidden: Tensor, steps: int) -> Tensor:
        """Visible units (B, V) after `steps` (at least 1) of alternating sampling from expected `hidden` units (B, H) on.

        Hidden units are sampled; visible ones are expected values, which is less noisy (Hinton 2010, section 3.2).
        """
        visible = self.reconstruct(sampled(hidden, self.hidden_units))
        for _ in range(steps - 1):
            visible = self.reconstruct(sampled(self(visible), self.hidden_units))
        return visible

    def energy(self, visible: Tensor, hidden: Tensor, activations: Tensor) -> Tensor:
        """The mean energy of visible units with `hidden` ones, whose inputs c + Wv are `activations` (B, H).

        What depends on no weight is left out. With detached, expected `hidden` units the gradient is that of the free
        energy: dF/dw = E[dE/dw] over h given v.
        """
        both = torch.dot(hidden.flatten(), activations.flatten().to(hidden.dtype)) / len(hidden)
        return self.of_visible(visible).mean() - both

    def of_visible(self, visible: Tensor) -> Tensor:
        """The part (B,) of the energy that no hidden unit has a share in."""
        if self.visible_units == "gaussian":
            return (visible - self.visible_bias).square().sum(1) / 2
        return -(visible @ self.visible_bias)

    def free_energy(self, visible: Tensor) -> Tensor:
        """F(v) (B,): -log of the sum of exp(-E(v, h)) over all h (for normal h the integral, up to a constant)."""
        activations = self.linear(visible).float()
        of_hidden = activations.square() / 2 if self.hidden_units == "gaussian" else F.softplus(activations)
        return self.of_visible(visible).float() - of_hidden.sum(1)

    def contrastive_divergence(self, visible: Tensor, steps: int, chain: Tensor | None = None) -> Tensor:
        """A loss whose gradient is that of CD-k (Hinton 2002): the energy of the data less that of a fantasy.

        The fantasy is what `steps` of Gibbs sampling make of the data; with a `chain` (B, H) of expected hidden units they
        begin there instead, and leave their end there: persistent CD (Tieleman 2008).
        """
        with torch.no_grad():
            activations = self.linear(visible)
            hidden = expected(activations, self.hidden_units)
            fantasy = self.gibbs(hidden if chain is None else chain, steps)
            dreamt = self.linear(fantasy)
            dreamt_hidden = expected(dreamt, self.hidden_units)
            if chain is not None:
                chain.copy_(dreamt_hidden)
            value = self.energy(visible, hidden, activations) - self.energy(fantasy, dreamt_hidden, dreamt)
        of_linear = (self.linear.weight, self.linear.bias)
        loss: Tensor = Contrast.apply(value, *of_linear, self.visible_bias, visible, hidden, fantasy, dreamt_hidden)
        return loss


class Contrast(torch.autograd.Function):
    """A difference of energies with its gradient by the formula: <h v'> of the data less that of the fantasy (Hinton 2002).

    Automatic differentiation of the two energies gives the same, by a second copy of the weights' gradient.
    """

    @staticmethod
    def forward(ctx: Any, value: Tensor, weight: Tensor, bias: Tensor, visible_bias: Tensor, *units: Tensor) -> Tensor:
        """`units`: visible and hidden ones of the data, then of the fantasy."""
        ctx.save_for_backward(*units)
        ctx.dtype = weight.dtype
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        v, h, fantasy, dreamt = (units.to(ctx.dtype) for units in ctx.saved_tensors)
        share, of_fantasy = slopes[0] / len(v), slopes[0] / len(fantasy)
        of_hidden = torch.cat([h * -share, dreamt * of_fantasy])
        weight, bias = of_hidden.T @ torch.cat([v, fantasy]), of_hidden.sum(0)
        visible_bias = (fantasy * of_fantasy).sum(0) - (v * share).sum(0)
        return None, weight.to(ctx.dtype), bias, visible_bias, None, None, None, None


def expected(inputs: Tensor, units: Units) -> Tensor:
    """Of units with these `inputs`."""
    return inputs if units == "gaussian" else torch.sigmoid(inputs)


def sampled(means: Tensor, units: Units) -> Tensor:
    """Units with these `means`; not a number gives a unit that is off, and the loss says so (torch.bernoulli would raise)."""
    if units == "gaussian":
        return means + torch.randn_like(means)
    return (uniform(means) < means).to(means)


def uniform(like: Tensor) -> Tensor:
    """Random numbers between 0 and 1; on a CPU multiples of 2^-16, for they are most of what sampling costs there."""
    if like.device.type != "cpu":
        return torch.rand(like.shape, device=like.device)
    return words(like.shape).float().add_(2**15 + 0.5).mul_(2**-16)
