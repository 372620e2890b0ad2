"""`dltrain predict RUN --out vectors.vec`: the vectors of a run's words, as word2vec writes them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from torch import Tensor

from dltrain.commands.options import Options
from dltrain.commands.resume import answering
from dltrain.engine import Engine
from dltrain.errors import UsageError
from dltrain.files import replacing, writing

log = logging.getLogger("dltrain")
SUFFIX = ".vec"
AT_ONCE = 1000  # lines


@runtime_checkable
class HasVectors(Protocol):
    """A task with a vector for each of many words."""

    def vectors(self) -> tuple[list[str], Tensor]: ...


def write_vectors(engine: Engine, options: Options, out: Path, run: Path) -> None:
    """Write all vectors of the run, averaged where its last stage averages; UsageError for a task that has none."""
    if not isinstance(engine.task, HasVectors):
        raise UsageError(
            f"--out {out}: a run of {type(engine.task).__name__} has no vectors of words; word2vec's has"
        )
    with answering(engine):
        words, vectors = engine.task.vectors()
    count = write_word2vec(words, vectors, out)
    log.info(f"{out}: {count:,} words, {vectors.shape[1]} numbers each")
    options.outcome.update({"run": str(run), "vectors": count, "out": str(out)})


def write_word2vec(words: Sequence[str], vectors: Tensor, out: Path) -> int:
    """Write vectors (N, D) in word2vec's text format, a line of N and D and then one for each word; how many there are.

    gensim's KeyedVectors.load_word2vec_format, fastText and spaCy read it. Numbers are written as exactly as they are.
    """
    what = f"--out {out}"
    with replacing(out, what) as file, writing(what):
        file.write(f"{len(words)} {vectors.shape[1]}\n")
        for first in range(0, len(words), AT_ONCE):
            rows = vectors[first : first + AT_ONCE].float().tolist()
            for word, row in zip(words[first : first + AT_ONCE], rows, strict=True):
                file.write(f"{word} {' '.join(f'{value:.9g}' for value in row)}\n")
    return len(words)
