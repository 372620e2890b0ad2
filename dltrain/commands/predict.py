"""`dltrain predict RUN INPUT... [--out FILE]`: predictions for files, folders, globs and texts.

With split=val or split=test instead of inputs: for those samples of the data set.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dltrain.config.overrides import take
from dltrain.engine import Engine
from dltrain.errors import InputError, UsageError, first_names
from dltrain.options import Options, require_choice
from dltrain.report.explanations import Explainer
from dltrain.report.predictions import FORMATS, Row, show, with_top, write
from dltrain.report.text import counted_noun
from dltrain.runs.inputs import encoded, find_inputs, of_split, readable
from dltrain.runs.open import POINTERS, averaged_weights, find_run, open_trained, unknown_tokens
from dltrain.types import PAD, PredictionRows, ReadsText

log = logging.getLogger("dltrain")
BATCH_SIZE = 128
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
    out = output_file(options.out)
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
    require_choice("checkpoint", settings["checkpoint"], POINTERS)
    if settings["split"]:
        require_choice("split", settings["split"], SPLITS, " (those of train come shuffled)")


def output_file(name: str | None) -> Path | None:
    """Return the file that --out names, if any; UsageError if it cannot be written."""
    if name is None:
        return None
    out = Path(name)
    if out.suffix not in FORMATS:
        raise UsageError(f"--out {out}: expected a name that ends in {' or '.join(FORMATS)}")
    if out.is_dir():
        raise UsageError(f"--out {out}: is a folder; name a file in it")
    if not out.absolute().parent.is_dir():
        raise UsageError(f"--out {out}: there is no folder {out.parent}")
    return out


def predicted_rows(
    engine: Engine, samples: Iterator[tuple[Row, Tensor]], explainer: Explainer | None = None
) -> Iterator[Row]:
    """Yield a row for each sample; the `explainer` draws why."""
    task = engine.task
    with averaged_weights(engine):
        while batch := list(islice(samples, BATCH_SIZE)):
            with torch.no_grad(), engine.autocast:
                inputs = engine.move(stacked([x for _, x in batch]))
                outputs = task.predict(inputs)
            if isinstance(task, PredictionRows):
                predictions = task.prediction_rows(outputs)
            else:
                predictions = numbered(outputs)
            rows = []
            for (about, _), prediction in zip(batch, predictions, strict=True):
                rows.append({**about, **prediction})
            if explainer is not None:
                rows = explainer(inputs, rows)
            yield from rows


def stacked(inputs: list[Tensor]) -> Tensor:
    """Return one batch of inputs; sequences of different lengths are padded with `PAD`."""
    if len({x.shape for x in inputs}) == 1:
        return torch.stack(inputs)
    return torch.nn.utils.rnn.pad_sequence(inputs, batch_first=True, padding_value=PAD)


def numbered(outputs: Any) -> list[Row]:
    """Return the raw outputs (B, ...) of a task that does not say what they mean, a row each.

    Raises UsageError if they are not such a tensor.
    """
    if not isinstance(outputs, Tensor) or not outputs.ndim:
        raise UsageError(
            "this task predicts no row for each input: it needs a method prediction_rows(outputs)"
        )
    values = outputs.float()
    values = values.flatten(1) if values.ndim > 1 else values.unsqueeze(1)  # (B, N)
    columns = [f"output_{i}" for i in range(1, values.shape[1] + 1)]
    return [dict(zip(columns, row, strict=True)) for row in values.tolist()]
