"""Recurrent networks: the vanilla RNN, LSTM and GRU, by torch or written from their equations.

torch's packed sequences take ten times as long as padded ones on a CPU, for their backward pass is quadratic in the number of
steps. Here a sequence runs over its padding, which stands behind it: no step before the padding can see it, and of the
outputs behind nothing is used. The second direction of a bidirectional layer runs over each sequence turned around.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from dltrain.models.layers import dropout as dropout_layer
from dltrain.models.text.sequences import Begin, Steps, Summary, backwards, last, summarize
from dltrain.types import Fraction, PositiveInt

Cell: TypeAlias = Literal["rnn", "lstm", "gru"]
Impl: TypeAlias = Literal["torch", "equations"]
State: TypeAlias = tuple[Tensor, ...]
"""What a layer carries from step to step: h (B, H), and of an LSTM also its cell c (B, H)."""


class Equations(nn.Module):
    """A recurrent layer as its equations stand in the literature, a step at a time; its weights have torch's names.

    `weight_ih_l0` (G H, F) and `weight_hh_l0` (G H, H) hold the weights of G gates one below the other.
    """

    gates: int

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        rows, bound = self.gates * hidden_size, hidden_size**-0.5
        self.hidden_size = hidden_size
        self.weight_ih_l0 = nn.Parameter(torch.empty(rows, input_size).uniform_(-bound, bound))
        self.weight_hh_l0 = nn.Parameter(torch.empty(rows, hidden_size).uniform_(-bound, bound))
        self.bias_ih_l0 = nn.Parameter(torch.empty(rows).uniform_(-bound, bound))
        self.bias_hh_l0 = nn.Parameter(torch.empty(rows).uniform_(-bound, bound))

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Outputs (T, B, H) of inputs x (T, B, F), and the state after the last step."""
        of_inputs = x @ self.weight_ih_l0.T + self.bias_ih_l0  # (T, B, G H): of all steps at once
        outputs = []
        for of_input in of_inputs.unbind(0):
            state = self.step(of_input, state)
            outputs.append(state[0])
        return torch.stack(outputs), state

    @abstractmethod
    def step(self, of_input: Tensor, state: State) -> State:
        """The state after one more step, of whose input the gates' part `of_input` (B, G H) is there."""

    def of_hidden(self, h: Tensor) -> Tensor:
        return h @ self.weight_hh_l0.T + self.bias_hh_l0


class ElmanEquations(Equations):
    """h' = tanh(W x + b + U h + d) (Elman 1990, "Finding Structure in Time")."""

    gates = 1

    def step(self, of_input: Tensor, state: State) -> State:
        (h,) = state
        return ((of_input + self.of_hidden(h)).tanh(),)


class LSTMEquations(Equations):
    """Long short-term memory (Hochreiter and Schmidhuber 1997) with a forget gate (Gers et al. 2000)."""

    gates = 4

    def step(self, of_input: Tensor, state: State) -> State:
        h, c = state
        i, f, g, o = (of_input + self.of_hidden(h)).chunk(4, dim=1)
        input_gate, forget_gate, output_gate = i.sigmoid(), f.sigmoid(), o.sigmoid()
        candidate = g.tanh()
        c = forget_gate * c + input_gate * candidate
        return output_gate * c.tanh(), c


class GRUEquations(Equations):
    """Gated recurrent unit (Cho et al. 2014), with the reset gate after the product, as in cuDNN."""

    gates = 3

    def step(self, of_input: Tensor, state: State) -> State:
        (h,) = state
        r, z, n = of_input.chunk(3, dim=1)
        r_hidden, z_hidden, n_hidden = self.of_hidden(h).chunk(3, dim=1)
        reset_gate, update_gate = (r + r_hidden).sigmoid(), (z + z_hidden).sigmoid()
        candidate = (n + reset_gate * n_hidden).tanh()
        return ((1 - update_gate) * candidate + update_gate * h,)


class Torch(nn.Module):
    """The same by torch's own layers, which have the loop over the steps in C++."""

    def __init__(self, cell: Cell, input_size: int, hidden_size: int) -> None:
        super().__init__()
        kinds = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
        self.layer = kinds[cell](input_size, hidden_size)

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        first = tuple(part.unsqueeze(0).to(x.dtype).contiguous() for part in state)
        outputs, after = self.layer(x, first if len(first) > 1 else first[0])
        return outputs, tuple(
            part.squeeze(0) for part in (after if isinstance(after, tuple) else (after,))
        )


EQUATIONS: dict[Cell, type[Equations]] = {
    "rnn": ElmanEquations,
    "lstm": LSTMEquations,
    "gru": GRUEquations,
}


class Recurrence(nn.Module):
    """A stack of recurrent layers, each in one direction or two, with dropout between them.

    `forget_bias` is what the forget gate of an LSTM begins with: at 1 it remembers (Jozefowicz et al. 2015, "An Empirical
    Exploration of Recurrent Network Architectures").
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
        self.cell, self.hidden_size, self.directions = cell, hidden_size, 2 if bidirectional else 1
        self.output_size = hidden_size * self.directions
        sizes = [input_size, *[self.output_size] * (num_layers - 1)]
        layers = [(size, direction) for size in sizes for direction in range(self.directions)]
        self.layers = nn.ModuleList(
            EQUATIONS[cell](size, hidden_size)
            if impl == "equations"
            else Torch(cell, size, hidden_size)
            for size, _ in layers
        )
        self.between = nn.Sequential(*dropout_layer(dropout))
        biases = dict(self.named_parameters()) if cell == "lstm" else {}
        with torch.no_grad():
            for name, bias in biases.items():
                if name.endswith(("bias_ih_l0", "bias_hh_l0")):
                    bias[hidden_size : 2 * hidden_size] = (
                        forget_bias if name.endswith("bias_ih_l0") else 0.0
                    )

    def begin(self, batch_size: int, like: Tensor) -> list[State]:
        """The state before the first step, of every layer and direction."""
        parts = 2 if self.cell == "lstm" else 1
        zeros = torch.zeros(batch_size, self.hidden_size, device=like.device)
        return [(zeros,) * parts for _ in self.layers]

    def forward(
        self, x: Tensor, lengths: Tensor | None = None, states: list[State] | None = None
    ) -> tuple[Tensor, list[State]]:
        """Outputs (B, T, D H) of x (B, T, F), and the states after the last step, padding included.

        With `lengths` (B,) the second direction begins at the last step that is none of the padding.
        """
        states = self.begin(len(x), x) if states is None else states
        after: list[State] = []
        if lengths is None:
            lengths = torch.full((len(x),), x.shape[1], device=x.device)
        for number in range(0, len(self.layers), self.directions):
            x = x if number == 0 else self.between(x)
            parts = []
            for direction in range(self.directions):
                layer, state = self.layers[number + direction], states[number + direction]
                turned = backwards(x, lengths) if direction else x
                outputs, end = layer(
                    turned.transpose(0, 1).contiguous(), state
                )  # (T, B, F): steps one after the other
                outputs = outputs.transpose(0, 1)
                parts.append(backwards(outputs, lengths) if direction else outputs)
                after.append(end)
            x = torch.cat(parts, dim=2) if len(parts) > 1 else parts[0]
        return x, after


class Recurrent(nn.Module):
    """Logits, or predicted numbers, (B, num_classes) of a text, a series, a table's row or an image read row by row.

    Tokens have learned vectors of `embedding_dim`. The `num_layers` layers of `cell` are followed by `summary`: the last
    output of each sequence (of its second direction the first one, which is the last it makes), or over its steps the
    mean, the largest or a mean by learned weights (attention). `dropout` comes before, between and after them;
    `word_dropout` hides whole words.
    `impl=equations` computes the same by the equations, a step at a time: to be read, and some times slower.
    `embedding.from` names a run of word vectors, which the tokens' vectors begin with (and stay, if `frozen`):
    dltrain/embeddings.py puts them in.
    """

    def __init__(
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
        embedding: Begin | None = None,
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
        steps, lengths = self.steps(inputs)
        outputs, _ = self.recurrence(self.before(steps), lengths)
        if self.both_ends:
            ahead, back = outputs.chunk(2, dim=2)
            summary = torch.cat([last(ahead, lengths), back[:, 0]], dim=1)
        else:
            summary = self.summarize(outputs, lengths)
        logits: Tensor = self.output(self.after(summary))
        return logits


class RecurrentLanguageModel(nn.Module):
    """Logits (B, T, vocab_size) of the token after each of (B, T) tokens, by a stack of recurrent layers that carries its
    state from one piece of text to the next.

    With `tied` the output layer shares the vectors of the tokens (Press and Wolf 2017, "Using the Output Embedding to
    Improve Language Models"), for which `embedding_dim` has to be `hidden_size`.
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
            raise ValueError("model.tied needs model.embedding_dim to be model.hidden_size")
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
        self.context: int | None = None  # as far back as its state remembers

    def begin(self, batch_size: int) -> Tensor:
        """The state (L, P, B, H) before any text: of every layer h and, of an LSTM, c."""
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
        """Logits, and the state after the last token."""
        state = self.begin(len(tokens)) if state is None else state
        states = [tuple(layer.unbind(0)) for layer in state.unbind(0)]
        outputs, after = self.recurrence(self.before(self.embedding(tokens)), None, states)
        return self.output(self.after(outputs)), torch.stack(
            [torch.stack(layer) for layer in after]
        ).float()
