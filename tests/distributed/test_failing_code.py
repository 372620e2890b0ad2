"""Errors of the user's code in one of several processes; launches at the same time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from free_ports import free_port

import dltrain as api

ROOT = Path(__file__).parents[2]
OWN = (
    *("plugins=[own_failures]", "model={_target_: own_failures.FailsInProcess}"),
    *("dataset=digits", "callbacks=quiet", "trainer.save_every=2"),
)
MLP = ("model=mlp", "model.hidden_sizes=[16]", "dataset=digits", "callbacks=quiet")
SHORT = ("trainer.epochs=1", "trainer.log_every=1")


def start(*command: str, **environment: str) -> subprocess.Popen[str]:
    """Start a Python module in the current folder."""
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    own = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.Popen(
        [sys.executable, "-m", *command],
        env=own,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def with_torchrun(port: int, *words: str) -> Sequence[str]:
    """Return the command of two processes that meet at a port."""
    torchrun = ("torch.distributed.run", "--nproc-per-node=2", f"--master-port={port}")
    return (*torchrun, "-m", "dltrain", *words)


@pytest.mark.parametrize("failing", ["0", "1"])
def test_an_error_in_one_process_ends_all_with_its_message(failing: str) -> None:
    words = ("dltrain", *OWN, *SHORT, "device.processes=2")
    process = start(*words, FAILING_PROCESS=failing)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 2, output  # as the error of a run in one process
    assert "this network cannot have such inputs" in output
    assert "own_failures.py" in output
    continued = start("dltrain", "resume", "last", "plugins=[own_failures]", FAILING_PROCESS="")
    output, _ = continued.communicate(timeout=120)
    assert continued.returncode == 0, output


def test_two_launches_at_once_are_two_runs() -> None:
    words = ("dltrain", *MLP, *SHORT, "device.processes=2")
    processes = [start(*words), start(*words)]
    for process in processes:
        output, _ = process.communicate(timeout=180)
        assert process.returncode == 0, output
    logs = [path.read_text() for path in Path("outputs").glob("*/*_mlp_digits/metrics.jsonl")]
    assert len(logs) == 2
    assert logs[0] == logs[1]


def test_a_second_launch_on_a_port_leaves_the_first_alone() -> None:
    port = free_port()
    first = start(*with_torchrun(port, *MLP, "trainer.epochs=15"))
    while not list(Path("outputs").glob("*/*_mlp_digits/metrics.jsonl")):
        assert first.poll() is None
    second = start(*with_torchrun(port, *MLP, *SHORT))
    output, _ = second.communicate(timeout=120)
    assert second.returncode != 0
    assert "address already in use" in output
    output, _ = first.communicate(timeout=180)
    assert first.returncode == 0, output
    (folder,) = Path("outputs").glob("*/*_mlp_digits")
    assert json.loads((folder / "results.json").read_text())["status"] == "completed"


def test_a_batch_norm_that_would_use_the_rows_of_one_process_is_refused() -> None:
    words = ("plugins=[own_failures]", "model={_target_: own_failures.NormalizedByOwn}")
    with pytest.raises(api.ConfigError, match=r"model\.1 is a batch norm of another class"):
        api.train(*words, *MLP[2:], "device.processes=2", "device.sync_batch_norm=true")
