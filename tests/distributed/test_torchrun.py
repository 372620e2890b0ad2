"""The processes of torchrun: one run of all, a sweep, a restart after a process has died."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
MLP = ("model=mlp", "model.hidden_sizes=[32]", "dataset=digits", "callbacks=quiet")


def torchrun(*words: str, options: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    """Start two processes of dltrain by torchrun."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    return subprocess.Popen(
        [*command, "--nproc-per-node=2", *options, "-m", "dltrain", *words],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_torchrun_trains_one_run() -> None:
    process = torchrun(*MLP, "trainer.epochs=1")
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert output.count("\ndone\n") == 1
    assert len(list(Path("outputs").glob("*/*_mlp_digits"))) == 1


def test_other_verbs_are_for_the_first_process() -> None:
    process = torchrun("list", "schedule")
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert output.count("choose with GROUP=OPTION") == 1


def test_another_number_than_torchrun_started_is_refused() -> None:
    process = torchrun(*MLP, "device.processes=3")
    output, _ = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "torchrun started 2 processes, and device.processes is 3" in output


def test_a_sweep_trains_one_run_after_the_other() -> None:
    words = ("-m", *MLP, "trainer.epochs=1", "seed=1,2")
    process = torchrun(*words)
    output, _ = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "add launcher=inline" in output
    process = torchrun(*words, "launcher=inline")
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert len(list(Path("outputs").glob("*/*/*/results.json"))) == 2


def test_all_end_where_nothing_is_left_to_train() -> None:
    words = (*MLP, "trainer.epochs=1", "resume=auto")
    for expected in ("done", "nothing is left to train"):
        process = torchrun(*words)
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 0, output
        assert expected in output


def test_a_failed_trial_ends_the_sweep() -> None:
    words = ("-m", *MLP, "launcher=inline", "trainer.log_every=1", "optimizer=sgd")
    process = torchrun(*words, "optimizer.lr=1e30,0.01", "trainer.epochs=1")
    output, _ = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "have ended with the run before this one" in output


def test_a_restart_continues_the_run() -> None:
    words = (*MLP, "trainer.epochs=12", "trainer.save_every=10")
    process = torchrun(*words, options=("--max-restarts=1",))
    deadline = time.monotonic() + 60
    while not list(Path("outputs").glob("*/*/checkpoints/last")) and time.monotonic() < deadline:
        time.sleep(0.05)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[1]), signal.SIGKILL)
    output, _ = process.communicate(timeout=180)
    assert process.returncode == 0, output
    assert "it continues" in output
    (folder,) = Path("outputs").glob("*/*_mlp_digits")
    assert '"completed"' in (folder / "results.json").read_text()
