"""Draws the learning curves of one run: its losses, stage by stage, and the watched metric."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dltrain.report.curves import Curve, Pixels, is_wide, mean, stacked, training_counterpart
from dltrain.report.plots import plot
from dltrain.types import Plot

Series = dict[str, dict[int, float]]  # by metric and step
LOSS = "loss"
MAX_STAGES = 8  # with a diagram each; more are left out from the beginning
MAX_LOSSES = 8  # of a diagram


def draw_run(metrics: Path, watched: str) -> Pixels | None:
    """Draw the curves in a run's metrics.jsonl, one diagram below the other.

    Each stage has a diagram of its losses. The last one has another of the `watched` metric, with
    its training counterpart, unless that is a loss. Return None if no metric has two points.
    """
    stages = list(read_stages(metrics).items())[-MAX_STAGES:]
    diagrams: list[Plot] = []
    for name, series in stages:
        title = "loss"
        if len(stages) > 1:
            title = f"loss, stage {name}"
        losses = sorted(metric for metric in series if is_loss(metric))
        diagrams += diagram(series, losses[:MAX_LOSSES], title)
    if stages and not is_loss(watched):
        series = stages[-1][1]
        counterpart = training_counterpart(watched, set(series))
        metrics_shown = [name for name in (counterpart, watched) if not is_loss(name)]
        diagrams += diagram(series, metrics_shown, watched)
    if not diagrams:
        return None
    return stacked([plot(each) for each in diagrams])


def is_loss(metric: str) -> bool:
    """Return whether a metric such as train/discriminator_loss is a loss."""
    return metric.endswith(LOSS)


def diagram(series: Series, metrics: Sequence[str], title: str) -> Iterator[Plot]:
    """Yield the diagram of the `metrics` over the steps, if one of them has two points."""
    lines = {name: mean([series[name]]) for name in metrics if series.get(name)}
    if any(len(steps) > 1 for steps, _ in lines.values()):
        yield Plot(lines, title, "step", axis_title(lines), log_y=is_wide(lines))


def axis_title(lines: Mapping[str, Curve]) -> str:
    """Return the title of the vertical axis: empty, or that it is logarithmic."""
    if is_wide(lines):
        return "logarithmic"
    return ""


def read_stages(metrics: Path) -> dict[str, Series]:
    """Return the values of every metric by step, for each stage in the order of training."""
    stages: dict[str, Series] = defaultdict(lambda: defaultdict(dict))
    with metrics.open(encoding="utf-8") as file:
        for line in file:
            record: dict[str, Any] = json.loads(line)
            series = stages[record["stage"]]
            for name, value in record.items():
                if "/" in name and value is not None:
                    series[name][int(record["step"])] = float(value)
    return stages
