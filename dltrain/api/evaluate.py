"""`dltrain.evaluate`: the scores of a trained run on a split of its data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dltrain.api.opening import open_run
from dltrain.api.overrides import overrides_of
from dltrain.api.process import isolated
from dltrain.api.run import Run
from dltrain.runs.evaluate import TableScores, as_mapping, evaluate_run, with_identifiers


@dataclass(frozen=True)
class Evaluation:
    """The scores of a checkpoint of a run on a split.

    Attributes:
        run: The run's folder.
        checkpoint: The folder of the checkpoint.
        step: The step at which it was saved.
        split: train, val or test.
        metrics: {"test/accuracy": 0.98, ...}
        per_class: The scores of each class, {class: {score: value}}; empty without classes.
        per_target: The scores of each target of a regression, in the same form.
        members: The scores of each member of an ensemble, in the same form.
        samples: The name, loss, label and prediction of each sample, in the order of the data, if
            they were asked for: `pandas.DataFrame(scores.samples)`.
    """

    run: Path
    checkpoint: Path
    step: int
    split: str
    metrics: dict[str, float]
    per_class: TableScores = field(default_factory=dict)
    per_target: TableScores = field(default_factory=dict)
    members: TableScores = field(default_factory=dict)
    samples: list[dict[str, Any]] = field(default_factory=list)


def evaluate(
    run: str | Path | Run,
    *overrides: str | Mapping[str, Any],
    split: str = "test",
    checkpoint: str | int = "best",
    tta: str | Sequence[str] | None = None,
    samples: bool = False,
    plugins: str | Sequence[str] = (),
    verbose: bool = False,
    **settings: Any,
) -> Evaluation:
    """Score a checkpoint of a run again, on a split of its data set or of another.

    Args:
        run: A run, its folder, a unique part of the folder's name, or `last`.
        overrides: Changed settings, such as "dataset.path=other.csv".
        split: train, val or test.
        checkpoint: best, last, best-2, a step such as "300", or "epoch:3".
        tta: Views of each image to average over, such as "flip" or ["flip", "shift"].
        samples: Return the scores of each sample too.
        plugins: The packages of the user's own classes in the run.
        verbose: Print messages.
        settings: Further changed settings by name.

    Raises:
        UsageError: The split is empty, or an argument has no such value.
        ConfigError: The settings do not fit the run.
        InputError: The run is unknown, or its data or checkpoint is missing or broken.
    """
    views = tta or ""
    if not isinstance(views, str):
        views = ",".join(views)
    folder, others = open_run(run, overrides_of(overrides, settings), plugins)
    with isolated(verbose):
        scores = evaluate_run(folder, others, split, str(checkpoint), views, per_sample=samples)
        rows = list(scores.sample_rows()) if samples else []
        tables = {
            name: with_identifiers(as_mapping(table)) for name, table in scores.tables.items()
        }
    return Evaluation(
        run=folder.folder,
        checkpoint=scores.checkpoint,
        step=scores.step,
        split=split,
        metrics=scores.figures,
        samples=rows,
        **tables,
    )
