"""Vectors of words as word2vec writes them: what `dltrain predict RUN --out vectors.vec` makes of a run's words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from torch import Tensor

from dltrain.commands.predict import replacing

SUFFIX = ".vec"


@runtime_checkable
class HasVectors(Protocol):
    """A task with a vector for each of many words."""

    def vectors(self) -> tuple[list[str], Tensor]: ...


def write_word2vec(words: Sequence[str], vectors: Tensor, out: Path) -> int:
    """Write vectors (N, D) in word2vec's text format, a line of N and D and then one for each word; how many there are.

    gensim's KeyedVectors.load_word2vec_format, fastText and spaCy read it. Numbers are written as exactly as they are.
    """
    with replacing(out) as file:
        file.write(f"{len(words)} {vectors.shape[1]}\n")
        for some in range(0, len(words), 1000):
            rows = vectors[some : some + 1000].float().tolist()
            for word, row in zip(words[some : some + 1000], rows, strict=True):
                file.write(f"{word} {' '.join(f'{value:.9g}' for value in row)}\n")
    return len(words)
