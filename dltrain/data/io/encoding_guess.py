"""Guesses the encoding of text that is not UTF-8, for a message that proposes it."""

from __future__ import annotations

import re

GUESS_BYTES = 1 << 16  # that a guess looks at
MIN_WESTERN_FRACTION = 0.6  # of the letters beyond ASCII that stand within words of ASCII letters
HIGH_RUN = re.compile(rb"[\x80-\xff]+")
PAIR = re.compile(rb"[\x81-\xfe][\x40-\xfe]")  # the two bytes of a character
KANA, HALF_WIDTH_KANA = "[\u3041-\u30ff]", "[\uff61-\uff9f]"
HANGUL, HAN = "[\uac00-\ud7a3]", "[\u4e00-\u9fff]"
MAX_CUT_START_BYTES, MAX_CUT_END_BYTES = 1, 3  # of a character that a sample cuts in two


def guess_encoding(content: bytes, at: int = 0) -> str | None:
    """Guess the encoding of text that is not UTF-8, from around its byte `at`.

    None where nothing fits.
    """
    sample = content[max(0, at - GUESS_BYTES // 2) :][:GUESS_BYTES]
    if b"\0" in sample:
        return guess_wide(content)
    runs = HIGH_RUN.findall(sample)
    if not runs:
        return None
    within_words = re.findall(rb"(?<=[A-Za-z])[\x80-\xff]{1,2}(?=[A-Za-z])", sample)
    if len(within_words) > MIN_WESTERN_FRACTION * len(runs):
        return guess_one_byte(sample, runs)
    return guess_east_asian(sample) or guess_one_byte(sample, runs)


# Two or four bytes a character, many of them 0


def guess_wide(content: bytes) -> str | None:
    """Guess UTF-16 or UTF-32 without a mark, where about every second or fourth byte is 0.

    None for other bytes.
    """
    sample = content[:GUESS_BYTES]
    zero_fraction = sample.count(0) / len(sample)
    if zero_fraction > 0.6:
        return guess_utf32(content)
    even, odd = sample[::2].count(0), sample[1::2].count(0)
    is_one_sided = max(even, odd) > max(2, 4 * min(even, odd))
    if zero_fraction > 0.02 and is_one_sided:
        return guess_utf16(content)
    return None


def guess_utf16(content: bytes) -> str | None:
    """Guess the byte order of UTF-16; None where the bytes do not show it."""
    sample = content[:GUESS_BYTES]
    even, odd = sample[::2].count(0), sample[1::2].count(0)  # upper bytes of ASCII characters are 0
    if even == odd:
        return None
    if odd > even:
        return "utf-16-le"
    return "utf-16-be"


def guess_utf32(content: bytes) -> str | None:
    """Guess the byte order of UTF-32; None where the bytes do not show it."""
    first, last = content[:GUESS_BYTES:4].count(0), content[3:GUESS_BYTES:4].count(0)
    if first == last:
        return None
    if last > first:
        return "utf-32-le"
    return "utf-32-be"


# One byte a character


def guess_one_byte(sample: bytes, runs: list[bytes]) -> str:
    """Guess an encoding with one byte a character, from the `runs` of bytes beyond ASCII."""
    if is_cyrillic(runs):
        return guess_cyrillic(b"".join(runs))
    try:
        sample.decode("cp1252")
    except UnicodeDecodeError:
        return "cp850"
    return "cp1252"


def is_cyrillic(runs: list[bytes]) -> bool:
    """Return whether most letters form words of their own; Western ones stand alone."""
    letters = b"".join(runs)
    letters_in_words = sum(len(run) for run in runs if len(run) > 2)
    upper_half = sum(letter >= 0xC0 for letter in letters)
    return letters_in_words > 0.6 * len(letters) and upper_half > 0.8 * len(letters)


def guess_cyrillic(letters: bytes) -> str:
    """Guess a Cyrillic encoding by its small letters, which are frequent."""
    upper_half = sum(letter >= 0xC0 for letter in letters)
    small_letters = sum(letter >= 0xE0 for letter in letters)
    if 2 * small_letters > upper_half:
        return "cp1251"
    return "koi8-r"


# Two bytes a character


def guess_east_asian(sample: bytes) -> str | None:
    """Guess an encoding of Japanese, Korean or Chinese with two bytes a character."""
    pairs = PAIR.findall(sample)
    if has_shift_jis_kana(sample):
        return "shift_jis"
    if fraction_of(decode_part(sample, "euc_jp"), KANA) > 0.2:
        return "euc_jp"
    if is_korean(sample, pairs):
        return "euc_kr"
    if is_traditional_chinese(sample, pairs):
        return "big5"
    if is_simplified_chinese(sample, pairs):
        return "gb18030"
    if has_shift_jis_words(sample):
        return "shift_jis"
    return None


def has_shift_jis_kana(sample: bytes) -> bool:
    """Return whether a sample is Shift JIS with kana, few of them of half width."""
    text = decode_part(sample, "cp932")
    return fraction_of(text, KANA) > 0.2 and fraction_of(text, HALF_WIDTH_KANA) < 0.2


def is_korean(sample: bytes, pairs: list[bytes]) -> bool:
    """Return whether most byte pairs are syllables in daily use."""
    common = sum(0xB0 <= pair[0] <= 0xC8 and pair[1] >= 0xA1 for pair in pairs)
    return fraction_of(decode_part(sample, "cp949"), HANGUL) > 0.9 and common > 0.6 * len(pairs)


def is_traditional_chinese(sample: bytes, pairs: list[bytes]) -> bool:
    """Return whether many second bytes are low, which is rare in simplified Chinese."""
    low = sum(pair[1] < 0x80 for pair in pairs)
    return low > 0.15 * len(pairs) and fraction_of(decode_part(sample, "big5"), HAN) > 0.7


def is_simplified_chinese(sample: bytes, pairs: list[bytes]) -> bool:
    """Return whether most byte pairs are among the 3,755 characters in daily use."""
    common = sum(0xB0 <= pair[0] <= 0xD7 and pair[1] >= 0xA1 for pair in pairs)
    return common > 0.7 * len(pairs) and fraction_of(decode_part(sample, "gb18030"), HAN) > 0.7


def has_shift_jis_words(sample: bytes) -> bool:
    """Return whether a sample is Shift JIS without kana.

    Its foreign letters form words, while Western ones stand within words of ASCII letters.
    """
    runs = re.findall(rb"(?<![A-Za-z\x80-\xff])[\x80-\xff]+", sample)
    if 2 * len(runs) <= len(HIGH_RUN.findall(sample)):
        return False
    return fraction_of(decode_part(sample, "cp932"), HAN) > 0.8


def decode_part(sample: bytes, encoding: str) -> str:
    """Decode a sample that may be cut within a character at its start and end.

    "" if other bytes do not fit.
    """
    for start in range(MAX_CUT_START_BYTES + 1):
        for cut in range(MAX_CUT_END_BYTES + 1):
            try:
                return sample[start : len(sample) - cut].decode(encoding)
            except UnicodeDecodeError:
                continue
    return ""


def fraction_of(text: str, pattern: str) -> float:
    """Return the fraction of the characters beyond ASCII that `pattern` matches."""
    foreign = re.findall(r"[^\x00-\x7f]", text)
    if foreign:
        return len(re.findall(pattern, text)) / len(foreign)
    return 0.0
