"""fastText's classifier: the mean of the vectors of a text's words and hashed word n-grams, and a linear layer."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dltrain.types import PAD, NonNegative, PositiveInt

FACTOR = 116_049_371  # by which fastText folds the next word into the hash of those before (dictionary.cc, addWordNgrams)


class FastText(nn.Module):
    """Knows nothing of the order of words but what n-grams of up to `ngrams` words say, and is trained in seconds.

    The probabilities are softmax(B A x) of the mean A x of the vectors of words and n-grams (Joulin et al. 2017, "Bag of
    Tricks for Efficient Text Classification", equation 1), an n-gram by one of `buckets` vectors that its hash names. A
    step touches only the rows of the table that the batch names: with `sparse` its gradient is of these alone, and wants
    optimizer=sparse_adam or row_adagrad. Words begin uniform in +-1/embedding_dim and the output at 0, as in fastText.

    Takes tokens (B, T), filled up with `PAD`; gives logits (B, K), those of a text without a word being the biases.
    """

    def __init__(
        self,
        vocab_size: PositiveInt,
        num_classes: PositiveInt,
        embedding_dim: PositiveInt = 32,
        ngrams: PositiveInt = 2,
        buckets: PositiveInt = 2**20,
        dropout: NonNegative = 0.0,
        sparse: bool = True,
    ) -> None:
        super().__init__()
        self.vocab_size, self.ngrams, self.buckets, self.sparse = (
            vocab_size,
            ngrams,
            buckets,
            sparse,
        )
        rows = vocab_size + (buckets if ngrams > 1 else 0)
        self.weight = nn.Parameter(
            torch.empty(rows, embedding_dim).uniform_(-1 / embedding_dim, 1 / embedding_dim)
        )
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(embedding_dim, num_classes)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        rows, kept = self.rows(tokens)
        counts = kept.sum(1)
        offsets = counts.cumsum(0) - counts
        means = F.embedding_bag(rows[kept], self.weight, offsets, mode="mean", sparse=self.sparse)
        logits: Tensor = self.output(self.dropout(means))
        return logits

    def rows(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """The rows of the table (B, S) that tokens (B, T) name: words, then n-grams; and which of them there are."""
        kept = tokens != PAD
        rows, masks = [tokens], [kept]
        hashes, inside = tokens, kept
        for n in range(2, min(self.ngrams, tokens.shape[1]) + 1):
            hashes = (
                hashes[:, :-1] * FACTOR + tokens[:, n - 1 :]
            )  # int64 wraps around, as the hash of fastText does
            inside = inside[:, :-1] & kept[:, n - 1 :]
            rows.append(self.vocab_size + hashes.remainder(self.buckets))
            masks.append(inside)
        return torch.cat(rows, 1), torch.cat(masks, 1)
