"""Time a training alone on the machine and beside one busy loop per core, by how threads wait.

    python -m benchmarks.busy [overrides]

The ways of waiting are measured in turn, and medians compared. `before` is version 0.1: as many
threads as cores, which spin while they wait. A way that takes more than PATIENCE seconds is
stopped and reported as longer. An example of overrides: python -m benchmarks.busy model=mlp.

Measured on two cores of an AMD EPYC (AVX-512), torch 2.14: the default run takes 6.94 s from start
to end of the process with nothing else running (six times in turn), and 6.95 s as `before`. Beside
two busy loops (four times) it takes 11.4 s, 1.65 times as long. Beside four to seven other
processes (twice in turn) it takes 120 and 158 s as `before`, 22 and 28 s with two threads that
sleep, 28 and 11 s with one thread. On a quiet machine, the cost of sleeping is within the noise of
10 % for larger networks: cnn and lenet5 on MNIST train at 0.94 of the rate with spinning threads in
one set of runs, cnn at 0.96 in another.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

PATIENCE = 300.0  # seconds
BUSY = "while True: pass"
SPINS = "300000"  # GNU OpenMP's default
WAYS: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {
    "now": ((), {}),
    "one thread": (("device.threads=1",), {}),
    "torch's threads, that sleep": (("device.threads=0",), {}),
    "before": (("device.threads=0",), {"GOMP_SPINCOUNT": SPINS}),
}


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """Keep `count` processes busy."""
    signal.signal(
        signal.SIGTERM, lambda number, frame: sys.exit(128 + number)
    )  # the loops have to end as well
    running = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def seconds(overrides: list[str], environment: dict[str, str]) -> float:
    """Time one training, from the start of the process to its end."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "dltrain", *overrides, f"paths.output={folder}"]
        start = time.perf_counter()
        try:
            subprocess.run(
                command,
                env={**os.environ, **environment},
                stdout=subprocess.DEVNULL,
                check=True,
                timeout=PATIENCE,
            )
        except subprocess.TimeoutExpired:
            return float("inf")
        return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("overrides", nargs="*")
    settings = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    found: dict[tuple[str, int], list[float]] = {}
    for _ in range(settings.repeats):
        for loops in (0, cores):
            for way in settings.ways:
                added, environment = WAYS[way]
                with busy(loops):
                    found.setdefault((way, loops), []).append(
                        seconds([*settings.overrides, *added], environment)
                    )
    print(
        f"{'':<30}{'alone':>10}{f'{cores} busy loops':>16}{'ratio':>8}   "
        f"(seconds, medians of {settings.repeats})"
    )
    for way in settings.ways:
        alone, beside = (statistics.median(found[way, loops]) for loops in (0, cores))
        print(f"{way:<30}{alone:>10.2f}{beside:>16.2f}{beside / alone:>8.2f}")


if __name__ == "__main__":
    main()
