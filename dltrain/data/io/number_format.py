"""Numbers as people write them: which notation a column of texts uses, and the numbers that it
says.

A notation has a decimal mark and a separator of thousands. "1,234" alone is 1234 in one notation
and 1.234 in another, so the notation is decided by all the values of a column, and never guessed.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

PERCENT = "%"
SPACES = dict.fromkeys(
    map(ord, "\u00a0\u202f\u2009\u2007\u2002\u2003\u2005\u2006\u2008\u200a\t"), " "
)
MARKS = {ord(mark): "'" for mark in "’‘´`ʼ"}
THOUSANDS_NAMES = {".": "point", ",": "comma", "'": "apostrophe", " ": "space"}
MINUSES = {ord(mark): "-" for mark in "−–‒﹣－"}
PLAIN_LETTERS = SPACES | MARKS | MINUSES
CODES = re.findall(
    r"\w+",
    "AED ARS AUD BDT BGN BHD BRL CAD CHF CLP CNY COP CZK DKK EGP EUR GBP GEL HKD HRK HUF IDR ILS INR ISK "
    "JOD JPY KES KRW KWD KZT LKR MAD MXN MYR NGN NOK NZD OMR PEN PHP PKR PLN QAR RON RSD RUB SAR SEK SGD "
    "THB TND TRY TWD TZS UAH UGX USD UYU UZS VND ZAR",
)
SIGNS = (
    r"(?:[A-Z]{1,2})?\$|[¢£¤¥฿₠-₿]|\b(?:"
    + "|".join(CODES)
    + r")\b|R\$|Rs\.?|S?Fr\.|kr\.?|zł|Kč|Ft|руб\.?|₽"
)
MEASURES = r"[^\W\d_]{1,12}?[²³]?(?:/[^\W\d_]{1,5})?(?= ?$)|°[CFK]?|[‰″′]|[kKMB](?= ?[^\w ])"
# What the letter behind a number multiplies it by: 1.5K, 3M.
MAGNITUDES = {"k": 1e3, "K": 1e3, "M": 1e6, "B": 1e9, "bn": 1e9, "Mio": 1e6, "Mrd": 1e9}
SCALED = "k/M/B"  # the measure of a column of such numbers
WHOLE_TEXT = re.compile(
    rf"(?P<before>[-+]?) ?(?P<prefix>{SIGNS})? ?(?P<inner>[-+]?) ?"
    r"(?P<digits>(?:[0-9]|[.,](?=[0-9]))[0-9.,' ]*?(?:[eE][-+]?[0-9]+)?)"
    rf"(?:[.,]--?|/-)? ?(?P<measure>{MEASURES})?(?P<suffix>%|{SIGNS})? ?(?P<after>-?)"
)
PARENTHESES = re.compile(r"(?P<prefix>[^()0-9]*)\((?P<inside>[^()]*)\)(?P<suffix>[^()0-9]*)")
HEXADECIMAL = re.compile(r"0[xX][0-9a-fA-F]+")
INFINITE = re.compile(r"[-+]?(?:inf|infinity|∞)", re.IGNORECASE)
ADDRESS = re.compile(r"(?:[0-9]{1,3}\.){3}[0-9]{1,3}")  # of the Internet: four numbers, not one


@dataclass(frozen=True)
class NumberFormat:
    """How a column writes its numbers: decimal mark, separator of thousands ("" for none), and
    units.

    `unit` is a currency or percent, `measure` any other word behind the number, such as kg; or
    `SCALED` where K, M and the like multiply it.
    """

    decimal: str = "."
    thousands: str = ""
    unit: str = ""
    measure: str = ""

    def parse(self, text: str) -> float | None:
        """Return the number that `text` says in this notation; None where it says none.

        A percent sign must be there exactly when the column has it, but for 0; a currency may be left out.
        """
        written = split_number(text)
        if written is None:
            return None
        is_zero = not written.digits.strip("0.,")
        if written.unit != self.unit and (written.unit or (self.unit == PERCENT and not is_zero)):
            return None
        if written.measure and self.measure != SCALED and written.measure != self.measure:
            return None
        return written.value(self)

    def described(self) -> str:
        """Return the notation in a few words, for messages."""
        words = ["decimal=comma"] if self.decimal == "," else []
        words += [f"thousands={THOUSANDS_NAMES[self.thousands]}"] if self.thousands else []
        words += [f"unit {unit}" for unit in (self.unit, self.measure) if unit]
        return ", ".join(words) or "plain numbers"


def _pattern(decimal: str, thousands: str) -> re.Pattern[str]:
    """Return what the digits of a number look like in a notation."""
    point = re.escape(decimal)
    pattern = rf"(?:[0-9]+(?:{point}[0-9]*)?|{point}[0-9]+)(?:[eE][-+]?[0-9]+)?"
    groups = []  # which no number with an exponent has
    if thousands:
        mark = re.escape(thousands)
        groups.append(rf"[1-9][0-9]{{0,2}}(?:{mark}[0-9]{{3}})+")
    if thousands == ",":  # as in India: 12,34,567
        groups.append(r"[1-9][0-9]?(?:,[0-9]{2})+,[0-9]{3}")
    if groups:
        pattern += rf"|(?:{'|'.join(groups)})(?:{point}[0-9]*)?"
    return re.compile(pattern)


PLAIN = NumberFormat()
MIN_GROUPED = 10  # numbers with three digits behind the point that say that it separates thousands
# In the order of preference: of notations that agree on every value the first is taken.
NOTATIONS = tuple(
    NumberFormat(decimal, thousands)
    for decimal, thousands in (
        (".", ""),
        (".", ","),
        (",", ""),
        (",", "."),
        (".", "'"),
        (".", " "),
        (",", "'"),
        (",", " "),
    )
)
PATTERNS = {(n.decimal, n.thousands): _pattern(n.decimal, n.thousands) for n in NOTATIONS}
ALL_MARKS = frozenset(PATTERNS)


def _fitting_marks(digits: str) -> frozenset[tuple[str, str]]:
    """Return the decimal and thousands marks with which digits can be read as one number."""
    if digits.isdigit():
        return ALL_MARKS
    fitting = {marks for marks, pattern in PATTERNS.items() if pattern.fullmatch(digits)}
    if (",", ".") in fitting and ADDRESS.fullmatch(digits):
        fitting.remove((",", "."))
    return frozenset(fitting)


@dataclass(frozen=True)
class WrittenNumber:
    """A number as it is written: its sign, its digits with marks, its unit; or a `known` value."""

    negative: bool
    digits: str
    unit: str = ""
    known: float | None = None
    measure: str = ""
    marks: frozenset[tuple[str, str]] = ALL_MARKS

    def fits(self, notation: NumberFormat) -> bool:
        """Return whether the number can be read with the marks of `notation`."""
        return (notation.decimal, notation.thousands) in self.marks

    def value(self, notation: NumberFormat) -> float | None:
        """Return the number in this notation; None where the digits do not fit it."""
        if not self.fits(notation):
            return None
        if self.known is not None:
            return -self.known if self.negative else self.known
        digits = self.digits.replace(notation.thousands, "") if notation.thousands else self.digits
        number = float(digits.replace(notation.decimal, "."))
        if notation.measure == SCALED:
            number *= MAGNITUDES.get(self.measure, 1.0)
        return -number if self.negative else number


def split_number(text: str) -> WrittenNumber | None:
    """Return the parts of a text that says one number in some notation; None for any other text."""
    text = _simplified(text)
    if not text:
        return None
    if HEXADECIMAL.fullmatch(text):
        return WrittenNumber(False, text, known=float(int(text, 16)))
    if INFINITE.fullmatch(text):
        return WrittenNumber(text[0] == "-", text, known=math.inf)
    bracketed = False
    if found := PARENTHESES.fullmatch(text):
        text = f"{found['prefix']}{found['inside']}{found['suffix']}".strip()
        bracketed = True
    parts = WHOLE_TEXT.fullmatch(text)
    if parts is None:
        return None
    signs = [parts[name] for name in ("before", "inner", "after") if parts[name]]
    units = [parts[name] for name in ("prefix", "suffix") if parts[name]]
    if len(signs) + bracketed > 1 or len(units) > 1:
        return None
    negative = bracketed or signs == ["-"]
    digits = parts["digits"].strip()
    marks = _fitting_marks(digits)
    if not marks:
        return None
    return WrittenNumber(
        negative, digits, "".join(units), measure=parts["measure"] or "", marks=marks
    )


def _simplified(text: str) -> str:
    """Return `text` with one kind of space, apostrophe, minus and digit, and without quotes around
    it.
    """
    text = text.strip().strip("\ufeff\u200b\u200e\u200f")
    if text[:2] in ('="', "='"):  # a formula of Excel's that keeps a text
        text = text[1:]
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        text = text[1:-1].strip()
    elif text[:1] == "'" and (text[1:2].isdigit() or text[1:2] in "-+."):  # Excel's mark of a text
        text = text[1:]
    if text.isascii():
        return text
    text = text.translate(PLAIN_LETTERS)
    return "".join(
        str(unicodedata.decimal(c)) if c.isdecimal() and c not in "0123456789" else c for c in text
    )


@dataclass(frozen=True)
class Undecided:
    """Why the notation of a column is not known.

    The number at position `first` is `ambiguous`; or no notation fits it and those before it, one
    of which (`second`, where it is known) is in another notation.
    """

    first: int
    second: int | None
    ambiguous: bool = False


def notation_of(
    written: Sequence[WrittenNumber], allowed: Sequence[NumberFormat]
) -> NumberFormat | Undecided:
    """Return the notation, among the `allowed` ones, in which all numbers of a column are written.

    Several that agree on every value are as good as one. Where they do not, plain numbers with a
    decimal point are what they look like; any others are `Undecided`.
    """
    fitting = list(allowed)
    for position, number in enumerate(written):
        left = [notation for notation in fitting if number.fits(notation)]
        if not left:
            return _contradiction(written, position, allowed)
        fitting = left
    chosen = fitting[0]
    if (chosen.decimal, chosen.thousands) == (PLAIN.decimal, PLAIN.thousands):
        return chosen
    for position, number in enumerate(written):
        readings = {number.value(notation) for notation in fitting}
        if len(readings) > 1:
            return Undecided(position, None, ambiguous=True)
    return chosen


def _contradiction(
    written: Sequence[WrittenNumber], position: int, allowed: Sequence[NumberFormat]
) -> Undecided:
    """Return the text at `position`, and an earlier one that is in another notation."""
    fitting = [notation for notation in allowed if written[position].fits(notation)]
    others = range(position)
    other = next(
        (i for i in others if not any(written[i].fits(notation) for notation in fitting)), None
    )
    if other is None and fitting and position:
        other = position - 1
    return Undecided(position, other if fitting else None)


def looks_grouped(written: Sequence[WrittenNumber]) -> bool:
    """Return whether every point among plain numbers could as well separate thousands: 1.234, 56,
    12.000.
    """
    pointed = [number for number in written if "." in number.digits]
    return bool(pointed) and all(number.fits(NumberFormat(",", ".")) for number in pointed)


def is_grouped(written: Sequence[WrittenNumber]) -> bool:
    """Return whether points among plain numbers are most likely no decimal ones: 812, 45.011,
    7.210.

    Decimals of three digits each, beside numbers without any, come from no usual way to write
    decimals: that has 812.000, or leaves out the last zero of 7.210.
    """
    pointed = sum("." in number.digits for number in written)
    return looks_grouped(written) and pointed < len(written) and pointed >= MIN_GROUPED


def measure_of(written: Sequence[WrittenNumber]) -> str | None:
    """Return what stands behind the numbers of a column, "" for nothing; None where it is not the
    same.
    """
    found = {number.measure for number in written} - {""}
    if not found:
        return ""
    if found <= MAGNITUDES.keys() and (len(found) > 1 or any(number.unit for number in written)):
        return SCALED
    return found.pop() if len(found) == 1 else None
