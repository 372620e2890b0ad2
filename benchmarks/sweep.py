"""Measure sweeps: how much longer they take than the training in them, and how fast jobs start.

    python -m benchmarks.sweep [--trials 24] [--jobs 1 2] [--no-peers]

The trials are one-epoch runs of lenet5 on MNIST (DLTRAIN_DATA) that differ in their seeds. For each
number of jobs side by side, each program runs the same sweep in a fresh process:

* dltrain: `dltrain -m` with its local launcher, and all that a run writes by default
* inline: the same with launcher=inline, one job after the other in one process
* hydra basic, hydra joblib: a minimal app under Hydra's own launchers. It trains the same network
  with a hand-written loop on tensors in memory and writes nothing. The joblib launcher is Hydra's
  plugin `pip install hydra-joblib-launcher`; without it its row is left out.

Columns: seconds of the whole command, seconds that the runs themselves count for their training
(all together, divided by the jobs side by side), their ratio, what the command took in addition,
and seconds from the request for a job to the end of its first training step (median and longest
without the first job of each slot, for which the processes are started).

The example of lightning-hydra-template is not among the programs: it is no package, so it has to be
cloned. Its sweep is Hydra's basic launcher around a training with Lightning.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from dltrain.sweeps.journal import read_journal

APP = """
import gzip, json, time
from pathlib import Path
import hydra, torch, torch.nn.functional as F
from torch import nn

def read(path, offset):
    content = bytearray(gzip.decompress(Path(f"{path}-ubyte.gz").read_bytes()))
    return torch.frombuffer(content, dtype=torch.uint8, offset=offset)

def images(folder, split):
    x = read(f"{folder}/{split}-images-idx3", 16).view(-1, 1, 28, 28).float()
    return (x - 33.3) / 78.6, read(f"{folder}/{split}-labels-idx1", 8).long()

def accuracy(net, x, y):
    with torch.no_grad():
        return sum((net(a).argmax(1) == b).sum() for a, b in zip(x.split(64), y.split(64))) / len(y)

@hydra.main(version_base=None)
def main(config):
    start = time.time()
    torch.manual_seed(config.seed)
    torch.set_num_threads(1)
    (x, y), (xt, yt) = images(config.data, "train"), images(config.data, "t10k")
    net = nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.Tanh(), nn.AvgPool2d(2),
        nn.Conv2d(6, 16, 5), nn.Tanh(), nn.AvgPool2d(2), nn.Flatten(),
        nn.Linear(400, 120), nn.Tanh(), nn.Linear(120, 84), nn.Tanh(), nn.Linear(84, 10))
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    first = None
    for rows in torch.randperm(54000).split(64):
        optimizer.zero_grad()
        F.cross_entropy(net(x[rows]), y[rows]).backward()
        optimizer.step()
        first = first or time.time()
    accuracy(net, x[54000:], y[54000:]), accuracy(net, xt, yt)
    record = {"first": first, "seconds": time.time() - start}
    Path(config.records, f"{config.seed}.json").write_text(json.dumps(record))

main()
"""
CLOCK = """
import json, time
from pathlib import Path
from dltrain.engine import Callback, Engine


class Clock(Callback):
    draws = False

    def __init__(self, number: int) -> None:
        self.number = number

    def step_end(self, engine: Engine) -> None:
        if engine.step == 1:
            Path(f"{self.number}.json").write_text(json.dumps({"first": time.time()}))
"""
TRIAL = ("model=lenet5", "dataset=mnist", "trainer.epochs=1", "device=cpu")
CLOCKED = ("plugins=[clock]", "+callbacks.clock={_target_: clock.Clock, number: '${seed}'}")


@dataclass
class Measurement:
    """A sweep: the seconds of its command, of its trainings, and from request to first step."""

    program: str
    jobs: int
    wall: float
    training: float
    starts: list[float]

    def row(self) -> str:
        """Return the measurement as a line of the table."""
        side_by_side = self.training / self.jobs
        figures = f"{self.wall:9.1f} {side_by_side:12.1f} {self.wall / side_by_side:6.2f}"
        extra = f"{self.wall - side_by_side:9.1f}"
        return f"{self.program:<14} {self.jobs:4} {figures} {extra}   {self.start_text()}"

    def start_text(self) -> str:
        """Return how long jobs take to start, if that is known."""
        later = self.starts[self.jobs :]
        if not later:
            return "-"
        return f"{statistics.median(later):.3f} ({max(later):.3f})"


def measure_dltrain(launcher: str, trials: int, jobs: int) -> Measurement:
    """Run dltrain's sweep in a process of its own."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "clock.py").write_text(CLOCK)
        words = [*TRIAL, *CLOCKED, f"seed=range(0,{trials})", "hydra.sweep.dir=sweep", launcher]
        if launcher == "launcher=local":
            words.append(f"launcher.jobs={jobs}")
        command = [sys.executable, "-m", "benchmarks.sweep", "--worker", name, *words]
        wall = seconds_of(command)
        rows = [one["row"] for one in read_journal(folder / "sweep") if one["event"] == "end"]
        requests = json.loads((folder / "requests.json").read_text())
        firsts = [json.loads((folder / f"{n}.json").read_text())["first"] for n in range(trials)]
    program = "dltrain" if launcher == "launcher=local" else "inline"
    starts = [first - request for request, first in zip(requests, firsts, strict=False)]
    return Measurement(program, jobs, wall, sum(row["seconds"] for row in rows), starts)


def measure_hydra(launcher: str, trials: int, jobs: int) -> Measurement:
    """Run the minimal app's sweep under one of Hydra's launchers."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "app.py").write_text(APP)
        data = Path(os.environ["DLTRAIN_DATA"]) / "MNIST" / "raw"
        words = [f"+seed=range(0,{trials})", f"+data={data}", f"+records={name}"]
        words += [f"hydra/launcher={launcher}", f"hydra.sweep.dir={name}/out"]
        if launcher == "joblib":
            words.append(f"hydra.launcher.n_jobs={jobs}")
        wall = seconds_of([sys.executable, str(folder / "app.py"), "-m", *words])
        records = [json.loads((folder / f"{n}.json").read_text()) for n in range(trials)]
    training = sum(record["seconds"] for record in records)
    return Measurement(f"hydra {launcher}", jobs, wall, training, [])


def seconds_of(command: list[str]) -> float:
    """Return the seconds of a command."""
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def work(folder: str, words: list[str]) -> int:
    """Be the process of dltrain's sweep: note when each job is asked for."""
    os.chdir(folder)
    sys.path.insert(0, folder)
    from dltrain.cli import main as dltrain
    from dltrain.sweeps.launchers.server_client import ForkServer

    requests: list[float] = []
    start = ForkServer.start

    def noted(self: ForkServer, job: object, environment: object) -> None:
        requests.append(time.time())
        start(self, job, environment)  # type: ignore[arg-type]

    ForkServer.start = noted  # type: ignore[method-assign]
    code = dltrain(["-m", *words])
    Path("requests.json").write_text(json.dumps(requests))
    return code


def main() -> None:
    if sys.argv[1:2] == ["--worker"]:
        sys.exit(work(sys.argv[2], sys.argv[3:]))
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--jobs", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--no-peers", action="store_true")
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    print("program        jobs   wall s   training s  ratio   extra s   start s (longest)")
    for jobs in arguments.jobs:
        print(measure_dltrain("launcher=local", arguments.trials, jobs).row(), flush=True)
    print(measure_dltrain("launcher=inline", arguments.trials, 1).row(), flush=True)
    if arguments.no_peers:
        return
    print(measure_hydra("basic", arguments.trials, 1).row(), flush=True)
    if importlib.util.find_spec("hydra_plugins.hydra_joblib_launcher") is None:
        print("hydra joblib   not installed: pip install hydra-joblib-launcher")
        return
    for jobs in arguments.jobs:
        print(measure_hydra("joblib", arguments.trials, jobs).row(), flush=True)


if __name__ == "__main__":
    main()
