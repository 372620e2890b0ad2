"""A screen that cannot be written, or is not there, costs messages; training ends as it does with
one.
"""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fork_server import Server
from states import SETTINGS, Whole, differences, last_line, runs_in

from dltrain.runs.folder import LOG, RESULTS

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
FULL_DISK = Path("/dev/full")
STOPPED_SECONDS = 2.5
SAMPLES = 1293  # of an epoch of digits


@pytest.fixture
def terminal() -> Iterator[tuple[int, str]]:
    """A pseudo-terminal: the descriptor of whoever reads it, and the name of the device."""
    reader, writer = pty.openpty()
    name = os.ttyname(writer)
    yield reader, name
    os.close(writer)
    try:
        os.close(reader)
    except OSError:  # the test closed it
        return


def assert_whole(cwd: Path, whole: Whole, code: int | None) -> None:
    """The run of `cwd` ended as any, and its log has the messages."""
    (run,) = runs_in(cwd)
    assert (code, differences(run, whole.end)) == (0, "")
    said = (run / LOG).read_text()
    assert re.search(r"train 4/4 .*\n(.*\n)*.* INFO \ndone\n", said), said


@pytest.mark.skipif(not FULL_DISK.exists(), reason="needs /dev/full")
def test_a_screen_on_a_full_disk(server: Server, whole: Whole, tmp_path: Path) -> None:
    process = server.start(tmp_path, *SETTINGS, screen=str(FULL_DISK))
    assert_whole(tmp_path, whole, process.wait())


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)])
def test_no_standard_stream(
    closed: tuple[int, ...], server: Server, whole: Whole, tmp_path: Path
) -> None:
    """Under cron, too, nothing of the run gets the descriptor, which a library may write to."""
    process = server.start(tmp_path, *SETTINGS, closed=closed, aim="careless_library")
    assert_whole(tmp_path, whole, process.wait())


def test_a_terminal_that_is_gone(
    server: Server, whole: Whole, tmp_path: Path, terminal: tuple[int, str]
) -> None:
    """With the hangup ignored, as nohup does, training continues after the terminal was closed, bar
    and all.
    """
    reader, device = terminal
    settings = (*SETTINGS, "callbacks.progress.refresh=0.001")
    process = server.start(tmp_path, *settings, screen=device, aim="ignore_hangup", seconds=0.01)
    read_until(reader, b"train 1/4")
    os.close(reader)
    assert_whole(tmp_path, whole, process.wait())


def test_a_hangup_saves_and_ends(
    server: Server, whole: Whole, tmp_path: Path, terminal: tuple[int, str]
) -> None:
    """The terminal of a run is closed: it ends at its step, and a resume is the run that was never
    interrupted.
    """
    reader, device = terminal
    process = server.start(tmp_path, *SETTINGS, screen=device, aim="slow", seconds=0.01)
    read_until(reader, b"train 1/4")
    os.close(reader)
    assert process.wait() == 129
    (run,) = runs_in(tmp_path)
    results = json.loads((run / RESULTS).read_text())
    assert (results["status"], results["reason"]) == ("interrupted", "interrupted by SIGHUP")
    code, output = server.run(tmp_path, "resume", str(run))
    assert (code, differences(run, whole.end)) == (0, ""), last_line(output)


def test_stopped_and_continued(server: Server, whole: Whole, tmp_path: Path) -> None:
    """Ctrl-Z and `fg`: the run is the same, and the time in between counts nowhere."""
    start = time.monotonic()
    process = server.start(tmp_path, *SETTINGS, aim="slow", seconds=0.01)
    while not list(tmp_path.glob("outputs/*/*/timing.jsonl")):
        time.sleep(0.01)
    process.send(signal.SIGSTOP)
    time.sleep(STOPPED_SECONDS)
    process.send(signal.SIGCONT)
    assert_whole(tmp_path, whole, process.wait())
    awake = time.monotonic() - start - STOPPED_SECONDS
    (run,) = runs_in(tmp_path)
    results = json.loads((run / RESULTS).read_text())
    assert 44 * 0.01 < results["seconds"] < awake
    assert results["samples_per_second"] > 4 * SAMPLES / awake


def read_until(reader: int, text: bytes) -> bytes:
    """Return what comes out of a terminal until `text` has."""
    found = b""
    while text not in found:
        found += os.read(reader, 65536)
    return found
