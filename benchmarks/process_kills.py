"""Kills processes of runs that several train together, half of them in a save; resumes the runs.

    python -m benchmarks.process_kills --kills 60

Each run is killed several times: a random one of its processes, at a random moment or while a
checkpoint is being written. It is resumed in 1, 2 or 3 processes, and at its end it must equal the
run of one process that nobody killed, up to rounding. No data is needed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import safetensors.torch
import torch

from dltrain.files import TEMPORARY

KILLS_PER_RUN = 6
TOLERANCE = 1e-4  # of a weight, after all steps
WAIT_SECONDS = 60.0
EXPERIMENT = (
    *("model=mlp", "model.hidden_sizes=[1024,512]", "dataset=digits", "callbacks=quiet"),
    *("optimizer=sgd", "optimizer.lr=0.01", "trainer.epochs=20", "trainer.save_every=5"),
    *("device.threads=1", "trainer.accumulate=2"),
)


def command(*words: str) -> list[str]:
    """Return the command line of dltrain."""
    return [sys.executable, "-m", "dltrain", *words]


def children_of(process: subprocess.Popen[bytes]) -> list[int]:
    """Return the numbers of the processes that a process has started."""
    path = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return [int(number) for number in path.read_text().split()]


def is_saving(checkpoints: Path) -> bool:
    """Return whether a checkpoint is being written: a folder has a temporary name."""
    return any(TEMPORARY in path.name for path in checkpoints.iterdir())


def last_step(run: Path) -> str:
    """Return the name of the run's newest checkpoint; "" without one."""
    pointer = run / "checkpoints" / "last"
    return pointer.read_text().strip() if pointer.exists() else ""


def kill_one(process: subprocess.Popen[bytes], run: Path, in_a_save: bool) -> str:
    """Kill a random process of a run once it has made a checkpoint; return what was done, or ""."""
    first = last_step(run)
    deadline = time.monotonic() + WAIT_SECONDS
    while last_step(run) == first and time.monotonic() < deadline:
        if process.poll() is not None:
            return ""
        time.sleep(0.01)
    time.sleep(random.uniform(0, 0.5))
    while in_a_save and not is_saving(run / "checkpoints"):
        time.sleep(0.0005)
        if process.poll() is not None or time.monotonic() > deadline:
            return ""
    if process.poll() is not None:
        return ""
    ranks = [process.pid, *children_of(process)]
    rank = random.randrange(len(ranks))
    os.kill(ranks[rank], signal.SIGKILL)
    return f"process {rank} of {len(ranks)}{' in a save' if in_a_save else ''}"


def weights(run: Path) -> dict[str, torch.Tensor]:
    """Return the weights of a run's last checkpoint."""
    folder = run / "checkpoints" / last_step(run)
    return safetensors.torch.load_file(folder / "task.safetensors")


def train(folder: Path, seed: int, processes: int = 1) -> subprocess.Popen[bytes]:
    """Start a run in a folder."""
    words = (*EXPERIMENT, f"seed={seed}", f"device.processes={processes}")
    return subprocess.Popen(command(*words, f"hydra.run.dir={folder}"), stdout=subprocess.DEVNULL)


def resume(folder: Path, processes: int) -> subprocess.Popen[bytes]:
    """Continue a run."""
    words = ("resume", str(folder), f"device.processes={processes}")
    return subprocess.Popen(command(*words), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def largest_difference(run: Path, reference: Path) -> float:
    """Return the largest difference of a weight between two runs."""
    expected = weights(reference)
    return max(float((value - expected[name]).abs().max()) for name, value in weights(run).items())


def killed_run(folder: Path, seed: int, kills: int) -> list[str]:
    """Train a run that is killed some times, to its end; return what was killed."""
    done: list[str] = []
    process = train(folder, seed, random.choice((2, 3)))
    while len(done) < kills:
        while not (folder / "checkpoints").exists() and process.poll() is None:
            time.sleep(0.01)
        what = kill_one(process, folder, in_a_save=len(done) % 2 == 1)
        process.wait()
        if not what:
            break
        done.append(what)
        process = resume(folder, random.choice((1, 2, 3)))
    if process.wait() != 0 and not done:
        raise RuntimeError(f"{folder} did not end")
    status = json.loads((folder / "results.json").read_text())["status"]
    if status != "completed":
        process = resume(folder, random.choice((1, 2, 3)))
        if process.wait() != 0:
            raise RuntimeError(f"{folder} cannot be resumed")
    return done


def main() -> None:
    """Kill processes, and print how the runs ended."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    random.seed(options.seed)
    count = 0
    worst = 0.0
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        number = 0
        while count < options.kills:
            reference, folder = root / f"whole-{number}", root / f"killed-{number}"
            if train(reference, number).wait() != 0:
                raise RuntimeError("the run of one process failed")
            done = killed_run(folder, number, min(KILLS_PER_RUN, options.kills - count))
            difference = largest_difference(folder, reference)
            worst = max(worst, difference)
            count += len(done)
            print(f"{count} kills, largest difference {difference:.1e}: {', '.join(done)}")
            if difference > TOLERANCE:
                raise RuntimeError(f"the killed run differs by {difference}")
            number += 1
    print(f"{count} kills in {number} runs; all were resumed; largest difference {worst:.1e}")


if __name__ == "__main__":
    main()
