"""`dltrain compare RUN RUN...`: the differences between runs, and their curves in one picture."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from dltrain.config.overrides import expand_home, take
from dltrain.errors import UsageError
from dltrain.files import writing
from dltrain.options import Options, require_choice
from dltrain.runs.comparison.compared import ComparedRun, compared_runs
from dltrain.runs.comparison.differences import (
    Difference,
    MetricDifference,
    configuration_differences,
    fact_differences,
    figure_rows,
    metric_differences,
    only_in_one,
)
from dltrain.runs.comparison.networks import AUTO, network_rows
from dltrain.runs.comparison.reasons import Reason, reasons
from dltrain.runs.comparison.text import as_json_rows, difference_table, legend, metric_table
from dltrain.runs.listing.columns import as_json_run

log = logging.getLogger("dltrain")
PICTURES = (".png", ".jpg", ".jpeg", ".webp")
MAX_DIAGRAMS = 4


def compare(options: Options) -> None:
    """Print how runs differ; with --out, draw their learning curves."""
    require_picture(options.out)
    root, measures = settings(options)
    runs = compared_runs(options.names, root)
    log.info(legend(runs))
    notes = reasons(runs)
    incomparable = [name for _, names in notes for name in names]
    metrics = metric_differences(runs, incomparable)
    print_notes(notes)
    networks = network_rows(runs, measures)
    print_tables(runs, metrics, networks.rows)
    for line in networks.notes:
        log.info(line)
    options.outcome["warnings"] = [message for message, _ in notes]
    options.outcome.update(as_outcome(runs, metrics, networks.rows))
    if options.out is not None:
        draw(runs, Path(options.out))
        options.outcome["picture"] = options.out


def print_notes(notes: Sequence[Reason]) -> None:
    """Print why metrics cannot be compared."""
    for message, _ in notes:
        log.warning(f"note  {message}")


def settings(options: Options) -> tuple[Path, str]:
    """Return paths.output and `measure` as the overrides set them; UsageError for any other."""
    typed, others = take(options.overrides, ["paths.output", "measure"])
    if others:
        raise UsageError(f"compare takes no settings ({others[0]}): dltrain compare RUN RUN")
    measures = typed.get("measure", AUTO)
    require_choice("measure", measures, (AUTO, "true", "false"))
    return Path(expand_home(typed.get("paths.output", "outputs"))), measures


def require_picture(out: str | None) -> None:
    """Raise UsageError for a file that is not a picture by its name."""
    if out is not None and Path(out).suffix.lower() not in PICTURES:
        raise UsageError(f"--out {out}: expected the name of a picture, such as curves.png")


def print_tables(
    runs: Sequence[ComparedRun],
    metrics: Sequence[MetricDifference],
    networks: Sequence[Difference],
) -> None:
    """Print what differs: configuration, metrics, and the rest."""
    print_settings(runs)
    if metrics:
        log.info(metric_table(runs, metrics))
    print_single_metrics(runs)
    facts = fact_differences(runs)
    if facts:
        log.info(difference_table("commit, versions, machine and data", runs, facts))
    log.info(difference_table("size and cost", runs, figure_rows(runs, networks)))


def print_single_metrics(runs: Sequence[ComparedRun]) -> None:
    """Print the metrics that only one of the runs has."""
    for label, keys in only_in_one(runs).items():
        log.info(f"  only {label} has {', '.join(keys)}")


def print_settings(runs: Sequence[ComparedRun]) -> None:
    """Print the options and settings that differ."""
    settings = configuration_differences(runs)
    if settings:
        log.info(difference_table("configuration", runs, settings))
    else:
        log.info("\nthe configurations are the same")


def as_outcome(
    runs: Sequence[ComparedRun],
    metrics: Sequence[MetricDifference],
    networks: Sequence[Difference],
) -> dict[str, Any]:
    """Return what --json prints."""
    summaries = {run.label: as_json_run(run.summary, run.folder.parent) for run in runs}
    return {
        "runs": summaries,
        "config": as_json_rows(runs, configuration_differences(runs)),
        "metrics": as_json_rows(runs, metrics),
        "change": dict(changes(metrics)),
        "better": better(runs, metrics),
        "facts": as_json_rows(runs, fact_differences(runs)),
        "size": as_json_rows(runs, figure_rows(runs, networks)),
    }


def changes(metrics: Sequence[MetricDifference]) -> Iterator[tuple[str, float]]:
    """Yield each metric that can be compared, with its change from one run to the other."""
    for row in metrics:
        if row.change is not None:
            yield row.key, row.change


def better(runs: Sequence[ComparedRun], metrics: Sequence[MetricDifference]) -> dict[str, str]:
    """Return {metric: label of the run that is the best in it}."""
    return {row.key: runs[row.best].label for row in metrics if row.best is not None}


def draw(runs: Sequence[ComparedRun], out: Path) -> None:
    """Draw the curves of the watched metrics and of their counterparts in training."""
    from dltrain.report import curves

    groups = {f"{run.label} {run.folder.name}": [run.folder] for run in runs}
    pixels = curves.draw_curves(groups, drawn_metrics(runs)[:MAX_DIAGRAMS])
    if pixels is None:
        log.warning("no metric has two values yet, so there is no curve to draw")
        return
    with writing(out):
        curves.write(out, pixels)
    log.info(f"picture {out}")


def drawn_metrics(runs: Sequence[ComparedRun]) -> list[str]:
    """Return the metrics to draw: those of training, then those that the runs watch."""
    from dltrain.report import curves

    known = {name for run in runs for name in run.summary.metrics}
    watched = [run.summary.watch for run in runs if run.summary.watch]
    training = [curves.training_counterpart(name, known) for name in watched]
    return list(dict.fromkeys([*training, *watched]))
