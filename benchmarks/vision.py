"""Measure the engine's overhead for a ResNet-18; it needs no data.

    python -m benchmarks.vision [--blocks 20] [--batch-size 16] [--model resnet18]

Training steps on synthetic images of 32 pixels, with the same engine as the command, take turns of
BLOCK steps with a hand-written loop: the same network, memory format, optimizer and batches of the
same stored bytes. The ratio is that of images per second, by total time and by the median of
neighboring blocks.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from dltrain.config.compose import compose
from dltrain.engine import Engine
from dltrain.experiment.experiment import Experiment
from dltrain.experiment.session import Session, open_session
from dltrain.runs.folder import RunFolder

BLOCK, WARM_UP = 2, 2  # steps of each in turn, and blocks before anything counts
LR, MOMENTUM = 0.05, 0.9


def experiment(model: str, batch_size: int, blocks: int) -> Experiment:
    """Build the experiment; the hand-written loop uses its network and data too."""
    composed = compose(
        [
            *(
                f"model={model}",
                "dataset=synthetic",
                f"dataset.batch_size={batch_size}",
                "dataset.val_fraction=0",
            ),
            *("optimizer=nesterov", f"optimizer.lr={LR}", "schedule=constant"),
            *("trainer.epochs=null", f"trainer.steps={BLOCK * (WARM_UP + blocks)}"),
        ]
    )
    assert not composed.problems, composed.problems
    return Experiment.to_train(composed.config)


def hand_written(model: str, batch_size: int) -> Iterator[None]:
    """Run the fastest hand-written loop block by block."""
    built = experiment(model, batch_size, 1)
    network: nn.Module = built.task.model  # type: ignore[assignment]
    network.train()
    images, targets = built.data.stored["train"]  # type: ignore[attr-defined]
    spec, rows = built.data.spec, built.data.train.rows  # type: ignore[attr-defined]
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (spec.mean, spec.std))
    scale, shift = 1 / std, -mean / std
    optimizer = torch.optim.SGD(
        network.parameters(), lr=LR, momentum=MOMENTUM, nesterov=True, fused=True
    )
    steps = 0
    while True:
        for batch in rows[torch.randperm(len(rows))].split(batch_size):
            x = images.index_select(0, batch).float().mul_(scale).add_(shift)
            loss = F.cross_entropy(network(x), targets[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            steps += 1
            if steps % BLOCK == 0:
                yield


def in_turn(session: Session, other: Callable[[], None]) -> tuple[list[float], list[float]]:
    """Return the seconds of every counted block of the engine and of `other` after each."""
    engine, own, others = session.engine, [], []
    start = time.perf_counter()

    def step_end(engine: Engine) -> None:
        nonlocal start
        if engine.step % BLOCK:
            return
        session.checkpoint.wait()  # the engine pays for its saves
        own.append(time.perf_counter() - engine.evaluation_seconds - start)
        before = time.perf_counter()
        other()
        others.append(time.perf_counter() - before)
        start = time.perf_counter() - engine.evaluation_seconds

    engine.listeners["step_end"].append(step_end)
    engine.fit(session.experiment.task)
    return own[WARM_UP:], others[WARM_UP:]


def engine(model: str, batch_size: int, blocks: int) -> None:
    loop = hand_written(model, batch_size)
    with tempfile.TemporaryDirectory() as folder:
        session = open_session(
            experiment(model, batch_size, blocks), RunFolder(Path(folder)), "benchmark"
        )
        own, others = in_turn(session, lambda: next(loop))
        session.engine.emit("close")
    images = BLOCK * batch_size * len(own)
    pairs = statistics.median(theirs / ours for ours, theirs in zip(own, others, strict=True))
    print(
        f"{model}, batch {batch_size}: dltrain {images / sum(own):,.1f} images/s, "
        f"by hand {images / sum(others):,.1f}"
    )
    print(
        f"  dltrain / by hand: {sum(others) / sum(own):.3f} by total time, "
        f"{pairs:.3f} by the median of {len(own)} blocks"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--blocks", type=int, default=20)
    arguments = parser.parse_args()
    logging.getLogger("dltrain").setLevel(logging.ERROR)
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, "
        f"{torch.backends.cpu.get_cpu_capability()}"
    )
    engine(arguments.model, arguments.batch_size, arguments.blocks)


if __name__ == "__main__":
    main()
