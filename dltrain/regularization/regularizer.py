"""Base class of regularization choices."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar


class Regularizer(ABC):
    """One choice of `regularization=[...]`.

    `needs_end` declares that it needs a known number of updates, `mixes_targets` that it mixes
    samples and their targets.
    """

    needs_end: ClassVar[bool] = False
    mixes_targets: ClassVar[bool] = False

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """Return values by destination, such as {"model.dropout": 0.5}.

        A destination is an argument of the model or the loss (`model.NAME`, `loss.NAME`), of
        `Optim` (`optim.NAME`; lists in `optim.penalties` are concatenated), or a callback
        (`callbacks.NAME`).
        """
