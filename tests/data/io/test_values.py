"""One canonical text of a value, however it is written, and texts that mean "no value"."""

from __future__ import annotations

import pytest

from dltrain.data.io.values import KnownTexts, canonical, missing_texts, value_key


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("3", "3.0"),
        ("3", " 3.00 "),
        ("1000", "1e3"),
        ("1.5", "1.50"),
        ("0", "-0.0"),
        ("1", "+1"),
        ("100000000000000000000", "1e+20"),
        ("True", "true"),
        ("FALSE", "false"),
        ("2020-01-01", "2020-01-01 00:00:00.000000"),
        ("2020-01-01 12:00:00", "2020-01-01T12:00"),
        ("2020-01-01 12:00:00.5", "2020-01-01 12:00:00.500"),
        ("2020-01-01 00:00:00Z", "2020-01-01 01:00:00.000+01:00"),
        ("12:30:00", "12:30:00.000"),
        ("a b", " a b\u00a0"),
        ("caf\u00e9", "cafe\u0301"),
    ],
)
def test_texts_of_one_value_have_one_key(one: str, other: str) -> None:
    assert value_key(one) == value_key(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("7", "007"),
        ("9007199254740993", "9007199254740992"),
        ("a", "A"),
        ("1", "true"),
        ("1.1", "1.11"),
    ],
)
def test_texts_of_different_values_have_different_keys(one: str, other: str) -> None:
    assert value_key(one) != value_key(other)


def test_texts_that_are_neither_days_nor_numbers_stay_as_they_are() -> None:
    for text in ("2020-13-45 00:00:00Z", "1.2.3", "+", "-", "+-1", "1e9999"):
        assert canonical(text) == text


def test_known_texts_are_found_exactly_first_and_then_by_value() -> None:
    assert [KnownTexts(["1.1", "1.10"]).find(text) for text in ("1.1", "1.10", "1.100", "2")] == [
        0,
        1,
        0,
        -1,
    ]
    assert [KnownTexts(["false", "true"]).find(text) for text in ("TRUE", "1", "0.0", "2")] == [
        1,
        1,
        0,
        -1,
    ]
    assert [KnownTexts(["0", "1"]).find(text) for text in ("True", "false", "1.0")] == [1, 0, 1]
    assert KnownTexts(["0", "1", "2"]).find("true") == -1


def test_missing_values_of_a_user_are_compared_by_value() -> None:
    assert missing_texts([-999, "unknown"]) >= {"-999", "unknown", "", "NA", "NaT", "?"}
    assert canonical("-999.0") in missing_texts([-999])
