"""Images a second of several processes of one thread each, beside one process of one thread.

    python -m benchmarks.processes [--processes 2] [--model resnet18] [--rounds 3]

Each run trains some steps on synthetic images of CIFAR-10's size by the command itself; the runs
take turns. The first step does not count, nor does starting the processes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path


def images_per_second(model: str, processes: int, parallel: str, steps: int, batch: int) -> float:
    """Train some steps, and return the rate of those after the first."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "run"
        words = (
            *(f"model={model}", "dataset=synthetic", "callbacks=quiet", "trainer.epochs=null"),
            *(f"dataset.batch_size={batch}", "dataset.source.test_samples=10"),
            *("dataset.val_fraction=0", f"trainer.steps={steps}", "device.threads=1"),
            *(f"device.processes={processes}", f"device.parallel={parallel}"),
            f"hydra.run.dir={folder}",
        )
        subprocess.run(
            [sys.executable, "-m", "dltrain", *words], check=True, stdout=subprocess.DEVNULL
        )
        results = json.loads((folder / "results.json").read_text())
    return float(results["samples_per_second"])


def main() -> None:
    """Print the rates and their ratio, round by round."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--parallel", default="ddp")
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=64)
    options = parser.parse_args()
    ratios = []
    for _ in range(options.rounds):
        settings = (options.steps, options.batch_size)
        one = images_per_second(options.model, 1, "ddp", *settings)
        several = images_per_second(options.model, options.processes, options.parallel, *settings)
        ratios.append(several / one)
        print(
            f"{one:.1f} images/s in one process, {several:.1f} in {options.processes} "
            f"({options.parallel}): {ratios[-1]:.2f}",
            flush=True,
        )
    print(f"median ratio {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
