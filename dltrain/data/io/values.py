"""The text of a value: which texts mean the same value, and which mean a missing value.

A table may write one value in several ways: "3" and "3.0", "True" and "true", "2020-01-01" and
"2020-01-01 00:00:00". Every format and every command compares texts by `value_key`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from decimal import Context


def words(text: str) -> frozenset[str]:
    """Return the words of a text."""
    return frozenset(re.findall(r"\S+", text))


# Mean "no value" in every column.
MISSING_WORDS = words("NA N/A n/a #N/A #NA <NA> NaN nan NAN -nan -NaN NaT null NULL None ?") | {
    "",
    "#N/A N/A",
}
# Mean "no value" in a column of numbers. In a column of texts they may be labels.
MISSING_MARKS = words(
    "- -- --- – — − . .. ... … · • * ?? na Na N.A. n.a. N.a. Null none NONE nil Nan N/a "
    "#DIV/0! #VALUE! #REF! #NAME? #NUM! #NULL! 1.#IND -1.#IND 1.#QNAN -1.#QNAN #N/D #NV"
)
BOOLEANS = ("false", "true")
BITS = ("0", "1")
NUMERAL = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]*)?(?:[eE][+-]?[0-9]{1,3})?")
POSITIVE = re.compile(rf"\+(?!-){NUMERAL.pattern}")
WHOLE = re.compile(r"0|-?[1-9][0-9]*")
CLOCK = re.compile(r"([0-9]{2}:[0-9]{2}:[0-9]{2})\.([0-9]+)")
MOMENT = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})"
    r"(?:[T ]([0-9]{2}:[0-9]{2})(:[0-9]{2})?(?:[.,]([0-9]+))? ?(Z|[+-][0-9]{2}:?[0-9]{2})?)?"
)
INVISIBLE: dict[int, str | None] = {
    **dict.fromkeys(map(ord, "   "), " "),
    **dict.fromkeys(map(ord, "​⁠﻿­"), None),
}
EXACT = Context(prec=2000)  # digits, so that no number that `NUMERAL` matches is rounded


def plain_letters(text: str) -> str:
    """Return `text` without surrounding spaces, with its letters as Unicode composes them.

    Spaces that do not break a line become plain ones, and marks that nobody sees go.
    """
    if not text.isascii():
        text = unicodedata.normalize("NFC", text.translate(INVISIBLE))
    return text.strip()


def canonical(text: str) -> str:
    """Return the one text that stands for every way to write the value `text`.

    Surrounding spaces go, an accent is part of its letter, "3.0", "+3" and "3e0" become "3", "1.50"
    becomes "1.5", and a time of midnight and the zeros of a second's fraction go. Leading zeros
    stay: "007" is a code, not 7.
    """
    text = plain_letters(text)
    if not text[:1].isdigit() and not text.startswith(("-", "+")):
        return text
    if POSITIVE.fullmatch(text):
        text = text[1:]
    if WHOLE.fullmatch(text):
        return text
    if NUMERAL.fullmatch(text):
        return plain_numeral(text)
    if moment := MOMENT.fullmatch(text):
        return plain_moment(text, moment)
    if clock := CLOCK.fullmatch(text):
        return with_fraction(clock[1], clock[2])
    return text


def value_key(text: str) -> str:
    """Return what two texts have in common exactly when they mean the same value."""
    text = canonical(text)
    lower = text.lower()
    if lower in BOOLEANS:
        return lower
    return text


class KnownTexts:
    """Finds the position of a text among the `known` ones, however its value is written.

    The exact text comes first, so known texts that differ only in their writing stay apart. Where
    the known texts are true and false, 1 and 0 mean these, and the other way round.
    """

    def __init__(self, known: Sequence[str]) -> None:
        self.exact = {text: position for position, text in enumerate(known)}
        self.by_key: dict[str, int] = {}
        for position, text in enumerate(known):
            self.by_key.setdefault(value_key(text), position)
        if self.by_key.keys() <= set(BOOLEANS):
            self.add_synonyms(BOOLEANS, BITS)
        elif self.by_key.keys() <= set(BITS):
            self.add_synonyms(BITS, BOOLEANS)

    def add_synonyms(self, names: Sequence[str], synonyms: Sequence[str]) -> None:
        """Give the `synonyms` the positions of the `names` that are known."""
        for name, synonym in zip(names, synonyms, strict=True):
            if name in self.by_key:
                self.by_key[synonym] = self.by_key[name]

    def find(self, text: str) -> int:
        """Return the position of `text`, -1 where it is not known."""
        if text in self.exact:
            return self.exact[text]
        return self.by_key.get(value_key(text), -1)


def missing_texts(added: Collection[object] = ()) -> frozenset[str]:
    """Return the canonical texts that mean "no value" in every column, and those `added`."""
    return MISSING_WORDS | {canonical(setting_text(value)) for value in added}


def setting_text(value: object) -> str:
    """Return the text of a setting's value."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)


def plain_numeral(text: str) -> str:
    """Return a number without exponent, trailing zeros and a minus before 0."""
    number = EXACT.create_decimal(text).normalize(EXACT)
    if not number:
        return "0"
    return format(number, "f")


def plain_moment(text: str, match: re.Match[str]) -> str:
    """Return a moment without a time of midnight, and in UTC if it has a time zone."""
    date, minutes, seconds, fraction, zone = match.groups(default="")
    clock = (minutes or "00:00") + (seconds or ":00")
    if not zone:
        clock = with_fraction(clock, fraction)
        if clock == "00:00:00":
            return date
        return f"{date} {clock}"
    try:
        moment = datetime.fromisoformat(f"{date}T{clock}{zone}").astimezone(UTC)
    except (ValueError, OverflowError):  # no such day, or before the year 1
        return text
    return with_fraction(moment.strftime("%Y-%m-%d %H:%M:%S"), fraction) + "Z"


def with_fraction(clock: str, fraction: str) -> str:
    """Return a time with the digits of a second's fraction, except trailing zeros."""
    fraction = fraction.rstrip("0")
    if fraction:
        return f"{clock}.{fraction}"
    return clock
