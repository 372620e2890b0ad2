"""A stand-in for CUDA graphs on the CPU: the operations of a step, repeated on the same tensors.

Like a graph, a tape holds what the step computed on the device, with every number of the host as
it was: only values within tensors change between repetitions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from dltrain.acceleration.step_observer import flat

Call = tuple[Any, tuple[Any, ...], dict[str, Any], Any]


class Tape(TorchDispatchMode):
    """Keeps the operations within the block, with their inputs and outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self.is_computed = True

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        outputs = func(*args, **(kwargs or {}))
        if func.namespace != "profiler":
            self.calls.append((func, args, kwargs or {}, outputs))
        return outputs

    def replay(self) -> None:
        """Repeat the operations; the first time they are computed already, by the recording."""
        if self.is_computed:
            self.is_computed = False
            return
        with torch.no_grad():
            for func, args, kwargs, outputs in self.calls:
                renew(outputs, func(*args, **kwargs))


def renew(outputs: Any, values: Any) -> None:
    """Copy `values` into `outputs`, unless they share memory, as views and in-place calls do."""
    for to, value in zip(flat(outputs), flat(values), strict=True):
        if to.data_ptr() != value.data_ptr():
            to.copy_(value)


class TapeRecorder:
    """Records tapes; `tapes` keeps them, and `failure` is raised in the middle of a recording."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.device = torch.device("cpu")
        self.failure = failure
        self.tapes: list[Tape] = []
        self.streams: Sequence[torch.Generator] = ()

    def warm_up(self, step: Callable[[], Any]) -> Any:
        return step()

    def record(self, step: Callable[[], None], streams: Sequence[torch.Generator]) -> Tape:
        if self.failure is not None:
            raise self.failure
        tape = Tape()
        with tape:
            step()
        self.tapes.append(tape)
        self.streams = streams
        return tape


def addresses(tensors: Sequence[Tensor]) -> list[int]:
    """Return where tensors lie."""
    return [tensor.data_ptr() for tensor in tensors]
