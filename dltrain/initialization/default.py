"""Each layer's own initialization."""

from __future__ import annotations

from torch import nn


class Default:
    """Leaves every weight as its layer made it: for torch's linear and convolution layers uniform in +-1/sqrt(fan-in)."""

    def __call__(self, model: nn.Module) -> None:
        """Nothing to do."""
