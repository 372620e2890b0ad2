"""`dltrain.evaluate`: the scores of a trained run on a split of its data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from dltrain.api.opening import open_run
from dltrain.api.overrides import overrides_of
from dltrain.api.process import isolated
from dltrain.api.run import Run, plugin_names
from dltrain.errors import UsageError
from dltrain.runs.ensembles.evaluation import JointSettings, evaluate_runs
from dltrain.runs.evaluate import TableScores, as_mapping, with_identifiers

AnyRun: TypeAlias = str | Path | Run


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
        calibration: The temperature, and the calibration scores `before` and `after`; empty without
            a calibration.
        per_layer: The size and the sparsity of each layer of a pruned network, in the same form.
        network: The size and the latency of the network: weight_bytes, parameters,
            nonzero_parameters, flops of a sample, latency_ms_1 and latency_ms_64 of a prediction of
            1 and of 64 samples on one thread; empty for a task that predicts no single inputs.
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
    calibration: dict[str, Any] = field(default_factory=dict)
    per_layer: TableScores = field(default_factory=dict)
    network: dict[str, float] = field(default_factory=dict)
    samples: list[dict[str, Any]] = field(default_factory=list)


def evaluate(
    run: AnyRun | Sequence[AnyRun],
    *overrides: str | Mapping[str, Any],
    split: str = "test",
    checkpoint: str | int = "best",
    tta: str | Sequence[str] | None = None,
    combine: Literal["mean", "vote", "stacking"] | None = None,
    calibrate: Literal["temperature"] | None = None,
    samples: bool = False,
    plugins: str | Sequence[str] = (),
    verbose: bool = False,
    **settings: Any,
) -> Evaluation:
    """Score a checkpoint of a run again, on a split of its data set or of another.

    Args:
        run: A run, its folder, a unique part of the folder's name, or `last`. A list of them is
            scored as one ensemble, on the data set of the first.
        overrides: Changed settings, such as "dataset.path=other.csv".
        split: train, val or test.
        checkpoint: best, last, best-2, a step such as "300", or "epoch:3".
        tta: Views of each image to average over, such as "flip" or ["flip", "shift"].
        combine: The rule that combines several runs; None is the mean of their probabilities.
        calibrate: Fit a temperature to the validation samples first.
        samples: Return the scores of each sample too.
        plugins: The packages of the user's own classes in the run.
        verbose: Print messages.
        settings: Further changed settings by name.

    Raises:
        UsageError: The split is empty, an argument has no such value, or runs cannot be combined.
        ConfigError: The settings do not fit the run.
        InputError: The run is unknown, or its data or checkpoint is missing or broken.
    """
    views = tta or ""
    if not isinstance(views, str):
        views = ",".join(views)
    names = [run] if isinstance(run, str | Path | Run) else list(run)
    if not names:
        raise UsageError("name a run, or several in a list")
    packages = [*plugin_names(plugins)]
    packages += [name for one in names if isinstance(one, Run) for name in one.plugins]
    changes = overrides_of(overrides, settings)
    opened = [open_run(name, changes, packages) for name in names]
    folders = [folder for folder, _ in opened]
    others = opened[0][1]
    asked = JointSettings(split, str(checkpoint), views, combine or "", calibrate or "")
    with isolated(verbose):
        scores = evaluate_runs(folders, others, asked, samples)
        rows = list(scores.sample_rows()) if samples else []
        network = scores.network()
        tables = {
            name: with_identifiers(as_mapping(table)) for name, table in scores.tables.items()
        }
    return Evaluation(
        run=scores.run.folder,
        checkpoint=scores.checkpoint,
        step=scores.step,
        split=split,
        metrics=scores.figures,
        network=network,
        calibration=scores.details.get("calibration", {}),
        samples=rows,
        **tables,
    )
