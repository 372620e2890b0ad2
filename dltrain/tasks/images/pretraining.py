"""Layer-wise pretraining: a stage for each restricted Boltzmann machine of a stack, bottom-up."""

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
from dltrain.tasks.supervised import validation_split
from dltrain.types import Data, Image, PositiveInt, RBMStack, Spec

COMPARED_BATCHES = 20  # training batches whose free energy is compared with the validation split's
SHOWN = 64  # filters, and samples of the stack
SAMPLING_STEPS = 200  # of Gibbs sampling
CHAINS = 100  # of persistent contrastive divergence
Method = Literal["contrastive_divergence", "persistent"]


class Pretraining:
    """Trains `rbms` by CD-`gibbs_steps`, each on the expected hidden units of those below it.

    Each RBM is trained for `epochs` epochs. Its evaluation gives the reconstruction error (squared,
    summed over an input), and the gap between the free energies of held-out and of training data:
    a growing gap is overfitting (Hinton 2010, "A Practical Guide to Training Restricted Boltzmann
    Machines", section 6). Its pictures are filters and samples.

    Raises:
        ValueError: The visible units do not suit the data.
    """

    def __init__(
        self,
        data: Data,
        rbms: Sequence[Any],
        optim: Callable[..., Optim],
        epochs: int,
        gibbs_steps: PositiveInt = 1,
        method: Method = "contrastive_divergence",
    ) -> None:
        check_visible_units(data.spec, rbms[0].visible_units)
        self.data = data
        self.rbms = rbms
        self.optim = optim
        self.epochs = epochs
        self.pixels = Pixels(data.spec, "pretraining") if data.spec.is_image else None
        self.gibbs_steps = gibbs_steps
        self.method = method

    def stages(self) -> Iterator[Stage]:
        """Yield a stage for each RBM, from the bottom up; none with 0 epochs."""
        if self.epochs:
            for layer in range(len(self.rbms)):
                yield self.stage(layer)

    def stage(self, layer: int) -> Stage:
        """Return the stage that trains RBM number `layer`."""
        rbm = self.rbms[layer]
        train = self.data.train
        network = "code" if rbm.hidden_units == "gaussian" else "rbm"
        optim = self.optim(rbm, self.epochs * len(train), network, "min")
        chain = self._start_chain(rbm) if self.method == "persistent" else None

        def step(batch: tuple[Tensor, Any]) -> dict[str, Tensor]:
            with torch.no_grad():
                visible = self.inputs_of(layer, batch[0])
            loss, gradients = rbm.contrastive_divergence(visible, self.gibbs_steps, chain)
            optim.update(loss, gradients, weight=len(visible))
            return {"loss": loss}

        return Stage(
            name=f"rbm_{layer + 1}",
            epochs=self.epochs,
            batches=train,
            step=step,
            held_out=validation_split(self.data),
            evaluate=lambda batches: self.evaluate(layer, batches),
            optims=(optim,),
            watch="val/reconstruction_error",
            mode="min",
            replayable=True,
        )

    @staticmethod
    def _start_chain(rbm: Any) -> Tensor:
        """Return the hidden units (`CHAINS`, H) of persistent sampling, a buffer of `rbm`."""
        weight = rbm.linear.weight  # (H, V)
        generator = rng.torch_stream("chain", weight.device)
        hidden = torch.rand(CHAINS, len(weight), device=weight.device, generator=generator)
        rbm.register_buffer("chain", hidden)
        chain: Tensor = rbm.chain
        return chain

    def inputs_of(self, layer: int, inputs: Tensor) -> Tensor:
        """Return what RBM number `layer` sees of `inputs` (B, ...): expected units (B, V)."""
        visible = inputs.flatten(1)
        for rbm in self.rbms[:layer]:
            visible = rbm(visible)
        return visible

    def evaluate(self, layer: int, batches: Iterable[tuple[Tensor, Tensor]]) -> dict[str, Any]:
        """Return the scores of RBM number `layer` over all batches, and its pictures.

        Raises:
            ValueError: There are no batches.
        """
        rbm = self.rbms[layer]
        errors: list[Tensor] = []
        energies: list[Tensor] = []
        visible: Tensor | None = None
        for inputs, _ in batches:
            visible = self.inputs_of(layer, inputs)
            differences = (rbm.reconstruct(rbm(visible)) - visible).float()
            errors.append(differences.square().sum(1))
            energies.append(rbm.free_energy(visible))
        if visible is None:
            raise ValueError("there is nothing to evaluate: the split is empty")
        training_energies = [
            rbm.free_energy(self.inputs_of(layer, inputs.to(visible)))
            for inputs, _ in islice(self.data.train.epoch(0), COMPARED_BATCHES)
        ]
        energy = float(torch.cat(energies).mean())
        return {
            "reconstruction_error": float(torch.cat(errors).mean()),
            "free_energy": energy,
            "free_energy_gap": energy - float(torch.cat(training_energies).mean()),
            **self.pictures(layer, visible.device),
        }

    def pictures(self, layer: int, device: torch.device) -> dict[str, Any]:
        """Return the filters of RBM number `layer` and samples of the stack, of image data.

        The filters are projected to the pixels through the layers below, as if these were linear.
        """
        if self.pixels is None:
            return {}
        shape = self.data.spec.input_shape
        top = self.rbms[layer]
        filters = top.linear.weight[:SHOWN].float()
        for rbm in reversed(self.rbms[:layer]):
            filters = filters @ rbm.linear.weight.float()
        low = filters.amin(1, keepdim=True)
        high = filters.amax(1, keepdim=True)
        filters = (filters - low) / (high - low).clamp_min(1e-12)
        hidden = torch.rand(SHOWN, top.linear.out_features, generator=rng.keyed(0)).to(device)
        samples = top.gibbs(hidden, SAMPLING_STEPS)
        for rbm in reversed(self.rbms[:layer]):
            samples = rbm.reconstruct(samples)
        return {
            "filters": Image(filters.cpu().view(-1, *shape)),
            "dreams": Image(self.pixels(samples.float().cpu().view(-1, *shape)).clamp(0, 1)),
        }


def check_visible_units(spec: Spec, units: str) -> None:
    """Raise ValueError if binary visible units would be given values other than pixels in 0..1."""
    if units != "bernoulli":
        return
    in_unit_range = not any(spec.mean) and all(value == WHITE for value in spec.std)
    if not spec.is_image or not in_unit_range:
        raise ValueError(
            "binary visible units use the values of pixels as probabilities: dataset.scaling=unit "
            "brings them into 0..1 (model.visible_units=gaussian uses standardized values)"
        )


def rbm_stack(model: nn.Module, expected_model: str) -> list[Any]:
    """Return the RBMs of `model`.

    Raises:
        ValueError: It has none; the message names `expected_model`.
    """
    rbms = list(model.rbms) if isinstance(model, RBMStack) else []
    if not rbms:
        raise ValueError(f"this model is not a stack of RBMs: model={expected_model} is")
    return rbms
