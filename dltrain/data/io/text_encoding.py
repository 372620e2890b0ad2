"""Decodes text files: UTF-8, an encoding that is named, or what a byte order mark says."""

from __future__ import annotations

import codecs
import logging
import re
from pathlib import Path

from dltrain.data.io.encoding_guess import guess_encoding, guess_utf16, guess_utf32
from dltrain.errors import InputError

log = logging.getLogger("dltrain")

KEY = "dataset.encoding"
BYTE_ORDER_MARKS = (  # longer ones first: that of UTF-32 begins like that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
MARK_BYTES = 4  # of the longest byte order mark
WIDE_ENCODINGS = ("utf-16", "utf-32")
MIN_UTF8_CHARACTERS = 4  # that show a text to be UTF-8, and not Chinese, Japanese or Korean
UTF8_SEQUENCE = re.compile(
    rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}"
)
HIGH_RUN = re.compile(rb"[\x80-\xff]+")
# Characters of latin-1 that are control characters there, and signs in cp1252.
CONTROL = re.compile("[\x80-\x84\x86-\x9f]")
HIGH_CHARACTERS = bytes(range(0xA1, 0x100))
OTHER_FILES = {  # by how they begin
    b"PK\x03\x04": "an Excel workbook or another zip archive: save the table as csv",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook: save the table as csv",
    b"\x1f\x8b": "a file packed by gzip: unpack it first",
    b"PAR1": "a Parquet file: call it .parquet",
}
LARGER_ENCODINGS = {  # with the same characters and more
    "shift_jis": "cp932",
    "euc_kr": "cp949",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "big5": "big5hkscs",
    "iso8859-1": "cp1252",
    "ascii": "cp1252",
}
MIN_UTF8_FRACTION = 0.8  # of the bytes beyond ASCII of a file that is UTF-8 except for mistakes
CONTEXT_BYTES = 12  # on each side of a byte, shown as a guess reads them
COMMON = "latin-1, cp1252, cp1251, utf-16, gb18030, shift_jis"


def check_encoding(encoding: str | None) -> None:
    """Raise ValueError for a name that is not a text encoding."""
    if encoding is None:
        return
    try:
        is_text = codecs.lookup(encoding)._is_text_encoding
    except (LookupError, ValueError):  # the latter for a null character
        is_text = False
    if not is_text:
        raise ValueError(f"{KEY}={encoding}: unknown encoding; expected one such as {COMMON}")


def marked_encoding(content: bytes) -> str | None:
    """Return the encoding that the byte order mark of `content` names; None without a mark."""
    return next((name for mark, name in BYTE_ORDER_MARKS if content.startswith(mark)), None)


def decode(content: bytes, name: object, encoding: str | None = None, key: str = KEY) -> str:
    """Decode the content of the file `name`, by default as UTF-8; a byte order mark decides first.

    A file that plainly is UTF-8 is read as such, with a warning, also where `encoding` says
    another. InputError with the line, the byte and a guess for bytes that the encoding does not
    have, and for a NUL, which no text has. `key` is the setting that names the encoding.
    """
    chosen = marked_encoding(content) or chosen_encoding(content, name, encoding, key)
    try:
        text = content.decode(chosen)
    except UnicodeDecodeError as e:
        raise EncodingProblem(content, e.start, name, chosen, key).error() from e
    except UnicodeError as e:
        raise InputError(f"{name}: the text is not {chosen}: {e}") from e
    text = text.removeprefix("\ufeff")
    if "\0" in text:
        raise EncodingProblem(content, content.find(b"\0"), name, chosen, key).error()
    if encoding is not None and chosen == encoding:
        warn_of_utf8_parts(content, name, encoding, key)
        warn_of_two_readings(content, text, name, encoding, key)
    if canonical_name(chosen) == "iso8859-1":
        warn_of_controls(text, name, key)
    return text


def read_text(path: Path) -> str:
    """Return the text of a small file in UTF-8, or in the encoding that its byte order mark names.

    Raises InputError for a file that cannot be read, and with the line for bytes that are not
    UTF-8. The mark is left out.
    """
    try:
        content = path.read_bytes()
    except OSError as e:
        raise InputError(f"{path} cannot be read: {e.strerror}") from e
    try:
        return content.decode(marked_encoding(content) or "utf-8")
    except UnicodeDecodeError as e:
        line = content.count(b"\n", 0, e.start) + 1
        raise InputError(f"{path}:{line}: this is not UTF-8 text; save the file as UTF-8") from e


def canonical_name(encoding: str) -> str:
    """Return the name under which Python knows an encoding."""
    return codecs.lookup(encoding).name


def chosen_encoding(content: bytes, name: object, encoding: str | None, key: str) -> str:
    """Return the encoding of a file without a byte order mark: UTF-8, or the one that is named."""
    if encoding is None:
        return "utf-8"
    if is_utf8_instead(content, encoding):
        log.warning(f"{name} is UTF-8 text and is read as such, not as {key}={encoding}")
        return "utf-8"
    if canonical_name(encoding) in WIDE_ENCODINGS:
        return with_byte_order(content, name, canonical_name(encoding), key)
    return encoding


def is_utf8_instead(content: bytes, encoding: str) -> bool:
    """Return whether `content` is UTF-8 text with characters that `encoding` would misread."""
    own_name = canonical_name(encoding)
    is_wide = own_name.startswith(WIDE_ENCODINGS)
    if content.isascii() and not is_wide:
        return False
    if own_name in ("utf-8", "utf-8-sig", "utf-7"):
        return False
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return False
    if is_wide:
        return "\0" not in text
    foreign = sum(letter > "\x7f" for letter in text)
    return foreign >= (1 if is_single_byte(own_name) else MIN_UTF8_CHARACTERS)


def is_single_byte(encoding: str) -> bool:
    """Return whether each byte is a character; no such encoding has more than 256."""
    return len(HIGH_CHARACTERS.decode(encoding, errors="replace")) == len(HIGH_CHARACTERS)


def with_byte_order(content: bytes, name: object, encoding: str, key: str) -> str:
    """Return UTF-16 or UTF-32 with the byte order that `content` without a mark shows."""
    guess = guess_utf16(content) if encoding == "utf-16" else guess_utf32(content)
    if guess is None:
        raise InputError(
            f"{name}: no byte order mark at the start: {key}={encoding}-le or {key}={encoding}-be "
            "says the order"
        )
    return guess


# Warnings


def warn_of_two_readings(content: bytes, text: str, name: object, encoding: str, key: str) -> None:
    """Log that the few characters of `text` beyond ASCII would be others in UTF-8."""
    if content.isascii():
        return
    try:
        utf8_text = content.decode()
    except UnicodeDecodeError:
        return
    own, other = first_foreign(text), first_foreign(utf8_text)
    if own != other:
        log.warning(f"{name}: {key}={encoding} reads {own!r} where UTF-8 would read {other!r}")


def first_foreign(text: str) -> str:
    """Return the first character beyond ASCII, "" if there is none."""
    return next((character for character in text if character > "\x7f"), "")


def warn_of_utf8_parts(content: bytes, name: object, encoding: str, key: str) -> None:
    """Log that most letters of a file that is not UTF-8 are written as in UTF-8."""
    if content.isascii() or not is_single_byte(encoding):
        return
    if 2 * utf8_bytes(content) > high_bytes(content):
        first = UTF8_SEQUENCE.search(content)
        line = 1
        if first:
            line = content.count(b"\n", 0, first.start()) + 1
        log.warning(
            f"{name}:{line}: most letters are written as in UTF-8, and {key}={encoding} reads them "
            "wrongly: leave it out, and the lines that are not UTF-8 are named"
        )


def utf8_bytes(content: bytes) -> int:
    """Return how many bytes are part of whole UTF-8 characters beyond ASCII."""
    return sum(map(len, UTF8_SEQUENCE.findall(content)))


def high_bytes(content: bytes) -> int:
    """Return how many bytes are beyond ASCII."""
    return sum(map(len, HIGH_RUN.findall(content)))


def warn_of_controls(text: str, name: object, key: str) -> None:
    """Log that latin-1 reads control characters where cp1252 has quotes and dashes."""
    control = CONTROL.search(text)
    if control is None:
        return
    line = text.count("\n", 0, control.start()) + 1
    try:
        sign = control[0].encode("latin-1").decode("cp1252")
    except UnicodeDecodeError:
        return
    log.warning(
        f"{name}:{line}: byte 0x{ord(control[0]):02x} is a control character in latin-1; "
        f"{key}=cp1252 reads {sign!r}"
    )


# Errors


class EncodingProblem:
    """The byte `at` of a file's `content` that is not text in an `encoding`.

    `name` is the file's, `key` the setting that names the encoding.
    """

    def __init__(self, content: bytes, at: int, name: object, encoding: str, key: str) -> None:
        self.content = content
        self.at = at
        self.name = name
        self.encoding = encoding
        self.key = key

    def error(self) -> InputError:
        """Return the error with the line, the byte, and an encoding that would read it."""
        for start, kind in OTHER_FILES.items():
            if self.content.startswith(start):
                return InputError(f"{self.name}: this is {kind}, not text")
        guess = self.fitting(guess_encoding(self.content, self.at))
        place = f"{self.name}:{self.line()}"
        if guess is None and self.content[self.at] == 0:
            return InputError(
                f"{place}: there is a NUL byte (byte {self.at + 1} of the file): this is not a "
                "text file"
            )
        place = (
            f"{place}: the text is not {self.upper_name}: byte {self.at + 1} of the file is "
            f"0x{self.content[self.at]:02x}"
        )
        if guess is None:
            return InputError(
                f"{place}; {self.key}=NAME says the encoding (such as {COMMON}), or save the file "
                "as UTF-8"
            )
        if self.upper_name == "UTF-8" and self.is_mostly_utf8():
            guess = guess_encoding(self.line_content()) or guess
            return InputError(
                f"{place} ({guess} reads {self.reading(guess)!r}); the rest is UTF-8: correct the "
                "line"
            )
        return InputError(f"{place}; {self.proposal(guess)}")

    @property
    def upper_name(self) -> str:
        """The name of the encoding for a message."""
        return self.encoding.upper().removesuffix("-SIG")

    def proposal(self, guess: str) -> str:
        """Return the setting for a guessed encoding, with what it reads."""
        also = ""
        if guess == "cp1252":
            also = " (or latin-1)"
        reading = self.reading(guess)
        reads = ""
        if reading:
            reads = f", which reads {reading!r} there"
        return f"{self.key}={guess}{also} may be right{reads}; if not, another, or save it as UTF-8"

    def line(self) -> int:
        """Return the line of the byte."""
        before = self.content[: self.at].decode(self.encoding, errors="ignore")
        line_end = "\r"
        if "\n" in before:
            line_end = "\n"
        return before.count(line_end) + 1

    def line_content(self) -> bytes:
        """Return the line of the byte, without its end."""
        start = self.content.rfind(b"\n", 0, self.at) + 1
        return self.content[start:].partition(b"\n")[0]

    def is_mostly_utf8(self) -> bool:
        """Return whether a file is UTF-8 except for a few mistakes."""
        return utf8_bytes(self.content) > MIN_UTF8_FRACTION * high_bytes(self.content)

    def fitting(self, guess: str | None) -> str | None:
        """Return the guess, or a larger encoding if the content has characters that it lacks.

        None if only the encoding itself is left.
        """
        own_name = canonical_name(self.encoding)
        larger = (LARGER_ENCODINGS.get(own_name), LARGER_ENCODINGS.get(guess or ""))
        for name in filter(None, (guess, *larger)):
            if canonical_name(name) != own_name and can_decode(self.content, name):
                return name
        if guess is None or canonical_name(guess) == own_name:
            return None
        return guess

    def reading(self, encoding: str) -> str:
        """Return how `encoding` reads the word around the byte."""
        start = max(0, self.at - CONTEXT_BYTES)
        if "16" in encoding or "32" in encoding:
            start -= start % 4
        else:  # from the last plain character on, so that no character of several bytes is cut
            context = self.content[start : self.at]
            ends = [match.end() for match in re.finditer(rb"[\x00-\x2f\x3a-\x3f]", context)]
            start += ends[-1] if ends else 0
        text = self.content[start : self.at + CONTEXT_BYTES].decode(encoding, errors="ignore")
        for word in re.split(r"[,;|\t\r\n]", text):
            if re.search(r"[^\x00-\x7f]", word):
                return word.strip()
        return text.strip()


def can_decode(content: bytes, encoding: str) -> bool:
    """Return whether all bytes are characters of an encoding."""
    try:
        content.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True
