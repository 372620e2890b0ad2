"""Numbers as people write them: the notation of a column of texts, and its numbers.

A notation has a decimal mark and a separator of thousands. "1,234" alone is 1234 in one notation
and 1.234 in another, so all the values of a column decide the notation; it is never guessed.
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
CURRENCY_CODES = re.findall(
    r"\w+",
    "AED ARS AUD BDT BGN BHD BRL CAD CHF CLP CNY COP CZK DKK EGP EUR GBP GEL HKD HRK HUF IDR ILS "
    "INR ISK JOD JPY KES KRW KWD KZT LKR MAD MXN MYR NGN NOK NZD OMR PEN PHP PKR PLN QAR RON RSD "
    "RUB SAR SEK SGD THB TND TRY TWD TZS UAH UGX USD UYU UZS VND ZAR",
)
CURRENCIES = (
    r"(?:[A-Z]{1,2})?\$|[¢£¤¥฿₠-₿]|\b(?:"
    + "|".join(CURRENCY_CODES)
    + r")\b|R\$|Rs\.?|S?Fr\.|kr\.?|zł|Kč|Ft|руб\.?|₽"
)
MEASURES = r"[^\W\d_]{1,12}?[²³]?(?:/[^\W\d_]{1,5})?(?= ?$)|°[CFK]?|[‰″′]|[kKMB](?= ?[^\w ])"
# What the letter behind a number multiplies it by: 1.5K, 3M.
MAGNITUDES = {"k": 1e3, "K": 1e3, "M": 1e6, "B": 1e9, "bn": 1e9, "Mio": 1e6, "Mrd": 1e9}
SCALED = "k/M/B"  # the measure of a column of numbers with these suffixes
WHOLE_TEXT = re.compile(
    rf"(?P<before>[-+]?) ?(?P<prefix>{CURRENCIES})? ?(?P<inner>[-+]?) ?"
    r"(?P<digits>(?:[0-9]|[.,](?=[0-9]))[0-9.,' ]*?(?:[eE][-+]?[0-9]+)?)"
    rf"(?:[.,]--?|/-)? ?(?P<measure>{MEASURES})?(?P<suffix>%|{CURRENCIES})? ?(?P<after>-?)"
)
PARENTHESES = re.compile(r"(?P<prefix>[^()0-9]*)\((?P<inside>[^()]*)\)(?P<suffix>[^()0-9]*)")
HEXADECIMAL = re.compile(r"0[xX][0-9a-fA-F]+")
INFINITE = re.compile(r"[-+]?(?:inf|infinity|∞)", re.IGNORECASE)
ADDRESS = re.compile(r"(?:[0-9]{1,3}\.){3}[0-9]{1,3}")  # of the Internet: four numbers, not one


@dataclass(frozen=True)
class NumberFormat:
    """The notation of a column of numbers: decimal mark, separator of thousands, and units.

    The separator is "" for none. `unit` is a currency or percent, `measure` any other word behind
    the number, such as kg; or `SCALED` where K, M and the like multiply it.
    """

    decimal: str = "."
    thousands: str = ""
    unit: str = ""
    measure: str = ""

    def parse(self, text: str) -> float | None:
        """Return the number that `text` says in this notation; None where it says none.

        A percent sign must be there exactly if the column has it, except for 0; a currency may be
        left out.
        """
        number = split_number(text)
        if number is None or not self.allows_unit(number):
            return None
        if number.measure and self.measure not in (SCALED, number.measure):
            return None
        return number.value(self)

    def allows_unit(self, number: WrittenNumber) -> bool:
        """Return whether a number has the column's unit, or may lack it."""
        if number.unit == self.unit:
            return True
        is_zero = not number.digits.strip("0.,")
        return not number.unit and (self.unit != PERCENT or is_zero)

    @property
    def has_unit(self) -> bool:
        """True where a currency, a percent sign or another word stands behind the numbers."""
        return bool(self.unit or self.measure)

    def has_marks_of(self, other: NumberFormat) -> bool:
        """Return whether two formats have the same marks, whatever their units."""
        return (self.decimal, self.thousands) == (other.decimal, other.thousands)

    def described(self) -> str:
        """Return the notation in a few words, for messages."""
        words = ["decimal=comma"] if self.decimal == "," else []
        words += [f"thousands={THOUSANDS_NAMES[self.thousands]}"] if self.thousands else []
        words += [f"unit {unit}" for unit in (self.unit, self.measure) if unit]
        return ", ".join(words) or "plain numbers"


def digits_pattern(decimal: str, thousands: str) -> re.Pattern[str]:
    """Return a pattern of the digits of a number in a notation."""
    point = re.escape(decimal)
    pattern = rf"(?:[0-9]+(?:{point}[0-9]*)?|{point}[0-9]+)(?:[eE][-+]?[0-9]+)?"
    groups = []  # of numbers without an exponent
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
PATTERNS = {(n.decimal, n.thousands): digits_pattern(n.decimal, n.thousands) for n in NOTATIONS}
ALL_MARKS = frozenset(PATTERNS)


def fitting_marks(digits: str) -> frozenset[tuple[str, str]]:
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
            if self.negative:
                return -self.known
            return self.known
        digits = self.digits.replace(notation.thousands, "") if notation.thousands else self.digits
        number = float(digits.replace(notation.decimal, "."))
        if notation.measure == SCALED:
            number *= MAGNITUDES.get(self.measure, 1.0)
        if self.negative:
            return -number
        return number


def split_number(text: str) -> WrittenNumber | None:
    """Return the parts of a text that says one number in some notation; None for any other text."""
    text = simplify(text)
    if not text:
        return None
    if HEXADECIMAL.fullmatch(text):
        return WrittenNumber(False, text, known=float(int(text, 16)))
    if INFINITE.fullmatch(text):
        return WrittenNumber(text[0] == "-", text, known=math.inf)
    in_parentheses = PARENTHESES.fullmatch(text)
    if in_parentheses is not None:  # how accountants write a negative number
        text = "".join(in_parentheses.group("prefix", "inside", "suffix")).strip()
    parts = WHOLE_TEXT.fullmatch(text)
    if parts is None:
        return None
    signs = present_groups(parts, "before", "inner", "after")
    units = present_groups(parts, "prefix", "suffix")
    if in_parentheses is not None:
        signs.append("-")
    digits = parts["digits"].strip()
    marks = fitting_marks(digits)
    if len(signs) > 1 or len(units) > 1 or not marks:
        return None
    measure = parts["measure"] or ""
    return WrittenNumber(signs == ["-"], digits, "".join(units), measure=measure, marks=marks)


def present_groups(match: re.Match[str], *names: str) -> list[str]:
    """Return the named groups of a match that are not empty."""
    return [match[name] for name in names if match[name]]


def simplify(text: str) -> str:
    """Return `text` without quotes, with one kind of space, apostrophe, minus and digit."""
    text = without_quotes(text.strip().strip("\ufeff\u200b\u200e\u200f"))
    if text.isascii():
        return text
    return "".join(map(ascii_digit, text.translate(PLAIN_LETTERS)))


def without_quotes(text: str) -> str:
    """Return `text` without the marks that keep a text in a spreadsheet, and without quotes."""
    if text.startswith(('="', "='")):  # a formula of Excel's that keeps a text
        text = text[1:]
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        return text[1:-1].strip()
    return without_excel_mark(text)


def without_excel_mark(text: str) -> str:
    """Return `text` without the apostrophe by which Excel keeps a number as text."""
    next_character = text[1:2]
    is_number = next_character.isdigit() or next_character in "-+."
    if text.startswith("'") and is_number:
        return text[1:]
    return text


def ascii_digit(character: str) -> str:
    """Return a decimal digit of any script as an ASCII digit; other characters as they are."""
    if character.isdecimal():
        return str(unicodedata.decimal(character))
    return character


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
        remaining = [notation for notation in fitting if number.fits(notation)]
        if not remaining:
            return contradiction(written, position, allowed)
        fitting = remaining
    if fitting[0].has_marks_of(PLAIN):
        return fitting[0]
    for position, number in enumerate(written):
        if len({number.value(notation) for notation in fitting}) > 1:
            return Undecided(position, None, ambiguous=True)
    return fitting[0]


def contradiction(
    written: Sequence[WrittenNumber], position: int, allowed: Sequence[NumberFormat]
) -> Undecided:
    """Return the number at `position`, and an earlier one that is in another notation."""
    fitting = [notation for notation in allowed if written[position].fits(notation)]
    if not fitting:
        return Undecided(position, None)
    for other, number in enumerate(written[:position]):
        if not any(number.fits(notation) for notation in fitting):
            return Undecided(position, other)
    return Undecided(position, position - 1 if position else None)


def looks_grouped(written: Sequence[WrittenNumber]) -> bool:
    """Return whether every point among plain numbers may as well separate thousands.

    An example is 1.234, 56, 12.000.
    """
    with_point = [number for number in written if "." in number.digits]
    comma_notation = NumberFormat(",", ".")
    return bool(with_point) and all(number.fits(comma_notation) for number in with_point)


def is_grouped(written: Sequence[WrittenNumber]) -> bool:
    """Return whether points among plain numbers most likely separate thousands.

    An example is 812, 45.011, 7.210. Three decimals in each number, beside numbers without any,
    come from no usual way to write decimals: that has 812.000, or leaves out the last zero of
    7.210.
    """
    with_point = sum("." in number.digits for number in written)
    return looks_grouped(written) and MIN_GROUPED <= with_point < len(written)


def measure_of(written: Sequence[WrittenNumber]) -> str | None:
    """Return the word behind the numbers of a column, "" for none; None if it is not the same."""
    measures = {number.measure for number in written} - {""}
    if not measures:
        return ""
    has_unit = any(number.unit for number in written)
    if measures <= MAGNITUDES.keys() and (len(measures) > 1 or has_unit):
        return SCALED
    if len(measures) == 1:
        return measures.pop()
    return None
