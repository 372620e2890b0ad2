"""The output of a sweep: lines in a pipe, a table on a terminal that is cut to its width."""

from __future__ import annotations

import io
import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dltrain.config.compose import compose
from dltrain.screen import Screen
from dltrain.sweeps.display import Display
from dltrain.sweeps.samplers.grid import GridSampler
from dltrain.sweeps.summary import progress
from dltrain.sweeps.summary.columns import cut_table
from dltrain.sweeps.summary.live import LiveScreen
from dltrain.sweeps.summary.progress import (
    SweepClock,
    counts_line,
    ended_line,
    failed_lines,
)
from dltrain.sweeps.summary.ranking import Criterion
from dltrain.sweeps.summary.tables import best_so_far, overview, shortened
from dltrain.sweeps.trial import Trial
from dltrain.terminal import cells

ACCURACY = Criterion("val/accuracy", "max")
CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
log = logging.getLogger("dltrain")


class FakeTerminal(io.StringIO):
    """A stream that says that it is a terminal."""

    encoding = "utf-8"  # type: ignore[assignment]

    def isatty(self) -> bool:
        return True


def row(job: int, value: float | None, status: str = "completed", **more: Any) -> dict[str, Any]:
    """The results of a job with a test accuracy of `value`, and a higher one in validation."""
    overrides = [f"model=model{job}", f"optimizer.lr=0.{job}"]
    results: dict[str, Any] = {"job": job, "overrides": overrides, "status": status, "metrics": {}}
    if value is not None:
        best = {"metric": "val/accuracy", "mode": "max", "value": value + 0.01, "step": 3}
        metrics = {"val/accuracy": 0.1, "test/accuracy": value, "test/loss": 1 - value}
        results |= {"metrics": metrics, "best": best, "seconds": 12.0, "run": f"o/{job}"}
    return {**results, **more}


def sampler(count: int = 3) -> GridSampler:
    """A sampler that is open, for `count` trials over two keys."""
    opened = GridSampler()
    opened.jobs = [[] for _ in range(count)]
    opened.swept = ["model", "optimizer.lr"]
    return opened


@contextmanager
def on_terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeTerminal]:
    """Print the messages of the block on a terminal of 60 columns and 12 lines."""
    stream = FakeTerminal()
    handler = Screen(stream)
    level = log.level
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        for name, value in (("COLUMNS", "60"), ("LINES", "12"), ("TERM", "xterm")):
            patch.setenv(name, value)
        log.addHandler(handler)
        log.setLevel(logging.DEBUG)
        yield stream
    log.removeHandler(handler)
    log.setLevel(level)


@pytest.mark.parametrize("width", [1, 8, 20, 33, 47, 60, 80, 120])
def test_no_line_of_a_table_is_longer_than_the_screen(width: int) -> None:
    lines = [
        ["job", "dataset.path", "status", "val/accuracy", "time"],
        ["0", "/data/猫/" + "x" * 60, "failed: a very long reason\nwith two lines", "-", "-"],
        ["1", "短い", "completed", "0.9876", "12.0 s"],
    ]
    text = cut_table(lines, width, {1: 8, 2: 8}, [4, 1])
    assert len(text.split("\n")) == 3
    assert all(cells(line) <= width for line in text.split("\n"))
    assert "\t" not in text
    whole = cut_table(lines, None)
    assert "x" * 60 in whole
    assert "reason with two lines" in whole


def test_a_figure_is_never_cut_before_other_columns_are_left_out() -> None:
    lines = [["job", "model", "val/accuracy", "time"], ["0", "m" * 30, "0.9876", "12.0 s"]]
    shown = cut_table(lines, 24, {1: 4}, [3])
    assert shown.split("\n") == ["  job  model    val/acc…", "  0    mmmmmm…  0.9876"]
    assert "time" not in shown


def test_a_screen_without_the_character_gets_dots() -> None:
    text = cut_table([["job", "model"], ["0", "m" * 30]], 20, {1: 4}, encoding="ascii")
    assert text.isascii()
    assert "..." in text
    assert max(map(len, text.split("\n"))) <= 20


def test_a_line_has_the_result_and_the_best_one_so_far(tmp_path: Path) -> None:
    rows = [row(0, 0.5), row(1, 0.9), row(2, 0.7)]
    swept = ["model", "optimizer.lr"]
    assert ended_line(tmp_path, rows, rows[2], 24, swept, [ACCURACY]) == (
        "[3/24] trial 2 completed  val/accuracy 0.7100 (best so far 0.9100, trial 1)  "
        "12.0 s  model=model2 optimizer.lr=0.2"
    )
    pruned = row(3, 0.2, "pruned", reason="pruned after evaluation 2")
    text = ended_line(tmp_path, [*rows, pruned], pruned, 24, swept, [ACCURACY])
    assert text.startswith("[4/24] trial 3 pruned after evaluation 2  val/accuracy")


def test_a_trial_that_failed_shows_its_reason_and_its_log(tmp_path: Path) -> None:
    failed = row(4, None, "failed", reason="killed by SIGKILL\nmore")
    text = ended_line(tmp_path, [failed], failed, 5, ["model"], [])
    assert text == "[1/5] trial 4 failed: killed by SIGKILL  model=model4"
    assert failed_lines(tmp_path, [failed]) == []
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "4.log").touch()
    text = ended_line(tmp_path, [failed], failed, 5, ["model"], [])
    assert text.endswith(f"model=model4  log {tmp_path / 'jobs' / '4.log'}")
    (line,) = failed_lines(tmp_path, [row(0, 0.5), failed])
    assert line == f"trial 4 failed: killed by SIGKILL  log {tmp_path / 'jobs' / '4.log'}"


def test_many_failures_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "MAX_FAILED", 2)
    (tmp_path / "jobs").mkdir()
    for number in range(5):
        (tmp_path / "jobs" / f"{number}.log").touch()
    lines = failed_lines(tmp_path, [row(i, None, "failed") for i in range(5)])
    assert len(lines) == 3
    assert lines[-1] == "and 3 more that failed; results.csv has them all"


def test_counts_name_each_status_and_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    clock = SweepClock()
    rows = [row(0, 0.5), row(1, 0.5, "stopped"), row(2, 0.1, "pruned"), row(3, None, "failed")]
    assert counts_line([], 2, 10, clock) == "0/10 completed, 2 running, 0.0 s elapsed"
    now[0] = 140.0
    clock.ended = 2  # the other two ended in an earlier attempt
    assert counts_line(rows, 1, 10, clock) == (
        "2/10 completed, 1 running, 1 failed, 1 pruned, 40.0 s elapsed, about 2 min 00 s left"
    )
    assert counts_line(rows, 0, 4, clock).endswith("40.0 s elapsed")


def test_the_best_trials_so_far_come_first() -> None:
    rows = [row(0, 0.5), row(1, 0.9), row(2, None, "failed"), row(3, 0.95, "pruned"), row(4, 0.7)]
    text = best_so_far(rows, ["model", "optimizer.lr"], [ACCURACY], 4, None)
    lines = [line.split() for line in text.split("\n")]
    header = ["trial", "val/accuracy", "test/accuracy", "time", "status", "settings"]
    assert lines[0] == header
    assert [line[0] for line in lines[1:]] == ["1", "4", "0", "3"]
    assert lines[1] == [
        *("1", "0.9100", "0.9000", "12.0", "s"),
        *("completed", "model=model1", "lr=0.1"),
    ]
    assert best_so_far(rows, ["model"], [], 4, None) == ""


def test_the_table_at_the_end_has_all_trials_by_number_or_the_best_and_the_failed_ones() -> None:
    rows = [row(i, i / 100) for i in range(40)]
    assert shortened(rows, [ACCURACY]) == rows
    rows += [row(40, None, "failed"), row(41, 0.99, "pruned"), row(42, 0.41)]
    shown = shortened(rows, [ACCURACY])
    assert [one["job"] for one in shown] == [42, *range(39, 20, -1), 40]
    assert len(shortened(rows, [])) == 21


def test_a_trial_without_a_key_has_a_dash() -> None:
    rows = [row(0, 0.5), row(1, 0.6, overrides=["model=b"])]
    lines = overview(rows, ["model", "optimizer.lr"], [ACCURACY]).split("\n")
    assert lines[2].split()[:4] == ["1", "b", "-", "completed"]


def test_messages_are_printed_above_the_lines_that_change(monkeypatch: pytest.MonkeyPatch) -> None:
    with on_terminal(monkeypatch) as terminal:
        live = LiveScreen()
        live.show("first\nlines")
        live.show("second\nlines")
        log.debug("hidden")
        assert live.live is not None
        log.info("a message")
        assert live.live is None
        live.show("third")
        live.close()
        log.info("the end")
    before, _, after = terminal.getvalue().partition("a message\n")
    assert "second" in before
    assert before.rstrip().endswith("\x1b[2K")  # the lines are gone
    assert "third" in after
    assert after.endswith("the end\n")
    assert "\x1b[?25h" in after  # the cursor is back
    assert live.make_room not in log.filters


def test_on_a_terminal_a_table_is_redrawn_and_failures_stay(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rows = [row(0, 0.5), row(1, None, "failed", reason="out of memory")]
    with on_terminal(monkeypatch) as terminal:
        display = Display(tmp_path, sampler())
        display.begin({})
        for results in rows:
            display.started(Trial(results["job"], results["overrides"]))
            display.ended(rows[: results["job"] + 1], results)
        display.waiting()
        display.close()
    assert display.live is None
    text = CODES.sub("", terminal.getvalue())
    assert "trial 0 completed" not in text
    assert "trial 1 failed: out of memory" in text
    assert "1/3 completed, 1 failed" in text
    shown = [line for part in text.split("\r") for line in part.split("\n")]
    table = [line for line in shown if line.startswith("  ")]
    assert len(table) > 5
    assert max(map(cells, table)) <= 60
    assert (tmp_path / "results.csv").is_file()


def test_trials_that_a_resume_repeats_have_not_ended(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "dltrain")
    rows = [row(0, None, "failed"), row(1, None, "failed"), row(2, 0.5)]
    trials = {one["job"]: Trial(one["job"], one["overrides"], row=one) for one in rows}
    display = Display(tmp_path, sampler(4))
    display.begin(trials)
    display.started(trials[0])
    rows[0] = row(0, 0.7)
    display.ended(rows, rows[0])
    assert caplog.messages[-1].startswith("[2/4] trial 0 completed")
    counts = display.so_far(None, 10).split("\n")[-1]
    assert counts.startswith("2/4 completed, ")
    assert "failed" not in counts
    assert "left" in counts


def test_in_a_pipe_each_trial_is_a_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.INFO, "dltrain")
    display = Display(tmp_path, sampler())
    display.begin({})
    rows = [row(0, 0.5), row(1, 0.9)]
    for results in rows:
        display.started(Trial(results["job"], results["overrides"]))
        display.waiting()
        display.ended(rows[: results["job"] + 1], results)
    display.close()
    assert display.live is None
    ends = [message for message in caplog.messages if message.startswith("[")]
    assert len(ends) == 2
    assert ends[1].startswith("[2/3] trial 1 completed  val/accuracy 0.9100 (best so far")
    assert capsys.readouterr().out == ""
    assert "\n" not in "".join(ends)


def test_a_resumed_sweep_counts_what_was_done_before(tmp_path: Path) -> None:
    done = Trial(0, ["model=a"], attempts=2, row=row(0, 0.5))
    killed = Trial(1, ["model=b"], attempts=1)
    display = Display(tmp_path, sampler())
    display.begin({0: done, 1: killed})
    assert display.rows == [done.row]
    killed.attempts = 2
    display.started(killed)
    display.ended([row(0, 0.5), row(1, 0.6)], row(1, 0.6))
    lines = (tmp_path / "results.csv").read_text().splitlines()
    assert [line.rpartition(",")[2] for line in lines] == ["attempts", "2", "2"]


def test_the_end_names_the_best_trial_and_the_files(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "dltrain")
    display = Display(tmp_path, sampler(1))
    display.begin({})
    outcome = display.finish([row(0, 0.5)])
    command = "dltrain model=model0 optimizer.lr=0.0"
    assert outcome["best"] == [
        {"job": 0, "values": {"val/accuracy": 0.51}, "run": "o/0", "command": command}
    ]
    lines = caplog.messages[-1].split("\n")
    assert "best trial 0: val/accuracy 0.5100 (test/accuracy 0.5000)  o/0" in lines
    assert f"  {command}" in lines
    assert f"results {tmp_path / 'results.csv'}" in lines


@pytest.mark.parametrize(
    ("statuses", "overrides", "line"),
    [
        (["completed", "failed"], [], "continue dltrain resume outputs/x  (2 trials left)"),
        (
            ["completed", "pruned"],
            ["plugins=[mine]"],
            'continue dltrain resume outputs/x "plugins=[mine]"  (1 trial left)',
        ),
        (["completed", "pruned", "stopped"], [], None),
    ],
)
def test_the_command_that_completes_the_sweep(
    statuses: list[str], overrides: list[str], line: str | None
) -> None:
    """A sweep with trials left says how to complete it; plugins have to be named again."""
    opened = sampler()
    opened.first = compose(overrides)
    rows: list[dict[str, Any]] = [
        {"job": number, "overrides": [], "status": status, "metrics": {}}
        for number, status in enumerate(statuses)
    ]
    lines = Display(Path("outputs/x"), opened).resume_lines(rows)
    assert lines == ([line] if line else [])


@pytest.mark.parametrize(
    ("swept", "has_best"),
    [
        (["dataset.fold"], False),
        (["seed", "dataset.fold"], False),
        (["seed"], True),
        (["model", "dataset.fold"], True),
    ],
)
def test_an_easy_fold_is_no_best_trial(swept: list[str], has_best: bool) -> None:
    """Runs that differ only in their fold are averaged, not compared."""
    opened = sampler()
    opened.swept = swept
    row = {
        "job": 0,
        "overrides": [],
        "status": "completed",
        "metrics": {"val/accuracy": 0.5},
        "best": {"metric": "val/accuracy", "value": 0.5, "mode": "max"},
        "run": "outputs/x/0",
    }
    lines = Display(Path("outputs/x"), opened).best_lines([row], [ACCURACY])
    assert lines[0].startswith("best trial 0") is has_best
    assert ("differ only in their fold" in lines[0]) is not has_best
