"""Greedy pretraining: a stage for each restricted Boltzmann machine of a stack, from the bottom up."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Literal

import torch
from torch import Tensor, nn

from dltrain import rng
from dltrain.engine import Stage
from dltrain.optim import Optim
from dltrain.tasks.images.pixels import WHITE, Pixels
from dltrain.types import Data, Image, PositiveInt, Spec

KNOWN = 20  # training batches whose free energy is held against the validation set's
SHOWN = 64  # filters, and images that a stack dreams of
DREAMING = 200  # steps of Gibbs sampling
CHAINS = 100  # of persistent sampling


class Pretraining:
    """Trains `rbms`, each on the expected hidden units of those below it, for `epochs` epochs by CD-`gibbs_steps`.

    A layer's evaluation gives the reconstruction error (squared, an input), and how much higher the free energy of the
    held-out data is than that of training data: a growing gap is over-fitting (Hinton 2010, section 6). Its pictures are
    what each hidden unit looks for, and what the stack dreams of. ValueError for units that the data does not fit.
    """

    def __init__(
        self,
        data: Data,
        rbms: Sequence[Any],
        optim: Callable[..., Optim],
        epochs: int,
        gibbs_steps: PositiveInt = 1,
        method: Literal["contrastive_divergence", "persistent"] = "contrastive_divergence",
    ) -> None:
        check(data.spec, rbms[0].visible_units)
        self.data, self.rbms, self.optim, self.epochs = data, rbms, optim, epochs
        self.pixels = Pixels(data.spec, "pretraining") if data.spec.is_image else None
        self.gibbs_steps, self.method = gibbs_steps, method

    def stages(self) -> Iterator[Stage]:
        for index in range(len(self.rbms)) if self.epochs else ():
            yield self.stage(index)

    def stage(self, index: int) -> Stage:
        rbm, data = self.rbms[index], self.data
        network = "code" if rbm.hidden_units == "gaussian" else "rbm"
        optim = self.optim(rbm, self.epochs * len(data.train), network, "min")
        chain: Tensor | None = None
        if self.method == "persistent":
            weight = rbm.linear.weight
            generator = rng.torch_stream("chain", weight.device)
            rbm.register_buffer(
                "chain", torch.rand(CHAINS, len(weight), device=weight.device, generator=generator)
            )
            chain = rbm.chain

        def step(batch: tuple[Tensor, Any]) -> dict[str, Tensor]:
            with torch.no_grad():
                visible = self.below(batch[0], index)
            loss, gradients = rbm.contrastive_divergence(visible, self.gibbs_steps, chain)
            optim.update(loss, gradients, weight=len(visible))
            return {"loss": loss}

        return Stage(
            name=f"rbm_{index + 1}",
            epochs=self.epochs,
            batches=data.train,
            step=step,
            held_out=data.val if data.val.samples else None,
            evaluate=lambda batches: self.evaluate(index, batches),
            optims=(optim,),
            watch="val/reconstruction_error",
            mode="min",
        )

    def below(self, inputs: Tensor, index: int) -> Tensor:
        """What layer `index` sees of `inputs` (B, ...): the expected units under it (B, V)."""
        visible = inputs.flatten(1)
        for rbm in self.rbms[:index]:
            visible = rbm(visible)
        return visible

    def evaluate(self, index: int, batches: Iterable[tuple[Tensor, Tensor]]) -> dict[str, Any]:
        rbm = self.rbms[index]
        errors, energies, visible = [], [], None
        for inputs, _ in batches:
            visible = self.below(inputs, index)
            errors.append((rbm.reconstruct(rbm(visible)) - visible).float().square().sum(1))
            energies.append(rbm.free_energy(visible))
        if visible is None:
            raise ValueError("there is nothing to evaluate: the split is empty")
        known = [
            rbm.free_energy(self.below(inputs.to(visible), index)) for inputs, _ in self.seen()
        ]
        energy = float(torch.cat(energies).mean())
        scores = {
            "reconstruction_error": float(torch.cat(errors).mean()),
            "free_energy": energy,
            "free_energy_gap": energy - float(torch.cat(known).mean()),
        }
        return scores | self.pictures(index, visible.device)

    def seen(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Some of the training data."""
        return islice(self.data.train.epoch(0), KNOWN)

    def pictures(self, index: int, device: torch.device) -> dict[str, Any]:
        """Filters, seen through the layers below as if these were linear, and dreams; of data that are images."""
        if self.pixels is None:
            return {}
        shape = self.data.spec.input_shape
        filters = self.rbms[index].linear.weight[:SHOWN].float()
        for rbm in reversed(self.rbms[:index]):
            filters = filters @ rbm.linear.weight.float()
        low, high = filters.amin(1, keepdim=True), filters.amax(1, keepdim=True)
        filters = (filters - low) / (high - low).clamp_min(1e-12)
        top = self.rbms[index]
        hidden = torch.rand(SHOWN, top.linear.out_features, generator=rng.keyed(0)).to(device)
        dreams = top.gibbs(hidden, DREAMING)
        for rbm in reversed(self.rbms[:index]):
            dreams = rbm.reconstruct(dreams)
        return {
            "filters": Image(filters.cpu().view(-1, *shape)),
            "dreams": Image(self.pixels(dreams.float().cpu().view(-1, *shape)).clamp(0, 1)),
        }


def check(spec: Spec, units: str) -> None:
    """ValueError if binary visible units would be given anything but pixels in 0..1."""
    if units == "bernoulli" and not (
        spec.is_image and not any(spec.mean) and all(s == WHITE for s in spec.std)
    ):
        raise ValueError(
            "binary visible units take the values of pixels for probabilities: dataset.scaling=unit brings them into 0..1 "
            "(model.visible_units=gaussian takes standardized values)"
        )


def stack(model: nn.Module, wanted: str) -> list[Any]:
    """The RBMs of `model`; ValueError, naming one that is `wanted`, if it has none."""
    rbms = list(getattr(model, "rbms", ()))
    if not rbms:
        raise ValueError(f"this model is no stack of RBMs: model={wanted} is")
    return rbms
