"""Questions that word vectors are scored by: pairs of words with what people think of their likeness, and analogies."""

from __future__ import annotations

import zipfile
from pathlib import Path

from dltrain.data.io.archive import BROKEN
from dltrain.data.text.corpus import lines, records
from dltrain.errors import InputError

FOLDER = "wordsim"
WORDSIM = "wordsim353-combined.csv"  # Finkelstein et al. 2002
SIMLEX = "SimLex-999.zip"  # Hill et al. 2015
SIMLEX_TABLE = "SimLex-999/SimLex-999.txt"
QUESTIONS = "questions-words.txt"  # Mikolov et al. 2013
LARGEST = 2**24  # bytes of an unpacked table
FEW = (
    ("man", "woman", "king", "queen"),
    ("man", "woman", "actor", "actress"),
    ("he", "she", "his", "her"),
    ("man", "woman", "father", "mother"),
    ("good", "better", "bad", "worse"),
    ("good", "best", "bad", "worst"),
    ("film", "films", "movie", "movies"),
    ("walk", "walking", "watch", "watching"),
    ("france", "french", "germany", "german"),
)
Pairs = list[tuple[str, str, float]]


def similarities(root: Path) -> dict[str, Pairs]:
    """Of each set whose file is in `root`/wordsim its pairs of words, in lower case, and their likeness."""
    folder, found = root / FOLDER, {}
    if (folder / WORDSIM).is_file():
        columns = ("Word 1", "Word 2", "Human (mean)")
        rows = [
            (f"{WORDSIM}:{r.line}", [r.fields[c] for c in columns])
            for r in records(folder / WORDSIM, columns)
        ]
        found["wordsim353"] = [pair(*row) for row in rows]
    if (folder / SIMLEX).is_file():
        found["simlex999"] = simlex(folder / SIMLEX)
    return found


def simlex(path: Path) -> Pairs:
    try:
        with zipfile.ZipFile(path) as archive, archive.open(SIMLEX_TABLE) as file:
            header, *table = file.read(LARGEST).decode().splitlines()
        names = header.split("\t")
        at = [names.index(name) for name in ("word1", "word2", "SimLex999")]
        split = [line.split("\t") for line in table]
        rows = [(f"{path}:{number}", [row[i] for i in at]) for number, row in enumerate(split, 2)]
    except (*BROKEN, KeyError, ValueError, IndexError) as e:
        raise InputError(
            f"{path} is not as it was published ({e}): expected {SIMLEX_TABLE} in it"
        ) from e
    return [pair(*row) for row in rows]


def pair(place: str, fields: list[str]) -> tuple[str, str, float]:
    try:
        return fields[0].strip().lower(), fields[1].strip().lower(), float(fields[2])
    except ValueError as e:
        raise InputError(
            f"{place}: {fields[2]!r} is no number: expected how alike the words are"
        ) from e


def analogies(root: Path) -> list[tuple[str, ...]]:
    """Questions a : b = c : d, of questions-words.txt in `root`/wordsim, or a few where it is not."""
    path = root / FOLDER / QUESTIONS
    if not path.is_file():
        return list(FEW)
    rows = [
        (number, line.lower().split())
        for number, line in enumerate(lines(path), 1)
        if not line.startswith(":")
    ]
    for number, row in rows:
        if len(row) != 4:
            raise InputError(f"{path}:{number}: expected four words, a : b = c : d")
    return [tuple(row) for _, row in rows]
