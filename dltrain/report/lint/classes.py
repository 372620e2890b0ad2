"""Classes with few samples, and classes that are not as frequent in two splits."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from dltrain.report.lint.findings import Example, Finding
from dltrain.report.lint.samples import SplitSamples

FEW_SAMPLES = 10  # of a class in training
IMBALANCE = 20  # of the largest class to the smallest
MIN_DISTANCE = 0.1  # of the frequencies of two splits, from which they differ
MAX_NAMED = 8


def class_findings(splits: Sequence[SplitSamples], names: Sequence[str]) -> list[Finding]:
    """Return findings on the numbers of samples of classes with some `names`."""
    counts = {
        split.part: torch.bincount(split.targets, minlength=len(names))
        for split in splits
        if split.targets is not None and split.targets.ndim == 1
    }
    if "train" not in counts:
        return []
    train = counts.pop("train")
    findings = [*few_samples(train, names), *imbalance(train, names)]
    for part, other in counts.items():
        findings += drift_of_classes(train, other, part, names)
    return findings


def few_samples(counts: Tensor, names: Sequence[str]) -> Iterator[Finding]:
    """Yield a finding on classes with few training samples."""
    rare = [row for row, count in enumerate(counts.tolist()) if 0 < count < FEW_SAMPLES]
    if not rare:
        return
    examples = [Example(names[row], detail=f"{int(counts[row])} training samples") for row in rare]
    rare_text = ", ".join(names[row] for row in rare[:MAX_NAMED])
    if len(rare) > MAX_NAMED:
        rare_text += f" and {len(rare) - MAX_NAMED:,} more"
    message = (
        f"fewer than {FEW_SAMPLES} training samples of {rare_text}: add some, or join or leave out "
        "classes"
    )
    yield Finding("few samples", message, examples)


def imbalance(counts: Tensor, names: Sequence[str]) -> Iterator[Finding]:
    """Yield a finding if the largest class has many times the samples of the smallest."""
    present = torch.where(counts > 0, counts, counts.max())
    smallest, largest = int(present.argmin()), int(counts.argmax())
    ratio = int(counts[largest]) / max(1, int(present[smallest]))
    if ratio < IMBALANCE:
        return
    message = (
        f"{names[largest]} has {ratio:,.0f} times the training samples of {names[smallest]}: the "
        "accuracy hides rare classes, so watch val/f1; dataset.balance=weights helps them"
    )
    yield Finding("imbalance", message)


def drift_of_classes(
    train: Tensor, other: Tensor, part: str, names: Sequence[str]
) -> Iterator[Finding]:
    """Yield a finding if classes are not as frequent in a split as in training."""
    if not train.sum() or not other.sum():
        return
    difference = other / other.sum() - train / train.sum()
    distance = float(difference.abs().sum()) / 2
    if distance < max(MIN_DISTANCE, chance_distance(train, other)):
        return
    order = difference.abs().argsort(descending=True)[:MAX_NAMED].tolist()
    examples = [
        Example(
            names[row],
            detail=f"{float(train[row] / train.sum()):.1%} of train, "
            f"{float(other[row] / other.sum()):.1%} of {part}",
        )
        for row in order
    ]
    message = (
        f"classes are not as frequent in {part} as in train (total variation {distance:.2f}): "
        f"scores of {part} are of another mixture than the one that is learned"
    )
    yield Finding(f"class drift in {part}", message, examples)


def chance_distance(train: Tensor, other: Tensor) -> float:
    """Return a total variation that two random samples of one distribution hardly exceed.

    Each frequency differs by about its standard error; three times their sum is a generous bound.
    """
    together = (train + other) / (train + other).sum()
    errors = (together * (1 - together)).sqrt()
    spread = math.sqrt(1 / float(train.sum()) + 1 / float(other.sum()))
    return 1.5 * float(errors.sum()) * spread
