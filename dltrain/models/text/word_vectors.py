"""Word vectors: two tables, one of what words are and one of what they stand beside, with or without subwords."""

from __future__ import annotations

import heapq
import zlib
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

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
            raise ValueError(
                f"model.min_n={min_n} is more than model.max_n={max_n}: there are no such n-grams"
            )
        self.vocab_size, self.method, self.by_tree = (
            vocab_size,
            method,
            output == "hierarchical_softmax",
        )
        self.window, self.negative, self.power, self.chunk, self.shared = (
            window,
            negative,
            power,
            chunk,
            shared,
        )
        self.subwords, self.sizes, self.buckets = subwords, range(min_n, max_n + 1), buckets
        rows = vocab_size + (buckets if subwords else 0)
        self.input = nn.Parameter(
            (torch.rand(rows, embedding_dim) - 0.5) / embedding_dim
        )  # as in word2vec.c
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
            tables["noise"] = torch.searchsorted(ends, middles, out_int32=True).clamp(
                max=len(counts) - 1
            )
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
        grams = (
            marked[i : i + n]
            for n in self.sizes
            for i in range(len(marked) - n + 1)
            if n < len(marked)
        )
        return [
            self.vocab_size + zlib.crc32(gram.encode(errors="replace")) % self.buckets
            for gram in grams
        ]

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
        return torch.cat(
            [
                self.embed(some)
                for some in torch.arange(count, device=self.input.device).split(10_000)
            ]
        )

    def forward(self, words: Tensor, documents: Tensor) -> tuple[Tensor, Tensor]:
        """The loss in nats of a pair (of a word, for cbow), the mean over running text: word numbers (N,), `PAD` for none,
        and the document (N,) of each. With it the number of pairs."""
        chunk, window = self.chunk, self.window
        missing = -len(words) % chunk
        words = F.pad(words, (window, window + missing), value=PAD)
        documents = F.pad(documents, (window, window + missing), value=-1)
        shape, strides = ((len(words) - 2 * window) // chunk, chunk + 2 * window), (chunk, 1)
        around, places = (
            words.as_strided(shape, strides),
            documents.as_strided(shape, strides),
        )  # (B, C + 2 window)
        centres = around[:, window:-window]  # (B, C)
        reach = torch.randint(1, window + 1, (*centres.shape, 1), device=words.device)
        beside = (self.distance <= reach) & (
            places.unsqueeze(1) == places[:, window:-window].unsqueeze(2)
        )
        beside &= (centres != PAD).unsqueeze(2)  # (B, C, C + 2 window)
        pairs = beside.to(self.input)
        count = pairs.sum(2, keepdim=True)
        if self.method == "skip_gram":
            hidden, targets, weights = self.embed(centres), around, pairs
        else:
            hidden = torch.bmm(pairs / count.clamp(min=1), self.embed(around))  # (B, C, D)
            count = count.clamp(max=1)
            targets, weights = (
                centres,
                torch.eye(chunk, device=words.device).expand(len(around), -1, -1) * count,
            )
        total = (
            self.down_tree(hidden, targets, weights)
            if self.by_tree
            else self.beside_noise(hidden, targets, weights)
        )
        number = count.sum()
        return total / number.clamp(min=1), number

    def draw(self, rows: int) -> Tensor:
        """Words (rows, shared) by the noise distribution."""
        return self.noise[
            torch.randint(NOISE, (rows, self.shared), device=self.noise.device)
        ].long()

    def beside_noise(self, hidden: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        """The sum of the losses of telling `targets` (B, T) from drawn words by `hidden` (B, C, D), each pair weighted by
        `weights` (B, C, T): one product for both, whose gradient names the rows of the table once."""
        both = torch.cat([targets, self.draw(len(targets))], dim=1)  # (B, T + shared)
        noise = weights.sum(2, keepdim=True) * (self.negative / self.shared)
        signs = torch.ones(both.shape[1], device=both.device)
        signs[: targets.shape[1]] = -1
        vectors = F.embedding(both, self.output, sparse=True)
        return Logistic.apply(
            hidden, vectors, signs, torch.cat([weights, noise.expand(-1, -1, self.shared)], dim=2)
        )

    def down_tree(self, hidden: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        """The sum of the losses of the way to `targets` (B, T) down the tree from `hidden` (B, C, D), each pair weighted
        by `weights` (B, C, T)."""
        depth = int(self.depths[targets].max())
        nodes, signs = (
            self.paths[targets, :depth],
            self.codes[targets, :depth],
        )  # (B, T, E); +1 left, -1 right, 0 none
        vectors = F.embedding(nodes.flatten(1), self.output, sparse=True)
        inside = (weights.unsqueeze(3) * (signs != 0).unsqueeze(1)).flatten(2)  # (B, C, T * E)
        return Logistic.apply(hidden, vectors, -signs.flatten(1).unsqueeze(1).to(hidden), inside)


class Logistic(torch.autograd.Function):
    """The sum of `weights` (B, C, T) * log(1 + exp(`signs` * scores)), scores of `hidden` (B, C, D) and `vectors` (B, T, D)
    being their products.

    The scores' gradient is made in the forward pass, where the exponential is at hand, so that one tensor is kept instead
    of five; and the gradient of each factor comes out row by row, as the tables take it, where autograd's of a transposed
    factor would have to be copied.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, vectors: Tensor, signs: Tensor, weights: Tensor
    ) -> Tensor:
        signed = torch.bmm(hidden, vectors.transpose(1, 2)) * signs
        ctx.save_for_backward(
            hidden, vectors, signed.sigmoid().mul_(signs).mul_(weights).to(vectors)
        )
        return (F.softplus(signed) * weights).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, Tensor, None, None]:
        hidden, vectors, gradient = ctx.saved_tensors
        gradient = gradient * outer[0]
        ours, theirs = (
            torch.bmm(gradient, vectors),
            torch.bmm(gradient.transpose(1, 2), hidden.to(gradient)),
        )
        return ours.to(hidden), theirs, None, None


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
    steps = torch.tensor([step for route in routes for step in route], dtype=torch.int64).view(
        -1, 2
    )
    table[:, inside] = steps.T
    return table[0], table[1], depths
