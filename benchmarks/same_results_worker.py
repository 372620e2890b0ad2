"""Run the commands of one configuration after another, each in a process of its own.

Started by `same_results.py` as `python -P same_results_worker.py JOBS.json` with the checkout of
dltrain first on PYTHONPATH. The processes are forks of this one, which has imported torch but
nothing of dltrain: a command needs a fraction of a second to start, and sees no effect of the one
before.
"""

from __future__ import annotations

import json
import os
import runpy
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy  # noqa: F401  # imported once for all commands
import torch  # noqa: F401
import torchvision  # noqa: F401

POLL_SECONDS = 0.002
WAIT_SECONDS = 60.0  # for a run to write the line after which it is stopped


def run_command(words: list[str], number: int, stop_at_line: int | None) -> int:
    """Run one command in a fork and return its exit code.

    Its output goes to `command-NUMBER.txt` and `command-NUMBER.err` in the current folder.
    """
    child = os.fork()
    if child == 0:
        with Path(f"command-{number}.txt").open("wb") as output:
            os.dup2(output.fileno(), 1)
        with Path(f"command-{number}.err").open("wb") as errors:
            os.dup2(errors.fileno(), 2)
        sys.argv = ["dltrain", *words]
        runpy.run_module("dltrain", run_name="__main__")  # ends in SystemExit
        sys.exit(0)
    if stop_at_line is not None:
        wait_for_line(stop_at_line)
        os.kill(child, signal.SIGTERM)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def wait_for_line(count: int) -> None:
    """Return once the only run here has written `count` lines of metrics, or after a minute."""
    end = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < end:
        for path in Path("outputs").glob("*/*/metrics.jsonl"):
            if path.read_bytes().count(b"\n") >= count:
                return
        time.sleep(POLL_SECONDS)


def run_job(job: dict[str, Any]) -> None:
    """Run a job's commands in its folder, then write their exit codes into `codes.json` there."""
    folder = Path(job["folder"])
    folder.mkdir(parents=True)
    os.chdir(folder)
    codes = [
        run_command(command["words"], number, command["stop_at_line"])
        for number, command in enumerate(job["commands"], 1)
    ]
    Path("codes.json").write_text(json.dumps(codes), encoding="utf-8")


def main() -> None:
    """Run the jobs of the file that the command line names."""
    for job in json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")):
        run_job(job)
        print(job["name"], flush=True)


if __name__ == "__main__":
    main()
