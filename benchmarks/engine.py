"""Measure training images per second on MNIST, batch size 64, against hand-written loops.

    python -m benchmarks.engine [--rounds 3] [--models mlp lenet5 cnn] [--fast] [--peers]

The contenders take turns of 100 steps over one to five epochs; the first 200 steps do not count:

* `dltrain`      the engine with all its defaults (`device=auto`): log records, TensorBoard,
                 progress, checkpoints
* `hand-written` the fastest eager loop: data in memory, fused Adam, no logging; stored floats and
                 bytes, contiguous and channels-last, with torch's number of threads and with one,
                 in a process of their own. `best` is the fastest of them in this round
* `usual`        torchvision's dataset, ToTensor and Normalize per sample, DataLoader,
                 `loss.item()` in every step
* `--fast`: `device=fast`, which chooses by measuring, in turn with the best hand-written loop
* `--peers`: Lightning and Keras on torch if they are installed (pip install lightning keras), one
  after the other

The table shows medians over the rounds: the rate by total time, and the ratio of dltrain to each
contender by total time and by the median block, which is less sensitive to noise but ignores rare
costs such as a save.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import logging
import multiprocessing
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dltrain.callbacks import checkpoint, tensorboard
from dltrain.config.compose import Composed, compose
from dltrain.engine import Callback, Engine
from dltrain.experiment.experiment import Experiment
from dltrain.experiment.session import Session, open_session
from dltrain.experiment.tuned import experiment_to_train
from dltrain.runs.folder import RunFolder

BATCH, WARM_UP, BLOCK, USUAL_BLOCK = 64, 200, 100, 20
EPOCHS = {"mlp": 5, "lenet5": 2, "cnn": 1}
MEAN, STD = 0.1307, 0.3081
PLAIN = ("device.channels_last=false", "device.keep_freed_memory=false")
CPU = "device.name=cpu"
HAND = "hand-written"
BEST = "hand-written, best"
FAST = "dltrain, device=fast"
TORCH_THREADS = torch.get_num_threads()
ROOT = os.environ.get("DLTRAIN_DATA", "data")


def composed_run(model: str, *overrides: str) -> Composed:
    composed = compose(
        [f"model={model}", "dataset=mnist", f"trainer.epochs={EPOCHS[model]}", CPU, *overrides]
    )
    assert not composed.problems, composed.problems
    return composed


def experiment(model: str, *overrides: str) -> Experiment:
    return Experiment.to_train(composed_run(model, *overrides).config)


def tuned_experiment(model: str) -> Experiment:
    """Return the experiment with the settings that `device=fast` chooses on this machine."""
    composed = composed_run(model, "device=fast")
    tuned = experiment_to_train(composed)
    print(f"device=fast for {model}: {tuned.composed.config['device']}", flush=True)
    return tuned.experiment


Rates = dict[str, dict[str, float]]


class Clock:
    """Counts images after the warm-up, for loops that cannot be cut into blocks."""

    def __init__(self) -> None:
        self.steps = self.images = 0
        self.start = 0.0

    def step(self, count: int) -> None:
        self.steps += 1
        if self.steps == WARM_UP:
            self.start = time.perf_counter()
        elif self.steps > WARM_UP:
            self.images += count

    def rate(self) -> float:
        return self.images / (time.perf_counter() - self.start)


class EngineClock:
    """The clock of callbacks that may use a fraction of the run's time; it stops in other loops."""

    thread_time = staticmethod(time.thread_time)
    time = staticmethod(time.time)

    def __init__(self) -> None:
        self.paused_seconds = 0.0

    def __enter__(self) -> EngineClock:
        for module in (tensorboard, checkpoint):
            module.time = self  # type: ignore[attr-defined]
        return self

    def __exit__(self, *exc: object) -> None:
        for module in (tensorboard, checkpoint):
            module.time = time  # type: ignore[attr-defined]

    def perf_counter(self) -> float:
        """Return the seconds of the engine."""
        return time.perf_counter() - self.paused_seconds


class InTurn(Callback):
    """Runs a block of each other loop after every BLOCK steps of the engine, and keeps all times.

    Every ratio is therefore of neighboring times, whatever else the machine does. Waiting for a
    checkpoint counts as the engine's time; its evaluations count for nobody.
    """

    def __init__(
        self, session: Session, loops: dict[str, Iterator[int]], engine_clock: EngineClock
    ) -> None:
        self.session, self.loops = session, loops
        self.times: dict[str, list[float]] = {name: [] for name in ("dltrain", *loops)}
        self.engine_clock = engine_clock
        self.start = self.clock(session.engine)
        self.blocks = 0

    def clock(self, engine: Engine) -> float:
        return time.perf_counter() - engine.evaluation_seconds

    def step_end(self, engine: Engine) -> None:
        if engine.step % BLOCK:
            return
        self.session.checkpoint.wait()  # the engine pays for its saves
        self.blocks += 1
        counted = self.blocks > WARM_UP // BLOCK
        if counted:
            self.times["dltrain"].append((self.clock(engine) - self.start) / (BLOCK * BATCH))
        others_began = time.perf_counter()
        loops = list(self.loops.items())
        first = self.blocks % len(loops)  # so that no loop always follows the engine
        for name, loop in [*loops[first:], *loops[:first]]:
            threads = torch.get_num_threads()
            start = time.perf_counter()
            images = next(loop)
            if counted:
                self.times[name].append((time.perf_counter() - start) / images)
            torch.set_num_threads(threads)  # as they are for dltrain, where the loop is not apart
            torch.set_flush_denormal(True)
        self.engine_clock.paused_seconds += time.perf_counter() - others_began
        self.start = self.clock(engine)

    def rates(self) -> Rates:
        """Return images per second by total time, with rare costs, and by the median block."""
        kinds = {"total": statistics.mean, "block": statistics.median}
        return {
            kind: {name: 1 / of(times) for name, times in self.times.items()}
            for kind, of in kinds.items()
        }

    def ratios(self, name: str) -> list[float]:
        """Return dltrain's rate divided by another's, for each pair of neighboring blocks."""
        return [
            theirs / ours
            for ours, theirs in zip(self.times["dltrain"], self.times[name], strict=True)
        ]


def dltrain(built: Experiment, loops: dict[str, Iterator[int]]) -> Rates:
    """Return images per second of the engine and of the other loops."""
    return in_turn(built, loops).rates()


def in_turn(built: Experiment, loops: dict[str, Iterator[int]]) -> InTurn:
    """Run the engine as the command does, in a temporary folder, in turn with other loops."""
    with tempfile.TemporaryDirectory() as folder, EngineClock() as engine_clock:
        session = open_session(built, RunFolder(Path(folder)), "benchmark")
        turns = InTurn(session, loops, engine_clock)
        session.engine.listeners["step_end"].append(turns.step_end)
        session.engine.fit(session.experiment.task)
        session.engine.emit("close")
    return turns


def hand_written(
    model: str, floats: bool, channels_last: bool = False, threads: int = TORCH_THREADS
) -> Iterator[int]:
    """Run a fast eager loop block by block; yield the number of images of each."""
    built = experiment(model, *PLAIN)
    network: nn.Module = built.task.model  # type: ignore[assignment]
    stored, targets = built.data.stored["train"]  # type: ignore[attr-defined]
    rows = built.data.train.rows  # type: ignore[attr-defined]
    images = stored.float().div_(255).sub_(MEAN).div_(STD) if floats else stored
    scale, shift = 1 / (255 * STD), -MEAN / STD
    if channels_last:
        network.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)
    network.train()
    steps = 0
    torch.set_num_threads(threads)
    while True:
        order = rows[torch.randperm(len(rows))]
        for batch in order.split(BATCH):
            x = images[batch] if floats else images[batch].float().mul_(scale).add_(shift)
            loss = F.cross_entropy(network(x), targets[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            steps += 1
            if steps % BLOCK == 0:
                yield BLOCK * BATCH
                torch.set_num_threads(threads)


class OtherProcess:
    """A process with loops that run a block when it is asked for one.

    What dltrain sets for a process, such as how freed memory is kept and that denormal floats are
    rounded to 0, does not hold for them: they have torch's defaults.
    """

    def __init__(self, make: Callable[[str], dict[str, Iterator[int]]], model: str) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, other_end = context.Pipe()
        arguments = (make, model, other_end)
        self.process = context.Process(target=run_loops, args=arguments, daemon=True)
        self.process.start()
        self.names: list[str] = self.connection.recv()

    def loops(self) -> dict[str, Iterator[int]]:
        """Return the loops by name."""
        return {name: self.blocks(name) for name in self.names}

    def blocks(self, name: str) -> Iterator[int]:
        """Run a loop block by block; yield the number of images of each."""
        while True:
            self.connection.send(name)
            yield self.connection.recv()

    def close(self) -> None:
        """End the process."""
        self.process.terminate()
        self.process.join()


def run_loops(make: Callable[[str], dict[str, Iterator[int]]], model: str, asked: Any) -> None:
    """Run a block of the loop that is asked for, until the process is ended."""
    loops = make(model)
    with quiet():
        for loop in loops.values():
            next(loop)  # builds its network, for which dltrain sets up the process
    asked.send(list(loops))
    while True:
        loop = loops[asked.recv()]
        torch.set_flush_denormal(False)
        torch.set_num_threads(TORCH_THREADS)
        asked.send(next(loop))


def hand_written_loops(model: str) -> dict[str, Iterator[int]]:
    """Return the hand-written loops of a model by name."""
    formats = {"contiguous": False, "channels-last": True}
    if model == "mlp":  # it has no convolutions
        formats = {"contiguous": False}
    loops: dict[str, Iterator[int]] = {}
    for store, floats in (("floats", True), ("bytes", False)):
        for name, channels_last in formats.items():
            for threads in sorted({1, TORCH_THREADS}):
                label = f"{HAND}, {store}, {name}, {threads} threads"
                loops[label] = hand_written(model, floats, channels_last, threads)
    loops["usual"] = usual(model)
    return loops


def mnist_loader() -> torch.utils.data.DataLoader[tuple[Tensor, Tensor]]:
    from torchvision import datasets, transforms

    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((MEAN,), (STD,))])
    whole = datasets.MNIST(ROOT, train=True, transform=transform, download=True)
    train = torch.utils.data.Subset(whole, range(54000))
    return torch.utils.data.DataLoader(train, batch_size=BATCH, shuffle=True)


def usual(model: str, device: str = "cpu") -> Iterator[int]:
    """Run the loop of most tutorials, in smaller blocks because it is slow."""
    network: nn.Module = experiment(model, *PLAIN).task.model  # type: ignore[assignment]
    network.to(device)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    network.train()
    steps, running = 0, 0.0
    while True:
        for images, targets in mnist_loader():
            x, y = images.to(device), targets.to(device)
            optimizer.zero_grad()
            loss = F.cross_entropy(network(x), y)
            loss.backward()
            optimizer.step()
            running += loss.item()
            steps += 1
            if steps % USUAL_BLOCK == 0:
                yield USUAL_BLOCK * BATCH


def lightning(model: str) -> float:
    import lightning as L

    network: nn.Module = experiment(model, *PLAIN).task.model  # type: ignore[assignment]
    clock = Clock()

    class Module(L.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
            loss = F.cross_entropy(self.network(batch[0]), batch[1])
            self.log("train_loss", loss)
            return loss

        def on_train_batch_end(
            self, outputs: object, batch: tuple[Tensor, Tensor], index: int
        ) -> None:
            clock.step(len(batch[1]))

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.parameters(), lr=1e-3)

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
        trainer = L.Trainer(
            max_steps=600, accelerator="cpu", default_root_dir=folder, enable_progress_bar=False
        )
        trainer.fit(Module(), mnist_loader())
    return clock.rate()


def keras(model: str) -> float:
    os.environ["KERAS_BACKEND"] = "torch"
    import keras as K

    built = experiment(model)
    images, targets = built.data.stored["train"]  # type: ignore[attr-defined]
    x = images[:54000].permute(0, 2, 3, 1).float().div_(255).sub_(MEAN).div_(STD).numpy()
    y = targets[:54000].numpy()
    layers = {
        "mlp": lambda: [
            K.layers.Flatten(),
            *(K.layers.Dense(n, "relu") for n in (256, 128)),
            K.layers.Dense(10),
        ],
        "cnn": lambda: [
            *(
                layer
                for n in (32, 64)
                for layer in (
                    K.layers.Conv2D(n, 3, padding="same", use_bias=False),
                    K.layers.BatchNormalization(),
                    K.layers.ReLU(),
                    K.layers.MaxPooling2D(2),
                )
            ),
            K.layers.Flatten(),
            K.layers.Dense(10),
        ],
        "lenet5": lambda: [
            K.layers.ZeroPadding2D(2),
            K.layers.Conv2D(6, 5, activation="tanh"),
            K.layers.AveragePooling2D(2),
            K.layers.Conv2D(16, 5, activation="tanh"),
            K.layers.AveragePooling2D(2),
            K.layers.Flatten(),
            K.layers.Dense(120, "tanh"),
            K.layers.Dense(84, "tanh"),
            K.layers.Dense(10),
        ],
    }[model]()
    network = K.Sequential([K.layers.Input((28, 28, 1)), *layers])
    network.compile("adam", K.losses.SparseCategoricalCrossentropy(from_logits=True))
    clock = Clock()

    class Count(K.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: object = None) -> None:
            clock.step(BATCH)

    network.fit(
        x[: 600 * BATCH],
        y[: 600 * BATCH],
        batch_size=BATCH,
        epochs=1,
        verbose=0,
        callbacks=[Count()],
    )
    return clock.rate()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    logging.getLogger("dltrain").setLevel(logging.ERROR)
    yield


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=["mlp", "lenet5", "cnn"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--fast", action="store_true", help="also channels-last, compile and bf16")
    parser.add_argument(
        "--peers", action="store_true", help="also Lightning and Keras, where installed"
    )
    arguments = parser.parse_args()
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, "
        f"{torch.backends.cpu.get_cpu_capability()}"
    )
    with quiet():
        for model in arguments.models:
            measure(model, arguments)


def measure(model: str, arguments: argparse.Namespace) -> None:
    """Run all rounds and print a table of the medians."""
    rounds = [one_round(model, arguments.fast, arguments.peers) for _ in range(arguments.rounds)]

    def ratio(over: str, under: str, kind: str) -> float:
        return statistics.median(r[kind][over] / r[kind][under] for r in rounds)

    print(f"\n{model:52}{'images/s':>10}{'dltrain / it':>14}{'by blocks':>11}{'it / usual':>12}")
    for name in rounds[0]["total"]:
        rate = statistics.median(r["total"][name] for r in rounds)
        figures = [
            ratio("dltrain", name, "total"),
            ratio("dltrain", name, "block"),
            ratio(name, "usual", "total"),
        ]
        print(
            f"  {name:50}{rate:10,.0f}{figures[0]:14.3f}{figures[1]:11.3f}{figures[2]:12.2f}",
            flush=True,
        )


def one_round(model: str, fast: bool, peers: bool) -> Rates:
    others = OtherProcess(hand_written_loops, model)
    loops = others.loops()
    rates = dltrain(experiment(model), loops)
    by_hand = [name for name in loops if name.startswith(HAND)]
    best = max(by_hand, key=rates["total"].__getitem__)
    for values in rates.values():
        values[BEST] = values[best]
    if fast:
        pair = dltrain(tuned_experiment(model), {best: loops[best]})
        for kind, values in rates.items():  # on the clock of the first run
            values[FAST] = pair[kind]["dltrain"] * values[best] / pair[kind][best]
    others.close()
    for name, run in (("lightning", lightning), ("keras", keras)) if peers else ():
        if importlib.util.find_spec(name):
            rate = run(model)
            for values in rates.values():
                values[name] = rate
    return rates


if __name__ == "__main__":
    main()
