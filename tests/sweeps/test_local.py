"""Jobs in processes of their own: what ends one of them costs no other."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from outcome import Outcome
from sweep_processes import (
    BRIEF,
    NET,
    ended,
    jobs_of,
    journal_has,
    kill,
    processes_in,
    rows,
    server_of,
    started,
    starts,
    wait_until,
    wait_until_gone,
    write_plugin,
)

import dltrain as library
from dltrain.cli import main
from dltrain.sweeps.launchers import server_client, slots

pytestmark = pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks into /proc")
HARMS = {
    2: "raises",
    4: "exits",
    6: "is_killed",
    7: "hangs",
    9: "diverges",
    11: "segfaults",
    13: "leaves",
    15: "is_terminated",
}
CHILD = 17  # the job that leaves a process behind
REASONS = {
    2: ("failed", r"saboteur\.py, line \d+, in Harms\.raises: RuntimeError: a defect of the user"),
    4: ("failed", r"exited with code 9"),
    6: ("failed", r"killed by SIGKILL \(out of memory\?\)"),
    7: ("failed", r"ended after launcher\.timeout=12 s"),
    9: ("diverged", r"train/loss is nan at step 4"),
    11: ("failed", r"killed by SIGSEGV"),
    13: ("failed", r"SystemExit: 3"),
    15: ("failed", r"interrupted by SIGTERM, which another program has sent"),
}


@dataclass
class Sabotaged:
    """A sweep of twenty jobs, eight of which do harm, and its resumption without harm."""

    folder: Path
    sweep: Path
    outcome: tuple[int, str, str]
    rows: list[dict[str, Any]]
    left: dict[int, str]


@contextmanager
def inside(folder: Path) -> Iterator[None]:
    """Work in a folder, without real data, for fixtures of the module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("DLTRAIN_DATA", str(folder / "no-data"))
        yield


def command(*words: str) -> tuple[int, str, str]:
    """The code, the output and the errors of a command whose jobs alone are other processes."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main(list(words))
    return code, out.getvalue(), err.getvalue()


@pytest.fixture(scope="module")
def sabotaged(tmp_path_factory: pytest.TempPathFactory) -> Sabotaged:
    folder = tmp_path_factory.mktemp("sabotaged")
    write_plugin(folder, {**HARMS, CHILD: "leaves_a_child"})
    with inside(folder):
        outcome = command(
            *("-m", *NET, "+model.number=range(0,20)", *BRIEF, "hydra.sweep.dir=sweep"),
            *("launcher.jobs=2", "launcher.timeout=12", "launcher.grace=1"),
        )
    sweep = folder / "sweep"
    assert sweep.is_dir(), outcome
    return Sabotaged(folder, sweep, outcome, rows(sweep), processes_in(folder))


def test_jobs_that_end_their_processes_cost_themselves_alone(sabotaged: Sabotaged) -> None:
    code, out, err = sabotaged.outcome
    assert code == 1, err
    assert "8 of 20 jobs did not finish" in err
    assert [row["job"] for row in sabotaged.rows] == list(range(20))
    assert sabotaged.left == {}
    table = out.rpartition("\nsweep\n")[2].splitlines()
    for row, line in zip(sabotaged.rows, table[1:], strict=False):
        status, reason = REASONS.get(row["job"], ("completed", ""))
        assert row["status"] == status, row
        assert re.search(reason, row.get("reason", "")), row
        assert line.split()[:2] == [str(row["job"]), str(row["job"])]
        assert line.split()[2].strip(":") == status


def test_failures_are_printed_when_they_happen(sabotaged: Sabotaged) -> None:
    """With the overrides, the log, and for a process that died the end of its log."""
    before_table = sabotaged.outcome[1].rpartition("\nsweep\n")[0]
    for number, (status, reason) in REASONS.items():
        (line,) = [one for one in before_table.splitlines() if f" trial {number} " in one]
        assert f"trial {number} {status}: " in line
        assert re.search(reason, line)
        assert f"log sweep/jobs/{number}.log" in line
        assert f"model.number={number} " in line
    died = before_table.partition(" trial 11 failed")[2]
    assert "  overrides  plugins=[saboteur] " in died
    assert re.search(r"\n  \|   File .*saboteur\.py.*, line \d+ in segfaults\n", died)


def test_a_log_has_what_its_job_printed(sabotaged: Sabotaged) -> None:
    log = (sabotaged.sweep / "jobs/0.log").read_text()
    assert re.match(r"--- \d{4}-\d\d-\d\d \d\d:\d\d:\d\d  plugins=\[saboteur\] ", log)
    assert "650 parameters" in log
    assert "test/accuracy" in log


def test_a_resumption_runs_only_what_did_not_finish(sabotaged: Sabotaged) -> None:
    write_plugin(sabotaged.folder, {})
    before = len(starts(sabotaged.sweep))
    with inside(sabotaged.folder):
        code, _, err = command("resume", "sweep", NET[0], "launcher.timeout=100")
    assert code == 0, err
    assert starts(sabotaged.sweep)[before:] == sorted(HARMS)
    after = rows(sabotaged.sweep)
    assert {row["status"] for row in after} == {"completed"}
    metrics = [row["metrics"] for row in after]
    assert metrics == [metrics[0]] * 20  # they differ in nothing but their harm
    assert [after[n] for n in range(20) if n not in HARMS] == [
        sabotaged.rows[n] for n in range(20) if n not in HARMS
    ]


def test_a_signal_ends_the_jobs_after_they_have_saved(tmp_path: Path) -> None:
    """Meanwhile nobody else can run the sweep."""
    write_plugin(tmp_path, {})
    words = ("-m", *NET, "+model.number=range(0,4)", *BRIEF, "hydra.sweep.dir=sweep")
    process = started(tmp_path, *words, "launcher.jobs=2", "trainer.epochs=100000")
    sweep = tmp_path / "sweep"
    wait_until(lambda: (sweep / "1/metrics.jsonl").is_file(), "no job trains")
    wait_until(lambda: (sweep / "0/metrics.jsonl").is_file(), "no job trains")
    code, _, err = command("resume", "sweep", NET[0])
    assert code == 2
    assert "is being written by a run that is still going" in err
    os.kill(process.pid, signal.SIGINT)
    assert ended(process)[0] == 130
    assert processes_in(tmp_path) == {}
    assert [row["status"] for row in rows(sweep)] == ["interrupted"] * 2
    assert [row["signal"] for row in rows(sweep)] == [signal.SIGINT] * 2
    assert all(list((sweep / job / "checkpoints").iterdir()) for job in "01")


def test_a_signal_before_the_first_job_is_ready_is_not_lost(tmp_path: Path) -> None:
    """The process that starts the jobs is still importing torch."""
    write_plugin(tmp_path, {})
    words = ("-m", *NET, "+model.number=0,1", *BRIEF, "trainer.epochs=100000")
    process = started(tmp_path, *words, "hydra.sweep.dir=sweep")
    sweep = tmp_path / "sweep"
    wait_until(lambda: journal_has(sweep, "start", 0), "no job starts")
    os.kill(process.pid, signal.SIGINT)
    assert ended(process, 50.0)[0] == 130  # the jobs would be killed after a minute
    assert [row["status"] for row in rows(sweep)] == ["interrupted"]
    assert processes_in(tmp_path) == {}


def test_a_second_signal_kills_jobs_that_do_not_end(tmp_path: Path) -> None:
    write_plugin(tmp_path, {0: "hangs"})
    words = ("-m", *NET, "+model.number=0,1", *BRIEF, "hydra.sweep.dir=sweep")
    process = started(tmp_path, *words)
    log = tmp_path / "sweep/jobs/0.log"
    wait_until(lambda: log.is_file() and "650 parameters" in log.read_text(), "no job trains")
    time.sleep(0.5)
    os.kill(process.pid, signal.SIGTERM)
    assert process.stdout is not None
    assert any("another signal kills what runs" in line for line in process.stdout)
    os.kill(process.pid, signal.SIGTERM)
    assert ended(process)[0] == 143
    assert processes_in(tmp_path) == {}
    assert [row["status"] for row in rows(tmp_path / "sweep")] == ["interrupted"]


SWEPT = ("-m", "model=perceptron", "optimizer.lr=0.1,0.01,0.001", "callbacks=quiet", "device=cpu")
LONGER = ("trainer.epochs=30", "trainer.save_every=50", "hydra.sweep.dir=sweep")
RESUME = ("resume", "sweep", "launcher.jobs=2")


def test_a_sweep_that_is_killed_ends_as_an_undisturbed_one(tmp_path: Path) -> None:
    """First its fork server is killed, then itself, then itself and its jobs."""
    sweep = tmp_path / "sweep"
    process = started(tmp_path, *SWEPT, *LONGER, "launcher.jobs=2")
    wait_until(lambda: (sweep / "1/metrics.jsonl").is_file(), "no job trains")
    kill(server_of(tmp_path))
    code, out, _ = ended(process)
    assert code == 1
    assert "the process that starts the jobs has ended (killed by SIGKILL" in out
    noted = rows(sweep)
    assert [row["status"] for row in noted] == ["failed", "failed", "completed"]
    reason = "ended with the process that had started it (killed by SIGKILL"
    assert reason in noted[0]["reason"]
    for kills_jobs in (False, True):
        process = started(tmp_path, *RESUME)
        wait_until(lambda: jobs_of(tmp_path), "no job runs")
        time.sleep(0.3)
        jobs = jobs_of(tmp_path)
        kill(process.pid)
        for pid in jobs if kills_jobs else []:
            kill(pid)
        ended(process)
        wait_until_gone(tmp_path)
    done = [row for row in rows(sweep) if row["status"] == "completed"]
    code, _, err = command(*RESUME)
    assert code == 0, err
    after = rows(sweep)
    assert [after[row["job"]] for row in done] == done
    undisturbed = command(*SWEPT, *LONGER, "hydra.sweep.dir=other", "launcher=inline")
    assert undisturbed[0] == 0
    assert [row["metrics"] for row in after] == [row["metrics"] for row in rows(Path("other"))]


def resources() -> dict[str, Any]:
    """All that a process has and may leave behind."""
    return {
        "files": len(list(Path("/proc/self/fd").iterdir())),
        "shared memory": {path.name for path in Path("/dev/shm").iterdir() if path.is_file()},
        "processes": processes_in(Path.cwd()).keys(),
    }


def test_many_jobs_leave_nothing_behind() -> None:
    tiny = ("model=perceptron", "callbacks=quiet", "trainer.steps=1", "dataset.batch_size=all")
    library.sweep(*tiny, "seed=0,1")
    before = resources()
    swept = library.sweep(*tiny, "seed=range(0,30)", "launcher.jobs=2")
    assert {row["status"] for row in swept.rows} == {"completed"}
    assert resources() == before


SCRIPT = """
import threading
import dltrain
from torch import nn

class Net(nn.Sequential):
    def __init__(self, input_shape: tuple[int, ...], num_classes: int):
        super().__init__(nn.Flatten(), nn.Linear(64, num_classes))

TINY = ("callbacks=quiet", "trainer.steps=1", "seed=0,1")
thread = threading.Thread(
    target=lambda: print("thread", len(dltrain.sweep(*TINY, "model=perceptron").finished))
)
thread.start()
thread.join()
print("own class", len(dltrain.sweep(*TINY, model=Net).finished))
try:
    dltrain.sweep(*TINY, "launcher=local", model=Net)
except dltrain.UsageError as e:
    print(e)
"""


def test_a_script_needs_no_guard(tmp_path: Path) -> None:
    """The jobs' processes do not run it again; its own classes are used in its own process."""
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run([sys.executable, "script.py"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[:2] == ["thread 2", "own class 2"]
    assert "set launcher=inline" in lines[2]
    assert len(lines) == 3
    assert len(list((tmp_path / "outputs").glob("*/*"))) == 2


@pytest.mark.parametrize(
    ("visible", "count", "names"),
    [
        (None, 2, ["0", "1"]),
        ("3,1", 2, ["3", "1"]),
        ("GPU-8e,MIG-f0", 2, ["GPU-8e", "MIG-f0"]),
        ("", 0, []),
        ("0,-1,2", 1, ["0"]),
    ],
)
def test_each_slot_has_a_gpu(
    visible: str | None, count: int, names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.delenv(slots.VISIBLE_GPUS, raising=False)
    if visible is not None:
        monkeypatch.setenv(slots.VISIBLE_GPUS, visible)
    assert slots.gpus() == names
    seen = [slots.environment_of_slot(slot, names).get(slots.VISIBLE_GPUS) for slot in range(3)]
    assert seen == ([*names, *names, *names][:3] or [None] * 3)


def test_the_jobs_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(slots.THREADS, raising=False)
    monkeypatch.setattr(slots, "cores", lambda: 8)
    assert slots.environment_of_jobs(1) == {}
    assert slots.environment_of_jobs(3) == {slots.THREADS: "2"}
    assert slots.environment_of_jobs(9) == {slots.THREADS: "1"}
    monkeypatch.setenv(slots.THREADS, "4")
    assert slots.environment_of_jobs(3) == {}


def test_a_process_that_cannot_start_jobs_says_why(
    dltrain: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_client, "PROGRAM", "import not_installed")
    monkeypatch.setattr(slots, "cores", lambda: 1)
    tiny = ("model=perceptron", "callbacks=quiet", "trainer.steps=1")
    outcome = dltrain("-m", *tiny, "seed=0,1,2,3", "launcher.jobs=2")
    assert outcome.code == 1
    assert "launcher.jobs=2: this machine has 1 CPU cores for this process" in outcome.out
    assert "the process that starts the jobs has ended (exited with code 1)" in outcome.err
    assert "No module named 'not_installed'" in outcome.err
