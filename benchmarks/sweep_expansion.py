"""Measure how long the jobs of a sweep are expanded, composed and checked before the first starts.

    python -m benchmarks.sweep_expansion [--rounds 3] [--one-by-one]

Each row is the median of the rounds, each in a fresh process, and needs no data: seconds of CPU
of the whole process (with Python's start and the import of torch), CPU and wall seconds of the
expansion alone, and the memory that it added at its peak. `--one-by-one` adds the CPU seconds of
the same jobs without sharing what is equal between them. Nothing is trained.
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
from contextlib import nullcontext
from pathlib import Path

MIB = 1024 * 1024
KILOBYTE = 1 if sys.platform == "darwin" else 1024  # the unit of ru_maxrss, in bytes
SWEEPS: dict[str, list[str]] = {
    "500 learning rates and seeds": ["optimizer.lr=range(0.01,1.01,0.01)", "seed=range(5)"],
    "500 seeds of a Transformer": ["experiment=transformer_multi30k", "seed=range(500)"],
    "500 seeds of a seq2seq": ["experiment=seq2seq_multi30k", "seed=range(500)"],
    "500 models x optimizers x regularization": [
        "model=mlp,cnn,lenet5,alexnet,vgg16",
        "optimizer=sgd,adam,adamw,rmsprop",
        "regularization=l2,l1,mixup,label_smoothing,[l2,mixup]",
        "seed=range(5)",
    ],
    "500 experiments": [
        "experiment=cnn_mnist,lenet5_mnist,gan_mnist,lstm_imdb,rcnn_digits",
        "seed=range(100)",
    ],
    "500 interpolations, additions, deletions": [
        "trainer.epochs=${dataset.split_seed}",
        "dataset.split_seed=range(1,101)",
        "++name=a,b,c,d,'${seed}'",
        "~trainer.log_every",
    ],
    "500 seeds of an own option (--config-dir)": ["model=mine", "seed=range(500)"],
    "500 jobs, each with an error": ["optimizer.lr=range(-500,0)", "+nothing=1"],
    "2,000 seeds": ["seed=range(2000)"],
    "10,000 seeds and learning rates": ["seed=range(100)", "optimizer.lr=range(1,101)"],
}
OWN_OPTION = "_target_: dltrain.models.mlp.MLP\nhidden_sizes: [16]\n"


def expand_here(overrides: list[str], config_dir: str, is_shared: bool) -> dict[str, float]:
    """Expand a sweep in this process; return what it took."""
    import torch  # noqa: F401

    from dltrain.config.groups import config_dir as with_options
    from dltrain.errors import ConfigError
    from dltrain.sweeps.samplers import expansion

    if not is_shared:
        expansion.sharing = nullcontext  # type: ignore[assignment]
    memory = peak_memory()
    wall = time.perf_counter()
    seconds = time.process_time()
    with with_options(config_dir):
        try:
            jobs = len(expansion.checked_jobs(overrides)[0])
        except ConfigError:
            jobs = 0
    return {
        "jobs": jobs,
        "cpu": time.process_time() - seconds,
        "wall": time.perf_counter() - wall,
        "process": time.process_time(),
        "memory": (peak_memory() - memory) / MIB,
    }


def peak_memory() -> int:
    """Return the peak memory of this process in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KILOBYTE


def measured(
    overrides: list[str], config_dir: str, is_shared: bool, rounds: int
) -> dict[str, float]:
    """Return the medians of an expansion over rounds, each in a fresh process."""
    words = json.dumps([overrides, config_dir, is_shared])
    command = [sys.executable, "-m", "benchmarks.sweep_expansion", "--here", words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    results = []
    for _ in range(rounds):
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        results.append(json.loads(done.stdout.splitlines()[-1]))
    return {key: statistics.median(result[key] for result in results) for key in results[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one-by-one", action="store_true")
    parser.add_argument("--here", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        print(json.dumps(expand_here(*json.loads(options.here))))
        return
    with tempfile.TemporaryDirectory() as folder:
        own = Path(folder) / "model" / "mine.yaml"
        own.parent.mkdir()
        own.write_text(OWN_OPTION, encoding="utf-8")
        print("| sweep | jobs | process CPU s | expansion CPU s | wall s | MiB | one by one |")
        print("|---|---|---|---|---|---|---|")
        for name, overrides in SWEEPS.items():
            shared = measured(overrides, folder, True, options.rounds)
            alone = ""
            if options.one_by_one:
                alone = f"{measured(overrides, folder, False, options.rounds)['cpu']:.2f}"
            figures = [f"{shared[key]:.2f}" for key in ("process", "cpu", "wall")]
            row = [name, f"{shared['jobs']:.0f}", *figures, f"{shared['memory']:.0f}", alone]
            print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
