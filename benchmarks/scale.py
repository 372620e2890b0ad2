"""Measure memory and time at scale: many classes, many steps, more data. No data set is needed.

    python -m benchmarks.scale classes [--samples 1000000] [--classes 20000] [--batch 256]
    python -m benchmarks.scale steps [--steps 200000]
    python -m benchmarks.scale data [--samples 20000] [--rounds 3]

* `classes`: the peak memory of an evaluation, over that of the logits of one batch and the states
  that `dltrain check` states. Logits are drawn in place, so no network adds to it.
* `steps`: the resident memory of `dltrain` at ten points of a run with its default logging. The
  last point over the second says whether memory grows with the steps.
* `data`: seconds of an epoch with ten times the samples over those with the samples, of images and
  of the rows of a table.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from dltrain.losses import CrossEntropy
from dltrain.tasks.classification import Classification
from dltrain.types import Spec

POINTS = 10
PIXELS = 8  # a side of the images
COLUMNS = 20  # of the table


class DrawnLogits(nn.Module):
    """Draws logits (B, K) in one buffer; those of the true class, which it is given, are higher."""

    def __init__(self, batch: int, classes: int) -> None:
        super().__init__()
        self.logits = torch.empty(batch, classes)

    def forward(self, targets: Tensor) -> Tensor:
        logits = self.logits[: len(targets)].uniform_()
        logits[torch.arange(len(targets)), targets] += 0.5
        return logits


def status_bytes(field: str, process: int | str = "self") -> int:
    """Return a field of a process's status, such as VmRSS or VmHWM, in bytes; 0 if it ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


def drawn_batches(samples: int, classes: int, batch: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield targets (B,) twice: as inputs and as targets."""
    for first in range(0, samples, batch):
        targets = torch.randint(0, classes, (min(batch, samples - first),))
        yield targets, targets


def evaluation(samples: int, classes: int, batch: int) -> tuple[Classification, float]:
    """Evaluate drawn logits; return the task, and the seconds that it took."""
    spec = Spec((1,), tuple(map(str, range(classes))), train_samples=samples, test_samples=samples)
    data: Any = SimpleNamespace(spec=spec)
    unused: Any = None
    task = Classification(data, DrawnLogits(batch, classes), CrossEntropy(), unused, epochs=1)
    start = time.perf_counter()
    with torch.no_grad():
        task.evaluate(drawn_batches(samples, classes, batch))
    return task, time.perf_counter() - start


def measure_classes(samples: int, classes: int, batch: int) -> None:
    """Print the peak memory of an evaluation; the process must be fresh."""
    evaluation(500, 10, 64)  # loads libraries
    before = status_bytes("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the peak starts again here
    task, seconds = evaluation(samples, classes, batch)
    peak = status_bytes("VmHWM") - before
    states, logits = task.evaluation_bytes(samples, batch)
    print(f"{samples:,} samples, {classes:,} classes, batch {batch}: {seconds:.0f} s")
    print(f"  peak {peak / 1e6:,.0f} MB, logits {logits / 1e6:,.0f} MB, states {states / 1e6:,.0f}")
    print(f"  peak / (logits of one batch + states)  {peak / (logits + states):.2f}")


def last_step(folder: Path) -> int:
    """Return the step of the last complete record of the run in a folder; 0 before the first."""
    for path in folder.glob("outputs/*/*/metrics.jsonl"):
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 4000))
            lines = file.read().splitlines()
        for line in reversed(lines):
            try:
                return int(json.loads(line)["step"])
            except ValueError:  # the line is being written
                continue
    return 0


def measure_steps(steps: int) -> None:
    """Print the resident memory of a run at ten points."""
    command = [sys.executable, "-m", "dltrain", "model=mlp", *images(6400)]
    command += ["model.hidden_sizes=[16]", "trainer.epochs=1000000", f"trainer.steps={steps}"]
    measured: list[tuple[int, int]] = []
    with tempfile.TemporaryDirectory() as name, subprocess.Popen(command, cwd=name) as process:
        while process.poll() is None:
            time.sleep(0.2)
            point = (last_step(Path(name)), status_bytes("VmRSS", process.pid))
            if point[0] and point[1]:
                measured.append(point)
        if process.returncode:
            raise SystemExit("the run failed")
    for number in range(1, POINTS + 1):
        step, size = min(measured, key=lambda one: abs(one[0] - number * steps / POINTS))
        print(f"  step {step:10,}  {size / 1e6:8,.1f} MB")
    early = statistics.median(size for step, size in measured if step < 2 * steps / POINTS)
    late = statistics.median(size for step, size in measured if step > steps - steps / POINTS)
    print(f"  median of the last tenth / of the first two  {late / early:.3f}")


def images(samples: int) -> list[str]:
    """Return the settings of a synthetic set of images."""
    return [
        "dataset=synthetic",
        f"dataset.source.train_samples={samples}",
        "dataset.source.test_samples=200",
        f"dataset.source.height={PIXELS}",
        f"dataset.source.width={PIXELS}",
    ]


def table(samples: int, folder: Path) -> list[str]:
    """Write a table of numbers with two classes; return the settings that read it."""
    path = folder / f"{samples}.csv"
    draw = random.Random(0)
    with path.open("w", encoding="utf-8") as file:
        file.write(",".join([*(f"c{number}" for number in range(COLUMNS)), "label"]) + "\n")
        for _ in range(samples):
            values = [draw.gauss(0, 1) for _ in range(COLUMNS)]
            label = "yes" if sum(values) > 0 else "no"
            file.write(",".join([*(f"{value:.4f}" for value in values), label]) + "\n")
    return ["dataset=tabular", f"dataset.path={path}", "dataset.target=label"]


def epoch_seconds(settings: list[str]) -> float:
    """Return the seconds of the last of three epochs of a run."""
    command = [sys.executable, "-m", "dltrain", "model=mlp", *settings, "trainer.epochs=3"]
    command += ["callbacks=quiet", "regularization=[]"]
    with tempfile.TemporaryDirectory() as name:
        subprocess.run(command, cwd=name, check=True, stdout=subprocess.DEVNULL)
        path = next(Path(name).glob("outputs/*/*/timing.jsonl"))
        records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    ends = [record["seconds"] for record in records if record["event"] == "epoch end"]
    return float(ends[-1] - ends[-2])


def measure_data(samples: int, rounds: int) -> None:
    """Print the seconds of an epoch with the samples and with ten times as many."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        kinds = {
            "images": (images(samples), images(10 * samples)),
            "rows of a table": (table(samples, folder), table(10 * samples, folder)),
        }
        for kind, (few, many) in kinds.items():
            pairs = [(epoch_seconds(few), epoch_seconds(many)) for _ in range(rounds)]
            ratio = statistics.median(longer / shorter for shorter, longer in pairs)
            short = statistics.median(shorter for shorter, _ in pairs)
            print(f"  {kind:18} {short:6.2f} s for {samples:,}; ten times as many: x {ratio:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("classes", "steps", "data"))
    parser.add_argument("--samples", type=int)
    parser.add_argument("--classes", type=int, default=20_000)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--steps", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    print(f"torch {torch.__version__}, {os.cpu_count()} cores")
    if arguments.what == "classes":
        measure_classes(arguments.samples or 1_000_000, arguments.classes, arguments.batch)
    elif arguments.what == "steps":
        measure_steps(arguments.steps)
    else:
        measure_data(arguments.samples or 20_000, arguments.rounds)


if __name__ == "__main__":
    main()
