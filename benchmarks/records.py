"""Train the fast experiments with many seeds, and print their accuracies and training seconds.

    python -m benchmarks.records [mnist_fast] [cifar10_fast] [--seeds 20] [--device cpu]
                                 [overrides of the experiments]

Without names, mnist_fast is trained, and with --device cuda cifar10_fast as well. All seeds are
trained in one process, one after the other; the first run also loads kernels and warms caches, so
the median of the seconds is printed beside that of the first run.

Seconds are of `Engine.fit` from its call to its return, with the device idle at both ends: batches
and augmentation, steps, averages, logs and the checkpoint. The whitening layer of cifar10_fast is
computed before that; its seconds are printed apart. Reading the data, building the network and
the test do not count. The accuracy is that of the test set, from the last weights.

An example of overrides: dataset=image_folder dataset.path=cifar10-jpeg
"""

from __future__ import annotations

import argparse
import logging
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from dltrain.config.compose import compose
from dltrain.experiment.experiment import Experiment
from dltrain.experiment.session import open_session
from dltrain.runs.folder import RunFolder

RECORDS = ("mnist_fast", "cifar10_fast", "cifar10_fast_small")


@dataclass(frozen=True)
class Record:
    """The figures of one training: test accuracy, seconds of the build and of the training."""

    accuracy: float
    build_seconds: float
    seconds: float


def wait() -> None:
    """Wait until the device has nothing left to do."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def trained(name: str, seed: int, overrides: list[str]) -> Record:
    """Train an experiment with a seed and test it."""
    composed = compose([f"experiment={name}", "callbacks=quiet", f"seed={seed}", *overrides])
    assert not composed.problems, composed.problems
    experiment = Experiment.to_train(composed.config)
    _ = experiment.data.train.samples  # reads the data set
    begin = time.perf_counter()
    experiment.build()
    wait()
    build_seconds = time.perf_counter() - begin
    with tempfile.TemporaryDirectory() as folder:
        session = open_session(experiment, RunFolder(Path(folder)), "benchmark")
        begin = time.perf_counter()
        session.engine.fit(experiment.task)
        wait()
        seconds = time.perf_counter() - begin - session.engine.evaluation_seconds
        scores = session.engine.test(experiment.data.test)
        session.engine.emit("close")
    return Record(float(scores["test/accuracy"]), build_seconds, seconds)


def report(name: str, records: list[Record]) -> str:
    """Return a line with the mean and the standard deviation, and the median times."""
    accuracies = [record.accuracy for record in records]
    spread = statistics.stdev(accuracies) if len(records) > 1 else 0.0
    seconds = statistics.median(record.seconds for record in records)
    build_seconds = statistics.median(record.build_seconds for record in records)
    return (
        f"{name}: accuracy {statistics.mean(accuracies):.4f} (standard deviation {spread:.4f}, "
        f"{min(accuracies):.4f} to {max(accuracies):.4f}, {len(records)} seeds); training "
        f"{seconds:.3f} s (median; the first run {records[0].seconds:.3f} s), "
        f"before it the build {build_seconds:.3f} s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--device", default="auto")
    arguments, words = parser.parse_known_args()
    logging.getLogger("dltrain").setLevel(logging.ERROR)
    names = [word for word in words if word in RECORDS]
    overrides = [f"device={arguments.device}", *(word for word in words if word not in RECORDS)]
    if not names:
        names = ["mnist_fast", "cifar10_fast"] if arguments.device == "cuda" else ["mnist_fast"]
    for name in names:
        records: list[Record] = []
        for seed in range(arguments.seeds):
            records.append(trained(name, seed, overrides))
            latest = records[-1]
            print(
                f"{name} seed {seed}: accuracy {latest.accuracy:.4f}, {latest.seconds:.3f} s",
                flush=True,
            )
        print(report(name, records), flush=True)


if __name__ == "__main__":
    main()
