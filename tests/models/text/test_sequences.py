"""Recurrent networks, attention, Transformers: torch's layers, padding and causality."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch.utils.flop_counter import FlopCounterMode

from dltrain.models.text.attention import (
    AdditiveAttention,
    MultiHeadAttention,
    rotated,
    scaled_dot_product,
)
from dltrain.models.text.recurrent import Cell, Recurrence, Recurrent, RecurrentLanguageModel
from dltrain.models.text.sequences import (
    AttentionSummary,
    Summary,
    embedding,
    mean,
    reversed_sequences,
)
from dltrain.models.text.transformer import (
    Positions,
    Stack,
    TransformerClassifier,
    TransformerLanguageModel,
    sinusoids,
)
from dltrain.report.costs import COUNTED
from dltrain.types import PAD

CELLS: list[Cell] = ["rnn", "lstm", "gru"]
LENGTHS = torch.tensor([7, 3, 5, 1])
VOCABULARY = 30


def tokens(lengths: Tensor = LENGTHS, seed: int = 0) -> Tensor:
    """Return random tokens (B, T), padded with 0."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(4, VOCABULARY, (len(lengths), int(lengths.max())), generator=generator)
    return drawn * (torch.arange(drawn.shape[1]) < lengths.unsqueeze(1))


def by_name(module: nn.Module) -> dict[str, Tensor]:
    return {name.replace(".layer.", "."): p for name, p in module.named_parameters()}


@pytest.mark.parametrize(
    ("cell", "bidirectional", "layers"), list(itertools.product(CELLS, [False, True], [1, 2]))
)
def test_the_equations_are_torchs_layers_forward_and_backward(
    cell: Cell, bidirectional: bool, layers: int
) -> None:
    torch.manual_seed(0)
    fast, plain = (
        Recurrence(cell, 5, 6, layers, bidirectional, 0.0, impl) for impl in ("torch", "equations")
    )
    for name, p in by_name(plain).items():
        p.data.copy_(by_name(fast)[name])
    x = torch.randn(4, 7, 5)
    outputs = [module(x, LENGTHS)[0] for module in (fast, plain)]
    assert torch.allclose(*outputs, atol=1e-5)
    weights = torch.randn_like(outputs[0])
    for output in outputs:
        (output * weights).sum().backward()
    for name, p in by_name(plain).items():
        assert p.grad is not None
        assert torch.allclose(p.grad, by_name(fast)[name].grad, atol=1e-5), name


@pytest.mark.parametrize(("cell", "bidirectional"), list(itertools.product(CELLS, [False, True])))
def test_padded_sequences_equal_packed_ones(cell: Cell, bidirectional: bool) -> None:
    torch.manual_seed(0)
    module = Recurrence(cell, 5, 6, 1, bidirectional)
    reference = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}[cell](
        5, 6, batch_first=True, bidirectional=bidirectional
    )
    for number, suffix in enumerate(("", "_reverse")[: 1 + bidirectional]):
        for name, p in module.layers[number].layer.named_parameters():
            getattr(reference, name + suffix).data.copy_(p.data)
    x = torch.randn(4, 7, 5)
    packed, _ = reference(pack_padded_sequence(x, LENGTHS, batch_first=True, enforce_sorted=False))
    expected, _ = pad_packed_sequence(packed, batch_first=True)
    outputs, _ = module(x, LENGTHS)
    for row, length in enumerate(LENGTHS.tolist()):
        assert torch.allclose(outputs[row, :length], expected[row, :length], atol=1e-6)


def test_a_sequence_is_reversed_within_its_length() -> None:
    x = torch.arange(1, 11).view(2, 5, 1)
    assert reversed_sequences(x, torch.tensor([5, 2])).squeeze(2).tolist() == [
        [5, 4, 3, 2, 1],
        [7, 6, 8, 9, 10],
    ]


SUMMARIES: list[Summary] = ["last", "mean", "max", "attention"]
POSITIONS: list[Positions] = ["sinusoidal", "learned", "rotary"]
KINDS: list[tuple] = [
    *itertools.product(CELLS, SUMMARIES, [False, True]),
    *itertools.product(POSITIONS, SUMMARIES),
]


def classifier(kind: tuple) -> nn.Module:
    torch.manual_seed(0)
    if len(kind) == 3:
        cell, summary, both = kind
        return Recurrent((7,), 3, VOCABULARY, cell, summary=summary, bidirectional=both)
    positions, summary = kind
    return TransformerClassifier(
        (7,), 3, VOCABULARY, dim=8, num_heads=2, positions=positions, summary=summary
    )


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_padding_changes_no_logits(kind: tuple) -> None:
    model, batch = classifier(kind).eval(), tokens()
    together = model(F.pad(batch, (0, 3)) if "learned" not in kind else batch)
    for row, length in enumerate(LENGTHS.tolist()):
        assert torch.allclose(together[row], model(batch[row : row + 1, :length])[0], atol=1e-5)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_every_parameter_gets_a_gradient_and_padding_has_no_vector(kind: tuple) -> None:
    model = classifier(kind)
    model(tokens()).square().sum().backward()
    for parameter, p in model.named_parameters():
        assert p.grad is not None, parameter
    embedding = next(m for m in model.modules() if isinstance(m, nn.Embedding))
    assert not embedding.weight[0].any()
    assert not embedding.weight.grad[0].any()


@pytest.mark.parametrize("shape", [(7,), (5, 64), (0, 3)])
def test_looked_up_vectors_and_their_gradient_are_those_of_torchs_embedding(
    shape: tuple[int, ...],
) -> None:
    torch.manual_seed(0)
    ours, size = embedding(30, 6), (*shape, 6)
    theirs = nn.Embedding(30, 6, padding_idx=PAD, _weight=ours.weight.detach().clone())
    tokens, weights = torch.randint(30, shape), torch.randn(size)
    found, expected = ours(tokens), theirs(tokens)
    assert torch.equal(found, expected)
    for values in (found, expected):
        (values * weights).sum().backward()
    assert ours.weight.grad is not None
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad)
    assert not ours.weight.grad[PAD].any()


@pytest.mark.parametrize("shape", [(6,), (6, 2), (3, 4, 6)], ids=["row", "series", "image"])
@pytest.mark.parametrize("kind", ["recurrent", "transformer"])
def test_rows_series_and_images_are_read_step_by_step(shape: tuple[int, ...], kind: str) -> None:
    """The order of the steps counts: the reversed input gives other outputs."""
    torch.manual_seed(0)
    model = (
        Recurrent(shape, 2) if kind == "recurrent" else TransformerClassifier(shape, 2, dropout=0.0)
    )
    x = torch.randn(5, *shape)
    steps = {1: 1, 2: 1, 3: 2}[len(shape)]
    assert model(x).shape == (5, 2)
    assert not torch.allclose(model(x), model(x.flip(steps)), atol=1e-4)


def test_attention_is_the_weighted_mean_of_its_equations() -> None:
    """alpha = softmax(w . tanh(h)) over steps without padding, sum(alpha h); w = 0: the mean."""
    torch.manual_seed(0)
    outputs, attention = torch.randn(4, 7, 5), AttentionSummary(5)
    assert torch.allclose(attention(outputs, LENGTHS), mean(outputs, LENGTHS), atol=1e-6)
    attention.query.data = torch.randn(5)
    for row, length in enumerate(LENGTHS.tolist()):
        h = outputs[row, :length]
        weights = (h.tanh() * attention.query).sum(1).exp()
        expected = (weights / weights.sum()) @ h
        assert torch.allclose(attention(outputs, LENGTHS)[row], expected, atol=1e-6)


def test_an_lstm_keeps_its_state_at_first() -> None:
    for impl in ("torch", "equations"):
        found = by_name(Recurrence("lstm", 2, 3, forget_bias=2.5, impl=impl))
        assert found["layers.0.bias_ih_l0"][3:6].tolist() == [2.5] * 3
        assert found["layers.0.bias_hh_l0"][3:6].tolist() == [0.0] * 3
        assert found["layers.0.bias_ih_l0"][:3].tolist() != [2.5] * 3


@pytest.mark.parametrize("cell", CELLS)
def test_a_recurrent_language_model_continues_from_its_state(cell: Cell) -> None:
    torch.manual_seed(0)
    model, text = RecurrentLanguageModel(VOCABULARY, cell, 8, 8, 2), tokens(torch.tensor([6, 6]))
    whole, end = model(text)
    first, state = model(text[:, :4])
    second, last = model(text[:, 4:], state)
    assert torch.allclose(whole, torch.cat([first, second], dim=1), atol=1e-5)
    assert torch.allclose(end, last, atol=1e-5)
    assert end.shape == model.begin(2).shape


@pytest.mark.parametrize("impl", ["torch", "equations"])
@pytest.mark.parametrize("positions", ["sinusoidal", "learned", "rotary"])
def test_a_changed_future_token_changes_nothing_before_it(positions: Positions, impl) -> None:
    torch.manual_seed(0)
    model = TransformerLanguageModel(VOCABULARY, 7, 2, 8, 2, positions=positions, impl=impl).eval()
    text = tokens(torch.tensor([7]))
    changed = text.clone()
    changed[0, 4] = (text[0, 4] + 1) % VOCABULARY
    before, after = model(text)[0], model(changed)[0]
    assert torch.equal(before[:, :4], after[:, :4])
    assert not torch.allclose(before[:, 4:], after[:, 4:])


def test_tied_language_models_share_their_embedding() -> None:
    assert (
        model := TransformerLanguageModel(9, 4, 1, 8, 2)
    ).output.weight is model.embedding.weight
    assert (
        lstm := RecurrentLanguageModel(9, "lstm", 8, 8, tied=True)
    ).output.weight is lstm.embedding.weight
    with pytest.raises(ValueError, match=r"needs model.embedding_dim=16"):
        RecurrentLanguageModel(9, "lstm", 8, 16, tied=True)


@pytest.mark.parametrize("masked", [False, True])
def test_the_equation_is_torchs_fused_attention(masked: bool) -> None:
    torch.manual_seed(0)
    q, k, v = torch.randn(2, 3, 5, 4), torch.randn(2, 3, 7, 4), torch.randn(2, 3, 7, 6)
    allowed = torch.rand(2, 1, 5, 7) > 0.4 if masked else None
    if allowed is not None:
        allowed[..., 0] = True
    outputs, weights = scaled_dot_product(q, k, v, allowed)
    assert torch.allclose(outputs, F.scaled_dot_product_attention(q, k, v, allowed), atol=1e-6)
    assert torch.allclose(weights.sum(-1), torch.ones(2, 3, 5))
    if allowed is not None:
        assert not weights.masked_select(~allowed.expand_as(weights)).any()


@pytest.mark.parametrize(
    ("causal", "rotary"), list(itertools.product([False, True], [False, True]))
)
def test_heads_by_torch_and_by_the_equation_are_the_same_with_their_gradients(
    causal: bool, rotary: bool
) -> None:
    torch.manual_seed(0)
    fused = MultiHeadAttention(8, 2, rotary=rotary)
    plain = MultiHeadAttention(8, 2, rotary=rotary, impl="equations")
    plain.load_state_dict(fused.state_dict())
    x = torch.randn(3, 5, 8)
    outputs = [module(x, causal=causal) for module in (fused, plain)]
    assert torch.allclose(*outputs, atol=1e-6)
    for output in outputs:
        output.square().sum().backward()
    for p, q in zip(fused.parameters(), plain.parameters(), strict=True):
        assert torch.allclose(p.grad, q.grad, atol=1e-5)
    assert plain.weights is not None
    assert plain.weights.shape == (3, 2, 5, 5)
    if causal:
        assert not plain.weights.triu(1).any()


def test_rotated_products_depend_on_the_distance_alone() -> None:
    torch.manual_seed(0)
    q, k = torch.randn(4), torch.randn(4)
    a, b = rotated(q.expand(9, 4)), rotated(k.expand(9, 4))
    products = a @ b.T
    assert torch.allclose(products[2, 5], products[4, 7], atol=1e-5)
    assert not torch.allclose(products[2, 5], products[2, 6], atol=1e-3)
    assert torch.allclose(rotated(q.expand(9, 4)).norm(dim=1), q.norm().expand(9), atol=1e-5)


def test_sinusoids_are_the_papers() -> None:
    table = sinusoids(4, 6, torch.device("cpu"))
    for position, i in itertools.product(range(4), range(3)):
        angle = position / 10_000 ** (2 * i / 6)
        assert float(table[position, 2 * i]) == pytest.approx(math.sin(angle), abs=1e-6)
        assert float(table[position, 2 * i + 1]) == pytest.approx(math.cos(angle), abs=1e-6)


def test_additive_attention_is_its_formula() -> None:
    torch.manual_seed(0)
    module = AdditiveAttention(3, 4, 5)
    q, k, allowed = torch.randn(1, 2, 3), torch.randn(1, 3, 4), torch.tensor([[True, True, False]])
    outputs, weights = module(q, k, k, allowed)
    for t in range(2):
        scores = torch.stack(
            [
                module.score(
                    torch.tanh(module.of_query(q[0, t]) + module.of_key(k[0, s]))
                ).squeeze()
                for s in range(2)
            ]
        )
        expected = torch.cat([scores.softmax(0), torch.zeros(1)])
        assert torch.allclose(weights[0, t], expected, atol=1e-6)
        assert torch.allclose(outputs[0, t], expected @ k[0], atol=1e-6)


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="not a multiple of"):
        MultiHeadAttention(10, 3)
    with pytest.raises(ValueError, match="rotate pairs"):
        MultiHeadAttention(6, 2, rotary=True)


def test_the_last_layers_of_a_stack_have_smaller_initial_weights() -> None:
    torch.manual_seed(0)
    blocks = Stack(8, 64, 4, None, "gelu", 0.0, "learned", "torch").blocks
    attention = blocks[0].attention
    assert float(attention.project.weight.detach().std()) == pytest.approx(0.02, rel=0.1)
    assert float(attention.output.weight.detach().std()) == pytest.approx(0.02 / 4, rel=0.1)
    assert float(blocks[0].mlp[3].weight.detach().std()) == pytest.approx(0.02 / 4, rel=0.1)


@pytest.mark.parametrize("impl", ["torch", "equations"])
def test_an_lstms_multiplications_are_counted(impl) -> None:
    """Each weight of each gate costs 2 operations per step; the output layer is added."""
    model = Recurrent((9, 5), 3, cell="lstm", hidden_size=4, impl=impl).eval()
    with FlopCounterMode(display=False, custom_mapping=COUNTED) as counter, torch.no_grad():
        model(torch.randn(2, 9, 5))
    assert counter.get_total_flops() == 2 * 2 * (9 * 16 * (5 + 4) + 4 * 3)


def test_dropped_words_are_unknown_in_training_alone() -> None:
    torch.manual_seed(0)
    model, text = (
        Recurrent((40,), 2, VOCABULARY, word_dropout=0.4),
        tokens(torch.full((50,), 40)) + 0,
    )
    text[:, 30:] = 0
    seen: list[Tensor] = []
    model.steps.embedding.register_forward_pre_hook(
        lambda module, args: seen.append(args[0].T)
    )  # embedded step by step
    model(text)
    model.eval()(text)
    hidden = (seen[0] != text) & (seen[0] == 1)
    assert float(hidden.float().mean()) == pytest.approx(0.4 * 30 / 40, abs=0.03)
    assert torch.equal(seen[0].masked_fill(hidden, 0), text.masked_fill(hidden, 0))
    assert torch.equal(seen[1], text)
