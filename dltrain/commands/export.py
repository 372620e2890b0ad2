"""`dltrain export RUN --format safetensors|word2vec [--out FILE]`: files for other programs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
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
from dltrain.weights.export import write_safetensors

log = logging.getLogger("dltrain")
LINES_AT_ONCE = 1000


@runtime_checkable
class HasVectors(Protocol):
    """A task with a vector for each word of its vocabulary."""

    def vectors(self) -> tuple[list[str], Tensor]:
        """Return the words and their vectors (N, D)."""


def export(options: Options) -> None:
    """Write what a run has learned in the format of --format."""
    run, overrides = find_run(options)
    if options.format is None:
        raise UsageError(f"export needs a format: --format {' or '.join(FORMATS)}")
    if options.format not in FORMATS:
        raise UsageError(f"--format {options.format}: expected {' or '.join(FORMATS)}")
    file_name, export_as = FORMATS[options.format]
    typed, overrides = take(overrides, ["checkpoint"])
    pointer = typed.get("checkpoint", "best")
    require_checkpoint_name(pointer)
    out = Path(options.out or run.folder / file_name)
    figures = export_as(open_trained(run, overrides, pointer), out)
    options.outcome.update({"run": str(run.folder), **figures, "out": str(out)})


def export_weights(trained: TrainedRun, out: Path) -> dict[str, int]:
    """Write the weights of the run's network as safetensors, by the names of the network.

    Averaged weights are written if the run averages them, and products of LoRA are merged.
    """
    trained.keep_for_prediction()
    count = write_safetensors(trained.model, out)
    log.info(f"{out}: {count} tensors")
    return {"tensors": count}


def export_vectors(trained: TrainedRun, out: Path) -> dict[str, int]:
    """Write the vectors of all words of the run in word2vec's text format."""
    words, vectors = word_vectors(trained)
    write_word2vec(words, vectors, out)
    log.info(f"{out}: {len(words):,} words, {vectors.shape[1]} numbers each")
    return {"vectors": len(words)}


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


FORMATS: dict[str, tuple[str, Callable[[TrainedRun, Path], dict[str, int]]]] = {
    "safetensors": ("model.safetensors", export_weights),
    "word2vec": ("vectors.vec", export_vectors),
}
"""The file in the run's folder, and what writes it, by the name of the format."""
