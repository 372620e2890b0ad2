"""Texts as token numbers: one flat row of all, where each begins, and what was found before kept on the disk."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dltrain.data.io.cache import CACHE
from dltrain.data.split import batch_count, equally_often
from dltrain.data.text.corpus import Corpus
from dltrain.data.text.tokenizer import Kind, Tokenizer, encoded
from dltrain.errors import InputError
from dltrain.rng import keyed
from dltrain.types import PAD, BatchSize

log = logging.getLogger("dltrain")
VERSION = 1  # of what is kept there
POOL = 100  # batches whose texts are sorted by length together
COARSE = 8  # lengths are told apart by so many tokens where a batch has a number of tokens
Keep: TypeAlias = Literal["head", "tail"]


@dataclass(frozen=True)
class Ragged:
    """Sequences of different lengths: sequence i is flat[starts[i] : starts[i] + lengths[i]], numbers int32."""

    flat: Tensor
    starts: Tensor
    lengths: Tensor

    @classmethod
    def of(cls, flat: NDArray[np.int32], offsets: NDArray[np.int64]) -> Ragged:
        at = torch.from_numpy(np.ascontiguousarray(offsets, dtype=np.int64))
        return cls(torch.from_numpy(np.ascontiguousarray(flat)), at[:-1], at.diff())

    def __len__(self) -> int:
        return len(self.lengths)

    def cut(self, most: int | None, keep: Keep) -> Ragged:
        """At most so many numbers of each, from its head or its tail, and no memory for the others."""
        if most is None or not len(self) or int(self.lengths.max()) <= most:
            return self
        lengths = self.lengths.clamp(max=most)
        starts = self.starts if keep == "head" else self.starts + self.lengths - lengths
        kept = torch.repeat_interleave(
            starts - lengths.cumsum(0) + lengths, lengths
        ) + torch.arange(int(lengths.sum()))
        return Ragged(self.flat[kept], lengths.cumsum(0) - lengths, lengths)

    def gather(self, rows: Tensor) -> Tensor:
        """The sequences `rows` as one block (B, longest of them) of int64, filled up with `PAD`."""
        lengths, starts = self.lengths[rows], self.starts[rows]
        longest, last = torch.stack([lengths.max(), starts.max()]).tolist()
        flat = (
            self.flat
            if last + longest <= len(self.flat)
            else nn.functional.pad(self.flat, (0, longest))
        )
        block = flat.unfold(0, longest, 1)[
            starts
        ].long()  # windows of the longest length: whole rows are copied
        return block.masked_fill_(
            torch.arange(longest, device=flat.device) >= lengths.unsqueeze(1), PAD
        )

    def to(self, device: torch.device) -> Ragged:
        return Ragged(self.flat.to(device), self.starts.to(device), self.lengths.to(device))

    def size_in_bytes(self) -> int:
        return sum(t.numel() * t.element_size() for t in (self.flat, self.starts, self.lengths))


class Batching:
    """Which of the sequences `rows` of the given `lengths` (those of all sequences) go together.

    With `bucketing` a batch is of sequences of about the same length, so that little of it is filling: of every `POOL`
    batches' worth the sequences are sorted by length. With `tokens_per_batch` a batch is as many sequences as have so many
    tokens together, filled up (at least one); every epoch has the same number of batches all the same. The order is a
    function of (seed, epoch); without a `seed` it is by length, or as stored without bucketing. With `classes` (of all
    sequences) an epoch draws each class equally often, with replacement.
    """

    def __init__(
        self,
        rows: Tensor,
        lengths: Tensor,
        batch_size: BatchSize,
        seed: int | None,
        bucketing: bool = True,
        tokens_per_batch: int | None = None,
        classes: Tensor | None = None,
    ) -> None:
        self.classes = None if classes is None else classes[rows].cpu()
        self.rows, self.lengths, self.seed = rows, lengths[rows].cpu(), seed
        self.bucketing = bucketing or tokens_per_batch is not None
        self.batch_size = max(1, len(rows)) if batch_size == "all" else batch_size
        count = batch_count(len(rows), self.batch_size, training=seed is not None)
        self.sizes = [self.batch_size] * count
        if count:
            self.sizes[-1] = len(rows) - self.batch_size * (count - 1)
        self.by_tokens = tokens_per_batch is not None
        if tokens_per_batch is not None:
            self.sizes = sizes_by_tokens(self.coarse.sort().values, tokens_per_batch)

    @property
    def coarse(self) -> Tensor:
        return (self.lengths + COARSE - 1) // COARSE

    def __len__(self) -> int:
        return len(self.sizes)

    def epoch(self, number: int) -> list[Tensor]:
        """The rows of each batch of an epoch."""
        if self.seed is None:
            order = (
                self.lengths.argsort(stable=True)
                if self.bucketing
                else torch.arange(len(self.rows))
            )
            return list(self.rows[order].split(self.sizes))
        generator = keyed(self.seed, number)
        if self.classes is None:
            order = torch.randperm(len(self.rows), generator=generator)
        else:
            order = equally_often(self.classes, generator)
        if not self.bucketing:
            return list(self.rows[order].split(self.sizes))
        if (
            self.by_tokens
        ):  # the lengths in their order are the same in every epoch, so the batches' sizes are too
            order = order[self.coarse[order].argsort(stable=True)]
        else:
            pools = order.split(POOL * self.batch_size)
            order = torch.cat([pool[self.lengths[pool].argsort(stable=True)] for pool in pools])
        found = list(self.rows[order].split(self.sizes))
        return [found[i] for i in torch.randperm(len(found), generator=generator).tolist()]


def sizes_by_tokens(ascending: Tensor, tokens: int) -> list[int]:
    """How many of the sequences, of so many times COARSE tokens, make each batch."""
    sizes, size = [], 0
    for length in ascending.tolist():
        if size and (size + 1) * length * COARSE > tokens:
            sizes.append(size)
            size = 0
        size += 1
    return [*sizes, size] if size else sizes


class TokenSplit:
    """Batches (tokens (B, T), targets (B, ...)) of ragged `texts`; as `Batching` says, each padded to its own longest.

    Targets are a tensor with a row for each text, or ragged sequences themselves.
    """

    def __init__(self, texts: Ragged, targets: Tensor | Ragged, batching: Batching) -> None:
        self.texts, self.targets, self.batching = texts, targets, batching
        self.samples, self.batch_size = len(batching.rows), batching.batch_size

    def __len__(self) -> int:
        return len(self.batching)

    def epoch(self, number: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        device = self.texts.flat.device
        for rows in self.batching.epoch(number)[start:]:
            at = rows.to(device)
            yield (
                self.texts.gather(at),
                self.targets.gather(at) if isinstance(self.targets, Ragged) else self.targets[at],
            )

    def order(self, number: int) -> Tensor:
        """The rows of an epoch, one after the other."""
        return torch.cat(self.batching.epoch(number)) if len(self) else torch.arange(0)

    def class_counts(self, num_classes: int) -> tuple[int, ...]:
        """How many samples each class has."""
        assert isinstance(self.targets, Tensor)
        counts: list[int] = torch.bincount(
            self.targets.cpu()[self.batching.rows], minlength=num_classes
        ).tolist()
        return tuple(counts)

    def state_dict(self) -> dict[str, Any]:
        return {}  # a batch is a function of (seed, epoch, position)

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


def tokenized(
    corpora: Sequence[Corpus],
    train_on: Sequence[int],
    kind: Kind,
    vocab_size: int,
    lowercase: bool,
    root: Path,
    trained: Tokenizer | None = None,
    what: str = "text",
) -> tuple[Tokenizer, list[Ragged], str]:
    """All of the `corpora` as tokens, by the tokenizer of a run (`trained`) or else one that is
    trained on those that `train_on` names; the tokenizer itself; and the digest of the corpora.

    What was found before of the same content and settings is read from a folder in `root`, named by
    both. `what` names a text in the line that is logged otherwise.
    """
    digest = hashlib.sha256()
    for corpus in corpora:
        corpus.update(digest)
    content = digest.hexdigest()
    settings = (
        f"{kind} {vocab_size} {lowercase} {list(train_on)}"
        if trained is None
        else trained.to_json()
    )
    digest.update(f"{VERSION} {settings}".encode())
    folder = root / CACHE / f"tokens-{digest.hexdigest()[:16]}"
    if (kept := read_kept(folder, len(corpora))) is not None:
        return *kept, content
    count = sum(map(len, corpora))
    log.info(f"splitting {count:,} {what}{'s' * (count != 1)} into tokens, once")
    texts = (text for i in train_on for text in corpora[i].texts())
    tokenizer = trained or Tokenizer.train(kind, vocab_size, lowercase, texts)
    found = [encoded(tokenizer, corpus) for corpus in corpora]
    keep(folder, tokenizer, found)
    return tokenizer, [Ragged.of(*one) for one in found], content


def read_kept(folder: Path, count: int) -> tuple[Tokenizer, list[Ragged]] | None:
    """What `keep` wrote; None where there is nothing or not what it wrote."""
    try:
        text = (folder / "tokenizer.json").read_text(encoding="utf-8")
        arrays = [
            np.load(folder / f"{name}-{i}.npy")
            for i in range(count)
            for name in ("tokens", "offsets")
        ]
        tokenizer = Tokenizer.from_json(text)
    except (OSError, ValueError, EOFError, MemoryError, TypeError, InputError):
        return None
    ragged = []
    for flat, offsets in zip(arrays[::2], arrays[1::2], strict=True):
        if (
            flat.dtype != np.int32
            or offsets.dtype != np.int64
            or flat.ndim != 1
            or offsets.ndim != 1
        ):
            return None
        if (
            not len(offsets)
            or offsets[0] != 0
            or offsets[-1] != len(flat)
            or (np.diff(offsets) < 0).any()
        ):
            return None
        if len(flat) and (flat.min() < 0 or flat.max() >= tokenizer.vocab_size):
            return None
        ragged.append(Ragged.of(flat, offsets))
    return tokenizer, ragged


def keep(
    folder: Path, tokenizer: Tokenizer, found: Sequence[tuple[NDArray[np.int32], NDArray[np.int64]]]
) -> None:
    """Write what was found, whole or not at all; where nothing can be written, it is found again the next time."""
    part = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        part.mkdir(parents=True)
        (part / "tokenizer.json").write_text(tokenizer.to_json(), encoding="utf-8")
        for i, (flat, offsets) in enumerate(found):
            np.save(part / f"tokens-{i}.npy", flat)
            np.save(part / f"offsets-{i}.npy", offsets)
        shutil.rmtree(folder, ignore_errors=True)
        part.rename(folder)
    except OSError as e:
        log.debug(f"{folder} cannot be written: {e}")
        shutil.rmtree(part, ignore_errors=True)
