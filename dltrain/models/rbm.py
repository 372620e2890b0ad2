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
            dtype = self.visible_bias.dtype
            of_hidden = hidden.to(dtype) * (-1 / len(visible)), dreamt_hidden.to(dtype) * (1 / len(fantasy))
            of_visible = fantasy.to(dtype).mean(0) - visible.to(dtype).mean(0)
            value = self._of_visible_units(visible, fantasy, of_visible)
            for units, inputs in zip(of_hidden, (activations, dreamt), strict=True):
                value = value + torch.dot(units.flatten(), inputs.flatten().to(dtype))
            of_weights = torch.cat(of_hidden), torch.cat([visible.to(dtype), fantasy.to(dtype)])
        parameters = self.linear.weight, self.linear.bias, self.visible_bias
        loss: Tensor = Contrast.apply(value, *parameters, *of_weights, of_visible)
        return loss

    def _of_visible_units(self, visible: Tensor, fantasy: Tensor, slope: Tensor) -> Tensor:
        """How much more energy the data has than the fantasy in terms without hidden units; `slope` is that of the bias."""
        if self.visible_units == "bernoulli":
            return torch.dot(slope, self.visible_bias)
        return self.of_visible(visible).mean() - self.of_visible(fantasy).mean()


class Contrast(torch.autograd.Function):
    """A difference of energies with its gradient by the formula: <h v'> of the data less that of the fantasy (Hinton 2002).

    Automatic differentiation of the two energies gives the same, by a second copy of the weights' gradient.
    """

    @staticmethod
    def forward(ctx: Any, value: Tensor, weight: Tensor, bias: Tensor, visible_bias: Tensor, *units: Tensor) -> Tensor:
        """`units`: hidden ones of data and fantasy, weighted by their sign and share; the visible ones; the bias's slope."""
        ctx.save_for_backward(*units)
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        hidden, visible, of_visible = ctx.saved_tensors
        hidden = hidden * slopes[0]
        return None, hidden.T @ visible, hidden.sum(0), of_visible * slopes[0], None, None, None


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
