"""Finds out whether a step can be recorded, from the operations that it makes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

# operations after which the host has to wait for a value or a size
WAITING = (
    "aten::_local_scalar_dense",
    "aten::nonzero",
    "aten::masked_select",
    "aten::equal",
    "aten::_unique2",
    "aten::unique_consecutive",
    "aten::unique_dim",
    "aten::_unique",
)
INDEXING = ("aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_")
PROFILER = "profiler::"  # marks of torch's optimizers, which compute nothing
Call = tuple[Any, ...]


class StepObserver(TorchDispatchMode):
    """Notes the operations of a step within the block, with shapes and numbers.

    `problem` names the first operation that makes a step impossible to record; it is empty if
    all can be recorded. `calls` of two steps differ if the host decides something, counts or draws.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.device_type = device.type
        self.calls: list[Call] = []
        self.problem = ""

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name
        if name.startswith(PROFILER):
            return func(*args, **kwargs)
        self.calls.append((name, described(args), described(tuple(kwargs.items()))))
        outputs = func(*args, **kwargs)
        if not self.problem:
            self.problem = self._problem(name, args, kwargs, outputs)
        return outputs

    def _problem(
        self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], outputs: Any
    ) -> str:
        """Return why an operation cannot be recorded; "" if it can."""
        tensors = list(flat((args, tuple(kwargs.values()), outputs)))
        has_mask = name in INDEXING and any(map(is_mask, flat(args[1])))
        if name in WAITING or has_mask:
            return f"its step waits for values of the device ({name})"
        if any(tensor.layout != torch.strided for tensor in tensors):
            return "its gradients are sparse"
        if any(tensor.device.type != self.device_type for tensor in tensors):
            return f"its step computes on the host or takes values from it ({name})"
        return ""


def flat(values: Any) -> Iterator[Tensor]:
    """Yield the tensors in nested tuples and lists."""
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, tuple | list):
        for value in values:
            yield from flat(value)


def is_mask(index: Tensor) -> bool:
    """Tell if an index is a mask: the host has to learn how many elements it selects."""
    return index.dtype in (torch.bool, torch.uint8)


def described(value: Any) -> Any:
    """Return the shape and type of a tensor, and other values as they are."""
    if isinstance(value, Tensor):
        return tuple(value.shape), value.dtype
    if isinstance(value, tuple | list):
        return tuple(map(described, value))
    if isinstance(value, torch.Generator):
        return "generator"
    return value


def difference(first: list[Call], second: list[Call]) -> str:
    """Return why two steps are not the same; "" if they are."""
    for before, after in zip(first, second, strict=False):
        if before != after:
            return f"its step is not the same for every batch ({before[0]})"
    if len(first) != len(second):
        return f"its step makes {len(first)} operations, then {len(second)}"
    return ""


def observed(device: torch.device, step: Callable[[], Any]) -> tuple[Any, StepObserver]:
    """Return the result of `step`, and the observer of its operations."""
    observer = StepObserver(device)
    with observer:
        result = step()
    return result, observer
