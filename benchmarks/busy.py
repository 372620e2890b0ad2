"""Times a training alone on the machine and beside a busy loop on every core, by ways to wait:
python -m benchmarks.busy

The ways are taken in turn and the medians compared. `before` is how threads waited, and how many
there were, up to version 0.1: as many as cores, which wait busily. Overrides of one's own follow:
python -m benchmarks.busy model=mlp. A way that takes more than PATIENCE seconds is ended, and is
said to take longer.

Measured on two cores of an AMD EPYC (AVX-512), torch 2.14: the default run from the start of the
process to its end, nothing else running, six times each in turn: 6.94 s, and 6.95 s as `before`;
beside two busy loops, four times: 11.4 s, 1.65 times as long. Beside four to seven other processes, twice
in turn: 120 and 158 s as `before`, 22 and 28 s by two threads that sleep, 28 and 11 s by one thread.
What sleeping costs a larger network on a quiet machine is within the noise of 10 %: cnn and lenet5 on
MNIST trained at 0.94 of the rate with spinning threads in one set of runs, cnn at 0.96 in another.
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
    """Keep so many processes busy."""
    signal.signal(
        signal.SIGTERM, lambda number, frame: sys.exit(128 + number)
    )  # the loops must end too
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
        f"{'':<30}{'alone':>10}{f'{cores} busy loops':>16}{'ratio':>8}   (seconds, medians of {settings.repeats})"
    )
    for way in settings.ways:
        alone, beside = (statistics.median(found[way, loops]) for loops in (0, cores))
        print(f"{way:<30}{alone:>10.2f}{beside:>16.2f}{beside / alone:>8.2f}")


if __name__ == "__main__":
    main()
