"""The layers' own initialization."""

from __future__ import annotations

from torch import nn


class Default:
    """Keeps the initial weights of the layers.

    Those of torch's linear and convolutional layers are uniform in +-1/sqrt(fan-in).
    """

    def __call__(self, model: nn.Module) -> None:
        """Do nothing."""
