"""Rules of combination, and how those that are learned are fitted to validation samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dltrain.engine import Metrics
from dltrain.tasks.calibration.final_stages import on_device_of
from dltrain.tasks.ensembles.batches import Folds
from dltrain.tasks.ensembles.combiners import (
    Combine,
    Stacking,
    majority_vote,
    mean_of_probabilities,
)
from dltrain.tasks.ensembles.networks import CombinedOutputs, Soup, member_logits
from dltrain.tasks.images.explanation import evaluating
from dltrain.types import Data, DataSplit
from dltrain.types.transfers import sent

NO_VALIDATION = "the validation split has no samples; set dataset.val_fraction=0.1"
MAX_NORM_BATCHES = 200  # of training, from which statistics of batch norm are computed


@dataclass(frozen=True)
class Rule:
    """A network that combines members, and what fits it after they are trained; None for nothing.

    `fit` returns what is logged of it.
    """

    network: Any
    fit: Callable[[], Metrics] | None


def learned_rule(
    combine: Combine, members: Sequence[nn.Module], data: Data, penalty: float
) -> Rule:
    """Return the rule of that name for members, which learns from the validation split of `data`.

    Raises:
        ValueError: It has to learn, and the split has no samples.
    """
    if combine == "mean":
        return Rule(CombinedOutputs(members, mean_of_probabilities), None)
    if combine == "vote":
        return Rule(CombinedOutputs(members, majority_vote), None)
    if not data.val.samples:
        raise ValueError(f"combine={combine} learns from validation samples: {NO_VALIDATION}")
    if combine == "soup":
        soup = Soup(members)
        return Rule(soup, lambda: fit_soup(soup, data))
    stacking = Stacking(len(members), data.spec.num_classes, penalty)
    network = CombinedOutputs(members, stacking)
    return Rule(network, lambda: fit_stacking(network, stacking, data.val))


@torch.no_grad()
def fit_stacking(network: CombinedOutputs, stacking: Stacking, held_out: DataSplit) -> Metrics:
    """Fit a stacking network to held-out samples, and return its loss on them."""
    all_logits: list[Tensor] = []
    all_targets: list[Tensor] = []
    with evaluating(network):
        for inputs, targets in on_device_of(stacking.bias, held_out.epoch(0)):
            all_logits.append(member_logits(network.members, inputs).float())
            all_targets.append(targets)
    return {"loss": stacking.fit(torch.cat(all_logits, dim=1), torch.cat(all_targets))}


@torch.no_grad()
def fit_soup(soup: Soup, data: Data) -> Metrics:
    """Choose the members of a soup by their accuracy on the validation split of `data`.

    Returns the share of wrong predictions, as the loss, and the number of members.
    """

    def score() -> float:
        return accuracy(soup.mixture, soup.chosen, data.val)

    def adapt(network: nn.Module) -> None:
        recompute_norms(network, soup.chosen, data.train)

    error = 1 - soup.stir(score, adapt)
    return {"loss": torch.tensor(error), "ingredients": soup.chosen.sum().float()}


@torch.no_grad()
def out_of_fold(members: nn.ModuleList, folds: Folds, train: DataSplit) -> Metrics:
    """Return loss and accuracy of training samples, each predicted by a member that never had it.

    That is member i for the samples of fold i. They are read as training reads them.
    """
    fold_of_place = folds.folds_of(0)
    device = next(members.parameters()).device
    hits = torch.zeros((), dtype=torch.int64, device=device)
    losses = torch.zeros((), device=device)
    place = 0
    with evaluating(members):
        for inputs, targets in on_device_of(hits, train.epoch(0)):
            own = sent(fold_of_place[place : place + len(targets)], device)
            place += len(targets)
            places = torch.arange(len(targets), device=device)
            logits = member_logits(members, inputs)[own, places]  # (B, K)
            hits += (logits.argmax(dim=1) == targets).sum()
            losses += F.cross_entropy(logits.float(), targets, reduction="sum")
    return {"loss": losses / place, "out_of_fold_accuracy": hits / place}


def accuracy(network: nn.Module, like: Tensor, split: DataSplit) -> float:
    """Return the accuracy of a network on a split, on the device of `like`."""
    hits = torch.zeros((), dtype=torch.int64, device=like.device)
    with evaluating(network):
        for inputs, targets in on_device_of(like, split.epoch(0)):
            hits += (network(inputs).argmax(dim=1) == targets).sum()
    return int(hits) / split.samples


def recompute_norms(network: nn.Module, like: Tensor, train: DataSplit) -> None:
    """Compute the statistics of batch norm for averaged weights from training batches.

    The mean of the statistics of several networks is not that of a network with their mean weights
    (Izmailov et al. 2018, "Averaging Weights Leads to Wider Optima and Better Generalization",
    section 3.2).
    """
    norms = [
        module
        for module in network.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats
    ]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a mean over all batches
    with evaluating(network):
        for norm in norms:
            norm.training = True
        for inputs, _ in on_device_of(like, islice(train.epoch(0), MAX_NORM_BATCHES)):
            network(inputs)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
