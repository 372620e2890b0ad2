"""Translation with recurrent layers: an encoder and a decoder, with or without attention."""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from dltrain.models.layers import dropout as dropout_layer
from dltrain.models.text.attention import AdditiveAttention, scaled_dot_product
from dltrain.models.text.recurrent import Cell, Impl, Recurrence, State
from dltrain.models.text.sequences import embedding, inside, last, lengths_of
from dltrain.types import DecoderState, EncoderOutput, Fraction, PositiveInt

AttentionKind: TypeAlias = Literal["none", "additive", "dot"]


class Seq2Seq(nn.Module):
    """A recurrent encoder and decoder.

    Maps source tokens (B, S) and target tokens (B, T) to logits (B, T, target_vocab_size) of the
    next target token at each position.

    The summary of the source is the encoder's outputs at both ends of the text; a linear layer
    maps it to the decoder's first state (Sutskever et al. 2014, "Sequence to Sequence Learning
    with Neural Networks"; Cho et al. 2014). The logits come from tanh(W [c; h]), where h is the
    decoder's output and c a context. Without `attention`, c is the summary at every step. With
    attention, c is a weighted mean of the encoder's outputs s; their scores are from a small
    network ("additive"; Bahdanau et al. 2015) or a product h' W s ("dot"; Luong et al. 2015,
    "Effective Approaches to Attention-based Neural Machine Translation", equations 5 and 8). h does
    not depend on earlier contexts, so all steps of a known target are computed at once. `dropout`
    applies before, between and after the layers.
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
        attention: AttentionKind = "none",
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
        self.additive: AdditiveAttention | None = None
        self.query: nn.Linear | None = None
        if attention == "additive":
            self.additive = AdditiveAttention(hidden_size, size, hidden_size)
        elif attention == "dot":
            self.query = nn.Linear(hidden_size, size, bias=False)
        self.combine = nn.Linear(size + hidden_size, hidden_size)
        self.dropout = nn.Sequential(*dropout_layer(dropout))
        self.to_logits = nn.Linear(hidden_size, target_vocab_size)

    def forward(self, source: Tensor, inputs: Tensor) -> Tensor:
        """Return logits (B, T, V) for source tokens (B, S) and target tokens (B, T)."""
        return self.output(self.decode(self.encode(source), inputs)[0])

    def encode(self, source: Tensor) -> EncoderOutput:
        """Return what the decoder reads of source tokens (B, S).

        These are the encoder's "outputs" (B, S, K), a mask "allowed" (B, S) that is False for
        padding, a "summary" (B, K), and for additive attention "keys" (B, S, H).
        """
        lengths = lengths_of(source)
        outputs, _ = self.encoder(self.dropout(self.source_embedding(source)), lengths)
        if self.encoder.directions == 2:
            forward, reverse = outputs.chunk(2, dim=2)
            summary = torch.cat([last(forward, lengths), reverse[:, 0]], dim=1)
        else:
            summary = last(outputs, lengths)
        memory = {
            "outputs": outputs,
            "allowed": inside(lengths, source.shape[1]),
            "summary": summary,
        }
        if self.additive is not None:
            memory["keys"] = self.additive.of_key(outputs)
        return memory

    def begin(self, memory: EncoderOutput) -> DecoderState:
        """Return the decoder's state before the first token: "state" (B, L P, H).

        L is the number of layers; P is 1 for h, or 2 for h and c of an LSTM.
        """
        state = self.first(memory["summary"]).tanh()
        return {"state": state.unflatten(1, (-1, self.decoder.hidden_size))}

    def decode(self, memory: EncoderOutput, inputs: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return features (B, T, H) for target tokens (B, T), and attention weights (B, T, S)."""
        features, attention, _ = self.run(memory, self.begin(memory), inputs)
        return features, attention

    def step(
        self, tokens: Tensor, state: DecoderState, memory: EncoderOutput
    ) -> tuple[Tensor, DecoderState]:
        """Return logits (B, V) of the next token after `tokens` (B,), and the new state."""
        features, _, state = self.run(memory, state, tokens.unsqueeze(1))
        return self.output(features[:, 0]), state

    def output(self, features: Tensor) -> Tensor:
        """Return logits (..., V) of features (..., H)."""
        logits: Tensor = self.to_logits(features)
        return logits

    def run(
        self, memory: EncoderOutput, state: DecoderState, inputs: Tensor
    ) -> tuple[Tensor, Tensor | None, DecoderState]:
        """Return features (B, T, H), attention weights (B, T, S), and the state after `inputs`."""
        layers = state["state"].unbind(1)
        states: list[State] = [
            layers[i : i + self.parts] for i in range(0, len(layers), self.parts)
        ]
        outputs, after = self.decoder(self.dropout(self.target_embedding(inputs)), None, states)
        context, attention = self.attend(outputs, memory)
        features = self.dropout(self.combine(torch.cat([context, outputs], dim=2)).tanh())
        state_after = torch.stack([part for layer in after for part in layer], dim=1)
        return features, attention, {"state": state_after}

    def attend(self, outputs: Tensor, memory: EncoderOutput) -> tuple[Tensor, Tensor | None]:
        """Return the context (B, T, K) for decoder outputs (B, T, H), and weights (B, T, S)."""
        read = memory["outputs"]
        allowed = memory["allowed"]
        if self.additive is not None:
            context, attention = self.additive(outputs, read, read, allowed, memory["keys"])
            return context, attention
        if self.query is not None:
            return scaled_dot_product(self.query(outputs), read, read, allowed.unsqueeze(1))
        return memory["summary"].unsqueeze(1).expand(-1, outputs.shape[1], -1), None
