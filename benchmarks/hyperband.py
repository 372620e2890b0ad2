"""Compare TPE with Hyperband to a grid and to random search: the best trial in the same seconds.

    DLTRAIN_DATA=data python -m benchmarks.hyperband [--seconds 110] [--seeds 5] [--side-by-side 2]

Each arm is a sweep of its own process that searches the same settings of `cnn` on a part of MNIST,
on the CPU with one thread. Its seconds count from the start of its first trial, and everything
within them counts: reading data, training, evaluations, tests, and choosing values. Then it is
interrupted; a trial that has not finished counts for nothing. What is compared is the best
validation accuracy of a finished trial. The seed is that of the trials and of the sampler, and the
grid is one that a person would type, its learning rates first. One line for each seed and arm, and
at the end in how many seeds TPE with Hyperband is better than both others.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import struct
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dltrain.data.images.mnist import FILES, read_idx
from dltrain.sweeps.journal import JOURNAL

EPOCHS = 9  # of a trial that is not pruned
FIXED = (
    "model=cnn",
    "model.channels=[8,16]",
    "dataset=mnist",
    "dataset.val_fraction=0.5",
    "dataset.eval_batch_size=500",
    "optimizer=sgd",
    f"trainer.epochs={EPOCHS}",
    "callbacks=quiet",
    "device=cpu",
    "launcher=inline",
)
SPACE = (
    "optimizer.momentum=interval(0,0.99)",
    "dataset.batch_size=int(tag(log,interval(16,256)))",
    "model.dropout=interval(0,0.7)",
    "optimizer.weight_decay=tag(log,interval(1e-6,1e-2))",
    "optimizer.lr=tag(log,interval(1e-4,1))",
)
GRID = (
    "optimizer.momentum=0,0.9",
    "dataset.batch_size=32,128",
    "model.dropout=0,0.5",
    "optimizer.weight_decay=0,1e-4",
    "optimizer.lr=1e-3,1e-2,1e-1,1",
)
ENDLESS = "sweep.trials=100000"
HYPERBAND = "TPE with Hyperband"
ARMS: dict[str, tuple[str, ...]] = {
    "grid": GRID,
    "random": (*SPACE, "sweep=random", ENDLESS),
    HYPERBAND: (*SPACE, "sweep=tpe", ENDLESS, "sweep.random_trials=8", "sweep.pruner=hyperband"),
}
POLL_SECONDS = 0.02
START_SECONDS = 120.0  # until the first trial of an arm starts
END_SECONDS = 60.0  # until an interrupted sweep has ended


@dataclass(frozen=True)
class Result:
    """The trials of an arm, by how they ended, and the best of the finished ones."""

    finished: int
    pruned: int
    accuracy: float
    test_accuracy: float
    overrides: list[str]


def write_idx(path: Path, values: Any) -> None:
    """Write a uint8 tensor as an IDX file."""
    header = struct.pack(">HBB", 0, 8, values.ndim) + struct.pack(f">{values.ndim}I", *values.shape)
    path.write_bytes(header + values.numpy().tobytes())


def write_part(source: Path, target: Path, train: int, test: int) -> None:
    """Write the first images of MNIST in `source` into a folder of data sets."""
    raw = target / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for split, count in (("train", train), ("test", test)):
        for name in FILES[split]:
            packed = source / "MNIST" / "raw" / f"{name}.gz"
            path = packed if packed.exists() else packed.with_suffix("")
            write_idx(raw / name, read_idx(path)[:count])


def events_of(output: Path) -> list[dict[str, Any]]:
    """Return the events of the only sweep in a folder; [] before it has begun."""
    journal = next(output.glob(f"*/*/{JOURNAL}"), None)
    if journal is None:
        return []
    lines = journal.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines[:-1]]


def wait_for_start(process: subprocess.Popen[bytes], output: Path, log: Path) -> None:
    """Wait until the first trial of a sweep starts."""
    end = time.monotonic() + START_SECONDS
    while not any(event["event"] == "start" for event in events_of(output)):
        if process.poll() is not None or time.monotonic() > end:
            raise SystemExit(f"no trial has started:\n{log.read_text()}")
        time.sleep(POLL_SECONDS)


def run_arm(arm: str, seed: int, seconds: float, folder: Path) -> Result:
    """Run a sweep for some seconds, and return its result."""
    output = folder / f"{arm.replace(' ', '-')}-{seed}"
    output.mkdir()
    words = [*FIXED, *ARMS[arm], f"seed={seed}", f"paths.output={output}"]
    words.append(f"paths.data={folder / 'data'}")
    if arm != "grid":
        words.append(f"sweep.seed={seed}")
    log = output / "log.txt"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "dltrain", "-m", *words],
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
    try:
        wait_for_start(process, output, log)
        try:
            process.wait(seconds)  # a grid may be done before
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            process.wait(END_SECONDS)
    finally:
        process.kill()
    return result_of(events_of(output))


def result_of(events: list[dict[str, Any]]) -> Result:
    """Return the result of a sweep from its journal."""
    rows = [event["row"] for event in events if event["event"] == "end"]
    finished = [row for row in rows if row["status"] == "completed"]
    pruned = sum(row["status"] == "pruned" for row in rows)
    if not finished:
        return Result(0, pruned, 0.0, 0.0, [])
    best = max(finished, key=lambda row: row["best"]["value"])
    accuracy = best["best"]["value"]
    tested = best["metrics"]["test/accuracy"]
    return Result(len(finished), pruned, accuracy, tested, best["overrides"])


def line_of(seed: int, arm: str, result: Result) -> str:
    """Return the line of an arm."""
    keys = {word.partition("=")[0] for word in SPACE}
    values = [word for word in result.overrides if word.partition("=")[0] in keys]
    return (
        f"seed {seed}  {arm:18}  {result.finished:4} finished {result.pruned:4} pruned  "
        f"val {result.accuracy:.4f}  test {result.test_accuracy:.4f}  {' '.join(values)}"
    )


def main() -> None:
    """Run all arms and print their results."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=110, help="of each arm")
    parser.add_argument("--seeds", type=int, default=5, help="how many, from 0")
    parser.add_argument("--side-by-side", type=int, default=2, help="arms that run at once")
    parser.add_argument("--images", type=int, default=3000, help="half of them for validation")
    arguments = parser.parse_args()
    source = Path(os.environ.get("DLTRAIN_DATA", "data"))
    jobs = [(seed, arm) for seed in range(arguments.seeds) for arm in ARMS]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_part(source, folder / "data", arguments.images, 1000)

        def run(job: tuple[int, str]) -> Result:
            seed, arm = job
            result = run_arm(arm, seed, arguments.seconds, folder)
            print(line_of(seed, arm, result), flush=True)
            return result

        with ThreadPoolExecutor(arguments.side_by_side) as pool:
            results = dict(zip(jobs, pool.map(run, jobs), strict=True))
    wins = 0
    for seed in range(arguments.seeds):
        others = [results[seed, arm].accuracy for arm in ARMS if arm != HYPERBAND]
        wins += results[seed, HYPERBAND].accuracy > max(others)
    print(f"{HYPERBAND} has the better best trial in {wins} of {arguments.seeds} seeds")


if __name__ == "__main__":
    main()
