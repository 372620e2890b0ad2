"""`dltrain predict RUN INPUT... [--out FILE]`: predictions for files, folders, globs and texts.

With split=val or split=test instead of inputs: for those samples of the data set.
"""

from __future__ import annotations

import logging
import sys

from dltrain.config.overrides import take
from dltrain.errors import InputError, UsageError, first_names
from dltrain.options import Options, output_file, require_choice
from dltrain.report.explanations import Explainer
from dltrain.report.predictions import FORMATS, show, with_top, write
from dltrain.report.text import counted_noun
from dltrain.runs.inputs import encoded, find_inputs, of_split, readable
from dltrain.runs.open import find_run, open_trained, require_checkpoint_name, unknown_tokens
from dltrain.runs.predict import predicted_rows
from dltrain.types import Data, KeepsColumns, ReadsText

log = logging.getLogger("dltrain")
MAX_NAMES_SHOWN = 5
SPLITS = ("val", "test")
DEFAULTS = {"top": "3", "checkpoint": "best", "split": ""}


def predict(options: Options) -> None:
    """Predict every input that can be read, a row each.

    Raises InputError at the end if an input could not be read, or there was none.
    """
    run, overrides = find_run(options)
    typed, overrides = take(overrides, DEFAULTS)
    settings = {**DEFAULTS, **typed}
    require_settings(settings)
    out = output_file(options.out, FORMATS)
    names = options.names[1:]
    split = settings["split"]
    if bool(names) == bool(split):
        raise UsageError(
            "predict needs either inputs after the run (images, folders, globs, tables or texts) "
            "or a split (split=test)"
        )
    problems: list[str] = []

    def report(problem: str) -> None:
        problems.append(problem)
        print(f"dltrain: {problem}", file=sys.stderr)

    trained = open_trained(run, overrides, settings["checkpoint"])
    if options.keep:
        keep_columns(trained.reader, split)
    if split:
        samples = of_split(trained.reader, split)
    else:
        inputs = find_inputs(names, report, isinstance(trained.reader, ReadsText))
        samples = readable(encoded(trained.reader, inputs), report)
    explainer = Explainer(trained.engine, run.folder) if options.explain else None
    predictions = predicted_rows(trained.engine, samples, explainer)
    rows = (with_top(row, int(settings["top"])) for row in predictions)
    count, kept = write(rows, out) if out is not None else show(rows)
    options.outcome |= {
        **unknown_tokens(trained.reader),
        "run": str(run.folder),
        "checkpoint": trained.checkpoint.name,
        "predicted": count,
        "problems": problems,
    }
    if out is not None:
        options.outcome["out"] = str(out)
        if count:
            log.info(f"{out}: {counted_noun(count, 'row')}")
    if count == len(kept):
        options.outcome["rows"] = kept
    require_all_predicted(count, len(problems), names)


def keep_columns(reader: Data, split: str) -> None:
    """Have the rows of predictions keep the columns of the tables that they are made from.

    Raises UsageError for data that is not rows of a table.
    """
    if split:
        raise UsageError(
            f"--keep keeps the columns of a table, not of split={split}: name the table instead, "
            "as in dltrain predict RUN FILE.csv --keep"
        )
    if not isinstance(reader, KeepsColumns):
        raise UsageError(
            "--keep keeps the columns of a table with a prediction for each row (CSV, Parquet, or "
            "texts in CSV, TSV or JSON lines); this run reads none"
        )
    reader.keep_columns()


def require_all_predicted(count: int, num_problems: int, names: list[str]) -> None:
    """Raise InputError if inputs could not be read, or the `names` hold no samples at all."""
    if num_problems:
        unread = counted_noun(num_problems, "input")
        raise InputError(f"{unread} could not be read; {count:,} predicted")
    if not count:
        places = first_names(names, MAX_NAMES_SHOWN) or "the split"
        raise InputError(f"nothing to predict: no samples in {places}")


def require_settings(settings: dict[str, str]) -> None:
    """Raise UsageError for a value of top=, checkpoint= or split= that they cannot have."""
    top = settings["top"]
    if not top.isdecimal() or int(top) < 1:
        raise UsageError(f"top={top}: expected a whole number > 0")
    require_checkpoint_name(settings["checkpoint"])
    if settings["split"]:
        require_choice("split", settings["split"], SPLITS, " (those of train come shuffled)")
