"""fastText's classifier: a linear layer on the mean vector of words and hashed word n-grams."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dltrain.types import PAD, NonNegative, PositiveInt
from dltrain.types.waiting import is_immediate

# The factor of fastText's hash of consecutive words (dictionary.cc, addWordNgrams).
HASH_FACTOR = 116_049_371


class FastText(nn.Module):
    """A bag of words and n-grams of up to `ngrams` words, which trains in seconds.

    Maps tokens (B, T), padded with `PAD`, to logits (B, K); the logits of an empty text are the
    biases. The probabilities are softmax(B A x), where A x is the mean vector of words and n-grams
    (Joulin et al. 2017, "Bag of Tricks for Efficient Text Classification", equation 1). The hash of
    an n-gram selects one of `buckets` vectors. With `sparse`, the gradient of the table has only
    the rows of the batch, which needs optimizer=sparse_adam or row_adagrad. Initial vectors are
    uniform in +-1/embedding_dim and the output layer is zero, as in fastText.
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
        self.vocab_size = vocab_size
        self.ngrams = ngrams
        self.buckets = buckets
        self.sparse = sparse
        rows = vocab_size
        if ngrams > 1:
            rows += buckets
        bound = 1 / embedding_dim
        self.weight = nn.Parameter(torch.empty(rows, embedding_dim).uniform_(-bound, bound))
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(embedding_dim, num_classes)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the logits (B, K) of tokens (B, T)."""
        rows, mask = self.rows(tokens)
        logits: Tensor = self.output(self.dropout(self.means(rows, mask)))
        return logits

    def means(self, rows: Tensor, mask: Tensor) -> Tensor:
        """Return the mean vectors (B, D) of the rows (B, S) that a mask (B, S) selects."""
        counts = mask.sum(1)
        if is_immediate(rows.device):
            offsets = counts.cumsum(0) - counts
            selected = rows[mask]
            return F.embedding_bag(selected, self.weight, offsets, mode="mean", sparse=self.sparse)
        weights = mask / counts.clamp(min=1).unsqueeze(1)
        return F.embedding_bag(
            rows.masked_fill(~mask, PAD),  # whose gradient is zero
            self.weight,
            per_sample_weights=weights.to(self.weight.dtype),
            mode="sum",
            sparse=self.sparse,
        )

    def rows(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return the rows (B, S) of the table for tokens (B, T): words, then n-grams; and a mask.

        The mask (B, S) is False for padding.
        """
        is_word = tokens != PAD
        rows = [tokens]
        masks = [is_word]
        hashes = tokens
        is_ngram = is_word
        for n in range(2, min(self.ngrams, tokens.shape[1]) + 1):
            # int64 wraps around, as in fastText
            hashes = hashes[:, :-1] * HASH_FACTOR + tokens[:, n - 1 :]
            is_ngram = is_ngram[:, :-1] & is_word[:, n - 1 :]
            rows.append(self.vocab_size + hashes.remainder(self.buckets))
            masks.append(is_ngram)
        return torch.cat(rows, 1), torch.cat(masks, 1)
