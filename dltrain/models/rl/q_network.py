"""A network of action values for arrays or images, optionally dueling."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dltrain.models.layers import activation as activation_layer
from dltrain.types import Activation, PositiveInt

# Channels, kernel size and stride of the convolutions (Mnih et al. 2015, "Methods").
CONVOLUTIONS = ((32, 8, 4), (64, 4, 2), (64, 3, 1))
MIN_IMAGE_PIXELS = 36  # per side, for these convolutions


class QNetwork(nn.Module):
    """A network of action values.

    Maps observations, rows (B, F) or images (B, C, H, W), to action values (B, A). Images go
    through the convolutions of Mnih et al. 2015, "Human-level control through deep reinforcement
    learning", before the hidden layers. With `dueling`, the output is V + D - mean D, from the
    state value V and the advantages D of the actions (Wang et al. 2016, "Dueling Network
    Architectures", equation 9).

    Raises:
        ValueError: The images are too small.
    """

    def __init__(
        self,
        input_shape: tuple[PositiveInt, ...],
        num_actions: PositiveInt,
        hidden_sizes: tuple[PositiveInt, ...] = (128, 128),
        activation: Activation = "relu",
        dueling: bool = False,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        if len(input_shape) == 3:
            if min(input_shape[1:]) < MIN_IMAGE_PIXELS:
                raise ValueError(
                    f"images of {input_shape[1]} x {input_shape[2]} pixels are too small for "
                    "model=q_network: use model=cnn"
                )
            channels = input_shape[0]
            for width, size, stride in CONVOLUTIONS:
                layers += [nn.Conv2d(channels, width, size, stride), activation_layer(activation)]
                channels = width
        if len(input_shape) > 1:
            layers.append(nn.Flatten())
        with torch.no_grad():
            features = nn.Sequential(*layers)(torch.zeros(1, *input_shape)).shape[1]
        for size in hidden_sizes:
            layers += [nn.Linear(features, size), activation_layer(activation)]
            features = size
        self.features = nn.Sequential(*layers)
        self.advantage = nn.Linear(features, num_actions)
        self.value = nn.Linear(features, 1) if dueling else None

    def forward(self, observations: Tensor) -> Tensor:
        """Return the action values (B, A) of observations (B, ...)."""
        x = self.features(observations)
        advantages: Tensor = self.advantage(x)
        if self.value is None:
            return advantages
        values: Tensor = self.value(x) + advantages - advantages.mean(1, keepdim=True)
        return values
