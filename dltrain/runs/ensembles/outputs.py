"""The outputs of finished classifiers on a split, kept in memory to be combined.

Legend of the shapes: M runs, N samples, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from dltrain.data.dataset import shown_names
from dltrain.errors import UsageError
from dltrain.runs.evaluate import OpenedRun
from dltrain.runs.open import evaluation_mode
from dltrain.runs.sample_scores import sample_names
from dltrain.tasks.classification import Classification


@dataclass(frozen=True)
class RunOutputs:
    """The logits (N, K) of a run for the samples of a split, on the CPU, and the classes (N,)."""

    run: str
    names: Sequence[str]
    logits: Tensor
    targets: Tensor


def classifier(opened: OpenedRun) -> Classification:
    """Return the task of a run; UsageError if it is no classifier."""
    task = opened.engine.task
    if not isinstance(task, Classification):
        raise UsageError(
            f"{opened.run.folder} is a run of {type(task).__name__}: only the probabilities of "
            "classifiers are combined or calibrated"
        )
    return task


def outputs_of(opened: OpenedRun, split: str) -> RunOutputs:
    """Return the outputs of a run on a split, with averaged weights if the run averages them."""
    task = classifier(opened)
    engine = opened.engine
    logits: list[Tensor] = []
    targets: list[Tensor] = []
    with evaluation_mode(engine):
        batches = map(engine.move, opened.batches(split).epoch(0))
        for _, some_targets, some_logits in task.outputs(batches):
            logits.append(some_logits.float().cpu())
            targets.append(some_targets.cpu())
    all_targets = torch.cat(targets)
    names = list(islice(sample_names(opened.data, split), len(all_targets)))
    return RunOutputs(str(opened.run.folder), names, torch.cat(logits), all_targets)


def require_same_classes(first: OpenedRun, other: OpenedRun) -> None:
    """Raise UsageError unless two runs have the same classes in the same order."""
    ours = first.data.spec.class_names
    theirs = other.data.spec.class_names
    if ours == theirs:
        return
    what = "the classes in another order" if set(ours) == set(theirs) else "other classes"
    raise UsageError(
        f"{other.run.folder} has {what} ({shown_names(theirs)}) than {first.run.folder} "
        f"({shown_names(ours)}): they cannot be combined"
    )


def require_same_samples(first: RunOutputs, other: RunOutputs, split: str) -> None:
    """Raise UsageError unless two runs were evaluated on the same samples in the same order."""
    if first.names == other.names and torch.equal(first.targets, other.targets):
        return
    why = f"{len(first.names):,} and {len(other.names):,} samples"
    if len(first.names) == len(other.names):
        place = first_difference(first, other)
        why = f"sample {place + 1:,} is {first.names[place]} and {other.names[place]}"
    raise UsageError(
        f"split={split}: {first.run} and {other.run} have different samples, so their predictions "
        f"cannot be combined ({why})"
    )


def first_difference(first: RunOutputs, other: RunOutputs) -> int:
    """Return the place of the first sample that differs in its name or its class."""
    pairs = zip(first.names, other.names, strict=True)
    same_names = torch.tensor([one == another for one, another in pairs])
    is_same = same_names & (first.targets == other.targets)
    return int(is_same.logical_not().nonzero()[0])
