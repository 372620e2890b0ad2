"""The lock of a run's folder: one writer at a time, named to others, free when it has ended."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from dltrain.errors import UsageError
from dltrain.runs.folder import RunFolder
from dltrain.runs.lock import LOCK, OWNER, acquire_lock, release_lock


def holder(folder: Path) -> subprocess.Popen[str]:
    """Start a process that holds the lock of `folder` until it is killed."""
    code = (
        "import sys, time; from pathlib import Path; from dltrain.runs.lock import acquire_lock;"
        "lock = acquire_lock(Path(sys.argv[1])); print('locked', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "locked\n"
    process.stdout.close()
    return process


def test_a_second_writer_is_refused_with_the_process_that_writes(tmp_path: Path) -> None:
    with RunFolder.make(tmp_path / "x", {}).locked():
        owner = rf"pid {os.getpid()} on {re.escape(socket.gethostname())}"
        with pytest.raises(UsageError, match=rf"by a run that is still going \({owner}\)"):
            acquire_lock(tmp_path / "x")
    assert not (tmp_path / "x" / OWNER).exists()
    release_lock(acquire_lock(tmp_path / "x"), tmp_path / "x")


def test_another_process_is_named_and_its_lock_is_free_when_it_is_killed(tmp_path: Path) -> None:
    process = holder(tmp_path)
    with pytest.raises(UsageError, match=rf"\(pid {process.pid} on "):
        acquire_lock(tmp_path)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (tmp_path / OWNER).exists()
    release_lock(acquire_lock(tmp_path), tmp_path)
    assert not (tmp_path / OWNER).exists()


def test_a_refused_writer_leaves_the_name_of_the_owner(tmp_path: Path) -> None:
    lock = acquire_lock(tmp_path)
    for _ in range(2):
        with pytest.raises(UsageError, match=rf"\(pid {os.getpid()} on "):
            acquire_lock(tmp_path)
    release_lock(lock, tmp_path)


def test_the_lock_file_of_an_earlier_version_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / LOCK).write_text("pid 123 on elsewhere\n")
    with RunFolder(tmp_path).locked(), pytest.raises(UsageError, match=rf"\(pid {os.getpid()} on "):
        acquire_lock(tmp_path)


def test_a_lock_without_an_owner_file_still_counts(tmp_path: Path) -> None:
    lock = acquire_lock(tmp_path)
    (tmp_path / OWNER).unlink()
    with pytest.raises(UsageError, match=r"\(another process\)"):
        acquire_lock(tmp_path)
    release_lock(lock, tmp_path)


def test_a_lock_that_cannot_name_its_owner_is_released(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, text: str, encoding: str) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", refuse)
        with pytest.raises(OSError, match="No space left"):
            acquire_lock(tmp_path)
    release_lock(acquire_lock(tmp_path), tmp_path)
