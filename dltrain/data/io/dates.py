"""Reads dates and times that are written as texts, in the format of their column."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

DAYS = ("%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%Y-%m", "%Y/%m", "%m/%Y", "%YM%m")
DAY_FIRST = ("%d.%m.%Y", "%d/%m/%Y", "%d-%m-%Y", "%d.%m.%y", "%d/%m/%y", "%d-%m-%y")
MONTH_FIRST = ("%m/%d/%Y", "%m-%d-%Y", "%m/%d/%y", "%m-%d-%y")
NAMED_MONTH = (
    *("%d %b %Y", "%d-%b-%Y", "%d-%b-%y", "%d %B %Y", "%b %d, %Y", "%B %d, %Y", "%b %d %Y"),
    *("%b %Y", "%B %Y", "%b-%y", "%b-%Y", "%Y-%b-%d", "%Y %b", "%Y-%b", "%Y %B"),
)
CLOCKS = ("", " %H:%M", " %H:%M:%S", " %H:%M:%S.%f", "T%H:%M:%S", " %I:%M %p", " %I:%M:%S %p")
ISO, QUARTERS = "ISO", "quarter"  # formats that strptime does not have
DATE_FORMATS = (*DAYS, *DAY_FIRST, *MONTH_FIRST, *NAMED_MONTH)
ALL_FORMATS = (ISO, QUARTERS, *(date + clock for date in DATE_FORMATS for clock in CLOCKS))
MIN_ISO_CHARS = 8
QUARTER = re.compile(r"([0-9]{4})[-/ ]?Q([1-4])|Q([1-4])[-/ ]?([0-9]{4})")
WEEKDAY = re.compile(r"(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*,? ", re.IGNORECASE)
# The names of months in English, German, French, Spanish, Italian and Portuguese, by the English
# abbreviation.
MONTH_NAMES = {
    "Jan": ("january", "januar", "jänner", "janvier", "enero", "gennaio", "janeiro"),
    "Feb": ("february", "februar", "février", "febrero", "febbraio", "fevereiro"),
    "Mar": ("march", "märz", "mrz", "mars", "marzo", "março"),
    "Apr": ("april", "avril", "abril", "aprile"),
    "May": ("may", "mai", "mayo", "maggio", "maio"),
    "Jun": ("june", "juni", "juin", "junio", "giugno", "junho"),
    "Jul": ("july", "juli", "juillet", "julio", "luglio", "julho"),
    "Aug": ("august", "août", "agosto"),
    "Sep": ("september", "septembre", "septiembre", "settembre", "setembro"),
    "Oct": ("october", "oktober", "octobre", "octubre", "ottobre", "outubro"),
    "Nov": ("november", "novembre", "noviembre", "novembro"),
    "Dec": ("december", "dezember", "décembre", "diciembre", "dicembre", "dezembro"),
}
WORD = re.compile(r"[^\W\d_]{3,}")
MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*"
LIKE_A_DATE = re.compile(  # a quick look, because strptime is slow
    r"\s*(?:[0-9]{1,2}/[0-9]{4}"
    rf"|[0-9]{{1,4}}[-/. ](?:[0-9]{{1,2}}|{MONTH})(?:[-/. ][0-9]{{1,4}})?"
    rf"|{MONTH}[- ][0-9]{{1,4}}(?:,? ?[0-9]{{4}})?"
    r"|[0-9]{4}[-/ ]?Q[1-4]|Q[1-4][-/ ]?[0-9]{4}|[0-9]{4}-W[0-9]{2}(?:-[1-7])?|[0-9]{4}M[0-9]{2})"
    r"(?:[T ,].*)?\s*",
    re.IGNORECASE,
)
MIN_DATE_FRACTION = 0.9  # of a column's different texts are dates: the others are mistakes
SAMPLE_TEXTS = 200  # by which a column is judged
FEW_TEXTS = 20  # by which formats are ruled out
EPOCH = datetime(1970, 1, 1)
MAX_CACHED_TEXTS = 10_000


@lru_cache(maxsize=MAX_CACHED_TEXTS)
def in_english(text: str) -> str:
    """Return a date without its weekday, and with its month in English."""
    text = WEEKDAY.sub("", text.strip(), count=1)
    word = WORD.search(text)
    if word is None:
        return text
    month = english_month(word[0].lower())
    if month is not None:
        text = text.replace(word[0], month, 1).replace(" de ", " ")
    return re.sub(r"(?<=[^\W\d_])\.|(?<=[0-9])\.(?= )", "", text)


def english_month(word: str) -> str | None:
    """Return the English abbreviation of a month in any language; None for another word."""
    for month, names in MONTH_NAMES.items():
        if any(name.startswith(word) for name in names):
            return month
    return None


def seconds_of(text: str, date_format: str) -> float:
    """Return the seconds since 1970 that `text` says in a format; NaN if it is not in it."""
    text = in_english(text)
    try:
        if date_format == ISO:
            return iso_seconds(text)
        if date_format == QUARTERS:
            return quarter_seconds(text)
        return seconds_since_1970(datetime.strptime(text, date_format))
    except (ValueError, OverflowError):
        return np.nan


def iso_seconds(text: str) -> float:
    """Return the seconds since 1970 of a date in ISO 8601.

    NaN for a number; raises ValueError for other texts.
    """
    if len(text) < MIN_ISO_CHARS or text.isdigit():
        return np.nan
    return seconds_since_1970(datetime.fromisoformat(text))


def quarter_seconds(text: str) -> float:
    """Return the seconds since 1970 at the start of a quarter such as 2020Q1.

    NaN for other texts.
    """
    match = QUARTER.fullmatch(text)
    if match is None:
        return np.nan
    year, quarter = int(match[1] or match[4]), int(match[2] or match[3])
    return seconds_since_1970(datetime(year, 3 * quarter - 2, 1))


def seconds_since_1970(moment: datetime) -> float:
    """Return the seconds from 1970 to a moment; without a time zone it counts as UTC."""
    if moment.tzinfo:
        moment = moment.astimezone(UTC).replace(tzinfo=None)
    return (moment - EPOCH) / timedelta(seconds=1)


def looks_like_dates(texts: Sequence[str]) -> bool:
    """Return whether the different `texts` of a column are dates."""
    step = max(1, len(texts) // SAMPLE_TEXTS)
    sample = [text for text in texts[::step] if text.strip()]
    likely = [text for text in sample if LIKE_A_DATE.fullmatch(in_english(text))]
    min_dates = MIN_DATE_FRACTION * len(sample)
    if not sample or len(likely) < min_dates:
        return False
    return count_dates(likely) >= min_dates


def count_dates(texts: Sequence[str]) -> int:
    """Return how many texts are dates in any format; formats of earlier texts are tried first."""
    known_formats: dict[str, None] = {}
    count = 0
    for text in texts:
        date_format = find_format(text, (*known_formats, *ALL_FORMATS))
        if date_format is not None:
            known_formats[date_format] = None
            count += 1
    return count


def find_format(text: str, date_formats: Sequence[str]) -> str | None:
    """Return the first format that a text is in; None if it is in none."""
    for date_format in date_formats:
        if not np.isnan(seconds_of(text, date_format)):
            return date_format
    return None


def formats_of(texts: Sequence[str]) -> list[str]:
    """Return the formats that all `texts` are in; if there is none, the one that most are in."""
    sample = texts[:: max(1, len(texts) // SAMPLE_TEXTS)]
    few = sample[:: max(1, len(sample) // FEW_TEXTS)]
    possible = [date_format for date_format in ALL_FORMATS if count_in(few, date_format)]
    counts = {ISO: 0} | {date_format: count_in(sample, date_format) for date_format in possible}
    most = max(counts.values())
    if counts[ISO] == most:
        if most:
            return [ISO]
        return []
    best = [date_format for date_format, count in counts.items() if count == most]
    if len(best) == 1:
        return best
    return without_partial(best, texts)


def without_partial(date_formats: list[str], texts: Sequence[str]) -> list[str]:
    """Return the formats that all `texts` are in, or all of them if there is none."""
    return [one for one in date_formats if count_in(texts, one) == len(texts)] or date_formats


def count_in(texts: Sequence[str], date_format: str) -> int:
    """Return how many texts are in a format."""
    return sum(not np.isnan(seconds_of(text, date_format)) for text in texts)


def moments(texts: Sequence[str], codes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return when each row (N,) is, in seconds since 1970, NaN if it is not a date.

    `codes` (N,) are positions in `texts`. Where days and months can be told apart in two ways, it
    is the way in which the rows are in order.
    """
    readings = []
    for date_format in formats_of(texts):
        seconds = [seconds_of(text, date_format) for text in texts]
        seconds.append(np.nan)  # for the code -1
        readings.append(np.array(seconds)[codes])
    if not readings:
        return np.full(len(codes), np.nan)
    return min(readings, key=count_disorder)


def count_disorder(times: NDArray[np.float64]) -> int:
    """Return how many steps go against the direction of most, plus the rows without a time."""
    steps = np.diff(times)
    return int(min((steps < 0).sum(), (steps > 0).sum()) + np.isnan(times).sum())


def date_text(seconds: float) -> str:
    """Return a moment for a message: the day, and the time if it is not midnight."""
    moment = EPOCH + timedelta(seconds=float(seconds))
    is_midnight = moment.time() == EPOCH.time()
    return moment.strftime("%Y-%m-%d" if is_midnight else "%Y-%m-%d %H:%M:%S")
