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
FORMATS = tuple(
    day + clock for day in (*DAYS, *DAY_FIRST, *MONTH_FIRST, *NAMED_MONTH) for clock in CLOCKS
)
ALL_FORMATS = ("ISO", "quarter", *FORMATS)
QUARTER = re.compile(r"([0-9]{4})[-/ ]?Q([1-4])|Q([1-4])[-/ ]?([0-9]{4})")
WEEKDAY = re.compile(r"(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*,? ", re.IGNORECASE)
# The names of months in English, German, French, Spanish, Italian and Portuguese, by the English abbreviation.
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
LIKE_A_DATE = re.compile(  # a quick look, for strptime is slow
    rf"\s*(?:[0-9]{{1,2}}/[0-9]{{4}}|[0-9]{{1,4}}[-/. ](?:[0-9]{{1,2}}|{MONTH})(?:[-/. ][0-9]{{1,4}})?"
    rf"|{MONTH}[- ][0-9]{{1,4}}(?:,? ?[0-9]{{4}})?"
    r"|[0-9]{4}[-/ ]?Q[1-4]|Q[1-4][-/ ]?[0-9]{4}|[0-9]{4}-W[0-9]{2}(?:-[1-7])?|[0-9]{4}M[0-9]{2})(?:[T ,].*)?\s*",
    re.IGNORECASE,
)
MIN_DATE_SHARE = 0.9  # of a column's different texts are dates: the others are mistakes
SAMPLE = 200  # texts by which a column is judged
FEW = 20  # texts by which formats are ruled out
EPOCH = datetime(1970, 1, 1)
MAX_CACHED_TEXTS = 10_000


@lru_cache(maxsize=MAX_CACHED_TEXTS)
def in_english(text: str) -> str:
    """Return a date without its weekday, and with its month in English."""
    text = WEEKDAY.sub("", text.strip(), count=1)
    if not (found := WORD.search(text)):
        return text
    word = found[0].lower()
    for month, names in MONTH_NAMES.items():
        if any(name.startswith(word) for name in names):
            text = text.replace(found[0], month, 1).replace(" de ", " ")
            break
    return re.sub(r"(?<=[^\W\d_])\.|(?<=[0-9])\.(?= )", "", text)


def seconds_of(text: str, form: str) -> float:
    """Return the seconds since 1970 that `text` in the format `form` says.

    NaN where it is not in it.
    """
    text = in_english(text)
    try:
        if form == "ISO":
            return (
                _seconds(datetime.fromisoformat(text))
                if len(text) >= 8 and not text.isdigit()
                else np.nan
            )
        if form == "quarter":
            found = QUARTER.fullmatch(text)
            if not found:
                return np.nan
            year, quarter = found[1] or found[4], found[2] or found[3]
            return _seconds(datetime(int(year), 3 * int(quarter) - 2, 1))
        return _seconds(datetime.strptime(text, form))
    except (ValueError, OverflowError):
        return np.nan


def _seconds(moment: datetime) -> float:
    plain = moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment
    return (plain - EPOCH) / timedelta(seconds=1)


def looks_like_dates(texts: Sequence[str]) -> bool:
    """Tell whether the different `texts` of a column are dates."""
    step = max(1, len(texts) // SAMPLE)
    sample = [text for text in texts[::step] if text.strip()]
    likely = [text for text in sample if LIKE_A_DATE.fullmatch(in_english(text))]
    if not sample or len(likely) < MIN_DATE_SHARE * len(sample):
        return False
    forms: list[str] = []  # that some text was in
    dated = 0
    for text in likely:
        form = next(
            (one for one in (*forms, *ALL_FORMATS) if not np.isnan(seconds_of(text, one))), None
        )
        forms += [form] if form is not None and form not in forms else []
        dated += form is not None
    return dated >= MIN_DATE_SHARE * len(sample)


def formats_of(texts: Sequence[str]) -> list[str]:
    """Return the formats that all `texts` are in.

    Where there is none, the one that most of them are in.
    """
    sample = texts[:: max(1, len(texts) // SAMPLE)]
    few = sample[:: max(1, len(sample) // FEW)]
    likely = [form for form in ALL_FORMATS if _count(few, form)]
    counts = {"ISO": 0} | {form: _count(sample, form) for form in likely}
    most = max(counts.values())
    if most == counts["ISO"]:
        return ["ISO"] if most else []
    best = [form for form, count in counts.items() if count == most > 0]
    full = [form for form in best if _count(texts, form) == len(texts)] if len(best) > 1 else []
    return full or best


def _count(texts: Sequence[str], form: str) -> int:
    return sum(not np.isnan(seconds_of(text, form)) for text in texts)


def moments(texts: Sequence[str], codes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return when each row is, in seconds since 1970, NaN where it is not a date.

    `codes` are positions in `texts`. Where days and months can be told apart in two ways, it is the
    way in which the rows are in order.
    """
    readings = []
    for form in formats_of(texts):
        seconds = np.array([*(seconds_of(text, form) for text in texts), np.nan])
        readings.append(seconds[codes])
    if not readings:
        return np.full(len(codes), np.nan)
    return min(readings, key=_turns)


def _turns(times: NDArray[np.float64]) -> int:
    """Count the places at which times do not go on in the direction in which most go."""
    steps = np.diff(times)
    return int(min((steps < 0).sum(), (steps > 0).sum()) + np.isnan(times).sum())


def date_text(seconds: float) -> str:
    """Format a moment for a message: the day, and the time where it is not midnight."""
    moment = EPOCH + timedelta(seconds=float(seconds))
    return moment.strftime("%Y-%m-%d" if moment.time() == EPOCH.time() else "%Y-%m-%d %H:%M:%S")
