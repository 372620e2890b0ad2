"""Measure training images per second of an RBM and a DCGAN on MNIST, against plain loops.

    python -m benchmarks.generative [--rounds 3] [--only rbm dcgan]

Engine and loop take turns of 100 steps, as in benchmarks/engine.py; the engine has all its
defaults. The plain loops hold the data in memory as floats and log nothing: CD-1 from its formula,
without autograd; the two networks and optimizers of a GAN one after the other.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.engine import BATCH, BLOCK, PLAIN, dltrain, quiet
from dltrain.config.compose import compose
from dltrain.experiment.experiment import Experiment

HIDDEN = 500
STEPS = 1200
CHOICES = {
    "rbm": (
        *("model=deep_belief_net", f"model.hidden_sizes=[{HIDDEN}]", "dataset.scaling=unit"),
        *("task.pretrain_epochs=3", "schedule=constant"),
    ),
    "dcgan": ("model=dcgan", "task.judge=null", "schedule=constant", "trainer.epochs=3"),
}


def experiment(name: str) -> Experiment:
    overrides = [
        "dataset=mnist",
        f"dataset.batch_size={BATCH}",
        f"trainer.steps={STEPS}",
        *PLAIN,
        *CHOICES[name],
    ]
    composed = compose(overrides)
    assert not composed.problems, composed.problems
    return Experiment.to_train(composed.config)


def batches(low: float) -> Iterator[Tensor]:
    """Yield batches of MNIST's training images as floats in `low`..1, shuffled, forever."""
    data = experiment("rbm").data
    stored = data.stored["train"][0]  # type: ignore[attr-defined]
    images = stored.float().div_(255).mul_(1 - low).add_(low)
    rows = data.train.rows  # type: ignore[attr-defined]
    while True:
        for batch in rows[torch.randperm(len(rows))].split(BATCH):
            yield images[batch]


@torch.no_grad()
def rbm() -> Iterator[int]:
    """Train an RBM by CD-1 with momentum and weight decay, as in Hinton's practical guide."""
    lr, momentum, decay = 0.05, 0.9, 2e-4
    w, b, c = torch.randn(784, HIDDEN) * 0.01, torch.zeros(784), torch.zeros(HIDDEN)
    speed = [torch.zeros_like(p) for p in (w, b, c)]
    for step, images in enumerate(batches(0.0), 1):
        v0 = images.flatten(1)
        h0 = torch.sigmoid(torch.addmm(c, v0, w))
        v1 = torch.sigmoid(torch.addmm(b, torch.bernoulli(h0), w.T))
        h1 = torch.sigmoid(torch.addmm(c, v1, w))
        slopes = (v0.T @ h0 - v1.T @ h1) / len(v0), (v0 - v1).mean(0), (h0 - h1).mean(0)
        for p, v, slope, weight in zip((w, b, c), speed, slopes, (decay, 0.0, 0.0), strict=True):
            v.mul_(momentum).add_(slope).sub_(p, alpha=weight)
            p.add_(v, alpha=lr)
        if step % BLOCK == 0:
            yield BLOCK * BATCH


def dcgan() -> Iterator[int]:
    """Train the same two networks as in torch's DCGAN tutorial."""
    model: Any = experiment("dcgan").task.model
    generator, discriminator, latent = model.generator, model.discriminator, model.latent_size
    optimizers = [
        torch.optim.Adam(network.parameters(), lr=2e-4, betas=(0.5, 0.999), fused=True)
        for network in (generator, discriminator)
    ]
    model.train()
    for step, real in enumerate(batches(-1.0), 1):
        optimizers[1].zero_grad()
        fake = generator(torch.randn(len(real), latent))
        loss = (
            F.softplus(-discriminator(real)).mean()
            + F.softplus(discriminator(fake.detach())).mean()
        )
        loss.backward()
        optimizers[1].step()
        optimizers[0].zero_grad()
        F.softplus(-discriminator(fake)).mean().backward()
        optimizers[0].step()
        if step % BLOCK == 0:
            yield BLOCK * BATCH


LOOPS: dict[str, Callable[[], Iterator[int]]] = {"rbm": rbm, "dcgan": dcgan}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", default=list(LOOPS), choices=list(LOOPS))
    arguments = parser.parse_args()
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, "
        f"{torch.backends.cpu.get_cpu_capability()}"
    )
    print(f"{'':10}{'engine, images/s':>20}{'by hand':>10}{'engine / hand':>15}{'by blocks':>11}")
    with quiet():
        for name in arguments.only:
            rounds = [
                dltrain(experiment(name), {"by hand": LOOPS[name]()})
                for _ in range(arguments.rounds)
            ]
            rates = [
                statistics.median(r["total"][who] for r in rounds) for who in ("dltrain", "by hand")
            ]
            ratios = [
                statistics.median(r[kind]["dltrain"] / r[kind]["by hand"] for r in rounds)
                for kind in ("total", "block")
            ]
            print(
                f"{name:10}{rates[0]:20,.0f}{rates[1]:10,.0f}{ratios[0]:15.3f}{ratios[1]:11.3f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
