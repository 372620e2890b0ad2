"""The way in which a job of another process reports its evaluations and learns that it is pruned.

A job appends a line to `jobs/<number>.reports` for each evaluation and waits for the line of
`jobs/<number>.answers` with the same step. Files work for every launcher, also between machines
that share a file system.
"""

from __future__ import annotations

import json
import logging
import math
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from dltrain.files import to_json
from dltrain.runs.folder import append_whole
from dltrain.sweeps.jobs.job import JOB_FILES, SweepJob

log = logging.getLogger("dltrain")
ANSWER_SECONDS = 10.0  # after which a job continues without an answer
SILENT_SECONDS = 0.5  # the same after a report without an answer: the coordinator may be gone
POLL_SECONDS = 0.005


def files_of(sweep: Path, number: int) -> tuple[Path, Path]:
    """Return the file of a job's reports, and the one of the answers."""
    folder = sweep / JOB_FILES
    return folder / f"{number}.reports", folder / f"{number}.answers"


def whole_lines(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a file that are complete; [] if it does not exist."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError:
        return []
    lines = []
    for line in text.split("\n")[:-1]:
        with suppress(ValueError):  # cut by a kill, before a later attempt
            lines.append(json.loads(line))
    return lines


class Reporter:
    """The job's side: reports an evaluation and waits for the answer."""

    def __init__(self, job: SweepJob) -> None:
        self.reports, self.answers = files_of(Path(job.sweep), job.number)
        self.seconds = ANSWER_SECONDS

    def decide(self, step: int, value: float) -> str:
        """Return why the run is pruned after evaluation `step`, or ""."""
        try:
            append_whole(self.reports, f"{to_json({'step': step, 'value': value})}\n".encode())
        except OSError as e:
            log.warning(f"{self.reports} cannot be written: {e.strerror or e}")
            return ""
        end = time.monotonic() + self.seconds
        while time.monotonic() < end:
            for answer in whole_lines(self.answers):
                if answer["step"] == step:
                    self.seconds = ANSWER_SECONDS
                    return str(answer["reason"])
            time.sleep(POLL_SECONDS)
        self.seconds = SILENT_SECONDS
        log.warning(f"nobody answered to evaluation {step}; the run continues")
        return ""


class Mailbox:
    """The coordinator's side: the reports of the running jobs."""

    def __init__(self, sweep: Path) -> None:
        self.sweep = sweep
        self.answered: dict[int, int] = {}  # the number of reports, by job

    def begin(self, number: int) -> None:
        """Forget what an earlier attempt at a job reported."""
        self.answered[number] = 0
        for path in files_of(self.sweep, number):
            path.unlink(missing_ok=True)

    def end(self, number: int) -> None:
        """Remove the files of a job that has ended."""
        self.begin(number)
        del self.answered[number]

    def new_reports(self) -> list[tuple[int, int, float]]:
        """Return (job, step, value) of the reports since the last call."""
        new = []
        for number, count in self.answered.items():
            lines = whole_lines(files_of(self.sweep, number)[0])
            for line in lines[count:]:
                value = line["value"]  # None in place of a number that is not finite
                new.append((number, line["step"], math.nan if value is None else value))
            self.answered[number] = len(lines)
        return new

    def answer(self, number: int, step: int, reason: str) -> None:
        """Tell a job why it is pruned, or with "" that it continues.

        If the answer cannot be written, the job continues after a while.
        """
        _, answers = files_of(self.sweep, number)
        try:
            append_whole(answers, f"{to_json({'step': step, 'reason': reason})}\n".encode())
        except OSError as e:
            log.warning(f"{answers} cannot be written: {e.strerror or e}")
