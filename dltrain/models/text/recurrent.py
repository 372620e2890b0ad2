"""Recurrent networks: vanilla RNN, LSTM and GRU, with torch's layers or from their equations.

On a CPU, packed sequences take ten times as long as padded ones, because their backward pass is
quadratic in the number of steps. Sequences are therefore padded at the end: no step before the
padding depends on it, and outputs after the end are not used. The second direction of a
bidirectional layer gets each sequence reversed, with the padding still at the end.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from dltrain.models.layers import dropout as dropout_layer
from dltrain.models.text.sequences import (
    InitialEmbedding,
    Steps,
    Summary,
    last,
    reversed_sequences,
    summarize,
)
from dltrain.types import Fraction, PositiveInt

Cell: TypeAlias = Literal["rnn", "lstm", "gru"]
Impl: TypeAlias = Literal["torch", "equations"]
State: TypeAlias = tuple[Tensor, ...]
"""The state of a layer between two steps: h (B, H), and for an LSTM its cell c (B, H)."""


class EquationLayer(nn.Module):
    """Base class of recurrent layers that follow the published equations step by step.

    The parameters have torch's names. `weight_ih_l0` (G H, F) and `weight_hh_l0` (G H, H) stack the
    weights of G gates.
    """

    gates: int

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        rows = self.gates * hidden_size
        bound = hidden_size**-0.5
        self.hidden_size = hidden_size
        self.weight_ih_l0 = nn.Parameter(torch.empty(rows, input_size).uniform_(-bound, bound))
        self.weight_hh_l0 = nn.Parameter(torch.empty(rows, hidden_size).uniform_(-bound, bound))
        self.bias_ih_l0 = nn.Parameter(torch.empty(rows).uniform_(-bound, bound))
        self.bias_hh_l0 = nn.Parameter(torch.empty(rows).uniform_(-bound, bound))

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Return outputs (T, B, H) of inputs x (T, B, F), and the state after the last step."""
        projected = x @ self.weight_ih_l0.T + self.bias_ih_l0  # (T, B, G H), all steps at once
        outputs = []
        for projected_input in projected.unbind(0):
            state = self.step(projected_input, state)
            outputs.append(state[0])
        return torch.stack(outputs), state

    @abstractmethod
    def step(self, projected_input: Tensor, state: State) -> State:
        """Return the state after one step, given W x + b of all gates (B, G H)."""

    def project_hidden(self, h: Tensor) -> Tensor:
        """Return U h + d of all gates (B, G H)."""
        return h @ self.weight_hh_l0.T + self.bias_hh_l0


class ElmanEquations(EquationLayer):
    """The vanilla RNN: h' = tanh(W x + b + U h + d) (Elman 1990, "Finding Structure in Time")."""

    gates = 1

    def step(self, projected_input: Tensor, state: State) -> State:
        """Return tanh(W x + b + U h + d)."""
        (h,) = state
        return ((projected_input + self.project_hidden(h)).tanh(),)


class LSTMEquations(EquationLayer):
    """LSTM (Hochreiter and Schmidhuber 1997) with a forget gate (Gers et al. 2000)."""

    gates = 4

    def step(self, projected_input: Tensor, state: State) -> State:
        """Return the hidden state and the cell after one step."""
        h, c = state
        i, f, g, o = (projected_input + self.project_hidden(h)).chunk(4, dim=1)
        input_gate = i.sigmoid()
        forget_gate = f.sigmoid()
        output_gate = o.sigmoid()
        candidate = g.tanh()
        c = forget_gate * c + input_gate * candidate
        return output_gate * c.tanh(), c


class GRUEquations(EquationLayer):
    """GRU (Cho et al. 2014) with the reset gate after the product, as in cuDNN."""

    gates = 3

    def step(self, projected_input: Tensor, state: State) -> State:
        """Return the hidden state after one step."""
        (h,) = state
        r, z, n = projected_input.chunk(3, dim=1)
        r_hidden, z_hidden, n_hidden = self.project_hidden(h).chunk(3, dim=1)
        reset_gate = (r + r_hidden).sigmoid()
        update_gate = (z + z_hidden).sigmoid()
        candidate = (n + reset_gate * n_hidden).tanh()
        return ((1 - update_gate) * candidate + update_gate * h,)


class TorchLayer(nn.Module):
    """A layer of torch, whose loop over the steps is in C++."""

    def __init__(self, cell: Cell, input_size: int, hidden_size: int) -> None:
        super().__init__()
        kinds = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
        self.layer = kinds[cell](input_size, hidden_size)

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Return outputs (T, B, H) of inputs x (T, B, F), and the state after the last step."""
        before = [part.unsqueeze(0).to(x.dtype).contiguous() for part in state]
        if len(before) == 1:
            outputs, h = self.layer(x, before[0])
            return outputs, (h.squeeze(0),)
        outputs, (h, c) = self.layer(x, tuple(before))
        return outputs, (h.squeeze(0), c.squeeze(0))


EQUATIONS: dict[Cell, type[EquationLayer]] = {
    "rnn": ElmanEquations,
    "lstm": LSTMEquations,
    "gru": GRUEquations,
}


class Recurrence(nn.Module):
    """A stack of recurrent layers in one or two directions, with dropout between them.

    `forget_bias` is the initial bias of an LSTM's forget gate; 1 keeps the state at first
    (Jozefowicz et al. 2015, "An Empirical Exploration of Recurrent Network Architectures").
    """

    through_time = True

    def __init__(
        self,
        cell: Cell,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
        impl: Impl = "torch",
        forget_bias: float = 1.0,
    ) -> None:
        super().__init__()
        self.cell = cell
        self.hidden_size = hidden_size
        self.directions = 2 if bidirectional else 1
        self.output_size = hidden_size * self.directions
        self.layers = nn.ModuleList()
        for number in range(num_layers):
            size = input_size if number == 0 else self.output_size
            for _ in range(self.directions):
                self.layers.append(recurrent_layer(cell, size, hidden_size, impl))
        self.between = nn.Sequential(*dropout_layer(dropout))
        if cell == "lstm":
            self._set_forget_bias(forget_bias)

    @torch.no_grad()
    def _set_forget_bias(self, value: float) -> None:
        """Set the sum of the two biases of every forget gate, the second of four."""
        forget_gate = slice(self.hidden_size, 2 * self.hidden_size)
        for name, bias in self.named_parameters():
            if name.endswith("bias_ih_l0"):
                bias[forget_gate] = value
            elif name.endswith("bias_hh_l0"):
                bias[forget_gate] = 0.0

    def begin(self, batch_size: int, like: Tensor) -> list[State]:
        """Return the state before the first step, for every layer and direction."""
        parts = 2 if self.cell == "lstm" else 1
        zeros = torch.zeros(batch_size, self.hidden_size, device=like.device)
        return [(zeros,) * parts for _ in self.layers]

    def forward(
        self, x: Tensor, lengths: Tensor | None = None, states: list[State] | None = None
    ) -> tuple[Tensor, list[State]]:
        """Return outputs (B, T, D H) of x (B, T, F), and the states after the last step.

        D is the number of directions. The second direction starts at the last step before the
        padding, given the `lengths` (B,) of the sequences. The states are those after the padding.
        """
        if states is None:
            states = self.begin(len(x), x)
        if lengths is None:
            lengths = torch.full((len(x),), x.shape[1], device=x.device)
        after: list[State] = []
        for number in range(0, len(self.layers), self.directions):
            if number > 0:
                x = self.between(x)
            outputs, state = run_layer(self.layers[number], x, states[number])
            after.append(state)
            if self.directions == 1:
                x = outputs
                continue
            reverse = reversed_sequences(x, lengths)
            reverse, state = run_layer(self.layers[number + 1], reverse, states[number + 1])
            after.append(state)
            x = torch.cat([outputs, reversed_sequences(reverse, lengths)], dim=2)
        return x, after


def recurrent_layer(cell: Cell, input_size: int, hidden_size: int, impl: Impl) -> nn.Module:
    """Return one layer in one direction."""
    if impl == "equations":
        return EQUATIONS[cell](input_size, hidden_size)
    return TorchLayer(cell, input_size, hidden_size)


def run_layer(layer: nn.Module, x: Tensor, state: State) -> tuple[Tensor, State]:
    """Run a layer over x (B, T, F); it needs the steps (T, B, F) contiguous in memory."""
    outputs, after = layer(x.transpose(0, 1).contiguous(), state)
    return outputs.transpose(0, 1), after


class Recurrent(nn.Module):
    """A recurrent classifier or regressor of texts, series, table rows, or images read row by row.

    Maps inputs to logits, or predicted numbers, (B, num_classes).

    Args:
        input_shape: (T,) of tokens, (T, F) of a series, (F,) of a table's row, (C, H, W) of an
            image.
        num_classes: Number of classes or predicted numbers.
        vocab_size: Number of tokens; 0 if the inputs are not tokens.
        cell: Kind of the layers.
        embedding_dim: Numbers of a token's embedding.
        hidden_size: Numbers of a layer's state.
        num_layers: Number of layers.
        bidirectional: Read each sequence in both directions.
        summary: The vector that represents a sequence: its last output (for the second direction
            the first one, which is computed last), or the mean, the maximum or a mean with
            learned weights (attention) over all steps.
        dropout: Dropout probability before, between and after the layers.
        word_dropout: Probability of replacing a token by the unknown token in training.
        forget_bias: Initial bias of an LSTM's forget gate.
        impl: "torch", or "equations": the same from the published equations, which is slower.
        embedding: `from`, a run whose word vectors initialize the embedding, and `frozen`, which
            keeps them fixed.
    """

    def __init__(  # noqa: PLR0913 - the keys of the configuration
        self,
        input_shape: tuple[int, ...],
        num_classes: int,
        vocab_size: int = 0,
        cell: Cell = "lstm",
        embedding_dim: PositiveInt = 32,
        hidden_size: PositiveInt = 32,
        num_layers: PositiveInt = 1,
        bidirectional: bool = False,
        summary: Summary = "last",
        dropout: Fraction = 0.0,
        word_dropout: Fraction = 0.0,
        forget_bias: float = 1.0,
        impl: Impl = "torch",
        embedding: InitialEmbedding | None = None,
    ) -> None:
        super().__init__()
        self.steps = Steps(input_shape, vocab_size, embedding_dim, word_dropout, time_major=True)
        self.before = nn.Sequential(*dropout_layer(dropout))
        settings = (hidden_size, num_layers, bidirectional, dropout, impl, forget_bias)
        self.recurrence = Recurrence(cell, self.steps.size, *settings)
        self.both_ends = summary == "last" and bidirectional
        self.summarize = summarize(summary, self.recurrence.output_size)
        self.after = nn.Sequential(*dropout_layer(dropout))
        self.output = nn.Linear(self.recurrence.output_size, num_classes)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the logits, or predicted numbers, (B, num_classes) of inputs."""
        steps, lengths = self.steps(inputs)
        outputs, _ = self.recurrence(self.before(steps), lengths)
        if self.both_ends:
            forward, reverse = outputs.chunk(2, dim=2)
            summary = torch.cat([last(forward, lengths), reverse[:, 0]], dim=1)
        else:
            summary = self.summarize(outputs, lengths)
        logits: Tensor = self.output(self.after(summary))
        return logits


class RecurrentLanguageModel(nn.Module):
    """A language model of recurrent layers, whose state continues from one batch to the next.

    Maps tokens (B, T) to logits (B, T, vocab_size) of the next token at each position. With `tied`,
    the output layer shares the embedding (Press and Wolf 2017, "Using the Output Embedding to
    Improve Language Models"); `embedding_dim` has to equal `hidden_size` then.

    Raises:
        ValueError: `tied` with different sizes.
    """

    def __init__(
        self,
        vocab_size: int,
        cell: Cell = "lstm",
        embedding_dim: PositiveInt = 128,
        hidden_size: PositiveInt = 256,
        num_layers: PositiveInt = 1,
        dropout: Fraction = 0.0,
        forget_bias: float = 1.0,
        tied: bool = False,
        impl: Impl = "torch",
    ) -> None:
        super().__init__()
        if tied and embedding_dim != hidden_size:
            raise ValueError(
                f"model.tied=true needs model.embedding_dim={hidden_size}, as model.hidden_size"
            )
        self.embedding = nn.Embedding(vocab_size, embedding_dim)
        nn.init.normal_(self.embedding.weight, std=embedding_dim**-0.5)
        self.before = nn.Sequential(*dropout_layer(dropout))
        self.recurrence = Recurrence(
            cell, embedding_dim, hidden_size, num_layers, False, dropout, impl, forget_bias
        )
        self.after = nn.Sequential(*dropout_layer(dropout))
        self.output = nn.Linear(hidden_size, vocab_size)
        if tied:
            self.output.weight = self.embedding.weight
        self.context: int | None = None  # unlimited, through its state

    def begin(self, batch_size: int) -> Tensor:
        """Return the state (L, P, B, H) before any text.

        L is the number of layers; P is 1 for h, or 2 for h and c of an LSTM.
        """
        parts = 2 if self.recurrence.cell == "lstm" else 1
        weight = self.output.weight
        return torch.zeros(
            len(self.recurrence.layers),
            parts,
            batch_size,
            self.recurrence.hidden_size,
            device=weight.device,
        )

    def forward(self, tokens: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the logits and the state after the last token."""
        if state is None:
            state = self.begin(len(tokens))
        states = [tuple(layer.unbind(0)) for layer in state.unbind(0)]
        outputs, after = self.recurrence(self.before(self.embedding(tokens)), None, states)
        logits = self.output(self.after(outputs))
        return logits, torch.stack([torch.stack(layer) for layer in after]).float()
