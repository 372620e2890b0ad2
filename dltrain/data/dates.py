"""Reads dates and times that are written as texts, in the format of their column."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

DAYS = ("%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%Y-%m", "%Y/%m", "%m/%Y")
DAY_FIRST = ("%d.%m.%Y", "%d/%m/%Y", "%d-%m-%Y", "%d.%m.%y", "%d/%m/%y", "%d-%m-%y")
MONTH_FIRST = ("%m/%d/%Y", "%m-%d-%Y", "%m/%d/%y", "%m-%d-%y")
NAMED_MONTH = (
    *("%d %b %Y", "%d-%b-%Y", "%d-%b-%y", "%d %B %Y", "%b %d, %Y", "%B %d, %Y", "%b %d %Y"),
    *("%b %Y", "%B %Y", "%b-%y", "%b-%Y", "%Y-%b-%d"),
)
CLOCKS = ("", " %H:%M", " %H:%M:%S", " %H:%M:%S.%f", "T%H:%M:%S", " %I:%M %p", " %I:%M:%S %p")
FORMATS = tuple(day + clock for day in (*DAYS, *DAY_FIRST, *MONTH_FIRST, *NAMED_MONTH) for clock in CLOCKS)
ALL_FORMATS = ("ISO", "quarter", *FORMATS)
QUARTER = re.compile(r"([0-9]{4})[- ]?Q([1-4])")
MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*"
LIKE_A_DATE = re.compile(  # a quick look, for strptime is slow
    rf"\s*(?:[0-9]{{1,4}}[-/. ](?:[0-9]{{1,2}}|{MONTH})(?:[-/. ][0-9]{{1,4}})?|{MONTH}[- ][0-9]{{1,4}}(?:,? ?[0-9]{{4}})?"
    r"|[0-9]{4}[- ]?Q[1-4])(?:[T ,].*)?\s*",
    re.IGNORECASE,
)
MIN_DATE_SHARE = 0.9  # of a column's different texts are dates: the others are mistakes
SAMPLE = 200  # texts by which a column is judged
FEW = 20  # texts by which formats are ruled out
EPOCH = datetime(1970, 1, 1)


def seconds_of(text: str, form: str) -> float:
    """Return the seconds since 1970 that `text` in the format `form` says.

    NaN where it is not in it.
    """
    text = text.strip()
    try:
        if form == "ISO":
            return _seconds(datetime.fromisoformat(text)) if len(text) >= 8 and not text.isdigit() else np.nan
        if form == "quarter":
            found = QUARTER.fullmatch(text)
            return _seconds(datetime(int(found[1]), 3 * int(found[2]) - 2, 1)) if found else np.nan
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
    likely = [text for text in sample if LIKE_A_DATE.fullmatch(text)]
    if not sample or len(likely) < MIN_DATE_SHARE * len(sample):
        return False
    forms: list[str] = []  # that some text was in
    dated = 0
    for text in likely:
        form = next((one for one in (*forms, *ALL_FORMATS) if not np.isnan(seconds_of(text, one))), None)
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


def as_date(seconds: float) -> str:
    """Format a moment for a message: the day, and the time where it is not midnight."""
    moment = EPOCH + timedelta(seconds=float(seconds))
    return moment.strftime("%Y-%m-%d" if moment.time() == EPOCH.time() else "%Y-%m-%d %H:%M:%S")
