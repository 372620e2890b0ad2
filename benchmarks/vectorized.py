"""Measure sweeps of small runs: as one program, one run after the other, and side by side.

    python -m benchmarks.vectorized [--runs 16] [--epochs 1] [--rounds 1] [--model lenet5] [words]

Each program runs the same sweep over seeds in a fresh process, on MNIST (DLTRAIN_DATA), with all
that a run writes by default; further words of the command line change that, such as
callbacks=quiet. The programs take turns, as often as --rounds says, and the best round counts.

* inline: `launcher=inline`, one run after the other in one process
* vectorized: `launcher=vectorized`, all runs as one program
* local: `launcher=local`, one process for each core

Columns: seconds of the whole command, its CPU seconds, both divided by those of inline, and the
largest difference of a metric of a run from that of the same run under inline.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

INLINE = "inline"


@dataclass
class Measurement:
    """A sweep: the seconds and CPU seconds of its command, and the metrics of its runs."""

    seconds: float
    cpu_seconds: float
    metrics: list[dict[str, float]] = field(default_factory=list)

    def row(self, name: str, reference: Measurement) -> str:
        """Return the measurement as a line of the table."""
        ratio = self.seconds / reference.seconds
        cpu_ratio = self.cpu_seconds / reference.cpu_seconds
        figures = f"{self.seconds:9.1f} {ratio:6.2f} {self.cpu_seconds:9.1f} {cpu_ratio:6.2f}"
        return f"{name:<12} {figures}   {self.difference(reference):.1e}"

    def difference(self, reference: Measurement) -> float:
        """Return the largest difference of a metric of a run from that of the reference."""
        pairs = zip(self.metrics, reference.metrics, strict=True)
        return max(abs(own[key] - other[key]) for own, other in pairs for key in other)


def measure(words: list[str]) -> Measurement:
    """Run a sweep in a process of its own."""
    with tempfile.TemporaryDirectory() as name:
        command = [sys.executable, "-m", "dltrain", "-m", *words, f"hydra.sweep.dir={name}/sweep"]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        start = time.perf_counter()
        process = subprocess.run([*command, "--json"], check=True, capture_output=True, text=True)
        seconds = time.perf_counter() - start
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    rows = json.loads(process.stdout)["jobs"]
    return Measurement(seconds, cpu, [row["metrics"] for row in rows])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--model", default="lenet5")
    parser.add_argument("words", nargs="*")
    arguments = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    launchers = {
        INLINE: ["launcher=inline"],
        "vectorized": ["launcher=vectorized", f"launcher.runs={arguments.runs}"],
        "local": ["launcher=local", f"launcher.jobs={cores}"],
    }
    sweep = [f"model={arguments.model}", "dataset=mnist", f"trainer.epochs={arguments.epochs}"]
    sweep += [f"seed=range(0,{arguments.runs})", "device=cpu", *arguments.words]
    if "DLTRAIN_DATA" in os.environ:
        os.environ["DLTRAIN_DATA"] = str(Path(os.environ["DLTRAIN_DATA"]).resolve())
    best: dict[str, Measurement] = {}
    for _ in range(arguments.rounds):
        for name, words in launchers.items():
            measurement = measure([*words, *sweep])
            if name not in best or measurement.seconds < best[name].seconds:
                best[name] = measurement
    load = os.getloadavg()[0]
    print(f"{arguments.runs} runs of {arguments.model}, {cores} cores, load {load:.1f} at the end")
    print("launcher       seconds  ratio     CPU s  ratio   difference")
    for name, measurement in best.items():
        print(measurement.row(name, best[INLINE]), flush=True)


if __name__ == "__main__":
    main()
