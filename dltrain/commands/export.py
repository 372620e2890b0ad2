"""`dltrain export RUN --format word2vec [--out FILE.vec]`: word vectors for other programs."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from torch import Tensor

from dltrain.config.overrides import take
from dltrain.errors import UsageError
from dltrain.files import replacing, writing
from dltrain.options import Options
from dltrain.runs.open import (
    TrainedRun,
    evaluation_mode,
    find_run,
    open_trained,
    require_checkpoint_name,
)

log = logging.getLogger("dltrain")
FORMATS = ("word2vec",)
FILE = "vectors.vec"  # in the run's folder
LINES_AT_ONCE = 1000


@runtime_checkable
class HasVectors(Protocol):
    """A task with a vector for each word of its vocabulary."""

    def vectors(self) -> tuple[list[str], Tensor]:
        """Return the words and their vectors (N, D)."""


def export(options: Options) -> None:
    """Write the vectors of all words of a run in word2vec's text format."""
    run, overrides = find_run(options)
    if options.format is None:
        raise UsageError(f"export needs a format: --format {FORMATS[0]}")
    if options.format not in FORMATS:
        raise UsageError(
            f"--format {options.format}: expected word2vec, the only format so far; "
            f"a checkpoint's weights are in {run.folder}/checkpoints as safetensors files"
        )
    typed, overrides = take(overrides, ["checkpoint"])
    pointer = typed.get("checkpoint", "best")
    require_checkpoint_name(pointer)
    words, vectors = word_vectors(open_trained(run, overrides, pointer))
    out = Path(options.out or run.folder / FILE)
    write_word2vec(words, vectors, out)
    log.info(f"{out}: {len(words):,} words, {vectors.shape[1]} numbers each")
    options.outcome.update({"run": str(run.folder), "vectors": len(words), "out": str(out)})


def word_vectors(trained: TrainedRun) -> tuple[list[str], Tensor]:
    """Return the words of a run and their vectors (N, D); UsageError for a task without vectors."""
    task = trained.engine.task
    if not isinstance(task, HasVectors):
        raise UsageError(
            f"--format word2vec: a run of {type(task).__name__} has no word vectors; "
            "choose the run of a model of word vectors, such as model=word2vec"
        )
    with evaluation_mode(trained.engine):
        return task.vectors()


def write_word2vec(words: Sequence[str], vectors: Tensor, out: Path) -> None:
    """Write vectors (N, D) in word2vec's text format: a line of N and D, then a line for each word.

    gensim's KeyedVectors.load_word2vec_format, fastText and spaCy read it. Nine digits of a number
    are enough to read the same 32-bit number again.
    """
    what = f"--out {out}"
    with replacing(out, what) as file, writing(what):
        file.write(f"{len(words)} {vectors.shape[1]}\n")
        for first in range(0, len(words), LINES_AT_ONCE):
            rows = vectors[first : first + LINES_AT_ONCE].float().tolist()
            for word, row in zip(words[first : first + LINES_AT_ONCE], rows, strict=True):
                numbers = " ".join(f"{value:.9g}" for value in row)
                file.write(f"{word} {numbers}\n")
