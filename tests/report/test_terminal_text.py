"""Tables and lines on terminals of any width: columns aligned, words whole, nothing lost."""

from __future__ import annotations

import logging
import sys
from typing import Any

import pytest

from dltrain import screen
from dltrain.errors import ConfigError
from dltrain.report import text
from dltrain.report.text import table
from dltrain.terminal import cells, cut, pad, wrap

SWEEP = [
    ["job", "model", "optimizer.lr", "status", "test/accuracy", "test/loss", "time"],
    ["0", "cnn", "0.001", "completed", "0.9721", "0.1974", "1 min 16 s"],
    ["1", "mlp", "0.01", "failed: out of memory at the first step", "-", "-", "-"],
]


@pytest.mark.parametrize(
    ("shown", "width"),
    [("abc", 3), ("猫", 2), ("ｶﾞ", 2), ("한글", 4), ("e\u0301", 1), ("", 0), ("→", 1), ("🐱", 2)],
)
def test_wide_characters_take_two_columns_and_combining_ones_none(shown: str, width: int) -> None:
    assert cells(shown) == width
    assert cells(pad(shown, 6)) == cells(pad(shown, 6, right=True)) == 6


def test_columns_of_wide_characters_are_aligned() -> None:
    lines = table([("猫の名前", "1"), ("dog", "2")]).splitlines()
    assert {cells(line[: line.index(digit)]) for line, digit in zip(lines, "12", strict=True)} == {
        12
    }


def test_the_second_column_of_problems_is_aligned_whatever_the_script() -> None:
    error = ConfigError([("dataset.path=猫の画像", "first reason"), ("seed=x", "second reason")])
    _, *lines = str(error).splitlines()
    starts = {
        cells(line[: line.index(reason)])
        for line, reason in zip(lines, ("first", "second"), strict=True)
    }
    assert len(starts) == 1


def words(shown: str) -> set[str]:
    return set(shown.split())


@pytest.mark.parametrize("width", [20, 40, 60, 80, 120])
@pytest.mark.parametrize("right", [frozenset(), frozenset({4, 5})])
def test_a_table_keeps_every_word_within_every_width(width: int, right: frozenset[int]) -> None:
    """At 40 columns it is several tables that begin with the number of the job."""
    shown = table(SWEEP, right=right, width=width)
    assert words(shown) == {word for row in SWEEP for cell in row for word in cell.split()}
    assert max(map(cells, shown.splitlines())) <= width
    if width == 40:
        assert sum(line.split()[0] == "job" for line in shown.splitlines()) > 1
    if width == 120:
        assert shown == table(SWEEP, right=right)


def test_a_long_path_stays_whole_and_leaves_the_other_column_alone() -> None:
    rows = [
        ("best val/accuracy", "0.97 (epoch 2)"),
        ("run", "/a/long/path/of/a/run/2026-11-29/10-48-11_cnn_digits"),
    ]
    shown = table(rows, width=40).splitlines()
    assert shown[0] == "  best val/accuracy  0.97 (epoch 2)"
    assert rows[1][1] in shown[1]
    assert wrap(shown[1], 40).splitlines() == ["  run", f"      {rows[1][1]}"]


def test_lines_break_between_words_and_keep_their_indent() -> None:
    assert wrap("train 1/2     train/loss 0.41  val/loss 0.11", 30).splitlines() == [
        "train 1/2     train/loss 0.41",
        "    val/loss 0.11",
    ]
    assert wrap("  short\n\n  " + "word " * 9, 20, "").splitlines()[:4] == [
        "  short",
        "",
        "  word word word",
        "  word word word",
    ]
    assert wrap("x" * 50, 20) == "x" * 50
    assert wrap("猫猫猫 猫猫猫", 10) == "猫猫猫\n    猫猫猫"


@pytest.mark.parametrize(
    ("width", "shown"), [(9, "猫 is not"), (5, "猫 i…"), (2, "…"), (1, "…"), (0, "")]
)
def test_what_is_cut_ends_in_an_ellipsis(width: int, shown: str) -> None:
    assert cut("猫 is not", width) == shown


def test_messages_are_broken_on_a_terminal_and_nowhere_else(
    monkeypatch: pytest.MonkeyPatch, dltrain: Any
) -> None:
    assert text.screen_width() is None, "a pipe"
    whole = dltrain("list", "optimizer").out
    said = dltrain("resume", "a-run-that-is-not-there", "trainer.epochs=3").err
    assert len(said.splitlines()) == 1
    monkeypatch.setattr(text, "screen_width", lambda stream=None: 40)
    monkeypatch.setattr(screen, "screen_width", lambda stream=None: 40)
    broken = dltrain("resume", "a-run-that-is-not-there", "trainer.epochs=3").err
    assert max(map(len, broken.splitlines())) <= 40
    assert words(broken) == words(said)
    narrow = dltrain("list", "optimizer").out
    assert max(map(len, whole.splitlines())) > 60
    assert max(map(len, narrow.splitlines())) <= 40
    assert words(whole) == words(narrow)
    record = logging.LogRecord(
        "dltrain", logging.INFO, "", 0, "a line of %d words that is too long for it", (9,), None
    )
    assert (
        screen.Screen(sys.stdout).format(record) == "a line of 9 words that is too long for\n    it"
    )
