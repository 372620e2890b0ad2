"""Questions that word vectors are scored by: similar words, by human judgment, and analogies."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from operator import itemgetter
from pathlib import Path

from dltrain.data.io.archive import ARCHIVE_ERRORS
from dltrain.data.text.corpus import lines, records
from dltrain.errors import InputError

FOLDER = "wordsim"
WORDSIM = "wordsim353-combined.csv"  # Finkelstein et al. 2002
WORDSIM_COLUMNS = ("Word 1", "Word 2", "Human (mean)")
SIMLEX = "SimLex-999.zip"  # Hill et al. 2015
SIMLEX_TABLE = "SimLex-999/SimLex-999.txt"
SIMLEX_COLUMNS = ("word1", "word2", "SimLex999")
QUESTIONS = "questions-words.txt"  # Mikolov et al. 2013
MAX_TABLE_BYTES = 2**24  # of an unpacked table
BUILT_IN_ANALOGIES = (
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
WordPair = tuple[str, str, float]
"""Two words in lower case, and their similarity by human judgment."""


def similarities(root: Path) -> dict[str, list[WordPair]]:
    """Return the word pairs of each set whose file is in `root`/wordsim."""
    folder = root / FOLDER
    sets = {}
    if (folder / WORDSIM).is_file():
        sets["wordsim353"] = wordsim(folder / WORDSIM)
    if (folder / SIMLEX).is_file():
        sets["simlex999"] = simlex(folder / SIMLEX)
    return sets


def wordsim(path: Path) -> list[WordPair]:
    """Read the word pairs of WordSim-353."""
    pairs = []
    for record in records(path, WORDSIM_COLUMNS):
        fields = [record.fields[name] for name in WORDSIM_COLUMNS]
        pairs.append(word_pair(f"{WORDSIM}:{record.line}", fields))
    return pairs


def simlex(path: Path) -> list[WordPair]:
    """Read the word pairs of SimLex-999 from its archive."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open(SIMLEX_TABLE) as file:
            text = file.read(MAX_TABLE_BYTES).decode()
        names, *rows = [line.split("\t") for line in text.splitlines()]
        fields_of = itemgetter(*(names.index(name) for name in SIMLEX_COLUMNS))
        fields = [fields_of(row) for row in rows]
    except (*ARCHIVE_ERRORS, KeyError, ValueError, IndexError) as e:
        raise InputError(
            f"{path} is not as it was published ({e}): expected {SIMLEX_TABLE} in it"
        ) from e
    return [word_pair(f"{path}:{number}", row) for number, row in enumerate(fields, 2)]


def word_pair(place: str, fields: Sequence[str]) -> WordPair:
    """Return the pair in a row of a table at `place`."""
    first, second, similarity = fields
    try:
        return first.strip().lower(), second.strip().lower(), float(similarity)
    except ValueError as e:
        raise InputError(
            f"{place}: {similarity!r} is not a number: expected the similarity of the words"
        ) from e


def analogies(root: Path) -> list[tuple[str, ...]]:
    """Return questions a : b = c : d from questions-words.txt in `root`/wordsim.

    Without that file they are a few well-known ones.
    """
    path = root / FOLDER / QUESTIONS
    if not path.is_file():
        return list(BUILT_IN_ANALOGIES)
    questions: list[tuple[str, ...]] = []
    for number, line in enumerate(lines(path), 1):
        if line.startswith(":"):  # the title of a section
            continue
        words = tuple(line.lower().split())
        if len(words) != 4:
            raise InputError(f"{path}:{number}: expected four words, a : b = c : d")
        questions.append(words)
    return questions
