"""Word vectors: two tables, one of what words are and one of what they stand beside, with or without subwords."""

from __future__ import annotations

import heapq
import zlib
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dltrain.types import PAD, Ge, PositiveInt

NOISE = 2**22  # places of the table that negatives are drawn from
LONGEST = 60  # characters of a word that subwords are taken of


class WordVectors(nn.Module):
    """Learns vectors of words from what stands beside them in running text (Mikolov et al. 2013).

    `method` skip_gram predicts each word of the context from the one in its middle, cbow the middle from the mean of the
    context. A word's context is up to b words on each side in its own document, b uniform in 1..`window`. The `output` is
    by negative sampling ("Distributed Representations of Words and Phrases", equation 4): each pair beside `negative`
    words drawn by the counts to the power of `power`; or by hierarchical softmax (its equation 3) along a Huffman tree.

    Words come in rows of `chunk` consecutive ones, each with its neighbours, and all scores of a row are one small matrix
    product. The words of a row share `shared` drawn words, weighted so that the expectation is that of `negative` for each
    pair (Ji et al. 2016, "Parallelizing Word2Vec in Shared and Distributed Memory", share them likewise).

    With `subwords` a word's vector is the mean of its own and those of its character n-grams of `min_n` to `max_n`, with
    marks at the word's ends, each by one of `buckets` vectors that its hash names (Bojanowski et al. 2017, section 3.2).
    Gradients of the tables are sparse: optimizer=row_adagrad, sparse_adam. `know` has to be called before anything else.
    """

    distance: Tensor
    noise: Tensor
    paths: Tensor
    codes: Tensor
    depths: Tensor
    pieces: Tensor
    piece_starts: Tensor
    piece_counts: Tensor

    def __init__(
        self,
        vocab_size: PositiveInt,
        embedding_dim: PositiveInt = 100,
        method: Literal["skip_gram", "cbow"] = "skip_gram",
        output: Literal["negative_sampling", "hierarchical_softmax"] = "negative_sampling",
        window: PositiveInt = 5,
        negative: PositiveInt = 5,
        power: Annotated[float, Ge(0)] = 0.75,
        chunk: PositiveInt = 32,
        shared: PositiveInt = 32,
        subwords: bool = False,
        min_n: PositiveInt = 3,
        max_n: PositiveInt = 6,
        buckets: PositiveInt = 200_000,
    ) -> None:
        super().__init__()
        if min_n > max_n:
            raise ValueError(f"model.min_n={min_n} is more than model.max_n={max_n}: there are no such n-grams")
        self.vocab_size, self.method, self.by_tree = vocab_size, method, output == "hierarchical_softmax"
        self.window, self.negative, self.power, self.chunk, self.shared = window, negative, power, chunk, shared
        self.subwords, self.sizes, self.buckets = subwords, range(min_n, max_n + 1), buckets
        rows = vocab_size + (buckets if subwords else 0)
        self.input = nn.Parameter((torch.rand(rows, embedding_dim) - 0.5) / embedding_dim)  # as in word2vec.c
        self.output = nn.Parameter(torch.zeros(vocab_size, embedding_dim))
        span = (torch.arange(chunk + 2 * window) - window - torch.arange(chunk).unsqueeze(1)).abs()
        self.register_buffer("distance", span.masked_fill(span == 0, window + 1), persistent=False)

    def know(self, words: Sequence[str], counts: Tensor) -> None:
        """Take over what the text's words are and how often (V,) each comes: by them negatives are drawn, the tree and the
        subwords are made. It is no part of the state: the data says it again."""
        tables: dict[str, Tensor] = {}
        if self.by_tree:
            tables |= zip(("paths", "codes", "depths"), huffman(counts), strict=True)
        else:
            share = counts.double() ** self.power * (counts > 0)
            ends = share.cumsum(0) / share.sum()
            middles = (torch.arange(NOISE, dtype=torch.float64) + 0.5) / NOISE
            tables["noise"] = torch.searchsorted(ends, middles).clamp(max=len(counts) - 1)
        if self.subwords:
            bags = [[i, *self.ngrams(word)] for i, word in enumerate(words)]
            tables["pieces"] = torch.tensor([row for bag in bags for row in bag])
            tables["piece_counts"] = torch.tensor([len(bag) for bag in bags])
            tables["piece_starts"] = tables["piece_counts"].cumsum(0) - tables["piece_counts"]
        for name, table in tables.items():
            self.register_buffer(name, table.to(self.input.device), persistent=False)

    def ngrams(self, word: str) -> list[int]:
        """The rows of a word's character n-grams; the whole word is none of them."""
        marked = f"<{word[:LONGEST]}>"
        grams = (marked[i : i + n] for n in self.sizes for i in range(len(marked) - n + 1) if n < len(marked))
        return [self.vocab_size + zlib.crc32(gram.encode(errors="replace")) % self.buckets for gram in grams]

    def embed(self, words: Tensor) -> Tensor:
        """The vectors (..., D) of word numbers (...)."""
        if not self.subwords:
            return F.embedding(words, self.input, sparse=True)
        distinct, places = words.unique(return_inverse=True)
        counts = self.piece_counts[distinct]
        offsets = counts.cumsum(0) - counts
        at = torch.repeat_interleave(self.piece_starts[distinct] - offsets, counts)
        rows = self.pieces[at + torch.arange(len(at), device=at.device)]
        vectors = F.embedding_bag(rows, self.input, offsets, mode="mean", sparse=True)
        return vectors.index_select(0, places.flatten()).view(*words.shape, -1)

    def vectors(self, count: int) -> Tensor:
        """The vectors (count, D) of the first words."""
        return torch.cat([self.embed(some) for some in torch.arange(count, device=self.input.device).split(10_000)])

    def forward(self, words: Tensor, documents: Tensor) -> tuple[Tensor, Tensor]:
        """The loss in nats of a pair (of a word, for cbow), the mean over running text: word numbers (N,), `PAD` for none,
        and the document (N,) of each. With it the number of pairs."""
        chunk, window = self.chunk, self.window
        missing = -len(words) % chunk
        words = F.pad(words, (window, window + missing), value=PAD)
        documents = F.pad(documents, (window, window + missing), value=-1)
        shape, strides = ((len(words) - 2 * window) // chunk, chunk + 2 * window), (chunk, 1)
        around, places = words.as_strided(shape, strides), documents.as_strided(shape, strides)  # (B, C + 2 window)
        centres = around[:, window:-window]  # (B, C)
        reach = torch.randint(1, window + 1, (*centres.shape, 1), device=words.device)
        beside = (self.distance <= reach) & (places.unsqueeze(1) == places[:, window:-window].unsqueeze(2))
        beside &= (centres != PAD).unsqueeze(2)  # (B, C, C + 2 window)
        pairs = beside.to(self.input)
        count = pairs.sum(2, keepdim=True)
        if self.method == "skip_gram":
            hidden = self.embed(centres)
            total = self.against(hidden, around, pairs)
        else:
            hidden = torch.bmm(pairs / count.clamp(min=1), self.embed(around))  # (B, C, D)
            count = count.clamp(max=1)
            itself = torch.eye(chunk, device=words.device).expand(len(around), -1, -1) * count
            total = self.against(hidden, centres, itself)
        if not self.by_tree:
            drawn = self.draw(len(around))
            scores = torch.bmm(hidden, F.embedding(drawn, self.output, sparse=True).transpose(1, 2))
            total = total + Logistic.apply(scores, 1.0, count * (self.negative / self.shared))
        number = count.sum()
        return total / number.clamp(min=1), number

    def draw(self, rows: int) -> Tensor:
        """Words (rows, shared) by the noise distribution."""
        return self.noise[torch.randint(NOISE, (rows, self.shared), device=self.noise.device)]

    def against(self, hidden: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        """The sum of the losses of predicting `targets` (B, T) from `hidden` (B, C, D), by `weights` (B, C, T)."""
        if not self.by_tree:
            scores = torch.bmm(hidden, F.embedding(targets, self.output, sparse=True).transpose(1, 2))
            return Logistic.apply(scores, -1.0, weights)
        depth = int(self.depths[targets].max())
        nodes, signs = self.paths[targets, :depth], self.codes[targets, :depth]  # (B, T, E); +1 left, -1 right, 0 none
        vectors = F.embedding(nodes.flatten(1), self.output, sparse=True)
        scores = torch.bmm(hidden, vectors.transpose(1, 2))  # (B, C, T * E)
        inside = (weights.unsqueeze(3) * (signs != 0).unsqueeze(1)).flatten(2)
        return Logistic.apply(scores, -signs.flatten(1).unsqueeze(1).to(scores), inside)


class Logistic(torch.autograd.Function):
    """The sum of `weights` * log(1 + exp(`signs` * `scores`)), with the gradient made in the forward pass, where the
    exponential is at hand: autograd keeps one tensor instead of five."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, signs: Any, weights: Tensor) -> Tensor:
        signed = scores * signs
        ctx.save_for_backward(signed.sigmoid().mul_(signs).mul_(weights))
        return (F.softplus(signed) * weights).sum()

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * outer[0], None, None


def huffman(counts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The tree of shortest codes over the words with a count: inner nodes (V, E) from the root on, signs (V, E), +1 for the
    one side and -1 for the other, 0 from the word's depth (V,) on."""
    heap = [(count, word) for word, count in enumerate(counts.tolist()) if count]
    heapq.heapify(heap)
    size, parent, side = len(counts), {}, {}
    number = size  # of the next inner node
    while len(heap) > 1:
        (a, one), (b, other) = heapq.heappop(heap), heapq.heappop(heap)
        parent[one], parent[other], side[one], side[other] = number, number, 1, -1
        heapq.heappush(heap, (a + b, number))
        number += 1
    routes: list[list[tuple[int, int]]] = []
    for word in range(size):
        route, node = [], word
        while node in parent:
            route.append((parent[node] - size, side[node]))
            node = parent[node]
        routes.append(route[::-1])
    depths = torch.tensor([len(route) for route in routes])
    table = torch.zeros(2, size, max(1, int(depths.max())), dtype=torch.int64)
    inside = torch.arange(table.shape[2]) < depths.unsqueeze(1)
    steps = torch.tensor([step for route in routes for step in route], dtype=torch.int64).view(-1, 2)
    table[:, inside] = steps.T
    return table[0], table[1], depths
