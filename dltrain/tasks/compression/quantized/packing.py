"""Layers that store integers, and keep a copy of them in the form that a kernel reads."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn


class PackingLayer(nn.Module):
    """A layer whose `packed` form is made at a call, and again after the weights change.

    It is in no copy and no saved state. The layer is a `RoundedLayer`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.packed: Any = None

    @abstractmethod
    def real_parameters(self) -> Sequence[Tensor]:
        """Return weights and biases as real numbers."""

    def __getstate__(self) -> dict[str, Any]:
        """Leave out of copies what is computed from the weights."""
        return {**self.__dict__, "packed": None}

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        self.packed = None
        return super()._apply(fn, recurse)

    def _load_from_state_dict(self, *args: Any) -> None:
        self.packed = None
        super()._load_from_state_dict(*args)
