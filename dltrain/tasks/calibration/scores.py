"""Calibration of a classifier, from sums that are gathered batch by batch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dltrain.losses import row_blocks
from dltrain.types import Plot

NUM_BINS = 15  # of equal width, as in Guo et al. 2017, section 5
PLOT_AXIS = (-0.02, 1.02)  # range of both axes, so that a curve along the border is visible
NUM_SINGLE = 4  # sums over all samples, before those of the bins
NUM_SUMS = NUM_SINGLE + 3 * NUM_BINS
UNITS = 2.0**32
MAX_PENDING_ROWS = 2048
MAX_PENDING_VALUES = 2**18  # 1 MB
MAX_VALUE = 1e4  # of a sample, so that the sums of 200,000 such samples fit into 64 bits


@dataclass(frozen=True)
class Calibration:
    """The calibration of a classifier over N samples.

    A bin holds the samples whose confidence, the probability of the predicted class, is in an
    interval of width 1 / M. `counts`, `confidence` and `accuracy` (M,) are the samples of each bin
    and their means; the means of an empty bin are 0.

    * `ece` is the expected calibration error, the mean over samples of |accuracy - confidence| of
      their bin (Guo et al. 2017, "On Calibration of Modern Neural Networks", equation 3).
    * `brier` is the mean squared distance of the probabilities from the one-hot class, from 0 to 2
      (Brier 1950, "Verification of forecasts expressed in terms of probability").
    * `nll` is the mean negative log-likelihood of the class, in nats.
    """

    counts: Tensor
    confidence: Tensor
    accuracy: Tensor
    ece: float
    brier: float
    nll: float

    @property
    def figures(self) -> dict[str, float]:
        """The scores by name."""
        return {"ece": self.ece, "brier": self.brier, "nll": self.nll}

    def plot(self) -> Plot:
        """Return the reliability diagram: the accuracy of each bin over its mean confidence."""
        is_used = self.counts > 0
        xs = self.confidence[is_used].tolist()
        ys = self.accuracy[is_used].tolist()
        return Plot(
            {f"ECE {self.ece:.4f}": (xs, ys)},
            "reliability: accuracy of predictions by their confidence",
            "confidence",
            "accuracy",
            square=True,
            range=PLOT_AXIS,
            diagonal="perfect calibration",
        )


class CalibrationScores:
    """Sums from which the `Calibration` of a classifier follows; their size is constant.

    They are sums of whole numbers, in units of 1 / `UNITS`. So they are exact, and the same for
    batches of any size and for any number of processes. Small batches wait until they have
    `MAX_PENDING_ROWS` rows or `MAX_PENDING_VALUES` logits together, as they would take more calls
    than time to compute.
    """

    def __init__(self) -> None:
        self.sums = torch.zeros(0, dtype=torch.int64)
        self.pending: list[tuple[Tensor, Tensor]] = []
        self.pending_rows = 0

    def update(self, logits: Tensor, targets: Tensor) -> None:
        """Add a batch of logits (B, K) and targets (B,); a large batch is never copied."""
        if not len(self.sums):
            self.sums = torch.zeros(NUM_SUMS, dtype=torch.int64, device=logits.device)
        max_rows = min(MAX_PENDING_ROWS, MAX_PENDING_VALUES // logits.shape[1])
        if self.pending_rows + len(targets) > max_rows:
            self._add_pending()
        if len(targets) > max_rows:
            self._add(logits, targets)
            return
        self.pending.append((logits, targets))
        self.pending_rows += len(targets)

    def _add_pending(self) -> None:
        """Add the batches that wait."""
        if self.pending:
            logits, targets = zip(*self.pending, strict=True)
            self._add(torch.cat(logits), torch.cat(targets))
        self.pending = []
        self.pending_rows = 0

    def _add(self, logits: Tensor, targets: Tensor) -> None:
        for block_logits, block_targets in row_blocks(logits, targets):
            self.sums += calibration_sums(block_logits.float(), block_targets)

    def bytes(self) -> int:
        """Return the memory of the sums."""
        return self.sums.nbytes

    def state_dict(self) -> dict[str, Any]:
        """Return the sums; see `dltrain.types.combining`."""
        self._add_pending()
        return {"sums": self.sums}

    def merge(self, state: dict[str, Any]) -> None:
        """Add the sums of other batches; this must have some too."""
        self.sums += state["sums"]

    def compute(self) -> Calibration:
        """Return the calibration over all batches; there must be one.

        The scores are NaN if a logit was not finite.
        """
        self._add_pending()
        sums = self.sums.cpu().double()
        samples, not_finite, brier, nll = sums[:NUM_SINGLE].tolist()
        counts, hits, confidences = sums[NUM_SINGLE:].view(3, NUM_BINS)
        confidences = confidences / UNITS
        divisors = counts.clamp_min(1)
        if not_finite:
            samples = math.nan
        return Calibration(
            counts=counts,
            confidence=confidences / divisors,
            accuracy=hits / divisors,
            ece=float((hits - confidences).abs().sum()) / samples,
            brier=brier / UNITS / samples,
            nll=nll / UNITS / samples,
        )


def calibration_sums(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the sums (4 + 3 M,) of a block of logits (B, K) and targets (B,), whole numbers.

    They are the numbers of samples and of those that are not finite, Brier scores and negative
    log-likelihoods, then for each bin samples, correct predictions and confidences. No value is
    read, so nothing waits for the device.
    """
    log_probabilities = logits.log_softmax(dim=1)
    probabilities = log_probabilities.exp()
    own = log_probabilities.gather(1, targets.unsqueeze(1)).squeeze(1)
    brier = probabilities.square().sum(dim=1) - 2 * own.exp() + 1
    confidence, predicted = probabilities.max(dim=1)
    ones = torch.ones_like(targets)
    # bin m holds confidences in (m / M, (m + 1) / M]
    bins = (confidence.nan_to_num() * NUM_BINS).ceil().clamp(1, NUM_BINS).long() - 1
    columns = torch.stack([ones, (predicted == targets).long(), in_units(confidence)])  # (3, B)
    in_bins = columns.new_zeros(3, NUM_BINS).index_add_(1, bins, columns)
    single = torch.stack([ones, (~own.isfinite()).long(), in_units(brier), in_units(-own)])
    return torch.cat([single.sum(dim=1), in_bins.flatten()])


def in_units(values: Tensor) -> Tensor:
    """Return values as whole numbers of 1 / `UNITS`; 0 for what is not finite."""
    return (values.nan_to_num(0, 0, 0).clamp(max=MAX_VALUE) * UNITS).round().long()
