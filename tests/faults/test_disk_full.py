"""A disk that is full or read-only for a while: training continues and misses nothing."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fork_server import Server
from states import (
    SAVE_EVERY,
    SETTINGS,
    Whole,
    differences,
    last_line,
    leftovers,
    runs_in,
    steps_logged,
)

from dltrain.runs import checkpoint
from dltrain.runs.checkpoint import Store
from dltrain.runs.folder import CHECKPOINTS, RESULTS

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
WITH_TENSORBOARD = [word for word in SETTINGS if "tensorboard" not in word]
FROM, TO = (
    2 * SAVE_EVERY + 1,
    5 * SAVE_EVERY + 2,
)  # the steps between which there is no room: three saves
PLACES = {  # a part of the path of what cannot be written
    "everything": "",
    "checkpoints": "checkpoints",
    "metrics": "metrics.jsonl",
    "TensorBoard": "tensorboard",
    "the log": "train.log",
    "pointers": ".tmp-last",
}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 8 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    words = [shutil.which("mount") or "", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)]
    if not words[0] or subprocess.run(words, capture_output=True).returncode:
        pytest.skip("needs leave to mount a tmpfs")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def survived(
    cwd: Path, code: int | None, output: str, journal: Path, whole: Whole, unsaved: bool
) -> list[str]:
    """Return what is wrong with how a run survived.

    `unsaved`: nothing could be saved for a while.
    """
    wrong = [] if code == 0 else [f"exit {code}: {last_line(output)}"]
    if "Traceback" in output:
        wrong.append("a traceback")
    if not journal.exists():
        return [*wrong, "it ended before there was room again"]
    witnessed = journal.read_text().splitlines()
    whole_ones = [line for line in witnessed if line.endswith("whole")]
    before = any(int(line[:9]) <= FROM for line in whole_ones)
    if witnessed != whole_ones or not whole_ones or (unsaved and not before):
        wrong.append(f"while there was no room: {witnessed}")
    wrong += [f"left behind: {name}" for name in leftovers(cwd)]
    run = runs_in(cwd)[0]
    if steps_logged(run) != list(range(1, 45)):
        wrong.append(f"logged {steps_logged(run)}")
    different = differences(run, whole.end)
    return [*wrong, f"other than with room: {different}"] if different else wrong


@pytest.mark.parametrize("errno", ["ENOSPC", "EROFS", "EIO"])
@pytest.mark.parametrize("place", PLACES)
def test_no_room_for_a_while(
    place: str, errno: str, server: Server, whole: Whole, full: bool, tmp_path: Path
) -> None:
    if not full and errno != {"checkpoints": "EROFS", "metrics": "EIO"}.get(place, "ENOSPC"):
        pytest.skip("the full form")
    cwd, journal = tmp_path / "run", tmp_path / "journal"
    words = (
        WITH_TENSORBOARD if place == "TensorBoard" or (full and place == "everything") else SETTINGS
    )
    fault: dict[str, Any] = {
        "begin": FROM,
        "end": TO,
        "journal": str(journal),
        "names": PLACES[place],
        "errno": errno,
    }
    code, output = server.run(cwd, *words, aim="no_room", **fault)
    unsaved = place in ("everything", "checkpoints")
    wrong = survived(cwd, code, output, journal, whole, unsaved)
    reason = os.strerror({"ENOSPC": 28, "EROFS": 30, "EIO": 5}[errno])
    if unsaved or place == "pointers":
        said = [line for line in output.splitlines() if "cannot be saved" in line]
        if len(said) != 1 or reason not in said[0] or "checkpoints" not in said[0]:
            wrong.append(f"said {said}")
        if "it needs 0 bytes" in output:
            wrong.append("did not say how much it needs")
        if "saving works again" not in output:
            wrong.append("did not say that saving works again")
    print(f"{errno} for {TO - FROM} steps, {place}: {len(wrong)} failed")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("tensorboard", [False, True], ids=["", "with TensorBoard"])
def test_a_full_disk(
    tensorboard: bool, server: Server, whole: Whole, disk: Path, full: bool, tmp_path: Path
) -> None:
    """Open files cannot grow either; the message gives the bytes that are needed and free."""
    if tensorboard and not full:
        pytest.skip("the full form")
    journal = tmp_path / "journal"
    words = WITH_TENSORBOARD if tensorboard else SETTINGS
    fault = {"begin": FROM, "end": TO, "disk": str(disk), "journal": str(journal)}
    out_of_the_way = tmp_path / "cwd"
    out_of_the_way.mkdir()
    (out_of_the_way / "outputs").symlink_to(disk, target_is_directory=True)
    code, output = server.run(out_of_the_way, *words, aim="fill_disk", **fault)
    wrong = survived(out_of_the_way, code, output, journal, whole, True)
    said = [line for line in output.splitlines() if "cannot be saved" in line]
    if len(said) != 1 or not re.search(
        r"checkpoints/\d+ .*it needs [\d,]{7,} bytes, 0 bytes are free", said[0]
    ):
        wrong.append(f"said {said}")
    print(
        f"a tmpfs full for {TO - FROM} steps{', with TensorBoard' * tensorboard}: "
        f"{len(wrong)} failed"
    )
    assert not wrong, "\n".join(wrong)


def test_a_disk_that_stays_full(server: Server, disk: Path, tmp_path: Path) -> None:
    """A trained run ends in exit 1, and its last line says that the end is not saved.

    The last whole checkpoint is there, and with room again a resume reaches the same end.
    """
    cwd = tmp_path / "cwd"
    cwd.mkdir()
    (cwd / "outputs").symlink_to(disk, target_is_directory=True)
    fault = {"begin": FROM, "end": 10**6, "disk": str(disk), "journal": str(tmp_path / "journal")}
    code, output = server.run(cwd, *SETTINGS, aim="fill_disk", **fault)
    assert (code, "Traceback" in output) == (1, False), output
    assert "could not be saved" in last_line(output)
    (run,) = runs_in(cwd)
    (disk / "filler").unlink()
    assert int(Store(run / CHECKPOINTS).steps()[-1].name[:9]) <= FROM
    code, output = server.run(cwd, "resume", "last")
    assert code == 0, output
    assert steps_logged(run) == list(range(1, 45))
    assert json.loads((run / RESULTS).read_text())["status"] == "completed"
    assert leftovers(cwd) == []


def test_results_that_cannot_be_written(server: Server, whole: Whole, tmp_path: Path) -> None:
    """Everything but results.json is saved, and a warning says so."""
    cwd = tmp_path / "run"
    fault = {"begin": FROM, "end": 10**6, "journal": "", "names": "results.json"}
    code, output = server.run(cwd, *SETTINGS, aim="no_room", **fault)
    assert (code, "Traceback" in output) == (0, False), output
    assert "results.json cannot be written: No space left on device" in output
    (run,) = runs_in(cwd)
    assert checkpoint.load(Store(run / CHECKPOINTS).steps()[-1])["step"] == 44
    assert leftovers(cwd) == []


@pytest.mark.parametrize("errno", ["ENOSPC", "EROFS"])
def test_a_run_that_is_to_stop(errno: str, server: Server, tmp_path: Path) -> None:
    """trainer.on_save_error=stop: exit 1 with a line, and the checkpoint before is whole."""
    cwd = tmp_path / "run"
    fault: dict[str, Any] = {
        "begin": FROM,
        "end": 10**6,
        "journal": "",
        "names": "checkpoints",
        "errno": errno,
    }
    code, output = server.run(cwd, *SETTINGS, "trainer.on_save_error=stop", aim="no_room", **fault)
    assert (code, "Traceback" in output) == (1, False), output
    assert "cannot be saved" in last_line(output)
    assert "it needs" in last_line(output)
    (run,) = runs_in(cwd)
    newest = Store(run / CHECKPOINTS).steps()[-1]
    assert checkpoint.load(newest)["step"] in range(FROM - SAVE_EVERY, FROM + 1)


def test_a_root_that_is_read_only(server: Server, tmp_path: Path) -> None:
    """Before there is a run: exit 2, and nothing but a line."""
    code, output = server.run(
        tmp_path / "run", *SETTINGS, aim="no_room", begin=-1, end=10**6, journal="", errno="EROFS"
    )
    assert code == 2, output
    assert output.splitlines() == [line for line in output.splitlines() if "paths.output" in line]
