"""Counts of the tokens that a run's vocabulary lacks in the texts of a prediction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

MAX_SHOWN = 10  # tokens in a message
MAX_TOKEN_CHARS = 40


class UnknownTokens:
    """Counts the tokens of texts, and by its text each that the vocabulary lacks.

    A text without any token, such as spaces for a vocabulary of words, counts as one unknown token
    that is empty.
    """

    def __init__(self) -> None:
        self.total = 0
        self.counts: Counter[str] = Counter()

    def add(self, tokens: Iterable[str | None]) -> None:
        """Count the tokens of one text: None for a known one, else its text."""
        for token in tokens:
            self.total += 1
            if token is not None:
                self.counts[token] += 1

    def message(self) -> str:
        """Return a line with the most frequent unknown tokens; empty where all are known."""
        if not self.counts:
            return ""
        frequent = self.counts.most_common(MAX_SHOWN)
        shown = ", ".join(f"{quoted(token)} ({count:,})" for token, count in frequent)
        more = len(self.counts) - MAX_SHOWN
        rest = f" and {more:,} more" if more > 0 else ""
        return (
            f"{self.counts.total():,} of {self.total:,} tokens are not in the run's vocabulary, "
            f"so the network cannot tell them apart: {shown}{rest}"
        )


def quoted(token: str) -> str:
    """Return a token as it is shown."""
    if not token:
        return "texts without a token"
    return repr(token if len(token) <= MAX_TOKEN_CHARS else f"{token[:MAX_TOKEN_CHARS]}…")
