"""`dltrain runs` over many run folders: seconds of the whole command, cold and with its index.

One run is trained; the others are copies of its files with another seed, learning rate and
accuracy. Each figure is the median of several calls, in processes of their own. On a
busy machine the CPU time is the better figure.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TRAINING = ["model=mlp", "trainer.epochs=2", "callbacks=quiet"]
RUNS_A_DAY = 1000
Cost = tuple[float, float]  # seconds, and seconds of CPU time
COMMANDS = {
    "runs": [],
    "runs --sort test/accuracy": ["--sort", "test/accuracy"],
    "runs --group": ["--group"],
    "runs --where optimizer.lr>0.01": ["--where", "optimizer.lr>0.01"],
    "runs --where optimizer.beta1=0.9": ["--where", "optimizer.beta1=0.9"],
    "runs --where status=failed --csv": ["--where", "status=failed", "--csv"],
}


def call(*words: str) -> tuple[Cost, str]:
    """Return what a dltrain command costs, and what it prints."""
    start = time.perf_counter()
    before = cpu_seconds()
    done = subprocess.run(
        [sys.executable, "-m", "dltrain", *words], check=True, capture_output=True, text=True
    )
    return (time.perf_counter() - start, cpu_seconds() - before), done.stdout


def cpu_seconds() -> float:
    """Return the CPU time of all commands so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def make_runs(root: Path, count: int) -> None:
    """Train a run, and make `count` folders with copies of its files."""
    _, printed = call(*TRAINING, f"paths.output={root / 'first'}", "--json")
    first = Path(json.loads(printed)["run"])
    manifest = json.loads((first / "manifest.json").read_text(encoding="utf-8"))
    results = json.loads((first / "results.json").read_text(encoding="utf-8"))
    for number in range(count):
        day = f"2030-{1 + number // RUNS_A_DAY % 12:02d}-01"
        folder = root / "runs" / day / f"10-00-00-{number:06d}_mlp_digits"
        folder.mkdir(parents=True)
        lr = 10.0 ** -(1 + number // 5 % 4)
        manifest["config"]["seed"] = number % 5
        manifest["config"]["optimizer"]["lr"] = manifest["settings"]["optimizer.lr"] = lr
        results["metrics"]["test/accuracy"] = 0.5 + number / (2 * count)
        (folder / "manifest.json").write_text(json.dumps(manifest, indent=1), encoding="utf-8")
        (folder / "results.json").write_text(json.dumps(results, indent=1), encoding="utf-8")
        os.link(first / "config.yaml", folder / "config.yaml")


def show(name: str, costs: list[Cost]) -> None:
    """Print the medians of a command's costs."""
    seconds, cpu = (statistics.median(column) for column in zip(*costs, strict=True))
    print(f"  {seconds:6.2f} s, CPU {cpu:5.2f} s  {name}")


def main() -> None:
    """Print the seconds of each command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make_runs(root, options.count)
        index = root / "runs" / ".runs-index"
        limit = ["--limit", "20"]
        cold = []
        for _ in range(options.repeats):
            index.unlink(missing_ok=True)
            cold.append(call("runs", str(root / "runs"), *limit)[0])
        print(f"{options.count:,} runs, index of {index.stat().st_size / 1e6:.0f} MB")
        show("runs, without an index", cold)
        for name, words in COMMANDS.items():
            times = [
                call("runs", str(root / "runs"), *limit, *words)[0] for _ in range(options.repeats)
            ]
            show(name, times)


if __name__ == "__main__":
    main()
