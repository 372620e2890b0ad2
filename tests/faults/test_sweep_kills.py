"""`kill -9` of a sweep at any moment loses no finished trial; many jobs leave nothing behind."""

from __future__ import annotations

import random
import subprocess
import threading
import time
from functools import partial
from pathlib import Path

import pytest
from sweep_processes import (
    ended,
    jobs_of,
    kill,
    processes_in,
    rows,
    run,
    server_of,
    started,
    wait_until,
    wait_until_gone,
)

from dltrain.sweeps.journal import JOURNAL

pytestmark = pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks into /proc")
TINY = ("model=perceptron", "callbacks=quiet", "device=cpu", "launcher.jobs=2")
SWEEP = (
    *("-m", *TINY, "seed=range(0,6)", "trainer.epochs=12", "trainer.save_every=50"),
    "hydra.sweep.dir=sweep",
)
RESUME = ("resume", "sweep", "launcher.jobs=2")
VICTIMS = ("both", "coordinator", "jobs", "server")
MAX_DELAY_SECONDS = 4.0
MEMORY_GROWTH = 1.05


def harm(folder: Path, pid: int, victim: str) -> None:
    """Kill the coordinator of the sweep that runs in a folder, its jobs, both, or its server."""
    jobs = jobs_of(folder)
    if victim == "server":
        server = [one for one in processes_in(folder) if one not in jobs and one != pid]
        jobs = server[:1]
    if victim in ("coordinator", "both"):
        kill(pid)
    for job in jobs if victim != "coordinator" else []:
        kill(job)


def is_under_way(process: subprocess.Popen[str], folder: Path) -> bool:
    """Tell if a job of a sweep runs, or the sweep has ended."""
    return process.poll() is not None or bool(jobs_of(folder))


def test_kills_at_random_moments_change_nothing(tmp_path: Path, full: bool) -> None:
    """The rows that are there stay as they are; the table in the end is that without kills."""
    code, _, err = run(tmp_path, *SWEEP[:-1], "hydra.sweep.dir=other")
    assert code == 0, err
    expected = [row["metrics"] for row in rows(tmp_path / "other")]
    chance = random.Random(0)
    sweep = tmp_path / "sweep"
    kept: dict[int, dict[str, object]] = {}
    for attempt in range(50 if full else 2):
        begun = (sweep / JOURNAL).is_file()
        process = started(tmp_path, *(RESUME if begun else SWEEP))
        if attempt % 3 < 2:  # the others may be killed before a job runs
            wait_until(partial(is_under_way, process, tmp_path), "no job runs")
        time.sleep(chance.uniform(0.0, MAX_DELAY_SECONDS))
        harm(tmp_path, process.pid, VICTIMS[attempt % len(VICTIMS)])
        ended(process)
        wait_until_gone(tmp_path)
        if not (sweep / JOURNAL).is_file():
            continue
        now = {row["job"]: row for row in rows(sweep) if row["status"] == "completed"}
        assert {job: now[job] for job in kept} == kept
        kept = now
        if len(kept) == len(expected):  # all is done: the next attempt begins another sweep
            assert [now[job]["metrics"] for job in sorted(now)] == expected
            sweep.rename(tmp_path / f"sweep-{attempt}")
            kept = {}
    code, _, err = run(tmp_path, *(RESUME if (sweep / JOURNAL).is_file() else SWEEP))
    assert code == 0, err
    assert [row["metrics"] for row in rows(sweep)] == expected


def test_many_jobs_leave_no_process_file_or_memory(tmp_path: Path, full: bool) -> None:
    """The processes of a sweep are as large at its end as after its first jobs."""
    count = 200 if full else 12
    shared = {path.name for path in Path("/dev/shm").iterdir() if path.is_file()}
    words = ("-m", *TINY, f"seed=range(0,{count})", "trainer.steps=1", "hydra.sweep.dir=sweep")
    process = started(tmp_path, *words)
    sizes: list[tuple[int, int, int, int]] = []
    watcher = threading.Thread(target=watch, args=(tmp_path, process.pid, sizes))
    watcher.start()
    code, _, err = ended(process, 600.0)
    watcher.join()
    assert code == 0, err
    assert len(rows(tmp_path / "sweep")) == count
    assert processes_in(tmp_path) == {}
    left = {path.name for path in Path("/dev/shm").iterdir() if path.is_file()}
    assert left == shared
    early, late = sizes[len(sizes) // 4], sizes[-2]
    for before, after in zip(early, late, strict=True):
        assert after <= MEMORY_GROWTH * before + 1, (early, late)


def watch(folder: Path, pid: int, sizes: list[tuple[int, int, int, int]]) -> None:
    """Note memory and descriptors of a sweep's two lasting processes while jobs run."""
    while Path(f"/proc/{pid}/fd").exists():
        try:
            if jobs_of(folder):
                sizes.append((*size_of(pid), *size_of(server_of(folder))))
        except (OSError, IndexError, AssertionError):
            pass
        time.sleep(0.2)


def size_of(pid: int) -> tuple[int, int]:
    """The resident memory of a process in pages, and the number of its open files."""
    memory = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return memory, len(list(Path(f"/proc/{pid}/fd").iterdir()))
