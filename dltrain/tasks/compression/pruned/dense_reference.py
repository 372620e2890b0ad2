"""The network before pruning, scored on the same batches as the pruned one."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn

from dltrain.tasks.images.views import mean_logits


class NoReference(nn.Module):
    """Keeps no dense network."""

    is_kept = False

    def keep(self, network: nn.Module) -> None:
        """Observe the trained dense network."""

    def watching(
        self, batches: Iterable[tuple[Tensor, Tensor]], views: Sequence[str]
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches (inputs, targets) of an evaluation."""
        yield from batches

    def figures(self, accuracy: float) -> dict[str, float]:
        """Return figures of the dense network beside the `accuracy` of the pruned one."""
        return {}


class DenseReference(NoReference):
    """Keeps the dense network in the checkpoint, and scores it on the batches that pass by."""

    is_kept = True

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).requires_grad_(False)
        self.hits: list[Tensor] = []
        self.samples = 0

    def keep(self, network: nn.Module) -> None:
        """Copy the weights of the trained dense network."""
        self.network.load_state_dict(network.state_dict())

    def watching(
        self, batches: Iterable[tuple[Tensor, Tensor]], views: Sequence[str]
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches of an evaluation, after the dense network has predicted each."""
        self.hits = []
        self.samples = 0
        for inputs, targets in batches:
            predicted = mean_logits(self.network, inputs, views).argmax(1)
            self.hits.append((predicted == targets).sum())
            self.samples += len(targets)
            yield inputs, targets

    def figures(self, accuracy: float) -> dict[str, float]:
        """Return the accuracy of the dense network, and how far the pruned one is below it."""
        dense = float(torch.stack(self.hits).sum() / self.samples)
        return {"dense_accuracy": dense, "accuracy_drop": dense - accuracy}
