"""A network of action values, of arrays or pictures; dueling as an option."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dltrain.models.layers import activation as activation_layer
from dltrain.types import Activation, PositiveInt

CONVOLUTIONS = (
    (32, 8, 4),
    (64, 4, 2),
    (64, 3, 1),
)  # channels, window and stride: Mnih et al. 2015, "Methods"
SMALLEST = 36  # pixels a side of a picture that these leave something of


class QNetwork(nn.Module):
    """Action values (B, A) of observations: rows (B, F) by hidden layers, pictures (B, C, H, W) by the convolutions of Mnih
    et al. 2015, "Human-level control through deep reinforcement learning", and the hidden layers after them.

    `dueling` makes them of a state's value V and the actions' advantages D, as V + D - mean D (Wang et al. 2016, "Dueling
    Network Architectures", equation 9). ValueError for pictures that are too small.
    """

    def __init__(
        self,
        input_shape: tuple[PositiveInt, ...],
        num_actions: PositiveInt | None = None,
        hidden_sizes: tuple[PositiveInt, ...] = (128, 128),
        activation: Activation = "relu",
        dueling: bool = False,
    ) -> None:
        super().__init__()
        if num_actions is None:
            raise ValueError(
                "a network of action values needs an environment: dataset=cartpole, or dataset.id=..."
            )
        layers: list[nn.Module] = []
        if len(input_shape) == 3:
            if min(input_shape[1:]) < SMALLEST:
                raise ValueError(
                    f"pictures of {input_shape[1]} x {input_shape[2]} pixels are too small: model=cnn"
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
        x = self.features(observations)
        advantages: Tensor = self.advantage(x)
        if self.value is None:
            return advantages
        found: Tensor = self.value(x) + advantages - advantages.mean(1, keepdim=True)
        return found
