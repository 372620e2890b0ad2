"""`dltrain evaluate RUN [RUN...] [split=test] [--out FILE]`: score a run's best checkpoint again.

Several runs are scored as one ensemble. With --out it writes a row for each sample, the greatest
loss first.
"""

from __future__ import annotations

import logging
import tempfile
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

from dltrain.config.overrides import take
from dltrain.options import Options, count_from, output_file
from dltrain.report.figures import figure_rows
from dltrain.report.network_figures import figure_texts
from dltrain.report.predictions import show
from dltrain.report.sample_files import SAMPLE_FORMATS, require_library, write_samples
from dltrain.report.summary import rendered_grids
from dltrain.report.text import counted_noun, number, table
from dltrain.runs.ensembles.evaluation import JointSettings, evaluate_runs
from dltrain.runs.evaluate import RunScores, as_mapping, with_identifiers
from dltrain.runs.open import find_runs
from dltrain.runs.sample_scores import worst, worst_first
from dltrain.types import Table, shortened

log = logging.getLogger("dltrain")
MAX_WORST = 1000  # samples that are printed
MAX_TEXT_CHARS = 40  # of a text on the screen
DEFAULTS = {"split": "test", "checkpoint": "best", "tta": "", "combine": "", "calibrate": ""}


def evaluate(options: Options) -> None:
    """Score a split of a run's data set and print the figures."""
    runs, overrides = find_runs(options)
    typed, overrides = take(overrides, DEFAULTS)
    samples = SampleOptions.of(options)
    settings = JointSettings(**{**DEFAULTS, **typed})
    evaluation = evaluate_runs(runs, overrides, settings, samples.are_asked_for)
    rows = figure_rows(evaluation.task, evaluation.figures, "--json has all")
    log.info(f"{evaluation.place}\n{table(rows)}")
    for text in rendered_grids(evaluation.scores):
        log.info(text)
    options.outcome |= {
        "run": str(evaluation.run.folder),
        "checkpoint": evaluation.checkpoint.name,
        "metrics": evaluation.figures,
        **evaluation.details,
    }
    network = evaluation.network()
    if network:
        log.info(f"\nnetwork (latency on one thread)\n{table(figure_texts(network))}")
        options.outcome["network"] = network
    for name, scores in evaluation.tables.items():
        log.info(f"\n{scores_table(scores)}")
        options.outcome[name] = with_identifiers(as_mapping(scores))
    if text := evaluation.detail_text():
        log.info(f"\n{text}")
    if samples.are_asked_for:
        options.outcome |= show_samples(evaluation, samples)


@dataclass(frozen=True)
class SampleOptions:
    """The file for the rows of all samples, and the number of the worst ones to print."""

    out: Path | None
    worst: int

    @classmethod
    def of(cls, options: Options) -> SampleOptions:
        """Return what --out and --worst say; UsageError for values that they cannot have."""
        out = output_file(options.out, SAMPLE_FORMATS)
        if out is not None:
            require_library(out)
        number = 0
        if options.worst is not None:
            number = count_from("--worst", options.worst, MAX_WORST)
        return cls(out, number)

    @property
    def are_asked_for(self) -> bool:
        """True if there is a file or a table to make."""
        return self.out is not None or self.worst > 0


def show_samples(evaluation: RunScores, samples: SampleOptions) -> dict[str, Any]:
    """Write the rows of all samples, print the worst ones, and return them for --json."""
    outcome: dict[str, Any] = {}
    rows = evaluation.sample_rows()
    if samples.out is None:
        kept = worst(rows, samples.worst)
    else:
        with tempfile.TemporaryFile(dir=samples.out.absolute().parent) as spool:
            ordered = worst_first(rows, spool)
            kept = list(islice(ordered, samples.worst))
            number = write_samples(chain(kept, ordered), samples.out)
        log.info(f"\n{samples.out}: {counted_noun(number, 'row')}, the greatest loss first")
        outcome |= {"out": str(samples.out), "samples": number}
    if samples.worst:
        noun = counted_noun(len(kept), "sample")
        log.info(f"\nthe worst {noun} of {evaluation.split}, by loss")
        show([shortened_texts(row) for row in kept])
        outcome["worst"] = kept
    return outcome


def shortened_texts(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row for the screen: long texts without their middle."""
    shown = dict(row)
    for name, value in row.items():
        if isinstance(value, str) and name != "input":
            shown[name] = shortened(" ".join(value.split()), MAX_TEXT_CHARS)
    return shown


def scores_table(scores: Table) -> str:
    """Return a line for each class or target; of many classes the worst, and a note about it."""
    shown = scores.shown()
    lines = [[shown.row_title, *shown.columns]]
    for name, values in as_mapping(shown).items():
        cells = [cell(value, column in shown.plain) for column, value in values.items()]
        lines.append([name, *cells])
    text = table(lines, right=frozenset(range(1, len(lines[0]))))
    if shown.note:
        text += f"\n  {shown.note}; --json has all"
    return text


def cell(value: float | None, is_count: bool) -> str:
    """Return a value as text: a count, or a score."""
    if value is None:
        return "-"
    return f"{value:.0f}" if is_count else number(value)
