"""Word vectors: skip-gram and CBOW, with negative sampling or a tree, with or without subwords."""

from __future__ import annotations

import heapq
import itertools
import zlib
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from dltrain.types import PAD, Ge, PositiveInt
from dltrain.types.rows import common_generator, own_rows
from dltrain.types.waiting import is_immediate

NOISE_TABLE_SIZE = 2**22  # entries of the table that negative samples are drawn from
MAX_SUBWORD_CHARS = 60  # of a word that subwords are taken from
WORDS_PER_CHUNK = 10_000  # of `vectors`, which bounds its memory


class WordVectors(nn.Module):
    """Word vectors that are learned from running text (Mikolov et al. 2013).

    Words come in rows of `chunk` consecutive ones with their neighbors, and all scores of a row are
    one small matrix product. Gradients of the tables are sparse, which needs
    optimizer=row_adagrad or sparse_adam. Call `set_vocabulary` before anything else.

    Args:
        vocab_size: Number of words V.
        embedding_dim: Numbers of a vector D.
        method: "skip_gram" predicts each context word from the center word, "cbow" the center word
            from the mean of the context.
        output: "negative_sampling" ("Distributed Representations of Words and Phrases", equation
            4) or "hierarchical_softmax" along a Huffman tree (equation 3).
        window: The context of a word is up to b words on each side in its document, with b uniform
            in 1..`window`.
        negative: Negative samples per pair.
        power: Negative samples are drawn with probabilities proportional to counts^`power`.
        chunk: Consecutive words per row.
        shared: Negative samples that the words of a row share; they are weighted so that the
            expectation is that of `negative` per pair (as in Ji et al. 2016, "Parallelizing
            Word2Vec in Shared and Distributed Memory").
        subwords: Represent a word by the mean of its own vector and those of its character n-grams
            (Bojanowski et al. 2017, section 3.2).
        min_n: Characters of the shortest n-grams, including the marks at the ends of a word.
        max_n: Characters of the longest n-grams.
        buckets: Number of n-gram vectors; the hash of an n-gram selects one.

    Raises:
        ValueError: `min_n` is larger than `max_n`.
    """

    distance: Tensor
    noise: Tensor
    paths: Tensor
    codes: Tensor
    depths: Tensor
    pieces: Tensor
    piece_starts: Tensor
    piece_counts: Tensor

    def __init__(  # noqa: PLR0913 - the keys of the configuration
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
                f"model.min_n={min_n} is larger than model.max_n={max_n}: no n-gram is left"
            )
        self.vocab_size = vocab_size
        self.method = method
        self.by_tree = output == "hierarchical_softmax"
        self.window = window
        self.negative = negative
        self.power = power
        self.chunk = chunk
        self.shared = shared
        self.subwords = subwords
        self.ngram_sizes = range(min_n, max_n + 1)
        self.buckets = buckets
        rows = vocab_size
        if subwords:
            rows += buckets
        # Initial values as in word2vec.c.
        self.input = nn.Parameter((torch.rand(rows, embedding_dim) - 0.5) / embedding_dim)
        self.output = nn.Parameter(torch.zeros(vocab_size, embedding_dim))
        places = torch.arange(chunk + 2 * window) - window
        distance = (places - torch.arange(chunk).unsqueeze(1)).abs()  # (C, C + 2 window)
        # A word is not its own context.
        distance = distance.masked_fill(distance == 0, window + 1)
        self.register_buffer("distance", distance, persistent=False)

    def set_vocabulary(self, words: Sequence[str], counts: Tensor) -> None:
        """Prepare for a text with these words and their counts (V,).

        Negative samples, the tree and the subwords depend on them. They are not part of the state:
        the data provides them again.
        """
        tables: dict[str, Tensor] = {}
        if self.by_tree:
            tables |= zip(("paths", "codes", "depths"), huffman(counts), strict=True)
        else:
            tables["noise"] = noise_table(counts, self.power)
        if self.subwords:
            pieces = [[i, *self.ngrams(word)] for i, word in enumerate(words)]
            sizes = torch.tensor([len(rows) for rows in pieces])
            tables["pieces"] = torch.tensor(list(itertools.chain.from_iterable(pieces)))
            tables["piece_counts"] = sizes
            tables["piece_starts"] = sizes.cumsum(0) - sizes
        for name, table in tables.items():
            self.register_buffer(name, table.to(self.input.device), persistent=False)

    def ngrams(self, word: str) -> list[int]:
        """Return the rows of a word's character n-grams, without the whole word."""
        marked = f"<{word[:MAX_SUBWORD_CHARS]}>"
        rows = []
        for size in self.ngram_sizes:
            if size >= len(marked):
                break
            for start in range(len(marked) - size + 1):
                ngram = marked[start : start + size].encode(errors="replace")
                rows.append(self.vocab_size + zlib.crc32(ngram) % self.buckets)
        return rows

    def embed(self, words: Tensor) -> Tensor:
        """Return the vectors (..., D) of word numbers (...).

        With subwords it waits for the number of distinct words and that of their n-grams: sizes
        that do not depend on them would be those of the longest words.
        """
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
        """Return the vectors (count, D) of the first words."""
        chunks = torch.arange(count, device=self.input.device).split(WORDS_PER_CHUNK)
        return torch.cat([self.embed(chunk) for chunk in chunks])

    def forward(self, words: Tensor, documents: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean loss in nats per pair (for CBOW: per word), and the number of pairs.

        `words` (N,) is running text, `PAD` where there is no word; `documents` (N,) are the numbers
        of their documents.
        """
        chunk = self.chunk
        window = self.window
        missing = -len(words) % chunk
        words = F.pad(words, (window, window + missing), value=PAD)
        documents = F.pad(documents, (window, window + missing), value=-1)
        shape = ((len(words) - 2 * window) // chunk, chunk + 2 * window)
        strides = (chunk, 1)
        rows = words.as_strided(shape, strides)  # (B, C + 2 window)
        row_documents = documents.as_strided(shape, strides)
        with common_generator():
            reach = torch.randint(1, window + 1, (shape[0], chunk, 1), device=words.device)
        own = own_rows(shape[0])
        reach, rows, row_documents = reach[own], rows[own], row_documents[own]
        centers = rows[:, window:-window]  # (B, C)
        same_document = row_documents.unsqueeze(1) == row_documents[:, window:-window].unsqueeze(2)
        is_pair = (self.distance <= reach) & same_document
        is_pair &= (centers != PAD).unsqueeze(2)  # (B, C, C + 2 window)
        pairs = is_pair.to(self.input)
        count = pairs.sum(2, keepdim=True)
        if self.method == "skip_gram":
            hidden = self.embed(centers)
            targets = rows
            weights = pairs
        else:
            hidden = torch.bmm(pairs / count.clamp(min=1), self.embed(rows))  # (B, C, D)
            targets = centers
            count = count.clamp(max=1)
            weights = torch.eye(chunk, device=words.device).expand(len(rows), -1, -1) * count
        if self.by_tree:
            total = self.hierarchical_loss(hidden, targets, weights)
        else:
            noise = self.draw(shape[0])[own]
            total = self.negative_sampling_loss(hidden, targets, weights, noise)
        number = count.sum()
        return total / number.clamp(min=1), number

    def draw(self, rows: int) -> Tensor:
        """Return words (rows, shared) from the noise distribution, the same in all processes."""
        size = (rows, self.shared)
        with common_generator():
            places = torch.randint(NOISE_TABLE_SIZE, size, device=self.noise.device)
        return self.noise[places].long()

    def negative_sampling_loss(
        self, hidden: Tensor, targets: Tensor, weights: Tensor, noise: Tensor
    ) -> Tensor:
        """Return the sum of the losses of negative sampling.

        `hidden` (B, C, D) predicts `targets` (B, T), with each pair weighted by `weights`
        (B, C, T). Targets and negative samples (`noise`, (B, shared)) go through one product, so
        that the sparse gradient has the rows of the table once.
        """
        words = torch.cat([targets, noise], dim=1)  # (B, T + shared)
        noise_weight = weights.sum(2, keepdim=True) * (self.negative / self.shared)
        noise_weights = noise_weight.expand(-1, -1, self.shared)
        signs = torch.ones(words.shape[1], device=words.device)
        signs[: targets.shape[1]] = -1
        vectors = F.embedding(words, self.output, sparse=True)
        return Logistic.apply(hidden, vectors, signs, torch.cat([weights, noise_weights], dim=2))

    def hierarchical_loss(self, hidden: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        """Return the sum of the losses of hierarchical softmax, as `negative_sampling_loss`."""
        depth = self.paths.shape[1]
        if is_immediate(targets.device):
            depth = int(self.depths[targets].max())
        nodes = self.paths[targets, :depth]  # (B, T, E)
        signs = self.codes[targets, :depth]  # +1 left, -1 right, 0 beyond the word
        vectors = F.embedding(nodes.flatten(1), self.output, sparse=True)
        node_weights = weights.unsqueeze(3) * (signs != 0).unsqueeze(1)  # (B, C, T, E)
        directions = -signs.flatten(1).unsqueeze(1).to(hidden)
        return Logistic.apply(hidden, vectors, directions, node_weights.flatten(2))


class Logistic(torch.autograd.Function):
    """The weighted sum of log(1 + exp(sign * score)) over the scores of words.

    Scores (B, C, T) are products of `hidden` (B, C, D) and `vectors` (B, T, D); `weights` are
    (B, C, T). The gradient of the scores is computed in the forward pass, which has the
    exponentials, so that one tensor is saved instead of five. The gradients of both factors are
    contiguous, as the tables need them; autograd would copy that of the transposed factor.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, vectors: Tensor, signs: Tensor, weights: Tensor
    ) -> Tensor:
        """Return the weighted sum, a scalar."""
        signed = torch.bmm(hidden, vectors.transpose(1, 2)) * signs
        gradient = signed.sigmoid().mul_(signs).mul_(weights).to(vectors)
        ctx.save_for_backward(hidden, vectors, gradient)
        return (F.softplus(signed) * weights).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, Tensor, None, None]:
        """Return the gradients of `hidden` and `vectors`."""
        hidden, vectors, gradient = ctx.saved_tensors
        gradient = gradient * outer[0]
        hidden_gradient = torch.bmm(gradient, vectors).to(hidden)
        vectors_gradient = torch.bmm(gradient.transpose(1, 2), hidden.to(gradient))
        return hidden_gradient, vectors_gradient, None, None


def noise_table(counts: Tensor, power: float) -> Tensor:
    """Return words in proportion to counts^power, as a table to draw from."""
    weights = counts.double() ** power * (counts > 0)
    ends = weights.cumsum(0) / weights.sum()
    middles = (torch.arange(NOISE_TABLE_SIZE, dtype=torch.float64) + 0.5) / NOISE_TABLE_SIZE
    words = torch.searchsorted(ends, middles, out_int32=True)
    return words.clamp(max=len(counts) - 1)


def huffman(counts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the Huffman tree over the words with a count, as the path to each word.

    Returns:
        Inner nodes (V, E) from the root to each word; signs (V, E), +1 for the left branch, -1 for
        the right one, 0 beyond the word; and the depths (V,) of the words.
    """
    parents = huffman_parents(counts)
    paths: list[list[tuple[int, int]]] = []
    for word in range(len(counts)):
        path = []
        node = word
        while node in parents:
            node, sign = parents[node]
            path.append((node - len(counts), sign))
        paths.append(path[::-1])
    depths = torch.tensor([len(path) for path in paths])
    table = torch.zeros(2, len(counts), max(1, int(depths.max())), dtype=torch.int64)
    is_step = torch.arange(table.shape[2]) < depths.unsqueeze(1)
    steps = list(itertools.chain.from_iterable(paths))
    table[:, is_step] = torch.tensor(steps, dtype=torch.int64).view(-1, 2).T
    return table[0], table[1], depths


def huffman_parents(counts: Tensor) -> dict[int, tuple[int, int]]:
    """Return the parent of each node of the Huffman tree, and the sign of the branch to the node.

    Words are nodes 0 to V - 1, inner nodes follow.
    """
    heap = [(count, word) for word, count in enumerate(counts.tolist()) if count]
    heapq.heapify(heap)
    parents: dict[int, tuple[int, int]] = {}
    node = len(counts)
    while len(heap) > 1:
        left_count, left = heapq.heappop(heap)
        right_count, right = heapq.heappop(heap)
        parents[left] = (node, 1)
        parents[right] = (node, -1)
        heapq.heappush(heap, (left_count + right_count, node))
        node += 1
    return parents
