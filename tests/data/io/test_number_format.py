"""Numbers in every notation: of one text, and of all texts of a column."""

from __future__ import annotations

import math

import pytest

from dltrain.data.io.number_format import (
    NOTATIONS,
    NumberFormat,
    Undecided,
    notation_of,
    split_number,
)


def read(*texts: str) -> list[float | None] | Undecided:
    """Return the numbers of a column with these texts, or why they are not known."""
    written = [split_number(text) for text in texts]
    numbers = [number for number in written if number is not None]
    assert len(numbers) == len(texts), texts
    notation = notation_of(numbers, NOTATIONS)
    return (
        notation
        if isinstance(notation, Undecided)
        else [number.value(notation) for number in numbers]
    )


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1,234.5", 1234.5),
        ("1.234,5", 1234.5),
        ("1 234,5", 1234.5),
        ("1\u00a0234,5", 1234.5),
        ("1\u202f234,5", 1234.5),
        ("1'234", 1234),
        ("1’234.50", 1234.5),
        ("12,34,567", 1234567),
        ("0,126", 0.126),
        ("12,5", 12.5),
        (",5", 0.5),
        ("1,5e3", 1500),
        ("1e3", 1000),
        ("+1", 1),
        ("−3", -3),
        ("3-", -3),
        ("(3.5)", -3.5),
        ("-$5", -5),
        ("$-5", -5),
        ("($1,234.50)", -1234.5),
        ("5 €", 5),
        ("EUR 5", 5),
        ("US$ 5", 5),
        ("R$ 5", 5),
        ("CHF 1'234.-", 1234),
        ("5,-", 5),
        ("Rs. 12,34,567/-", 1234567),
        ("Fr. 5.--", 5),
        ("1,234E+02", 123.4),
        ("45 %", 45),
        ('"7"', 7),
        ("  7\t", 7),
        ("0x1F", 31),
        ("-inf", -math.inf),
        ("１２", 12),
    ],
)
def test_one_text_in_any_notation(text: str, number: float) -> None:
    assert read(text) == [number]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-",
        "1-2",
        "--5",
        "2020-01-01",
        "01.02.2020",
        "1.2.3",
        "192.168.100.101",
        "A5",
        "$5$",
        "1 2",
        "-(5)",
        "(-5)",
    ],
)
def test_other_texts_are_not_numbers(text: str) -> None:
    assert split_number(text) is None


def test_the_other_values_of_a_column_decide_an_ambiguous_one() -> None:
    assert read("1,234", "12.5") == [1234, 12.5]
    assert read("1,234", "1,234,567") == [1234, 1234567]
    assert read("1,234", "12,5") == [1.234, 12.5]
    assert read("1,234", "0,5") == [1.234, 0.5]
    assert read("1.234", "1.234.567") == [1234, 1234567]
    assert read("1.234", "5,5") == [1234, 5.5]
    assert read("1.234", "0.5") == [1.234, 0.5]
    assert read("1'234", "5") == [1234, 5]


def test_ambiguous_and_contradictory_notations_are_not_guessed() -> None:
    assert read("812", "45,011") == Undecided(1, None, ambiguous=True)
    assert read("1.234", "2,345") == Undecided(0, None, ambiguous=True)
    assert read("7", "0,5", "0.5") == Undecided(2, 1)


def test_a_percent_sign_must_be_there_when_the_column_has_it() -> None:
    assert NumberFormat(unit="%").parse("45%") == 45
    assert NumberFormat(unit="%").parse("0.45") is None
    assert NumberFormat(unit="%").parse("0") == 0
    assert NumberFormat(unit="%", decimal=",").parse("0,00") == 0
    assert NumberFormat().parse("45%") is None
    assert NumberFormat(unit="$").parse("5") == 5
    assert NumberFormat(unit="$").parse("€5") is None
