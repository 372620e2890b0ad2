"""Ranges of activations, observed on batches of training data (calibration)."""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from dltrain.tasks.compression.quantized.rounding import SMALLEST_SCALE

Observer: TypeAlias = Literal["minmax", "percentile", "mse"]
BINS = 2048  # of a histogram
FRACTIONS = 80  # of a range that are tried for the smallest error
LEAST_FRACTION = 0.2
COVERED = 0.9999  # of the values, by a percentile range


class ObservedRange(nn.Module):
    """The histogram of all numbers that pass one place of a network, between their extremes.

    Its range always includes 0. If a batch widens it, the counts move to the bins of the wider
    range. `range(observer)` is what quantization uses: "minmax" all of it, "percentile" the part
    that holds 99.99 % of the values, "mse" the part of it with the smallest squared error of the
    rounded and clipped values.
    """

    lowest: Tensor
    highest: Tensor
    counts: Tensor

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.register_buffer("lowest", torch.zeros((), device=device))
        self.register_buffer("highest", torch.zeros((), device=device))
        self.register_buffer("counts", torch.zeros(BINS, device=device))

    @torch.no_grad()
    def observe(self, x: Tensor) -> None:
        """Count the numbers x (...)."""
        values = x.detach().float().flatten()
        centers = self.centers()
        self.lowest.copy_(torch.minimum(self.lowest, values.amin()))
        self.highest.copy_(torch.maximum(self.highest, values.amax()))
        counts = torch.zeros_like(self.counts)
        counts.index_add_(0, self._bins(centers), self.counts)
        counts.index_add_(0, self._bins(values), torch.ones_like(values))
        self.counts.copy_(counts)

    def _bins(self, values: Tensor) -> Tensor:
        """Return the number of the bin of each value (N,)."""
        width = ((self.highest - self.lowest) / BINS).clamp_min(SMALLEST_SCALE)
        return ((values - self.lowest) / width).long().clamp(0, BINS - 1)

    def centers(self) -> Tensor:
        """Return the center of each bin (BINS,)."""
        places = (torch.arange(BINS, device=self.counts.device) + 0.5) / BINS
        return self.lowest + places * (self.highest - self.lowest)

    def range(self, observer: Observer, bits: int) -> tuple[Tensor, Tensor]:
        """Return the lowest and the highest number () to represent with `bits` bits."""
        if observer == "minmax":
            return self.lowest, self.highest
        if observer == "percentile":
            return self._percentile()
        return self._smallest_error(bits)

    def _percentile(self) -> tuple[Tensor, Tensor]:
        """Return the range that holds `COVERED` of the values; each tail loses half of the rest."""
        cumulated = self.counts.cumsum(0) / self.counts.sum().clamp_min(1)
        tail = (1 - COVERED) / 2
        ends = torch.linspace(tail, 1 - tail, 2, device=cumulated.device)
        bins = torch.searchsorted(cumulated, ends).clamp_max(BINS - 1)
        low, high = self.centers().index_select(0, bins).unbind()
        return low.clamp_max(0), high.clamp_min(0)

    def _smallest_error(self, bits: int) -> tuple[Tensor, Tensor]:
        """Return the fraction of the range with the smallest squared error."""
        device = self.counts.device
        fractions = torch.linspace(LEAST_FRACTION, 1, FRACTIONS, device=device).unsqueeze(1)
        lowest = fractions * self.lowest  # (FRACTIONS, 1)
        highest = fractions * self.highest
        scale = ((highest - lowest) / (2**bits - 1)).clamp_min(SMALLEST_SCALE)
        centers = self.centers()
        clipped = torch.minimum(torch.maximum(centers, lowest), highest)
        rounded = (clipped / scale).round() * scale
        errors = ((rounded - centers).square() * self.counts).sum(1)  # (FRACTIONS,)
        best = fractions[:, 0].index_select(0, errors.argmin().unsqueeze(0)).squeeze(0)
        return best * self.lowest, best * self.highest
