"""What every regularization choice is: settings that it fills elsewhere."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar


class Regularizer(ABC):
    """One choice of `regularization=[...]`. `needs_end` says that a run that only time ends cannot have it."""

    needs_end: ClassVar[bool] = False
    mixes_targets: ClassVar[bool] = False  # it mixes samples, and their targets with them

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """{destination: value}, such as {"model.dropout": 0.5}.

        Destinations: an argument of the model or the loss (`model.NAME`, `loss.NAME`), of `Optim` (`optim.NAME`; the
        lists `optim.penalties` add up), or a callback (`callbacks.NAME`).
        """
