"""Random images of any shape, without a file: each class is a blurred prototype under noise."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor

from dltrain.data.fake import MAX_CLASSES
from dltrain.rng import keyed
from dltrain.types import Ge, Gt, NonNegative, PositiveInt, Spec


class Synthetic:
    """`train_samples` and `test_samples` images (channels, height, width) of `num_classes` classes.

    An image is the prototype of its class plus Gaussian noise, whose standard deviation is `noise`
    times that of the prototypes: 0 is trivial, 4 is hard.
    """

    def __init__(
        self,
        channels: PositiveInt = 3,
        height: PositiveInt = 32,
        width: PositiveInt = 32,
        num_classes: Annotated[int, Gt(1)] = 10,
        train_samples: Annotated[int, Ge(2)] = 2000,
        test_samples: Annotated[int, Ge(2)] = 500,
        noise: NonNegative = 2.0,
        seed: int = 0,
    ) -> None:
        self.noise = noise
        self.seed = seed
        self.num_classes = num_classes
        self.spec = Spec(
            input_shape=(channels, height, width),
            class_names=tuple(f"class {k}" for k in range(num_classes)),
            train_samples=train_samples,
            test_samples=test_samples,
            mean=(127.5,) * channels,
            std=(64.0,) * channels,
        )

    @classmethod
    def like(cls, spec: Spec) -> Synthetic:
        """Return fake samples of the set that `spec` describes; of many classes the first occur."""
        channels, height, width = spec.input_shape
        drawn = min(spec.num_classes, MAX_CLASSES)
        made = cls(channels, height, width, drawn, spec.train_samples, spec.test_samples, noise=1.0)
        made.spec = spec
        return made

    def read(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Return images (N, C, H, W) of bytes and class numbers (N,) of train and test."""
        channels, height, width = self.spec.input_shape
        shape = (self.num_classes, channels, -(-height // 4), -(-width // 4))
        coarse = torch.randn(shape, generator=keyed(self.seed, 0))
        return {
            "train": self._draw(coarse, self.spec.train_samples, 1),
            "test": self._draw(coarse, self.spec.test_samples, 2),
        }

    def _draw(self, coarse: Tensor, count: int, key: int) -> tuple[Tensor, Tensor]:
        """Return images (count, C, H, W) and targets (count,).

        `coarse` (K, C, H / 4, W / 4) are the prototypes of the classes.
        """
        generator = keyed(self.seed, key)
        targets = torch.arange(count) % len(coarse)
        targets = targets[torch.randperm(count, generator=generator)]
        images = torch.randn((count, *self.spec.input_shape), generator=generator).mul_(self.noise)
        size = images.shape[2:]
        images.add_(torch.nn.functional.interpolate(coarse[targets], size=size, mode="nearest"))
        spread = (1 + self.noise**2) ** 0.5
        return images.mul_(64 / spread).add_(127.5).clamp_(0, 255).to(torch.uint8), targets
