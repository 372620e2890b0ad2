"""Measure an LSTM on IMDB and a small GPT on Shakespeare: speed, length bucketing and memory.

    python -m benchmarks.sequences [--rounds 4] [--only lstm transformer bucketing memory]

Engine and plain loop take turns of 100 steps, as in benchmarks/engine.py, over batches of the same
size; the engine has all its defaults. The plain loops log nothing: texts in memory, padded to the
longest of the batch, fused Adam. Bucketing: tokens per second (without padding) of the LSTM's
training steps on batches of texts of similar length, against random batches padded to their own
longest text; the gain depends on where texts are cut.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.engine import BATCH, BLOCK, PLAIN, InTurn, in_turn, quiet
from dltrain.config.compose import compose
from dltrain.experiment.experiment import Experiment

STEPS = 700
LENGTHS = (400, 600, None)  # the dataset's default, that of the IMDB experiments, whole reviews
CHOICES = {
    "lstm": ("model=lstm", "dataset=imdb", "optimizer=adam", "schedule=constant"),
    "transformer": (
        *(
            "model=transformer_lm",
            "dataset=shakespeare",
            "dataset.length=64",
            "dataset.batch_size=12",
            "schedule=constant",
        ),
        *(
            "optimizer=adamw",
            "optimizer.lr=0.002",
            "optimizer.beta2=0.99",
            "optimizer.weight_decay=0.1",
        ),
    ),
}


def experiment(name: str, *overrides: str) -> Experiment:
    settings = (f"trainer.steps={STEPS}", "trainer.evaluate_every=null", *PLAIN)
    composed = compose([*CHOICES[name], *settings, *overrides])
    assert not composed.problems, composed.problems
    return Experiment.to_train(composed.config)


class LSTM(nn.Module):
    """An embedding, an LSTM, and a linear layer on its last output."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20_000, 32, padding_idx=0)
        self.lstm, self.output = nn.LSTM(32, 32), nn.Linear(32, 2)

    def forward(self, tokens: Tensor) -> Tensor:
        outputs, _ = self.lstm(self.embedding(tokens.T))
        last = outputs[(tokens != 0).sum(1) - 1, torch.arange(len(tokens))]
        logits: Tensor = self.output(last)
        return logits


def lstm() -> Iterator[int]:
    """Run the plain LSTM loop on the batches of the engine's first epochs, padded once."""
    data: Any = experiment("lstm").data
    split = data.train
    texts, lengths = split.texts.gather(torch.arange(len(split.texts))).int(), split.texts.lengths
    model = LSTM()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3, fused=True)
    yield 0
    steps = 0
    for epoch in range(1000):
        for rows in split.batching.epoch(epoch):
            tokens = texts[rows, : int(lengths[rows].max())].long()
            loss = F.cross_entropy(model(tokens), split.targets[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            steps += 1
            if steps % BLOCK == 0:
                yield BLOCK * BATCH


class Block(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads, self.norm, self.qkv = heads, nn.LayerNorm(dim), nn.Linear(dim, 3 * dim)
        self.project = nn.Linear(dim, dim)
        self.mlp = nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim)
        )

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            part.unflatten(2, (self.heads, -1)).transpose(1, 2)
            for part in self.qkv(self.norm(x)).chunk(3, 2)
        )
        x = x + self.project(
            F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
        )
        out: Tensor = x + self.mlp(x)
        return out


class GPT(nn.Module):
    def __init__(
        self, vocabulary: int, length: int, dim: int = 128, heads: int = 4, layers: int = 4
    ) -> None:
        super().__init__()
        self.embedding, self.position = nn.Embedding(vocabulary, dim), nn.Embedding(length, dim)
        self.blocks = nn.Sequential(*(Block(dim, heads) for _ in range(layers)), nn.LayerNorm(dim))
        self.output = nn.Linear(dim, vocabulary, bias=False)
        self.output.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens) + self.position.weight[: tokens.shape[1]]
        logits: Tensor = self.output(self.blocks(x))
        return logits


def transformer() -> Iterator[int]:
    built = experiment("transformer")
    data: Any = built.data
    tokens, length, size = data.stored.tokens["train"].long(), data.length, data.batch_size
    model = GPT(data.spec.vocab_size, length)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=2e-3, betas=(0.9, 0.99), weight_decay=0.1, fused=True
    )
    yield 0
    steps, span = 0, torch.arange(length + 1)
    while True:
        starts = torch.randint(len(tokens) - length - 1, (size,))
        batch = tokens[starts.unsqueeze(1) + span]
        loss = F.cross_entropy(model(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        steps += 1
        if steps % BLOCK == 0:
            yield BLOCK * BATCH


LOOPS: dict[str, Callable[[], Iterator[int]]] = {"lstm": lstm, "transformer": transformer}
"""Hand-written loops. Each yields the samples of a block; the first time it makes its model."""


def one_round(name: str, ours_first: bool) -> InTurn:
    """Run one round; the order alternates, since the place in memory affects the speed."""
    loop = LOOPS[name]()
    if ours_first:
        built = experiment(name)
        next(loop)
    else:
        next(loop)
        built = experiment(name)
    return in_turn(built, {"by hand": loop})


def bucketing(rounds: int, length: int | None, steps: int = 40) -> None:
    """Measure tokens per second of training steps on bucketed and on random batches, in turn.

    Texts are cut to `length` tokens.
    """
    cut = f"dataset.max_length={'null' if length is None else length}"
    built = experiment("lstm", cut)
    data: Any = built.data
    stage = next(iter(built.task.stages()))
    rates: dict[str, list[float]] = {"buckets": [], "random": []}
    plain = experiment("lstm", cut, "dataset.bucketing=false").data
    splits = {"buckets": data.train, "random": plain.train}
    batches = {name: iter(list(split.epoch(0))) for name, split in splits.items()}
    for turn in range(rounds + 1):
        for name, some in batches.items():
            start, tokens = time.perf_counter(), 0
            for _ in range(steps):
                batch = next(some)
                stage.step(batch)
                tokens += int((batch[0] != 0).sum())
            if turn:
                rates[name].append(tokens / (time.perf_counter() - start))
    cut = f"{length} tokens of a text" if length else "whole texts"
    buckets, random = (statistics.median(rates[name]) for name in ("buckets", "random"))
    print(
        f"bucketing, {cut}: {buckets:,.0f} tokens/s in buckets, "
        f"{random:,.0f} in random batches: {buckets / random:.2f}",
        flush=True,
    )


def memory() -> None:
    """Measure the peak memory of some steps, of the engine's stage and of the plain loop."""
    for name in LOOPS:
        peaks = {}
        for who in ("dltrain", "by hand"):
            code = f"from benchmarks import sequences; sequences.some_steps({name!r}, {who!r})"
            process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL)
            _, _, usage = os.wait4(process.pid, 0)
            peaks[who] = usage.ru_maxrss * 1024
        ratio = peaks["dltrain"] / peaks["by hand"]
        print(
            f"{name:12} peak memory {peaks['dltrain'] / 1e6:,.0f} MB, "
            f"by hand {peaks['by hand'] / 1e6:,.0f} MB: {ratio:.2f}"
        )


def some_steps(name: str, who: str) -> None:
    """Make some steps in a process of `memory`; both read the data with dltrain."""
    if who == "by hand":
        loop = LOOPS[name]()
        next(loop)
        next(loop)
        return
    stage = next(iter(experiment(name).task.stages()))
    for _, batch in zip(range(BLOCK), stage.batches.epoch(0), strict=False):
        stage.step(batch)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=4)
    names = [*LOOPS, "bucketing", "memory"]
    parser.add_argument("--only", nargs="+", default=names, choices=names)
    arguments = parser.parse_args()
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, "
        f"{torch.backends.cpu.get_cpu_capability()}"
    )
    with quiet():
        for name in (name for name in LOOPS if name in arguments.only):
            rounds = [one_round(name, turn % 2 == 0) for turn in range(arguments.rounds)]
            totals = [turns.rates()["total"] for turns in rounds]
            steps = [
                statistics.median(rates[who] / BATCH for rates in totals)
                for who in ("dltrain", "by hand")
            ]
            by_whom = f"{steps[0]:.1f} steps/s by the engine, {steps[1]:.1f} by hand"
            whole = statistics.median(rates["dltrain"] / rates["by hand"] for rates in totals)
            blocks = [ratio for turns in rounds for ratio in turns.ratios("by hand")]
            found = f"{whole:.3f}, by {len(blocks)} blocks {statistics.median(blocks):.3f}"
            print(f"{name:12} {by_whom}: {found}", flush=True)
        if "bucketing" in arguments.only:
            for length in LENGTHS:
                bucketing(arguments.rounds, length)
        if "memory" in arguments.only:
            memory()


if __name__ == "__main__":
    main()
