"""The networks of several runs as one: stacked weights, one forward and one backward pass.

The weights of the runs stay where they are used: each parameter and buffer of a run is a slice of
the stacked one, so the run's own optimizer, evaluation and checkpoints see every change at once.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.modules.dropout import _DropoutNd

from dltrain.engine import Objective
from dltrain.optim import Optim
from dltrain.vectorized.layers import IMAGES, StackedDropout, StackedFunctions
from dltrain.vectorized.sequence import StackedSequence, known_layers

Batch = tuple[Tensor, Tensor]
Draw = Callable[[int, nn.Module, Tensor], Tensor]
"""Called with the number of a run in the stack, its dropout layer, and ones; returns its mask."""


class RunPart:
    """The part of a run in a program: its network, its loss and its optimizer."""

    def __init__(self, objective: Objective, optim: Optim) -> None:
        self.model = objective.model
        self.loss = objective.loss
        self.optim = optim

    def shapes(self) -> tuple[Any, ...]:
        """Return what the networks of a program have in common."""
        model = self.model
        parameters = [
            (name, p.shape, p.stride(), p.dtype, p.requires_grad, p.device)
            for name, p in model.named_parameters()
        ]
        buffers = [(name, b.shape, b.dtype) for name, b in model.named_buffers()]
        layers = [(name, type(layer)) for name, layer in model.named_modules()]
        return tuple(parameters), tuple(buffers), tuple(layers)


class Program:
    """The networks of several runs, which have the same layers, with their weights stacked.

    `draw` draws the masks of dropout.
    """

    def __init__(self, parts: Sequence[RunPart], draw: Draw) -> None:
        self.parts = list(parts)
        models = [part.model for part in parts]
        self.parameters = stacked_tensors([dict(model.named_parameters()) for model in models])
        self.buffers = stacked_tensors([dict(model.named_buffers()) for model in models])
        for part in parts:
            refer_to_slices(part)
        self.trainable = {
            name: self.parameters[name].requires_grad_()
            for name, p in models[0].named_parameters()
            if p.requires_grad
        }
        self.owners = [dict(model.named_parameters()) for model in models]
        self.template = template_of(models, draw)
        self.sequence = self.sequence_of(models, draw)
        self.is_tried = False  # a step has been made

    def train(self, batches: Sequence[Batch]) -> list[tuple[Tensor, Any, dict[Tensor, Tensor]]]:
        """Return for each run the loss of its batch, its weight, and {parameter: gradient}."""
        inputs, axis = side_by_side_inputs([batch[0] for batch in batches])
        with torch.enable_grad():
            outputs = self.forward(inputs, axis, training=True)
            pairs = [
                part.loss(of_run(outputs, number), targets)
                for number, (part, (_, targets)) in enumerate(zip(self.parts, batches, strict=True))
            ]
            total = torch.stack([loss for loss, _ in pairs]).sum()
        of_stacks = torch.autograd.grad(total, list(self.trainable.values()), allow_unused=True)
        gradients = dict(
            zip(self.trainable, map(self.fitted, self.trainable, of_stacks), strict=True)
        )
        return [
            (loss.detach(), weight, self.gradients_of(number, gradients))
            for number, (loss, weight) in enumerate(pairs)
        ]

    def predict(self, inputs: Sequence[Tensor]) -> list[Any]:
        """Return for each run the outputs of its network for its inputs; no gradient is needed."""
        together, axis = shared_inputs(inputs)
        with torch.no_grad():
            outputs = self.forward(together, axis, training=False)
        return [of_run(outputs, number) for number in range(len(self.parts))]

    def sequence_of(self, models: Sequence[nn.Module], draw: Draw) -> StackedSequence | None:
        """Return the network as a sequence that needs no vmap; None if it is more than that."""
        layers = known_layers(bare_copy(models[0]))
        if layers is None:
            return None

        def draw_by_name(number: int, name: str, ones: Tensor) -> Tensor:
            return draw(number, models[number].get_submodule(name), ones)

        return StackedSequence(layers, len(models), draw_by_name)

    def forward(self, inputs: Tensor, axis: int | None, training: bool) -> Any:
        """Return the outputs of all runs, stacked; `axis` of the inputs counts the runs."""
        if self.sequence is not None:
            return self.sequence({**self.parameters, **self.buffers}, inputs, axis, training)
        self.template.train(training)

        def call(parameters: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor) -> Any:
            return functional_call(self.template, (parameters, buffers), (x,))

        with StackedFunctions():
            return vmap(call, in_dims=(0, 0, axis))(self.parameters, self.buffers, inputs)

    def fitted(self, name: str, gradient: Tensor | None) -> Tensor | None:
        """Return a stacked gradient in the memory layout of its parameter, as optimizers need."""
        parameter = self.parameters[name]
        if gradient is None or gradient.stride() == parameter.stride():
            return gradient
        return torch.empty_like(parameter, requires_grad=False).copy_(gradient)

    def gradients_of(
        self, number: int, gradients: dict[str, Tensor | None]
    ) -> dict[Tensor, Tensor]:
        """Return the gradients of a run, by its own parameters."""
        own = self.owners[number]
        return {
            own[name]: gradient[number]
            for name, gradient in gradients.items()
            if gradient is not None
        }


def stacked_tensors(of_runs: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return the tensors of all runs stacked, by name; those of the runs become their slices."""
    return {name: stacked([own[name] for own in of_runs]) for name in of_runs[0]}


@torch.no_grad()
def stacked(tensors: Sequence[Tensor]) -> Tensor:
    """Return tensors as slices of one, each in its memory layout."""
    first = tensors[0]
    strides = (first.numel(), *torch.empty_like(first).stride())
    together = torch.empty_strided(
        (len(tensors), *first.shape), strides, dtype=first.dtype, device=first.device
    )
    for number, tensor in enumerate(tensors):
        together[number].copy_(tensor)
        tensor.data = together[number]
    return together


def refer_to_slices(part: RunPart) -> None:
    """Let the values that an optimizer averages be the parameters and buffers as they are now."""
    buffers = [b for b in part.model.buffers() if b.is_floating_point()]
    sources = [*part.optim.params, *buffers]
    for value, source in zip(part.optim.averaged_values, sources, strict=True):
        value.data = source.data


def template_of(models: Sequence[nn.Module], draw: Draw) -> nn.Module:
    """Return a copy of the first network whose dropout layers draw the masks of all runs."""
    template = bare_copy(models[0])
    for name, layer in models[0].named_modules():
        if isinstance(layer, _DropoutNd):
            owners = [model.get_submodule(name) for model in models]
            parent, _, attribute = name.rpartition(".")
            setattr(template.get_submodule(parent), attribute, stacked_dropout(owners, draw))
    return template


def bare_copy(model: nn.Module) -> nn.Module:
    """Return a copy of a network; of one that is evaluated with others, with its own forward."""
    with_others = vars(model).pop("forward", None)
    bare = copy.deepcopy(model)
    if with_others is not None:
        model.forward = with_others
    return bare


def stacked_dropout(owners: Sequence[nn.Module], draw: Draw) -> StackedDropout:
    """Return the dropout layer of all runs, of which each draws as its own layer does."""
    return StackedDropout(lambda number, ones: draw(number, owners[number], ones))


def side_by_side_inputs(inputs: Sequence[Tensor]) -> tuple[Tensor, int]:
    """Return the inputs of all runs as one tensor, and its axis that counts the runs.

    Images become (B, K, C, H, W), stored with the channels of all runs next to each other.
    """
    first = inputs[0]
    if first.ndim != IMAGES:
        return torch.stack(list(inputs)), 0
    batch, channels, height, width = first.shape
    together = first.new_empty(batch, height, width, len(inputs), channels)
    together = together.permute(0, 3, 4, 1, 2)
    for number, images in enumerate(inputs):
        together[:, number] = images
    return together, 1


def shared_inputs(inputs: Sequence[Tensor]) -> tuple[Tensor, int | None]:
    """Return the inputs of all runs as one tensor with its axis; None if they are all the same."""
    first = inputs[0]
    if all(torch.equal(first, other) for other in inputs[1:]):
        return first, None
    return side_by_side_inputs(inputs)


def of_run(outputs: Any, number: int) -> Any:
    """Return the outputs of a run: a tensor, or one for each head of the network."""
    if isinstance(outputs, tuple | list):
        return type(outputs)(of_run(output, number) for output in outputs)
    return outputs[number]
