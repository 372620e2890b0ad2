"""Checks of what a network and a loss give: the shape of every batch, values of the first one.

They raise MisfitError, which names the class of the network, the loss or the data set.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from dltrain import rng
from dltrain.types import AuxiliaryHeads
from dltrain.types.own_code import MisfitError, described_class, is_of_library


@dataclass(frozen=True)
class Expected:
    """The outputs that a task needs: `columns` of them for each input, named by `meaning`.

    `data` is the data set of the targets, and `are_classes` says whether these are class numbers.
    """

    columns: int
    meaning: str
    data: object
    are_classes: bool


class OutputCheck:
    """Checks the first training batch of a stage; later batches cost two calls that return."""

    def __init__(self, model: nn.Module, loss: nn.Module, expected: Expected) -> None:
        self.model = model
        self.loss = loss
        self.expected = expected
        self.is_due = True

    def require_outputs(self, inputs: Tensor, outputs: Any, targets: Tensor) -> None:
        """Raise MisfitError unless outputs (B, K) and targets fit the task."""
        if self.is_due:
            self._check_outputs(inputs, outputs)
            self._check_targets(targets)

    def require_gradient(self, value: Any) -> None:
        """Raise MisfitError unless the batch's loss is a scalar with a gradient."""
        if self.is_due:
            require_scalar(self.loss, value)
            require_gradient(self.model, self.loss, value)
        self.is_due = False

    def _check_outputs(self, inputs: Tensor, outputs: Any) -> None:
        """Check the outputs; of a network with auxiliary heads the first of them is its own."""
        if isinstance(self.model, AuxiliaryHeads) and isinstance(outputs, tuple):
            outputs = outputs[0]
        expected = self.expected
        require_outputs(self.model, inputs, outputs, expected.columns, expected.meaning)
        require_finite(self.model, inputs, outputs)

    def _check_targets(self, targets: Tensor) -> None:
        """Check targets that are class numbers."""
        expected = self.expected
        if not expected.are_classes or targets.is_floating_point():
            return
        problem = problem_of_targets(targets, expected.columns)
        if problem:
            name = described_class(expected.data)
            raise MisfitError(f"the targets of {name} {problem}", expected.data)


def require_outputs(
    model: nn.Module, inputs: Tensor, outputs: Any, columns: int, meaning: str
) -> None:
    """Raise MisfitError unless the outputs of a network are a tensor (B, `columns`).

    Args:
        model: The network.
        inputs: The batch (B, ...) that it got.
        outputs: The value that it returned.
        columns: The number of columns that the task needs.
        meaning: Names the columns in the message, such as "classes".
    """
    if torch.jit.is_tracing():  # shapes are tensors then
        return
    expected = (len(inputs), columns)
    if isinstance(outputs, Tensor) and tuple(outputs.shape) == expected:
        return
    name = described_class(model)
    raise MisfitError(
        f"the outputs of {name} do not fit the task: {shape(inputs)} -> {shape(outputs)}, "
        f"but {expected} is needed for {columns:,} {meaning}",
        model,
    )


def require_shape(model: nn.Module, inputs: Tensor, value: Any, expected: tuple[int, ...]) -> None:
    """Raise MisfitError unless a value that a user's network gave has the expected shape.

    Args:
        model: The network; those of dltrain are not checked.
        inputs: The tensor that it got.
        value: The value that it returned, or a part of it.
        expected: The shape that the task needs.
    """
    if is_of_library(model) or torch.jit.is_tracing():
        return
    if isinstance(value, Tensor) and tuple(value.shape) == expected:
        return
    name = described_class(model)
    shapes = f"{shape(inputs)} -> {shape(value)}"
    why = f"the outputs of {name} do not fit the task: {shapes}, but {expected} is needed"
    raise MisfitError(why, model)


def require_finite(model: nn.Module, inputs: Tensor, outputs: Tensor) -> None:
    """Raise MisfitError if a user's untrained network gives NaN or infinity for finite inputs.

    The message names the first layer whose output is not finite. For other networks the log reports
    it (dltrain.callbacks.nonfinite).
    """
    if not is_of_library(model) and is_finite(inputs) and not is_finite(outputs):
        name = described_class(model)
        shapes = f"{shape(inputs)} -> {shape(outputs)}"
        layer = first_bad_layer(model, inputs)
        why = f"the outputs of {name} are not finite before any update: {shapes}{layer}"
        raise MisfitError(why, model)


def is_finite(values: Tensor) -> bool:
    """Return True if all values are finite."""
    return bool(values.isfinite().all())


def first_bad_layer(model: nn.Module, inputs: Tensor) -> str:
    """Return the first layer of a network whose output is not finite, for a message."""
    names: list[str] = []
    handles = [note_bad_output(name, module, names) for name, module in model.named_modules()]
    with torch.no_grad(), rng.preserved():
        model(inputs)
    for handle in handles:
        handle.remove()
    return f"; the first layer with such an output: {names[0]}" if names else ""


def note_bad_output(name: str, layer: nn.Module, names: list[str]) -> RemovableHandle:
    """Add the name of a layer to `names` when its output is not finite."""

    def note(module: nn.Module, args: Any, output: Any) -> None:
        if name and isinstance(output, Tensor) and not is_finite(output):
            names.append(f"{name} ({described_class(module)})")

    hook: Callable[[nn.Module, Any, Any], None] = note
    return layer.register_forward_hook(hook)


def problem_of_targets(targets: Tensor, count: int) -> str:
    """Return what is wrong with class numbers (B,), which must be below `count`; "" if nothing."""
    if targets.ndim != 1:
        return f"have the shape {tuple(targets.shape)}, but one class number for each is needed"
    low, high = extremes(targets)
    if low < 0 or high >= count:
        return f"are numbers from {low} to {high}, but classes are numbered from 0 to {count - 1}"
    return ""


def extremes(numbers: Tensor) -> tuple[int, int]:
    """Return the lowest and the highest of some whole numbers; zeros without any."""
    if not numbers.numel():
        return 0, 0
    low, high = torch.aminmax(numbers)
    return int(low), int(high)


def require_scalar(loss: nn.Module, value: Any) -> None:
    """Raise MisfitError unless a loss gave one number."""
    if not isinstance(value, Tensor) or value.ndim:
        name = described_class(loss)
        why = f"the loss {name} must give one number, the mean over the batch; it gives "
        raise MisfitError(f"{why}{shape(value)}", loss)


def require_gradient(model: nn.Module, loss: nn.Module, value: Tensor) -> None:
    """Raise MisfitError if the loss of a batch does not depend on the weights that are trained."""
    learns = any(p.requires_grad for p in model.parameters())
    if value.requires_grad or not learns:
        return
    names = f"{described_class(model)} or {described_class(loss)}"
    why = f"the loss has no gradient: {names} detaches it from the weights"
    culprit = model if is_of_library(loss) else loss
    raise MisfitError(f"{why} (detach, no_grad, item, numpy)", culprit)


def shape(value: Any) -> str:
    """Return the shape of a tensor, or the type of another value with the shapes in it."""
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {', '.join(map(shape, value)) or 'nothing'}"
    if not isinstance(value, Tensor):
        return f"a value of type {type(value).__name__}"
    kind = "" if value.dtype == torch.float32 else f" {value.dtype}".replace("torch.", "")
    return f"{tuple(value.shape)}{kind}"
