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


def _words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"\S+", text))


# Mean "no value" in every column.
MISSING_WORDS = _words("NA N/A n/a #N/A #NA <NA> NaN nan NAN -nan -NaN NaT null NULL None ?") | {
    "",
    "#N/A N/A",
}
# Mean "no value" in a column of numbers. In a column of texts they may be labels.
MISSING_MARKS = _words(
    "- -- --- – — − . .. ... … · • * ?? na Na N.A. n.a. N.a. Null none NONE nil Nan N/a "
    "#DIV/0! #VALUE! #REF! #NAME? #NUM! #NULL! 1.#IND -1.#IND 1.#QNAN -1.#QNAN #N/D #NV"
)
BOOLEANS = ("false", "true")
NUMERAL = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]*)?(?:[eE][+-]?[0-9]{1,3})?")
WHOLE = re.compile(r"0|-?[1-9][0-9]*")
CLOCK = re.compile(r"([0-9]{2}:[0-9]{2}:[0-9]{2})\.([0-9]+)")
MOMENT = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})"
    r"(?:[T ]([0-9]{2}:[0-9]{2})(:[0-9]{2})?(?:[.,]([0-9]+))? ?(Z|[+-][0-9]{2}:?[0-9]{2})?)?"
)
UNSEEN: dict[int, str | None] = {
    **dict.fromkeys(map(ord, "   "), " "),
    **dict.fromkeys(map(ord, "​⁠﻿­"), None),
}
EXACT = Context(prec=2000)  # digits: no numeral that `NUMERAL` matches is rounded


def plain_letters(text: str) -> str:
    """Return `text` without surrounding spaces, with its letters as Unicode composes them.

    Spaces that do not break a line become plain ones, and marks that nobody sees go.
    """
    if not text.isascii():
        text = unicodedata.normalize("NFC", text.translate(UNSEEN))
    return text.strip()


def canonical(text: str) -> str:
    """Return the one text that stands for every way to write the value `text`.

    Surrounding spaces go, an accent is part of its letter, "3.0", "+3" and "3e0" become "3", "1.50"
    becomes "1.5", and a time of midnight and the zeros of a second's fraction go. Leading zeros
    stay: "007" is a code, not 7.
    """
    text = plain_letters(text)
    if not text or not (text[0].isdigit() or text[0] in "-+"):
        return text
    if text[0] == "+" and NUMERAL.fullmatch(text[1:]) and text[1] != "-":
        text = text[1:]
    if NUMERAL.fullmatch(text):
        return text if WHOLE.fullmatch(text) else _plain_numeral(text)
    if found := MOMENT.fullmatch(text):
        return _plain_moment(text, found)
    if found := CLOCK.fullmatch(text):
        return _with_fraction(found[1], found[2])
    return text


def value_key(text: str) -> str:
    """Return what two texts have in common exactly when they mean the same value."""
    text = canonical(text)
    lower = text.lower()
    return lower if lower in BOOLEANS else text


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
        for names, others in ((BOOLEANS, ("0", "1")), (("0", "1"), BOOLEANS)):
            if self.by_key and set(self.by_key) <= set(names):
                for name, other in zip(names, others, strict=True):
                    if name in self.by_key:
                        self.by_key[other] = self.by_key[name]
                break

    def find(self, text: str) -> int:
        """Return the position of `text`, -1 where it is not known."""
        if text in self.exact:
            return self.exact[text]
        return self.by_key.get(value_key(text), -1)


def missing_texts(added: Collection[object] = ()) -> frozenset[str]:
    """Return the canonical texts that mean "no value" in every column, with those that a user
    `added`.
    """
    return MISSING_WORDS | {canonical(_as_text(value)) for value in added}


def _as_text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _plain_numeral(text: str) -> str:
    number = EXACT.create_decimal(text).normalize(EXACT)
    return "0" if not number else format(number, "f")


def _plain_moment(text: str, found: re.Match[str]) -> str:
    date, minutes, seconds, fraction, zone = found.groups()
    clock = (minutes or "00:00") + (seconds or ":00")
    if zone is not None:
        try:
            moment = datetime.fromisoformat(f"{date}T{clock}{zone}").astimezone(UTC)
        except (ValueError, OverflowError):  # no such day, or before the year 1
            return text
        return _with_fraction(moment.strftime("%Y-%m-%d %H:%M:%S"), fraction or "") + "Z"
    clock = _with_fraction(clock, fraction or "")
    return date if clock == "00:00:00" else f"{date} {clock}"


def _with_fraction(clock: str, fraction: str) -> str:
    fraction = fraction.rstrip("0")
    return f"{clock}.{fraction}" if fraction else clock
