"""`dltrain predict RUN INPUT... [--out FILE]`: what a run's best checkpoint says of files, folders, globs and tables.

With split=val|test instead of inputs, of those samples of the data set; with --samples N, what its generator draws; with
--tokens N, what its language model goes on with; with --out FILE.vec, all of a run's word vectors; with --out FILE.gif, an
episode of what it has learned to do.
"""

from __future__ import annotations

import csv
import glob
import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from itertools import count, islice
from pathlib import Path
from typing import Any, TextIO

import torch
from torch import Tensor

from dltrain.commands.explain import Explainer
from dltrain.commands.options import Options
from dltrain.commands.resume import find_run, position, saved_configuration, trained_state
from dltrain.commands.rollout import SUFFIX as EPISODE
from dltrain.commands.rollout import write_episode
from dltrain.commands.sample import draw_samples
from dltrain.commands.vectors import SUFFIX, write_vectors
from dltrain.commands.write import SETTINGS, write_text
from dltrain.config import check
from dltrain.config.overrides import take
from dltrain.data.io.layout import IMAGE_ENDINGS, counted, paths_below
from dltrain.data.text.text_folder import texts_below
from dltrain.data.text.tokens import TokenSplit
from dltrain.engine import Engine
from dltrain.errors import InputError, UsageError
from dltrain.experiment.experiment import Experiment
from dltrain.files import replacing, to_json, writing
from dltrain.report.text import number, table
from dltrain.types import PAD, CountsUnknownTokens, Data, PredictionRows, ReadsText, Sample

log = logging.getLogger("dltrain")
SHOWN = 60  # characters of a text that was typed
FORMATS = (".csv", ".jsonl", SUFFIX, EPISODE)
BATCH = 128  # samples at once
FEW = 100  # rows that --json carries
WEIGHTS = ("best", "last")
SPLITS = ("val", "test")
Row = dict[str, Any]


def predict(options: Options) -> None:
    """Answer every input that can be read, a row each; InputError at the end if one could not, or there was none.

    For inputs from files the training data need not be there: what they are standardized by lies in the run's manifest.
    """
    run, overrides = find_run(options)
    own, overrides = own_settings(overrides)
    top, split = int(own["top"]), own["split"]
    out = Path(options.out) if options.out is not None else None
    if out is not None and options.samples is None:
        check_out(out)
    vectors, episode = (out is not None and out.suffix == suffix for suffix in (SUFFIX, EPISODE))
    if (options.samples is not None) + bool(split) + bool(
        options.names[1:]
    ) + vectors + episode != 1:
        raise UsageError(
            "predict what? Name images, folders, globs, tables or texts after the run, or split=test, or --samples 64"
        )
    composed = saved_configuration(run, overrides)
    check.raise_all(composed)
    folder, where = trained_state(run, own["checkpoint"])
    problems: list[str] = []

    def report(problem: str) -> None:
        problems.append(problem)
        print(f"dltrain: {problem}", file=sys.stderr)

    # a stage begins with its batches: fake ones, for those that it was trained on may be gone
    experiment = Experiment.to_predict(composed.config, run.description())
    engine = position(experiment, where)
    reader = experiment.configured_data
    if vectors and out is not None:
        write_vectors(engine, options, out, run.folder)
        return
    if episode and out is not None:
        write_episode(engine, options, reader, out, run.folder, composed.config["seed"])
        return
    if options.samples is not None:
        draw_samples(engine, options, run.folder, composed.config["seed"])
        return
    if options.tokens is not None:
        write_text(engine, options, reader, options.names[1:], own, composed.config["seed"])
        options.outcome.update(unknown_tokens(reader))
        return
    reads_text = isinstance(reader, ReadsText)
    inputs = find_inputs(options.names[1:], report, reads_text)
    samples = of_split(reader, split) if split else readable(encoded(reader, inputs), report)
    explainer = Explainer(engine, run.folder) if options.explain else None
    rows = (cut(row, top) for row in answered(engine, samples, explainer))
    answers, few = write(rows, out) if out is not None else show(rows)
    options.outcome.update(unknown_tokens(reader))
    options.outcome.update(
        {
            "run": str(run.folder),
            "checkpoint": folder.name,
            "predicted": answers,
            "problems": problems,
            **({"out": str(out)} if out is not None else {}),
            **({"rows": few} if answers <= FEW else {}),
        }
    )
    if out is not None and answers:
        log.info(f"{out}: {answers:,} row{'' if answers == 1 else 's'}")
    if problems:
        unread = "1 input" if len(problems) == 1 else f"{len(problems):,} inputs"
        raise InputError(f"{unread} could not be read; {answers:,} answered")
    if not answers:
        raise InputError("nothing to predict: the inputs hold no sample")


def unknown_tokens(reader: Data) -> dict[str, dict[str, int]]:
    """Return what of the texts the run's vocabulary lacks, with counts, for --json; log it too.

    Nothing if all is known.
    """
    if not isinstance(reader, CountsUnknownTokens) or not reader.unknown_tokens.counts:
        return {}
    log.warning(reader.unknown_tokens.message())
    return {"unknown_tokens": dict(reader.unknown_tokens.counts.most_common())}


def own_settings(overrides: list[str]) -> tuple[dict[str, str], list[str]]:
    """`top=`, `checkpoint=` and `split=`, and the overrides that are none of them."""
    defaults = {"top": "3", "checkpoint": "best", "split": "", **SETTINGS}
    typed, rest = take(overrides, defaults)
    chosen = {**defaults, **typed}
    if not chosen["top"].isdecimal() or int(chosen["top"]) < 1:
        raise UsageError(f"top={chosen['top']}: expected a whole number > 0")
    if chosen["checkpoint"] not in WEIGHTS:
        raise UsageError(f"checkpoint={chosen['checkpoint']}: expected one of {', '.join(WEIGHTS)}")
    if chosen["split"] not in ("", *SPLITS):
        raise UsageError(
            f"split={chosen['split']}: expected one of {', '.join(SPLITS)} (those of train come shuffled)"
        )
    return chosen, rest


def check_out(out: Path) -> None:
    if out.suffix not in FORMATS:
        raise UsageError(f"--out {out}: expected a name that ends in {' or '.join(FORMATS)}")
    if out.is_dir():
        raise UsageError(f"--out {out}: is a folder; name a file in it")
    if not out.absolute().parent.is_dir():
        raise UsageError(f"--out {out}: there is no folder {out.parent}")


def find_inputs(
    names: list[str], report: Callable[[str], None], reads_text: bool = False
) -> list[Path | str]:
    """What `names` mean, each once: files, those in folders and below that are images (or texts), matches of globs; and where
    texts are read, a name that is none of these is the text itself."""
    found: list[Path | str] = []
    for name in names:
        if reads_text and not is_place(name):
            found.append(name)
            continue
        path = Path(name)
        if path.is_dir():
            paths = files_to_read(path, reads_text)
            problem = f"{name} has no {'text' if reads_text else 'image'} in it"
        elif path.exists():
            paths, problem = [path], ""
        else:
            matches = map(Path, glob.glob(name, recursive=True))  # noqa: PTH207  (Path.glob takes no absolute pattern)
            paths = sorted(match for match in matches if match.is_file())
            problem = (
                f"{name} matches no file"
                if glob.has_magic(name)
                else f"{name}: there is no such file"
            )
        if not paths:
            report(problem)
        found += paths
    return list(dict.fromkeys(found))


def files_to_read(folder: Path, reads_text: bool) -> list[Path]:
    """Return the texts or the images below a folder, by their endings; log which files are left
    out.
    """
    if reads_text:
        paths, others = texts_below(folder)
    else:
        files = [path for path in paths_below(folder) if path.is_file()]
        paths = [path for path in files if path.suffix.lower() in IMAGE_ENDINGS]
        others = [path.name for path in files if path.suffix.lower() not in IMAGE_ENDINGS]
    if paths and others:
        log.warning(
            f"{folder}: {counted(others)} left out: not {'texts' if reads_text else 'images'}, by their endings"
        )
    return paths


def is_place(name: str) -> bool:
    """Whether there is a file or folder of this name, or for a glob: a question mark alone may end a sentence."""
    try:
        return bool(name) and (
            Path(name).exists() or ("*" in name and bool(glob.glob(name, recursive=True)))  # noqa: PTH207
        )
    except (OSError, ValueError):  # too long for a name, or a null byte
        return False


def encoded(reader: Data, inputs: list[Path | str]) -> Iterator[Sample]:
    for one in inputs:
        if isinstance(one, Path):
            yield from reader.encode([one])
        else:
            assert isinstance(reader, ReadsText)
            yield Sample(one if len(one) <= SHOWN else f"{one[:SHOWN]}...", reader.encode_text(one))


def readable(
    samples: Iterable[Sample], report: Callable[[str], None]
) -> Iterator[tuple[Row, Tensor]]:
    """Name and inputs of the samples that have any; the others are reported."""
    for sample in samples:
        if sample.inputs is not None:
            yield {"input": sample.name, **sample.about}, sample.inputs
        else:
            report(
                sample.problem
                if sample.problem.startswith(sample.name)
                else f"{sample.name}: {sample.problem}"
            )


def of_split(data: Data, split: str) -> Iterator[tuple[Row, Tensor]]:
    """Number in the split, class if there are classes, and inputs of the samples of a split, in the order of its batches."""
    part, names = getattr(data, split), data.spec.class_names
    number = (
        iter(part.order(0).argsort().argsort().tolist())
        if isinstance(part, TokenSplit)
        else count()
    )
    for inputs, targets in part.epoch(0):
        for x, target in zip(inputs, targets, strict=True):
            label = {"label": names[int(target)]} if names and not target.ndim else {}
            yield {"input": f"{split}/{next(number)}", **label}, x


def answered(
    engine: Engine, samples: Iterator[tuple[Row, Tensor]], explainer: Explainer | None = None
) -> Iterator[Row]:
    """A row for each sample, by averaged weights where the last stage averages; the `explainer` draws why."""
    task = engine.task
    task.eval()
    with ExitStack() as stack:
        for optim in engine.stage.optims:
            stack.enter_context(optim.averaged())
        while batch := list(islice(samples, BATCH)):
            with torch.no_grad(), engine.autocast:
                inputs = engine.move(together([one for _, one in batch]))
                outputs = task.predict(inputs)
            answers = (
                task.prediction_rows(outputs)
                if isinstance(task, PredictionRows)
                else numbers(outputs)
            )
            rows = [{**known, **answer} for (known, _), answer in zip(batch, answers, strict=True)]
            yield from explainer(inputs, rows) if explainer else rows


def together(inputs: list[Tensor]) -> Tensor:
    """One batch of inputs; sequences of different lengths are filled up with `PAD`."""
    if len({x.shape for x in inputs}) == 1:
        return torch.stack(inputs)
    return torch.nn.utils.rnn.pad_sequence(inputs, batch_first=True, padding_value=PAD)


def numbers(outputs: Any) -> list[Row]:
    """The raw outputs (B, ...) of a task that does not say what they mean; UsageError if they are no such tensor."""
    if not isinstance(outputs, Tensor) or not outputs.ndim:
        raise UsageError(
            "this task predicts no row for each input: it needs a method answers(outputs)"
        )
    flat = outputs.float().flatten(1) if outputs.ndim > 1 else outputs.float().unsqueeze(1)
    return [{f"output_{i}": value for i, value in enumerate(row, 1)} for row in flat.tolist()]


def cut(row: Row, top: int) -> Row:
    """`row` with the best `top` of its candidates."""
    return {key: value[:top] if key == "top" else value for key, value in row.items()}


def flat(row: Row) -> Row:
    """`row` in columns: from the second on, candidates get their rank, as in class_2 and probability_2."""
    columns = {key: value for key, value in row.items() if key != "top"}
    for rank, candidate in enumerate(row.get("top", [])[1:], 2):
        columns |= {f"{key}_{rank}": value for key, value in candidate.items()}
    return columns


def cell(value: Any) -> str:
    """A value in a table: of a list of things only what each is called, which is the first that is said of it."""
    if isinstance(value, list):
        return ", ".join(
            str(next(iter(one.values()))) if isinstance(one, dict) else str(one) for one in value
        )
    return number(value) if isinstance(value, float) else str(value)


def show(rows: Iterable[Row]) -> tuple[int, list[Row]]:
    """Print all rows as a table; how many, and the first few."""
    kept = list(rows)
    if kept:
        lines = [list(flat(row).values()) for row in kept]
        cells = [[cell(value) for value in line] for line in lines]
        log.info(table([list(flat(kept[0])), *cells]))
    return len(kept), kept[:FEW]


def write(rows: Iterable[Row], out: Path) -> tuple[int, list[Row]]:
    """Write each row as it comes; how many, and the first few. `out` is not touched where there is none."""
    written, few = 0, []
    what = f"--out {out}"
    with replacing(out, what) as file:
        write_row = as_json_line(file) if out.suffix == ".jsonl" else as_csv(file)
        for row in rows:  # which may fail to be read, and that is no fault of the output
            written += 1
            few += [row] if written <= FEW else []
            with writing(what):
                write_row(row)
    return written, few


def as_json_line(file: TextIO) -> Callable[[Row], None]:
    """Return what writes a row as a line of JSON."""

    def write_row(row: Row) -> None:
        file.write(to_json(row, ensure_ascii=False) + "\n")

    return write_row


def as_csv(file: TextIO) -> Callable[[Row], None]:
    """Return what writes a row as a line of CSV, and the columns of the first one before it."""
    writer: csv.DictWriter[str] | None = None

    def write_row(row: Row) -> None:
        nonlocal writer
        columns = flat(row)
        if writer is None:
            writer = csv.DictWriter(file, list(columns))
            writer.writeheader()
        writer.writerow(columns)

    return write_row
