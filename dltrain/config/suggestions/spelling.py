"""Names that are spelled nearly like another."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

MIN_SIMILARITY = 0.55  # from which a word may stand for another
SAME_LETTERS = 0.95  # the similarity of two names with the same letters in another order


def close_matches(word: str, words: Iterable[str]) -> list[str]:
    """Return the words most like `word`, best first; case does not count."""
    by_lower = {candidate.lower(): candidate for candidate in words}
    matches = difflib.get_close_matches(word.lower(), by_lower, n=3, cutoff=MIN_SIMILARITY)
    return [by_lower[match] for match in matches]


def similarity(one: str, other: str) -> float:
    """Return the similarity of two names in 0..1.

    Case does not count, and the same letters in another order are nearly the same name.
    """
    one, other = one.lower(), other.lower()
    if sorted(one) == sorted(other) and one != other:
        return SAME_LETTERS
    return difflib.SequenceMatcher(None, one, other).ratio()
