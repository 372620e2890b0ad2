"""Measure a whole process: time to the first training step, peak memory, time of --help.

    python -m benchmarks.process [--rounds 3]

Each figure is the median of the rounds; each round starts fresh processes, all in turn:

* `import torch`: python -c "import torch"
* first step: from the command `dltrain model=cnn dataset=mnist` to the end of the first step
* peak memory of that run over one epoch, validation and test, against a hand-written loop for the
  same job: MNIST from torchvision, kept in memory as bytes, fused Adam, accuracy on the test set
  at the end. A second hand-written loop reads the files itself and imports only torch.
* `dltrain --help` and `dltrain list`
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HAND_WRITTEN = """
import gzip, sys, torch, torch.nn.functional as F
from torch import nn
root, plain = sys.argv[1], sys.argv[2] == "plain"
def idx(name, offset):
    content = gzip.decompress(open(f"{root}/MNIST/raw/{name}.gz", "rb").read())
    return torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=offset)
if plain:
    x = idx("train-images-idx3-ubyte", 16).view(-1, 1, 28, 28)
    y = idx("train-labels-idx1-ubyte", 8).long()
    xt = idx("t10k-images-idx3-ubyte", 16).view(-1, 1, 28, 28)
    yt = idx("t10k-labels-idx1-ubyte", 8).long()
else:
    from torchvision.datasets import MNIST
    train, test = MNIST(sys.argv[3], train=True, download=True), MNIST(sys.argv[3], train=False)
    x, y, xt, yt = train.data.unsqueeze(1), train.targets, test.data.unsqueeze(1), test.targets
def block(i, o):
    return nn.Conv2d(i, o, 3, padding=1, bias=False), nn.BatchNorm2d(o), nn.ReLU(), nn.MaxPool2d(2)
net = nn.Sequential(*block(1, 32), *block(32, 64), nn.Flatten(), nn.Linear(64 * 49, 10))
optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, fused=True)
for rows in torch.randperm(54000).split(64):
    optimizer.zero_grad()
    F.cross_entropy(net(x[rows].float() / 255), y[rows]).backward()
    optimizer.step()
net.eval()
with torch.no_grad():
    parts = zip(xt.split(256), yt.split(256))
    right = sum((net(a.float() / 255).argmax(1) == b).sum() for a, b in parts)
print(float(right) / 10000)
"""


def run(*command: str, folder: Path) -> tuple[float, int, float]:
    """Return seconds of a process, its peak memory in bytes, and the time at which it started."""
    began = time.time()
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)[:100]} failed")
    scale = 1 if sys.platform == "darwin" else 1024
    return time.time() - began, usage.ru_maxrss * scale, began


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    root = os.environ.get("DLTRAIN_DATA", "data")
    figures: dict[str, list[float]] = {}

    def note(name: str, value: float) -> None:
        figures.setdefault(name, []).append(value)

    python = sys.executable
    dltrain = (python, "-m", "dltrain")
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            note("import torch, s", run(python, "-c", "import torch", folder=folder)[0])
            note("dltrain --help, s", run(*dltrain, "--help", folder=folder)[0])
            note("dltrain list, s", run(*dltrain, "list", folder=folder)[0])
            job = (
                "model=cnn",
                "dataset=mnist",
                "trainer.epochs=1",
                f"paths.data={Path(root).resolve()}",
            )
            _, peak, began = run(*dltrain, *job, folder=folder)
            timing = next(folder.glob("outputs/*/*/timing.jsonl")).read_text(encoding="utf-8")
            note("first step, s", json.loads(timing.splitlines()[0])["time"] - began)
            note("peak of dltrain, MB", peak / 1e6)
            script = folder / "hand_written.py"
            script.write_text(HAND_WRITTEN, encoding="utf-8")
            for kind in ("torchvision", "plain"):
                copy = folder / "MNIST" / "raw"  # torchvision unpacks files beside those it finds
                if not copy.exists():
                    copy.mkdir(parents=True)
                    for file in (Path(root).resolve() / "MNIST" / "raw").glob("*.gz"):
                        (copy / file.name).symlink_to(file)
                peak = run(python, str(script), root, kind, str(folder), folder=folder)[1]
                note(f"peak of a hand-written loop, {kind}, MB", peak / 1e6)
    medians = {name: statistics.median(values) for name, values in figures.items()}
    for name, value in medians.items():
        print(f"{name:48}{value:10.2f}", flush=True)
    allowed = 1.3 * medians["import torch, s"] + 1.0
    print(f"{'first step / (1.3 import torch + 1 s)':48}{medians['first step, s'] / allowed:10.2f}")
    for kind in ("torchvision", "plain"):
        ratio = medians["peak of dltrain, MB"] / medians[f"peak of a hand-written loop, {kind}, MB"]
        print(f"{f'memory, dltrain / hand-written, {kind}':48}{ratio:10.2f}")


if __name__ == "__main__":
    main()
