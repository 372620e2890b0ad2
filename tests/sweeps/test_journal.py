"""The journal of a sweep: what is read back, and what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from dltrain.errors import InputError
from dltrain.sweeps.journal import JOURNAL, VERSION, Journal, mend_journal, read_journal
from dltrain.sweeps.trial import trials_of

ROW = {"job": 0, "overrides": ["seed=1"], "status": "completed", "metrics": {"test/loss": 0.5}}


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """The folder of a sweep with a finished trial and one that was killed."""
    journal = Journal(tmp_path)
    journal.append("sweep", version=VERSION, overrides=["seed=1,2"], config_dir=None)
    for number in (0, 1):
        overrides = [f"seed={number + 1}"]
        journal.append("trial", number=number, overrides=overrides, identity="a", state={"x": 1})
        journal.append("start", number=number)
    journal.append("report", number=1, step=1, value=0.25)
    journal.append("end", number=0, row=ROW)
    return tmp_path


def test_trials_are_rebuilt_from_the_events(sweep: Path) -> None:
    trials = trials_of(read_journal(sweep), sweep)
    assert list(trials) == [0, 1]
    assert (trials[0].status, trials[0].is_done, trials[0].row) == ("completed", True, ROW)
    assert (trials[1].status, trials[1].is_done, trials[1].attempts) == ("", False, 1)
    assert trials[1].reports == {1: 0.25}
    assert trials[1].state == {"x": 1}
    assert trials[1].overrides == ["seed=2"]


def test_another_attempt_replaces_the_results_of_the_last(sweep: Path) -> None:
    Journal(sweep).append("end", number=1, row={**ROW, "status": "failed"})
    assert trials_of(read_journal(sweep), sweep)[1].status == "failed"
    Journal(sweep).append("start", number=1)
    trial = trials_of(read_journal(sweep), sweep)[1]
    assert (trial.status, trial.attempts) == ("", 2)


@pytest.mark.parametrize(
    "end",
    [
        '{"event": "end", "numb',
        "\x00\x00\x00",
        '{"event": "end"',
        '{"event": "end", "number": 1}\n',
        "{}\n",
        "null\n",
        "\xff",
    ],
)
def test_a_last_line_that_was_cut_is_dropped_and_the_next_event_follows(
    sweep: Path, end: str
) -> None:
    path = sweep / JOURNAL
    whole = path.read_bytes()
    path.write_bytes(whole + end.encode("latin-1"))
    events = read_journal(sweep)
    assert len(events) == len(whole.splitlines())
    mend_journal(sweep, events)
    assert path.read_bytes() == whole
    Journal(sweep).append("start", number=1)
    assert read_journal(sweep)[-1]["event"] == "start"


def test_every_cut_of_the_file_gives_the_events_before_it(sweep: Path) -> None:
    path = sweep / JOURNAL
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    for end in range(first, len(whole)):
        path.write_bytes(whole[:end])
        assert len(read_journal(sweep)) == whole[:end].count(b"\n")


def test_a_damaged_line_before_the_last_is_an_error_with_its_number(sweep: Path) -> None:
    path = sweep / JOURNAL
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([lines[0], "{broken\n", *lines[1:]]))
    with pytest.raises(InputError, match=re.escape(f"{path}:2 is not an event")):
        read_journal(sweep)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "1 is not the beginning of a sweep"),
        ('{"event": "start", "number": 0}\n', "1 is not the beginning of a sweep"),
        (json.dumps({"event": "sweep", "version": 99}) + "\n", "has version 99"),
    ],
)
def test_a_file_that_is_no_journal_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / JOURNAL).write_text(content)
    with pytest.raises(InputError, match=message):
        read_journal(tmp_path)


@pytest.mark.parametrize(
    "event",
    [
        {"event": "start"},
        {"event": "start", "number": "1"},
        {"event": "start", "number": True},
        {"event": "trial", "number": 2, "overrides": [1], "identity": "", "state": {}},
        {"event": "trial", "number": 2, "overrides": "seed=1", "identity": "", "state": {}},
        {"event": "end", "number": 0, "row": {"status": 3, "metrics": {}}},
        {"event": "end", "number": 0, "row": {"status": "completed"}},
        {"event": "end", "number": 0, "row": {"status": "failed", "metrics": {}, "seconds": "x"}},
        {"event": "end", "number": 0, "row": {"status": "failed", "metrics": {}, "best": [1]}},
        {"event": "report", "number": 0, "step": 1, "value": "x"},
        {"event": 5},
    ],
    ids=str,
)
def test_an_event_of_another_shape_is_an_error_with_its_line(
    sweep: Path, event: dict[str, Any]
) -> None:
    path = sweep / JOURNAL
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:3], json.dumps(event) + "\n", *lines[3:]]))
    with pytest.raises(InputError, match=re.escape(f"{path}:4 is not an event")):
        read_journal(sweep)


def test_an_event_of_an_unknown_trial_is_an_error_with_its_line(sweep: Path) -> None:
    Journal(sweep).append("start", number=7)
    with pytest.raises(InputError, match=r"sweep\.jsonl:8: trial 7 has not begun before this line"):
        trials_of(read_journal(sweep), sweep)


@pytest.mark.parametrize("number", [0, 1, 3])
def test_trials_are_numbered_without_gaps(sweep: Path, number: int) -> None:
    Journal(sweep).append("trial", number=number, overrides=[], identity="a", state={})
    message = f"{JOURNAL}:8: trial {number} is not the next one, which is 2"
    with pytest.raises(InputError, match=re.escape(message)):
        trials_of(read_journal(sweep), sweep)


def test_results_belong_to_their_trial(sweep: Path) -> None:
    """The number and the overrides of a row are those of the trial, whatever the line says."""
    Journal(sweep).append("end", number=1, row={**ROW, "job": 7, "overrides": ["seed=9"]})
    row = trials_of(read_journal(sweep), sweep)[1].row
    assert row is not None
    assert (row["job"], row["overrides"]) == (1, ["seed=2"])


def test_an_absent_journal_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read_journal(tmp_path)
