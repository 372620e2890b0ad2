"""Intervals as text."""

from __future__ import annotations

import pytest

from dltrain.types import Interval


@pytest.mark.parametrize(
    ("text", "interval"),
    [
        (20, Interval(steps=20)),
        ("20", Interval(steps=20)),
        ("2ep", Interval(epochs=2)),
        ("2.0 ep", Interval(epochs=2)),
        ("30s", Interval(seconds=30)),
        ("1.5min", Interval(seconds=90)),
        ("2 h", Interval(seconds=7200)),
    ],
)
def test_an_interval_is_read_from_a_number_or_text(text: int | str, interval: Interval) -> None:
    assert Interval.parse(text) == interval


@pytest.mark.parametrize("text", ["", "0", "0s", "1.5", "1.5ep", "-3", "3 days", "ep", "1e3"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="does not say how often"):
        Interval.parse(text)
