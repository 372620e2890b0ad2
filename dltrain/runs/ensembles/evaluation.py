"""Scores of finished classifiers together, and after a calibration by the validation split.

Legend of the shapes: M runs, N samples, K classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from dltrain.errors import UsageError
from dltrain.options import require_choice
from dltrain.report.text import number, table
from dltrain.runs.ensembles.outputs import (
    RunOutputs,
    classifier,
    outputs_of,
    require_same_classes,
    require_same_samples,
)
from dltrain.runs.evaluate import (
    OpenedRun,
    RunScores,
    evaluate_run,
    open_to_evaluate,
    scores_of,
)
from dltrain.runs.folder import RunFolder
from dltrain.runs.sample_scores import Row, sample_names
from dltrain.tasks.calibration.scores import CalibrationScores
from dltrain.tasks.calibration.temperature import best_temperature, scaled
from dltrain.tasks.classification import Classification, Outputs
from dltrain.tasks.ensembles.combiners import (
    Combiner,
    Stacking,
    majority_vote,
    mean_of_probabilities,
)
from dltrain.tasks.ensembles.member_scores import MemberScores

COMBINE = ("", "mean", "vote", "stacking")
CALIBRATE = ("", "temperature")
FITTED_ON = "val"  # the split that stacking and temperatures are fitted to
PENALTY = 0.01  # of stacking
Figures = dict[str, float]


@dataclass(frozen=True)
class JointSettings:
    """The settings of an evaluation of several runs, or of one that is calibrated.

    Raises:
        UsageError: A setting has no such value.
    """

    split: str = "test"
    checkpoint: str = "best"
    tta: str = ""
    combine: str = ""
    calibrate: str = ""

    def __post_init__(self) -> None:
        if self.combine not in COMBINE:
            require_choice("combine", self.combine, COMBINE[1:])
        if self.calibrate not in CALIBRATE:
            require_choice("calibrate", self.calibrate, CALIBRATE[1:])

    @property
    def learns(self) -> bool:
        """True if something is fitted to the validation split."""
        return self.combine == "stacking" or bool(self.calibrate)


@dataclass(frozen=True)
class Calibrated:
    """The temperature of a calibration, and the calibration scores before and after it."""

    temperature: float
    before: Figures
    after: Figures

    def as_json(self) -> dict[str, Any]:
        """Return the content as plain values."""
        return {"temperature": self.temperature, "before": self.before, "after": self.after}

    def as_text(self, split: str) -> str:
        """Return a table of the scores on a split, under a line with the temperature."""
        rows = [["", "before", "after"]]
        for name, value in self.before.items():
            rows.append([f"{split}/{name}", number(value), number(self.after[name])])
        text = f"temperature {number(self.temperature)}, fitted to the validation samples"
        if split == FITTED_ON:
            text += ", on which these scores are too good"
        return f"{text}\n{table(rows, right=frozenset((1, 2)))}"


@dataclass(frozen=True)
class JointScores(RunScores):
    """The scores of runs as one classifier; checkpoint and data set are those of the first run.

    `logits` (N, K) are those of the ensemble, calibrated if that was asked for.
    """

    members: Sequence[str]
    logits: Tensor
    calibrated: Calibrated | None

    def sample_rows(self) -> Iterator[Row]:
        """Yield the name and the scores of each sample, in the order of the data."""
        task = self.task
        assert isinstance(task, Classification)
        batches = map(self.engine.move, getattr(self.data, self.split).epoch(0))
        with torch.no_grad():
            rows = task.rows_of(with_logits(batches, self.logits))
            for name, row in zip(sample_names(self.data, self.split), rows, strict=False):
                yield {"input": name, **row}

    @property
    def details(self) -> dict[str, Any]:
        """The runs, and the calibration if there is one."""
        details: dict[str, Any] = {"runs": list(self.members)}
        if self.calibrated is not None:
            details["calibration"] = self.calibrated.as_json()
        return details

    def detail_text(self) -> str:
        """Return the calibration scores before and after the calibration."""
        if self.calibrated is None:
            return ""
        return self.calibrated.as_text(self.split)

    @property
    def place(self) -> str:
        """The runs, a line each."""
        if len(self.members) == 1:
            return super().place
        lines = [f"an ensemble of {len(self.members)} runs{self.views}", *self.members]
        return "\n  ".join(lines)


def evaluate_runs(
    runs: Sequence[RunFolder],
    overrides: list[str],
    settings: JointSettings,
    per_sample: bool = False,
) -> RunScores:
    """Score a run on a split of its data set, or several runs as one classifier.

    `per_sample` means that the scores of each sample will be asked for. It raises what
    `evaluate_run` and `evaluate_together` do.
    """
    if len(runs) > 1 or settings.calibrate:
        return evaluate_together(runs, overrides, settings)
    if settings.combine:
        raise UsageError(f"combine={settings.combine}: name several runs to combine them")
    split, checkpoint, tta = settings.split, settings.checkpoint, settings.tta
    return evaluate_run(runs[0], overrides, split, checkpoint, tta, per_sample)


def evaluate_together(
    runs: Sequence[RunFolder], overrides: list[str], settings: JointSettings
) -> JointScores:
    """Score runs as one classifier on a split of the data set of the first run.

    Each run reads the samples from its own data set, as it was trained; they must be the same
    samples in the same order.

    Raises:
        UsageError: A run is no classifier; classes or samples differ; the split, or the validation
            split that something is fitted to, is empty.
        ConfigError: The overrides do not fit a configuration.
        InputError: The data or a checkpoint is absent or broken.
    """
    first: OpenedRun | None = None
    outputs: list[RunOutputs] = []
    held_out: list[RunOutputs] = []
    for run in runs:
        opened = open_to_evaluate(run, overrides, settings.split, settings.checkpoint, settings.tta)
        classifier(opened)
        if first is None:
            first = opened
        require_same_classes(first, opened)
        outputs.append(outputs_of(opened, settings.split))
        require_same_samples(outputs[0], outputs[-1], settings.split)
        if settings.learns:
            held_out.append(held_out_outputs(opened))
            require_same_samples(held_out[0], held_out[-1], FITTED_ON)
    assert first is not None
    combine = fitted_rule(settings.combine, held_out, first.data.spec.num_classes)
    logits = combine(stacked(outputs))
    calibrated: Calibrated | None = None
    if settings.calibrate:
        temperature = best_temperature(combine(stacked(held_out)), held_out[0].targets)
        before = logits
        logits = scaled(before, temperature)
        targets = outputs[0].targets
        calibrated = Calibrated(temperature, figures(before, targets), figures(logits, targets))
    scores = score_logits(first, settings.split, logits, outputs)
    names = [each.run for each in outputs]
    return JointScores(**vars(scores), members=names, logits=logits, calibrated=calibrated)


def held_out_outputs(opened: OpenedRun) -> RunOutputs:
    """Return the outputs of a run on its validation split; UsageError without one."""
    if not opened.data.val.samples:
        raise UsageError(
            f"{opened.run.folder} has no validation samples, to which stacking and temperatures "
            "are fitted (dataset.val_fraction)"
        )
    return outputs_of(opened, FITTED_ON)


def stacked(outputs: Sequence[RunOutputs]) -> Tensor:
    """Return the logits (M, N, K) of all runs."""
    return torch.stack([each.logits for each in outputs])


@torch.no_grad()
def fitted_rule(name: str, held_out: Sequence[RunOutputs], num_classes: int) -> Combiner:
    """Return the rule of that name; stacking is fitted to the outputs on the validation split."""
    if name in ("", "mean"):
        return mean_of_probabilities
    if name == "vote":
        return majority_vote
    stacking = Stacking(len(held_out), num_classes, PENALTY)
    stacking.fit(stacked(held_out), held_out[0].targets)
    return stacking


def figures(logits: Tensor, targets: Tensor) -> Figures:
    """Return the calibration scores of logits (N, K) for targets (N,)."""
    scores = CalibrationScores()
    scores.update(logits, targets)
    return scores.compute().figures


def score_logits(
    opened: OpenedRun, split: str, logits: Tensor, outputs: Sequence[RunOutputs]
) -> RunScores:
    """Return the scores of logits (N, K) on a split, and those of the members if they are several.

    They are the scores of the task of `opened`, whose data set is read once more for the pictures.
    """
    task = classifier(opened)
    engine = opened.engine
    members = MemberScores(short_names(outputs))

    def evaluate(batches: Iterable[Any]) -> dict[str, Any]:
        scores = task.scores_of(with_logits(batches, logits))
        if len(outputs) == 1:
            return scores
        members.update(stacked(outputs), logits, outputs[0].targets)
        return {**scores, **members.compute()}

    engine.stage = replace(engine.stage, evaluate=evaluate)
    return scores_of(opened, split, engine.score(opened.batches(split), split))


def short_names(outputs: Sequence[RunOutputs]) -> list[str]:
    """Return the last parts of the runs' folders; the whole ones if these are not unique."""
    names = [each.run.rstrip("/").rpartition("/")[2] for each in outputs]
    if len(set(names)) == len(names):
        return names
    return [f"{number} {each.run}" for number, each in enumerate(outputs, 1)]


def with_logits(batches: Iterable[tuple[Tensor, Tensor]], logits: Tensor) -> Outputs:
    """Yield inputs, targets and the next rows of logits (N, K), on the device of the inputs."""
    place = 0
    for inputs, targets in batches:
        rows = logits[place : place + len(targets)]
        place += len(targets)
        yield inputs, targets, rows.to(inputs.device)
