"""A run survives its processes: kills, errors, hangs, signals; it resumes in any number of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from test_equal_to_one_process import require_equal, trained, weights_of
from torch.testing import assert_close

import dltrain as api
from dltrain.api.run import Run

ROOT = Path(__file__).parents[2]
RUN = (
    *("model=mlp", "model.hidden_sizes=[32]", "dataset=digits", "callbacks=quiet"),
    "schedule=constant",
)
PLUGIN = "plugins=[own_interruption]"
INTERRUPTION = (PLUGIN, "callbacks.own={_target_: own_interruption.InterruptAt}")
SHORT = (*RUN, "trainer.epochs=2", "trainer.log_every=5")
LONG = (*RUN, "trainer.epochs=100000", "trainer.save_every=10")


def begun(*words: str, **environment: str) -> subprocess.Popen[str]:
    """Start dltrain in the current folder."""
    own = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment}
    return subprocess.Popen(
        [sys.executable, "-m", "dltrain", *words],
        env=own,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def run_folder() -> Path:
    """Return the folder of the only run."""
    (folder,) = Path("outputs").glob("*/*_mlp_digits")
    return folder


def wait_for_checkpoint(process: subprocess.Popen[str]) -> Path:
    """Return the run's folder once it has a checkpoint."""
    for _ in range(1200):
        assert process.poll() is None, process.stdout and process.stdout.read()
        if list(Path("outputs").glob("*/*/checkpoints/last")):
            return run_folder()
        time.sleep(0.05)
    raise AssertionError("no checkpoint within a minute")


def followers_of(process: subprocess.Popen[str]) -> list[int]:
    """Return the numbers of the processes that a process has started."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    return [int(number) for number in children.split()]


def finished(folder: Path, processes: int, *more: str) -> dict[str, Any]:
    """Resume a run until it is complete, and return its results."""
    run = api.resume(folder, f"device.processes={processes}", *more)
    results: dict[str, Any] = json.loads((run.folder / "results.json").read_text())
    return results


def test_one_command_starts_the_processes() -> None:
    process = begun(*SHORT, "device.processes=2")
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert output.count("done") == 1  # only process 0 prints
    one = api.train(*SHORT)
    two = Run(run_folder_of(output))
    assert two.history["train/loss"] == pytest.approx(one.history["train/loss"], rel=1e-4)
    manifest = json.loads((two.folder / "manifest.json").read_text())
    assert manifest["processes"] == 2


def run_folder_of(output: str) -> Path:
    """Return the folder that a command printed."""
    lines = [line for line in output.splitlines() if line.split()[:1] == ["run"]]
    return Path(lines[0].split(maxsplit=1)[1])


@pytest.mark.parametrize("number", [signal.SIGKILL])
def test_a_dead_process_ends_the_run_with_one_message(number: signal.Signals) -> None:
    process = begun(*LONG, "device.processes=2")
    folder = wait_for_checkpoint(process)
    os.kill(followers_of(process)[0], number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert f"process 1 of 2 was killed by {number.name}" in output
    assert "Traceback" not in output
    limit = "trainer.epochs=3"
    assert finished(folder, 3, limit)["status"] == "completed"


def test_the_others_end_when_the_first_process_is_killed() -> None:
    process = begun(*LONG, "device.processes=2")
    folder = wait_for_checkpoint(process)
    (follower,) = followers_of(process)
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 20
    while Path(f"/proc/{follower}/stat").exists() and time.monotonic() < deadline:
        if Path(f"/proc/{follower}/stat").read_text().split()[2] == "Z":
            break
        time.sleep(0.05)
    else:
        assert not Path(f"/proc/{follower}").exists()
    assert finished(folder, 1, "trainer.epochs=3")["status"] == "completed"


def test_a_process_that_hangs_ends_the_run() -> None:
    process = begun(*LONG, "device.processes=2", "device.process_timeout=3")
    wait_for_checkpoint(process)
    (follower,) = followers_of(process)
    os.kill(follower, signal.SIGSTOP)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "did not answer within 3 s (device.process_timeout)" in output


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_a_signal_saves_and_ends_all(parallel: str) -> None:
    process = begun(*LONG, "device.processes=2", f"device.parallel={parallel}")
    folder = wait_for_checkpoint(process)
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    results = json.loads((folder / "results.json").read_text())
    steps = results["steps"]
    saved = [path.name for path in (folder / "checkpoints").iterdir()]
    assert f"{steps:09d}" in saved


@pytest.mark.parametrize(("before", "after", "parallel"), [(2, 3, "ddp"), (3, 1, "fsdp")])
def test_another_number_of_processes_continues(
    before: int, after: int, parallel: str, monkeypatch: pytest.MonkeyPatch, dltrain: Any
) -> None:
    words = (*RUN, "trainer.accumulate=3", "trainer.log_every=1", "trainer.epochs=1")
    whole = api.train(*words)
    monkeypatch.setenv("INTERRUPT_AT", "20")  # within a window of accumulation
    processes = (f"device.processes={before}", f"device.parallel={parallel}")
    assert dltrain(*words, *INTERRUPTION, *processes).code == 128 + signal.SIGTERM
    monkeypatch.delenv("INTERRUPT_AT")
    continued = api.resume("last", PLUGIN, f"device.processes={after}")
    assert continued.history["train/loss"] == pytest.approx(
        whole.history["train/loss"], rel=1e-4, abs=1e-6
    )
    last = max(step for step, _ in weights_of(whole) if step[0].isdigit())
    for (step, name), value in weights_of(whole).items():
        if step == last:
            assert_close(weights_of(continued)[step, name], value, rtol=0, atol=2e-5)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trainer.on_oom=halve"], "would leave the others waiting"),
        (["debug=profile"], "a profile is of one process"),
        (["device.processes=0"], "device.processes"),
        (["device.parallel=fsdp", "regularization=[ema]"], "averages of weights"),
    ],
)
def test_what_several_processes_cannot_have(words: Sequence[str], message: str) -> None:
    with pytest.raises(api.ConfigError, match=message):
        api.train(*SHORT, "device.processes=2", *words)


def test_a_tail_smaller_than_the_processes() -> None:
    words = ("model=mlp", "model.hidden_sizes=[32]", "dataset.batch_size=431")
    # 1,295 samples: three batches, and one of 2
    require_equal(trained(words), trained(words, "device.processes=3"))


def test_a_process_that_cannot_start_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(api.DltrainError, match="process 1 of 2 ended with exit code 1"):
        api.train(*SHORT, "device.processes=2")


def test_the_last_message_of_a_process_is_in_the_first_line_of_the_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    script = Path("python")
    script.write_text("#!/bin/sh\necho reading >&2\necho 'x.tar is missing' >&2\nexit 3\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script.absolute()))
    reason = r"process 1 of 2 ended with exit code 3: x\.tar is missing\n  reading"
    with pytest.raises(api.DltrainError, match=f"^{reason}\n"):
        api.train(*SHORT, "device.processes=2")


def test_one_row_for_a_process_is_refused_before_batch_norm_fails() -> None:
    words = ("model=mlp", "model.norm=batch", "dataset=digits", "dataset.batch_size=3")
    with pytest.raises(api.ConfigError, match=r"device\.sync_batch_norm=true"):
        api.train(*words, "device.processes=2")
