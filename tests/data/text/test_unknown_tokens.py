"""Tokens that a vocabulary lacks: named in the words of the text, counted, logged in one line."""

from __future__ import annotations

import pytest

from dltrain.data.text.tokenizer import Tokenizer, TokenizerKind, UnknownTokens

TEXTS = ["0123456789", "ein Café am See", "don't stop"]


@pytest.mark.parametrize(
    ("kind", "text", "unknown"),
    [
        ("character", "1 2x;x3", ["x", ";", "x"]),
        ("character", "12", []),
        ("word", "ein Hund am Meer", ["Hund", "Meer"]),
        ("word", "Ein Cafe\u0301 AM see", []),
        ("word", "GROSSE straße", ["GROSSE", "straße"]),
        ("word", "<pad> am", ["<", "pad", ">"]),
        ("word", " \n", [""]),
        ("word", "", [""]),
        ("whitespace", "don't 猫猫", ["猫猫"]),
        ("bpe", "anything 猫 at all", []),
        ("byte", "\x00 猫", []),
    ],
)
def test_unknown_tokens_are_named_as_the_text_has_them(
    kind: TokenizerKind, text: str, unknown: list[str]
) -> None:
    """They are not normalized; the numbers are those of training."""
    tokenizer = Tokenizer.train(kind, 1000, True, TEXTS)
    numbers, tokens = tokenizer.encode_one(text)
    assert [token for token in tokens if token is not None] == unknown
    assert len(tokens) == len(numbers)
    assert numbers.tolist() == next(tokenizer.encode([text])).tolist()


def test_a_message_has_the_counts_the_most_frequent_first() -> None:
    counted = UnknownTokens()
    counted.add([None, None])
    assert counted.message() == ""
    counted.add([" ", None, "x" * 100, " ", ""])
    message = counted.message()
    assert message.startswith("4 of 7 tokens are not in the run's vocabulary")
    assert message.endswith(f"' ' (2), '{'x' * 40}…' (1), texts without a token (1)")
    counted.add(str(i) for i in range(5000))
    assert counted.message().endswith("and 4,993 more")
