"""Decodes text files: UTF-8, an encoding that is named, or what a byte order mark says."""

from __future__ import annotations

import codecs
import logging
import re

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
GUESS_BYTES = 1 << 16  # that a guess looks at
CONTEXT_BYTES = 12  # on each side of a byte, shown as a guess reads them
MIN_UTF8_CHARACTERS = 4  # that show a text to be UTF-8, and not Chinese, Japanese or Korean
UTF8_SEQUENCE = re.compile(
    rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}"
)
HIGH_BYTES = re.compile(rb"[\x80-\xff]+")
OTHER_FILES = {  # by how they begin
    b"PK\x03\x04": "an Excel workbook or another zip archive: save the table as csv",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook: save the table as csv",
    b"\x1f\x8b": "a file packed by gzip: unpack it first",
    b"PAR1": "a Parquet file: call it .parquet",
}
MIN_UTF8_SHARE = 0.8  # of the bytes beyond ASCII of a file that is UTF-8 but for mistakes
MIN_WESTERN_SHARE = 0.6  # of the letters beyond ASCII that stand within words of ASCII letters
LARGER = {  # encodings with the same characters and more
    "shift_jis": "cp932",
    "euc_kr": "cp949",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "big5": "big5hkscs",
    "iso8859-1": "cp1252",
    "ascii": "cp1252",
}
COMMON = "latin-1, cp1252, cp1251, utf-16, gb18030, shift_jis"


def check_encoding(encoding: str | None) -> None:
    """Raise ValueError for a name that is not a text encoding."""
    if encoding is None:
        return
    try:
        known = codecs.lookup(encoding)._is_text_encoding
    except (LookupError, ValueError):  # the latter for a null character
        known = False
    if not known:
        raise ValueError(f"{KEY}={encoding}: unknown encoding; expected one such as {COMMON}")


def marked_encoding(content: bytes) -> str | None:
    """Return the encoding that the byte order mark of `content` names; None without a mark."""
    return next((name for mark, name in BYTE_ORDER_MARKS if content.startswith(mark)), None)


def decode(content: bytes, name: object, encoding: str | None = None, key: str = KEY) -> str:
    """Decode the content of the file `name`, by default as UTF-8; a byte order mark decides first.

    A file that plainly is UTF-8 is read as such, with a warning, also where `encoding` says
    another. InputError with the line, the byte and a guess for bytes that the encoding does not
    have, and for a NUL, which no text has.
    """
    chosen = marked_encoding(content)
    if chosen is None:
        chosen = encoding or "utf-8"
        if encoding is not None and _is_utf8_instead(content, encoding):
            log.warning(f"{name} is UTF-8 text and is read as such, not as {key}={encoding}")
            chosen = "utf-8"
        elif encoding is not None and _canonical(encoding) in ("utf-16", "utf-32"):
            chosen = _byte_order(content, name, _canonical(encoding), key)
    try:
        text = content.decode(chosen)
    except UnicodeDecodeError as e:
        raise _refusal(content, e.start, name, chosen, key) from e
    except UnicodeError as e:
        raise InputError(f"{name}: the text is not {chosen}: {e}") from e
    text = text.removeprefix("\ufeff")
    if "\0" in text:
        at = content.find(b"\0")
        raise _refusal(content, at, name, chosen, key)
    if encoding is not None and chosen == encoding:
        _warn_of_utf8_parts(content, name, encoding, key)
        _warn_of_two_readings(content, text, name, encoding, key)
    if _canonical(chosen) == "iso8859-1":
        _warn_of_controls(text, name, key)
    return text


def _canonical(encoding: str) -> str:
    return codecs.lookup(encoding).name


def _is_utf8_instead(content: bytes, encoding: str) -> bool:
    """Tell whether `content` is UTF-8 text with characters that `encoding` would misread."""
    own = _canonical(encoding)
    if content.isascii() and not own.startswith(("utf-16", "utf-32")):
        return False
    if own in ("utf-8", "utf-8-sig", "utf-7"):
        return False
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return False
    if own.startswith(("utf-16", "utf-32")):
        return "\0" not in text
    foreign = sum(letter > "\x7f" for letter in text)
    return foreign >= (1 if _is_single_byte(own) else MIN_UTF8_CHARACTERS)


def _warn_of_two_readings(content: bytes, text: str, name: object, encoding: str, key: str) -> None:
    """Say that the few characters of `text` beyond ASCII would be others in UTF-8."""
    if content.isascii():
        return
    try:
        other = content.decode()
    except UnicodeDecodeError:
        return
    first, second = (next((c for c in read if c > "\x7f"), "") for read in (text, other))
    if first != second:
        log.warning(f"{name}: {key}={encoding} reads {first!r} where UTF-8 would read {second!r}")


def _warn_of_utf8_parts(content: bytes, name: object, encoding: str, key: str) -> None:
    """Say that most letters of a file that is not UTF-8 are written as in UTF-8."""
    if content.isascii() or not _is_single_byte(encoding):
        return
    if 2 * _utf8_bytes(content) > sum(map(len, HIGH_BYTES.findall(content))):
        first = UTF8_SEQUENCE.search(content)
        line = content.count(b"\n", 0, first.start()) + 1 if first else 1
        log.warning(
            f"{name}:{line}: most letters are written as in UTF-8, and {key}={encoding} reads them wrongly: leave it out, "
            "and the lines that are not UTF-8 are named"
        )


def _utf8_bytes(content: bytes) -> int:
    """Count the bytes that are part of whole UTF-8 characters beyond ASCII."""
    return sum(map(len, UTF8_SEQUENCE.findall(content)))


def _is_single_byte(encoding: str) -> bool:
    """Tell whether each byte is a character; no such encoding has more than 256."""
    return len(bytes(range(0xA1, 0x100)).decode(encoding, errors="replace")) == 0x100 - 0xA1


def _byte_order(content: bytes, name: object, encoding: str, key: str) -> str:
    """Return UTF-16 or UTF-32 with the byte order that `content` without a mark shows."""
    guessed = _guess_utf16(content) if encoding == "utf-16" else _guess_utf32(content)
    if guessed is None:
        raise InputError(
            f"{name}: no byte order mark at the start: {key}={encoding}-le or {key}={encoding}-be says the order"
        )
    return guessed


def _guess_utf16(content: bytes) -> str | None:
    sample = content[:GUESS_BYTES]
    even, odd = (
        sample[::2].count(0),
        sample[1::2].count(0),
    )  # the upper byte of letters, digits and line ends is 0
    if even == odd:
        return None
    return "utf-16-le" if odd > even else "utf-16-be"


def _guess_utf32(content: bytes) -> str | None:
    first, last = content[:GUESS_BYTES:4].count(0), content[3:GUESS_BYTES:4].count(0)
    if first == last:
        return None
    return "utf-32-le" if last > first else "utf-32-be"


def _refusal(content: bytes, at: int, name: object, encoding: str, key: str) -> InputError:
    """Build the error for the byte `at`, with an encoding that would read it."""
    kind = next((kind for start, kind in OTHER_FILES.items() if content.startswith(start)), None)
    if kind is not None:
        return InputError(f"{name}: this is {kind}, not text")
    upper = encoding.upper().removesuffix("-SIG")
    before = content[:at].decode(encoding, errors="ignore")
    line = before.count("\n") + 1 if "\n" in before else before.count("\r") + 1
    guess = _that_fits(guess_encoding(content, at), content, encoding)
    if content[at : at + 1] == b"\0" and guess is None:
        return InputError(
            f"{name}:{line}: there is a NUL byte (byte {at + 1} of the file): this is not a text file"
        )
    where = (
        f"{name}:{line}: the text is not {upper}: byte {at + 1} of the file is 0x{content[at]:02x}"
    )
    high, valid = sum(map(len, HIGH_BYTES.findall(content))), _utf8_bytes(content)
    if guess is not None and upper == "UTF-8" and valid > MIN_UTF8_SHARE * high:
        own = content[content.rfind(b"\n", 0, at) + 1 :].partition(b"\n")[0]  # the line
        guess = guess_encoding(own) or guess
        return InputError(
            f"{where} ({guess} reads {_reading(content, at, guess)!r}); the rest is UTF-8: correct the line"
        )
    if guess is None:
        return InputError(
            f"{where}; {key}=NAME says the encoding (such as {COMMON}), or save the file as UTF-8"
        )
    also = " (or latin-1)" if guess == "cp1252" else ""
    reading = _reading(content, at, guess)
    seen = f", which reads {reading!r} there" if reading else ""
    return InputError(
        f"{where}; {key}={guess}{also} may be right{seen}; if not, another, or save it as UTF-8"
    )


def _that_fits(guess: str | None, content: bytes, refused: str) -> str | None:
    """Return `guess`, or its larger relative where the content has characters that it lacks."""
    for name in (guess, LARGER.get(_canonical(refused)), LARGER.get(guess or "")):
        if name is None or _canonical(name) == _canonical(refused):
            continue
        try:
            content.decode(name)
        except UnicodeDecodeError:
            continue
        return name
    return None if guess is not None and _canonical(guess) == _canonical(refused) else guess


def _reading(content: bytes, at: int, encoding: str) -> str:
    """Return how `encoding` reads the word around the byte `at`."""
    start = max(0, at - CONTEXT_BYTES)
    if "16" in encoding or "32" in encoding:
        start -= start % 4
    else:  # from the last plain character on, so that no character of several bytes is cut
        breaks = [m.end() for m in re.finditer(rb"[\x00-\x2f\x3a-\x3f]", content[start:at])]
        start += breaks[-1] if breaks else 0
    text = content[start : at + CONTEXT_BYTES].decode(encoding, errors="ignore")
    words = re.split(r"[,;|\t\r\n]", text)
    return next((word.strip() for word in words if re.search(r"[^\x00-\x7f]", word)), text.strip())


def guess_encoding(content: bytes, at: int = 0) -> str | None:
    """Guess the encoding of text that is not UTF-8, from around its byte `at`.

    None where nothing fits.
    """
    sample = content[max(0, at - GUESS_BYTES // 2) :][:GUESS_BYTES]
    if b"\0" in sample:
        return _guess_wide(content)
    runs = re.findall(rb"[\x80-\xff]+", sample)
    if not runs:
        return None
    within_words = re.findall(rb"(?<=[A-Za-z])[\x80-\xff]{1,2}(?=[A-Za-z])", sample)
    if len(within_words) > MIN_WESTERN_SHARE * len(runs):
        return _guess_one_byte(sample, runs)
    return _guess_east_asian(sample) or _guess_one_byte(sample, runs)


def _guess_wide(content: bytes) -> str | None:
    """Guess UTF-16 or UTF-32 without a mark, where about every second or fourth byte is 0.

    None for other bytes.
    """
    sample = content[:GUESS_BYTES]
    share = sample.count(0) / len(sample)
    if share > 0.6:
        return _guess_utf32(content)
    even, odd = sample[::2].count(0), sample[1::2].count(0)
    one_sided = max(even, odd) > max(2, 4 * min(even, odd))
    return _guess_utf16(content) if share > 0.02 and one_sided else None


def _decoded_whole(sample: bytes, encoding: str) -> str | None:
    """Decode a sample that may be cut within a character at its start and end.

    None if other bytes do not fit.
    """
    for start in range(2):
        for end in range(4):
            try:
                return sample[start : len(sample) - end].decode(encoding)
            except UnicodeDecodeError:
                continue
    return None


def _share(text: str, pattern: str) -> float:
    """Return the share of the characters beyond ASCII that `pattern` matches."""
    foreign = re.findall(r"[^\x00-\x7f]", text)
    return len(re.findall(pattern, text)) / len(foreign) if foreign else 0.0


def _guess_east_asian(sample: bytes) -> str | None:
    """Guess an encoding of Japanese, Korean or Chinese with two bytes a character."""
    kana = "[\u3041-\u30ff]"
    hangul = "[\uac00-\ud7a3]"
    han = "[\u4e00-\u9fff]"
    japanese = _decoded_whole(sample, "cp932")
    if japanese and _share(japanese, kana) > 0.2 and _share(japanese, "[\uff61-\uff9f]") < 0.2:
        return "shift_jis"
    packed = _decoded_whole(sample, "euc_jp")
    if packed and _share(packed, kana) > 0.2:
        return "euc_jp"
    pairs = re.findall(rb"[\x81-\xfe][\x40-\xfe]", sample)
    korean = _decoded_whole(sample, "cp949")
    syllables = sum(0xB0 <= pair[0] <= 0xC8 and pair[1] >= 0xA1 for pair in pairs)  # in daily use
    if korean and _share(korean, hangul) > 0.9 and syllables > 0.6 * len(pairs):
        return "euc_kr"
    traditional = _decoded_whole(sample, "big5")
    low = sum(pair[1] < 0x80 for pair in pairs)  # second bytes that simplified Chinese seldom has
    if traditional and low > 0.15 * len(pairs) and _share(traditional, han) > 0.7:
        return "big5"
    simplified = _decoded_whole(sample, "gb18030")
    common = sum(
        0xB0 <= pair[0] <= 0xD7 and pair[1] >= 0xA1 for pair in pairs
    )  # the 3,755 characters in daily use
    if simplified and common > 0.7 * len(pairs) and _share(simplified, han) > 0.7:
        return "gb18030"
    runs = re.findall(
        rb"(?<![A-Za-z\x80-\xff])[\x80-\xff]+", sample
    )  # a Western letter stands within a word
    if (
        japanese
        and _share(japanese, han) > 0.8
        and 2 * len(runs) > len(re.findall(rb"[\x80-\xff]+", sample))
    ):
        return "shift_jis"
    return None


def _guess_one_byte(sample: bytes, runs: list[bytes]) -> str:
    """Guess an encoding with one byte a character.

    Words all of foreign letters are Cyrillic, single ones Western.
    """
    letters = b"".join(runs)
    words = [run for run in runs if len(run) > 2]
    upper_half = sum(letter >= 0xC0 for letter in letters)
    if sum(map(len, words)) > 0.6 * len(letters) and upper_half > 0.8 * len(letters):
        small = sum(letter >= 0xE0 for letter in letters)
        return "cp1251" if 2 * small > upper_half else "koi8-r"
    try:
        sample.decode("cp1252")
    except UnicodeDecodeError:
        return "cp850"
    return "cp1252"


def _warn_of_controls(text: str, name: object, key: str) -> None:
    """Say that latin-1 reads control characters where cp1252 has quotes and dashes."""
    found = re.search("[\x80-\x84\x86-\x9f]", text)
    if found is None:
        return
    line = text.count("\n", 0, found.start()) + 1
    try:
        sign = found[0].encode("latin-1").decode("cp1252")
    except UnicodeDecodeError:
        return
    log.warning(
        f"{name}:{line}: byte 0x{ord(found[0]):02x} is a control character in latin-1; {key}=cp1252 reads {sign!r}"
    )
