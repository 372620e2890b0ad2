"""The base class of regularizers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar


class Regularizer(ABC):
    """A regularizer that `regularization=[...]` can choose.

    Attributes:
        needs_end: True if it can only be used in a run whose number of updates is known.
        mixes_targets: True if it mixes samples and their targets.
    """

    needs_end: ClassVar[bool] = False
    mixes_targets: ClassVar[bool] = False

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """Return the settings that this regularizer changes, such as {"model.dropout": 0.5}.

        A key is an argument of the model (`model.NAME`), the loss (`loss.NAME`) or `Optim`
        (`optim.NAME`), or adds a callback (`callbacks.NAME`). The lists that several regularizers
        return for `optim.penalties` are concatenated.
        """
