"""Samples the anchors and proposals that a detector's losses are computed from."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler

from dltrain.types.rows import random_rows_by_default

MAX_SEED = 2**62


class SeededSampler(BalancedPositiveNegativeSampler):
    """torchvision's sampler, with a random generator for each image.

    An image's samples do not depend on how many other images its process has. `num_samples` is the
    number of the last ones.
    """

    num_samples: Tensor

    def __call__(self, matched_idxs: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Return masks (A,) of the sampled objects and of the sampled background of each image.

        `matched_idxs` (A,) are at least 1 for objects, 0 for background, and -1 for neither.
        """
        seeds = random_rows_by_default(draw_seeds, (len(matched_idxs),)).tolist()
        objects = []
        background = []
        for labels, seed in zip(matched_idxs, seeds, strict=True):
            generator = torch.Generator().manual_seed(seed)
            wanted = int(self.batch_size_per_image * self.positive_fraction)
            chosen = sample(labels >= 1, wanted, generator)
            objects.append(chosen)
            missing = self.batch_size_per_image - int(chosen.sum())
            background.append(sample(labels == 0, missing, generator))
        self.num_samples = torch.stack([mask.sum() for mask in (*objects, *background)]).sum()
        return objects, background


def draw_seeds(shape: Sequence[int]) -> Tensor:
    """Draw seeds of a shape."""
    return torch.randint(MAX_SEED, tuple(shape))


def sample(mask: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Return a mask (A,) uint8 of at most `count` random elements of a mask (A,)."""
    places = torch.where(mask)[0]
    order = torch.randperm(len(places), generator=generator)[:count]
    chosen = torch.zeros_like(mask, dtype=torch.uint8)
    chosen[places[order.to(places.device)]] = 1
    return chosen
