"""Scores of the members of an ensemble, beside those of the ensemble."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dltrain.engine import Direction
from dltrain.losses import BatchSums
from dltrain.tasks.ensembles.combiners import mean_of_probabilities
from dltrain.types import Table

COLUMNS = ("accuracy", "nll", "disagreement")
FIGURES: dict[str, Direction | None] = {
    "best_member": "max",
    "mean_member": "max",
    "gain": "max",
    "disagreement": None,
    "accuracy_of_mean": "max",
    "nll_of_mean": "min",
}
ENSEMBLE = "ensemble"
MEAN = "mean of probabilities"


class MemberScores:
    """Sums over batches from which the scores of M members follow; their size is constant.

    * `member_1` and so on are the accuracies of the members, `best_member` is the highest of them
      on the same samples, and `mean_member` their mean.
    * `gain` is the accuracy of the ensemble minus `best_member`. No member could be chosen better
      before these samples are known, so 0 is a high bar.
    * `disagreement` is the share of samples that two members classify differently, as the mean over
      all pairs (Kuncheva and Whitaker 2003, "Measures of Diversity in Classifier Ensembles",
      equation 7, for predictions instead of hits).
    * `accuracy_of_mean` and `nll_of_mean` are those of the mean of the members' probabilities, to
      compare other rules with.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.sums = BatchSums()

    def update(self, logits: Tensor, combined: Tensor, targets: Tensor) -> None:
        """Add a batch of logits, of the members (M, B, K) and combined (B, K), and targets (B,)."""
        mean = mean_of_probabilities(logits)
        others = torch.stack([mean.float(), combined.float()])
        rows = torch.cat([logits.float(), others])  # (M + 2, B, K)
        predictions = rows.argmax(dim=2)  # (M + 2, B)
        hits = (predictions == targets).sum(dim=1).float()
        losses = [F.cross_entropy(each, targets, reduction="sum") for each in rows]
        own = predictions[: len(logits)]
        differences = (own.unsqueeze(0) != own.unsqueeze(1)).sum(dim=2).float()  # (M, M)
        number = torch.ones_like(targets).sum().float().unsqueeze(0)
        self.sums.add(torch.cat([number, hits, torch.stack(losses), differences.flatten()]))

    def state_dict(self) -> dict[str, Any]:
        """Return the sums; see `dltrain.types.combining`."""
        return self.sums.state_dict()

    def merge(self, state: dict[str, Any]) -> None:
        """Add the sums of other batches."""
        self.sums.merge(state)

    def compute(self) -> dict[str, Any]:
        """Return figures by name, and the table "members"."""
        num_members = len(self.names)
        num_rows = num_members + 2
        totals = self.sums.total()
        means = totals[1:] / totals[0]
        accuracies, losses = means[: 2 * num_rows].view(2, num_rows)
        differences = means[2 * num_rows :].view(num_members, num_members)
        from_others = differences.sum(dim=1) / max(1, num_members - 1)
        members = accuracies[:num_members]
        best = float(members.max())
        figures = {f"member_{i}": float(value) for i, value in enumerate(members, 1)}
        figures |= {
            "best_member": best,
            "mean_member": float(members.mean()),
            "gain": float(accuracies[-1]) - best,
            "disagreement": float(from_others.mean()),
            "accuracy_of_mean": float(accuracies[-2]),
            "nll_of_mean": float(losses[-2]),
        }
        unknown = torch.full((2,), torch.nan, dtype=torch.float64)
        table = Table(
            torch.stack([accuracies, losses, torch.cat([from_others, unknown])], dim=1),
            (*self.names, MEAN, ENSEMBLE),
            COLUMNS,
            "member",
            "score",
            plain=("nll",),
        )
        return {**figures, "members": table}
