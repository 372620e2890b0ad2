"""Measure a table of a million rows: seconds to read it, and training rows per second.

    python -m benchmarks.tabular [--rows 1000000] [--columns 50] [--epochs 2]

The file is written first, to a temporary folder: 45 of 50 columns are numbers, 5 are categories of
five texts, and the target is one of two classes. It is read by the dataset, and for comparison by
pyarrow alone, to float64 columns. Then an MLP is trained with batches of 1024, in turns of 50
steps of dltrain's engine with its log and 50 of the fastest hand-written loop: the same rows as
floats in memory, fused Adam, no logging. The first 100 steps of each do not count.
"""

from __future__ import annotations

import argparse
import copy
import logging
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F
from pyarrow import csv

from dltrain.config.compose import compose
from dltrain.data.tabular.tabular import Tabular
from dltrain.engine import Callback, Engine
from dltrain.experiment.experiment import Experiment
from dltrain.experiment.session import open_session
from dltrain.runs.folder import RunFolder

BATCH, BLOCK, WARM_UP = 1024, 50, 2  # samples a step, steps a block, blocks that are not counted
CATEGORIES = 5
TEXTS = ["red", "green", "blue", "black", "white"]


def make(path: Path, rows: int, columns: int) -> None:
    """Write normal numbers and uniform categories; the class is the sign of a noisy sum."""
    rng = np.random.default_rng(0)
    numbers = {f"x{i}": rng.normal(size=rows).round(5) for i in range(columns - CATEGORIES)}
    texts = {f"c{i}": rng.choice(TEXTS, rows) for i in range(CATEGORIES)}
    score = sum(list(numbers.values())[:5]) + (texts["c0"] == "red") + rng.normal(size=rows)
    table = {**numbers, **texts, "y": np.where(score > 0, "yes", "no")}
    csv.write_csv(pa.table(table), path)


def arrow(path: Path) -> float:
    """Return the seconds in which pyarrow alone reads the file."""
    start = time.perf_counter()
    csv.read_csv(path)
    return time.perf_counter() - start


def by_hand(data: Tabular, network: torch.nn.Module) -> Iterator[None]:
    """Run the fastest hand-written loop block by block."""
    inputs, targets = (part[data.stored.train] for part in data.tensors)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)
    network.train()
    steps = 0
    while True:
        order = torch.randperm(len(inputs))
        for rows in order.split(BATCH):
            loss = F.cross_entropy(network(inputs[rows]), targets[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            steps += 1
            if steps % BLOCK == 0:
                yield


class InTurn(Callback):
    """Runs a block of the other loop after every block of the engine, and keeps both times."""

    def __init__(self, engine: Engine, other: Iterator[None]) -> None:
        self.other = other
        self.times: list[tuple[float, float]] = []
        self.start = self.clock(engine)

    def clock(self, engine: Engine) -> float:
        return time.perf_counter() - engine.evaluation_seconds

    def step_end(self, engine: Engine) -> None:
        if engine.step % BLOCK == 0:
            own, start = self.clock(engine) - self.start, time.perf_counter()
            next(self.other)
            self.times.append((own, time.perf_counter() - start))
            self.start = self.clock(engine)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--columns", type=int, default=50)
    parser.add_argument("--epochs", type=int, default=2)
    arguments = parser.parse_args()
    logging.getLogger("dltrain").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.csv"
        make(path, arguments.rows, arguments.columns)
        print(
            f"{arguments.rows:,} rows, {arguments.columns} columns, "
            f"{path.stat().st_size / 1e6:.0f} MB, ",
            end="",
        )
        print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
        seconds = arrow(path)
        settings = [
            f"dataset.path={path}",
            "dataset.target=y",
            f"dataset.batch_size={BATCH}",
            "optimizer=adam",
        ]
        chosen = [
            "dataset=tabular",
            "model=mlp",
            "trainer.log_every=50",
            f"trainer.epochs={arguments.epochs}",
        ]
        composed = compose([*chosen, *settings, "callbacks=quiet"])
        assert not composed.problems, composed.problems
        start = time.perf_counter()
        built = Experiment.to_train(composed.config)
        samples = built.data.train.samples
        print(
            f"read by dltrain {time.perf_counter() - start:.1f} s, "
            f"by pyarrow alone {seconds:.1f} s",
            flush=True,
        )
        assert isinstance(built.data, Tabular)
        network = copy.deepcopy(built.task.model)
        session = open_session(built, RunFolder(Path(folder)), "benchmark")
        turns = InTurn(session.engine, by_hand(built.data, network))  # type: ignore[arg-type]
        session.engine.listeners["step_end"].append(turns.step_end)
        session.engine.fit(built.task)
    own, other = zip(*turns.times[WARM_UP:], strict=True)
    ratio = statistics.median(b / a for a, b in zip(own, other, strict=True))
    rate = len(own) * BLOCK * BATCH / sum(own)
    print(
        f"{samples:,} training rows: {rate:,.0f} rows/s, "
        f"by hand {len(own) * BLOCK * BATCH / sum(other):,.0f}; ",
        end="",
    )
    print(
        f"dltrain / by hand {sum(other) / sum(own):.3f} by total time, "
        f"{ratio:.3f} by the median block"
    )


if __name__ == "__main__":
    main()
