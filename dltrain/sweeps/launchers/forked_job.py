"""The process of one job, which the fork server has forked for it."""

from __future__ import annotations

import atexit
import faulthandler
import os
import signal
import sys
import threading
import time
import traceback
from contextlib import suppress

from dltrain.console import safe_streams
from dltrain.screen import screen_messages
from dltrain.sweeps.jobs.job import SweepJob, perform
from dltrain.sweeps.jobs.reports import Reporter
from dltrain.sweeps.launchers.process_groups import ENDING_SIGNALS

ORPHAN_SECONDS = 30.0  # for a run to save, when the fork server is gone


def run(text: str, lifeline: int) -> None:
    """Run the job that `SweepJob.as_json` wrote, and end the process.

    Nobody writes into `lifeline`: reading from it ends when the fork server does.
    """
    job = SweepJob.from_json(text)
    redirect(job)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=end_with_server, args=(lifeline,), daemon=True).start()
    code = 0
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING_SIGNALS)
        with safe_streams(), screen_messages():
            perform(job, Reporter(job).decide)
    except SystemExit as e:
        traceback.print_exc()
        code = exit_code(e)
    except BaseException:
        traceback.print_exc()
        code = 1
    end(code)


def redirect(job: SweepJob) -> None:
    """Read nothing, and write into the job's log all that this process prints."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    try:
        output = os.open(job.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    except OSError:  # a full disk: the job still runs
        output = nowhere
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(nowhere)
    if output != nowhere:
        os.close(output)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115, for the whole process
    sys.stdout = open(1, "w", 1, "utf-8", "backslashreplace", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", 1, "utf-8", "backslashreplace", closefd=False)  # noqa: SIM115
    sys.argv = ["dltrain"]
    with suppress(OSError):
        print(f"--- {time.strftime('%Y-%m-%d %H:%M:%S')}  {' '.join(job.overrides)}")
        sys.stdout.flush()
    faulthandler.enable(2)  # where it stood, after a segmentation fault


def end_with_server(lifeline: int) -> None:
    """Ask this process to save and end when the fork server is gone; kill it after a while."""
    os.read(lifeline, 1)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(ORPHAN_SECONDS)
    os.killpg(0, signal.SIGKILL)


def exit_code(error: SystemExit) -> int:
    """Return the code of a process that calls sys.exit."""
    if error.code is None:
        return 0
    return error.code if isinstance(error.code, int) else 1


def end(code: int) -> None:
    """End the process as Python does, except that torch is not unloaded, which takes a second."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)
