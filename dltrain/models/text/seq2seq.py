"""Encoder and decoder of recurrent layers: one reads a text, the other writes its translation, with or without attention."""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from dltrain.models.layers import dropout as dropout_layer
from dltrain.models.text.attention import AdditiveAttention, scaled_dot_product
from dltrain.models.text.recurrent import Cell, Impl, Recurrence, State
from dltrain.models.text.sequences import embedding, inside, last, lengths_of
from dltrain.types import Fraction, PositiveInt

Attention: TypeAlias = Literal["none", "additive", "dot"]
Memory: TypeAlias = dict[str, Tensor]


class Seq2Seq(nn.Module):
    """Logits (B, T, target_vocab_size) of the token after each of (B, T) target tokens, given source tokens (B, S).

    The encoder's outputs at the two ends of the text are its summary, from which the decoder's first state is made
    (Sutskever et al. 2014, "Sequence to Sequence Learning with Neural Networks"; Cho et al. 2014). From what the decoder
    gives at a step, h, and a context c comes tanh(W [c; h]), and from that the logits. Without `attention` c is the summary
    at every step; with it c is the mean of all outputs of the encoder weighed by their fit to h, which is scored by a small
    network (additive; Bahdanau et al. 2015) or by a product h' W s (dot; Luong et al. 2015, "Effective Approaches to
    Attention-based Neural Machine Translation", equations 5 and 8). h does not depend on the contexts before it, so that
    all steps of a known target are computed at once. `dropout` comes between the layers, before and after them.
    """

    def __init__(
        self,
        vocab_size: int,
        target_vocab_size: int,
        cell: Cell = "lstm",
        embedding_dim: PositiveInt = 128,
        hidden_size: PositiveInt = 256,
        num_layers: PositiveInt = 1,
        bidirectional: bool = True,
        attention: Attention = "none",
        dropout: Fraction = 0.0,
        forget_bias: float = 1.0,
        impl: Impl = "torch",
    ) -> None:
        super().__init__()
        self.source_embedding = embedding(vocab_size, embedding_dim)
        self.target_embedding = embedding(target_vocab_size, embedding_dim)
        rest = (dropout, impl, forget_bias)
        self.encoder = Recurrence(
            cell, embedding_dim, hidden_size, num_layers, bidirectional, *rest
        )
        self.decoder = Recurrence(cell, embedding_dim, hidden_size, num_layers, False, *rest)
        self.parts = 2 if cell == "lstm" else 1
        size = self.encoder.output_size
        self.first = nn.Linear(size, num_layers * self.parts * hidden_size)
        self.additive = (
            AdditiveAttention(hidden_size, size, hidden_size) if attention == "additive" else None
        )
        self.query = nn.Linear(hidden_size, size, bias=False) if attention == "dot" else None
        self.combine = nn.Linear(size + hidden_size, hidden_size)
        self.dropout = nn.Sequential(*dropout_layer(dropout))
        self.to_logits = nn.Linear(hidden_size, target_vocab_size)

    def forward(self, source: Tensor, inputs: Tensor) -> Tensor:
        return self.output(self.decode(self.encode(source), inputs)[0])

    def encode(self, source: Tensor) -> Memory:
        """What is known of source tokens (B, S): outputs (B, S, K), of which some are allowed (B, S), a summary (B, K), and
        for additive attention keys (B, S, H)."""
        lengths = lengths_of(source)
        outputs, _ = self.encoder(self.dropout(self.source_embedding(source)), lengths)
        if self.encoder.directions == 2:
            ahead, back = outputs.chunk(2, dim=2)
            summary = torch.cat([last(ahead, lengths), back[:, 0]], dim=1)
        else:
            summary = last(outputs, lengths)
        memory = {
            "outputs": outputs,
            "allowed": inside(lengths, source.shape[1]),
            "summary": summary,
        }
        return (
            memory if self.additive is None else {**memory, "keys": self.additive.of_key(outputs)}
        )

    def begin(self, memory: Memory) -> dict[str, Tensor]:
        """The decoder's state before the first token: of every layer h and, of an LSTM, c, (B, L P, H)."""
        return {
            "state": self.first(memory["summary"])
            .tanh()
            .unflatten(1, (-1, self.decoder.hidden_size))
        }

    def decode(self, memory: Memory, inputs: Tensor) -> tuple[Tensor, Tensor | None]:
        """Features (B, T, H) after each of the target tokens (B, T), and to what they attend, (B, T, S)."""
        features, attention, _ = self.run(memory, self.begin(memory), inputs)
        return features, attention

    def step(
        self, tokens: Tensor, state: dict[str, Tensor], memory: Memory
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Logits (B, V) of what comes after one more token (B,) each, and the state with it."""
        features, _, state = self.run(memory, state, tokens.unsqueeze(1))
        return self.output(features[:, 0]), state

    def output(self, features: Tensor) -> Tensor:
        logits: Tensor = self.to_logits(features)
        return logits

    def run(
        self, memory: Memory, state: dict[str, Tensor], inputs: Tensor
    ) -> tuple[Tensor, Tensor | None, dict[str, Tensor]]:
        layers = state["state"].unbind(1)
        states: list[State] = [
            layers[i : i + self.parts] for i in range(0, len(layers), self.parts)
        ]
        outputs, after = self.decoder(self.dropout(self.target_embedding(inputs)), None, states)
        context, attention = self.attend(outputs, memory)
        features = self.dropout(self.combine(torch.cat([context, outputs], dim=2)).tanh())
        return (
            features,
            attention,
            {"state": torch.stack([part for layer in after for part in layer], dim=1)},
        )

    def attend(self, outputs: Tensor, memory: Memory) -> tuple[Tensor, Tensor | None]:
        """The context (B, T, K) of the decoder's outputs (B, T, H), and weights (B, T, S)."""
        read, allowed = memory["outputs"], memory["allowed"]
        if self.additive is not None:
            context, attention = self.additive(outputs, read, read, allowed, memory["keys"])
            return context, attention
        if self.query is not None:
            return scaled_dot_product(self.query(outputs), read, read, allowed.unsqueeze(1))
        return memory["summary"].unsqueeze(1).expand(-1, outputs.shape[1], -1), None
