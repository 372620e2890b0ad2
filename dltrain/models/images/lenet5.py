"""LeNet-5."""

from __future__ import annotations

from torch import nn

from dltrain.models.layers import Pad, pool
from dltrain.models.layers import activation as activation_layer
from dltrain.models.layers import dropout as dropout_layer
from dltrain.types import Activation, Fraction, Pooling


class LeNet5(nn.Sequential):
    """LeNet-5 (LeCun et al. 1998, "Gradient-Based Learning", figure 2).

    Maps images (B, C, H, W) to logits (B, num_classes). Images below 32 pixels per side are
    zero-padded to 32, as the paper does with its digits of 28 pixels. As is usual today, three
    things differ from the paper: every map of the second convolution gets all maps of the first,
    pooling has no weights, and the output is a linear layer instead of radial basis functions.
    `dropout` applies after the dense layers.
    """

    def __init__(
        self,
        in_channels: int,
        image_size: tuple[int, int],
        num_classes: int,
        activation: Activation = "tanh",
        pooling: Pooling = "average",
        dropout: Fraction = 0.0,
    ) -> None:
        height, width = (((max(side, 32) - 4) // 2 - 4) // 2 for side in image_size)
        super().__init__(
            Pad(image_size, 32),
            nn.Conv2d(in_channels, 6, kernel_size=5),  # C1: (B, 6, 28, 28)
            activation_layer(activation),
            pool(pooling),  # S2: (B, 6, 14, 14)
            nn.Conv2d(6, 16, kernel_size=5),  # C3: (B, 16, 10, 10)
            activation_layer(activation),
            pool(pooling),  # S4: (B, 16, 5, 5)
            nn.Flatten(),
            nn.Linear(16 * height * width, 120),  # C5
            activation_layer(activation),
            *dropout_layer(dropout),
            nn.Linear(120, 84),  # F6
            activation_layer(activation),
            *dropout_layer(dropout),
            nn.Linear(84, num_classes),
        )
