"""The tables of docs/coming-from.md: every line is typed, and is answered as the page says."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from pathlib import Path

import pytest

from dltrain.cli import parse
from dltrain.config.check import problems_of
from dltrain.config.compose import compose
from dltrain.config.grid import expand
from dltrain.errors import UsageError
from dltrain.options import Options
from dltrain.verbs import MULTIRUN

PAGE = Path(__file__).parents[3] / "docs" / "coming-from.md"
HEADING = re.compile(r"^## (.*)$|^\| `(.*?)` \| (.*?) \|$", re.MULTILINE)


def rows() -> list[tuple[str, str, str]]:
    """Return (program, what is typed, the answer's cell) of every line of the tables."""
    found = []
    program = ""
    for heading, typed, answer in HEADING.findall(PAGE.read_text(encoding="utf-8")):
        program = heading or program
        if typed:
            found.append((program, typed, answer))
    return found


def answer_to(typed: str) -> str:
    """Return the message for what is typed after `dltrain`; empty if it works."""
    options = Options(argv=shlex.split(typed))
    try:
        verb = parse(options)
    except UsageError as e:
        return str(e)
    jobs = expand(options.overrides) if verb is MULTIRUN else [options.overrides]
    return "\n".join(why for job in jobs for _, why in problems_of(compose(job)))


@pytest.mark.parametrize(("program", "typed", "cell"), rows())
def test_a_line_of_the_page(program: str, typed: str, cell: str) -> None:
    answer = answer_to(typed)
    if cell.startswith("works"):
        assert answer == ""
        return
    shown = re.fullmatch(r"`(.*)`", cell)
    assert shown is not None, cell
    assert shown[1] in answer
    assert len(answer.splitlines()) == 1, "one line"


def test_the_page_has_every_program() -> None:
    counts = Counter(program for program, _, _ in rows())
    assert set(counts) == {
        "Hydra",
        "lightning-hydra-template",
        "Lightning",
        "Ultralytics",
        "Keras and command lines with dashes",
    }
    assert min(counts.values()) >= 20
    typed = [typed for _, typed, _ in rows()]
    assert len(typed) == len(set(typed))


def test_no_line_of_the_page_is_missed() -> None:
    """A row that the pattern above does not read would not be typed."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    tables = [line for line in lines if line.startswith("| `")]
    assert len(tables) == len(rows())
