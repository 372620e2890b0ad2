"""Encoders and decoders: padding, causality, and steps that equal one pass."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dltrain.models.text.seq2seq import Seq2Seq
from dltrain.models.text.transformer_seq2seq import TransformerSeq2Seq
from dltrain.types import BEGIN, PAD

V, W = 12, 9  # tokens of the source and of the target


def recurrent(**settings: Any) -> Seq2Seq:
    return Seq2Seq(V, W, embedding_dim=6, hidden_size=8, **settings)


def transformer(**settings: Any) -> TransformerSeq2Seq:
    return TransformerSeq2Seq(
        V, W, 20, 20, num_layers=2, dim=8, num_heads=2, **{"dropout": 0.0, **settings}
    )


MODELS = {
    **{f"lstm-{a}": lambda a=a: recurrent(attention=a) for a in ("none", "additive", "dot")},
    "gru-stacked": lambda: recurrent(cell="gru", num_layers=2, attention="dot"),
    "lstm-stacked": lambda: recurrent(num_layers=2, attention="additive"),
    "rnn-one-way": lambda: recurrent(cell="rnn", bidirectional=False, attention="additive"),
    "equations": lambda: recurrent(impl="equations", attention="additive"),
    **{
        f"transformer-{p}": lambda p=p: transformer(positions=p)
        for p in ("sinusoidal", "learned", "rotary")
    },
    "transformer-equations": lambda: transformer(impl="equations", tied=False),
}


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> Any:
    torch.manual_seed(0)
    return MODELS[request.param]()


def batch(lengths: tuple[int, ...] = (5, 3), steps: int = 4) -> tuple[Tensor, Tensor]:
    """Return source tokens padded at the end, and target tokens that start with `BEGIN`."""
    generator = torch.Generator().manual_seed(1)
    source = torch.randint(4, V, (len(lengths), max(lengths)), generator=generator)
    for row, length in enumerate(lengths):
        source[row, length:] = PAD
    inputs = torch.randint(4, W, (len(lengths), steps), generator=generator)
    inputs[:, 0] = BEGIN
    return source, inputs


def test_every_parameter_learns(model: Any) -> None:
    source, inputs = batch()
    logits = model(source, inputs)
    assert logits.shape == (2, 4, W)
    F.cross_entropy(logits.flatten(0, 1), torch.randint(4, W, (8,))).backward()
    for name, p in model.named_parameters():
        assert p.grad is not None, name
        assert p.grad.abs().sum() > 0, name


def test_padding_of_the_source_changes_nothing(model: Any) -> None:
    source, inputs = batch()
    padded = F.pad(source, (0, 4), value=PAD)
    torch.testing.assert_close(model(padded, inputs), model(source, inputs), rtol=1e-5, atol=1e-6)
    alone = model(source[1:, :3], inputs[1:])
    torch.testing.assert_close(model(source, inputs)[1:], alone, rtol=1e-5, atol=1e-6)


def test_both_ends_of_the_source_change_the_logits(model: Any) -> None:
    source, inputs = batch()
    for at in (0, 4):
        other = source.clone()
        other[0, at] = 4 + (other[0, at] - 3) % (V - 4)
        change = (model(other, inputs) - model(source, inputs)).abs().amax((1, 2))
        assert change[0] > 1e-5
        assert change[1] == 0


def test_a_changed_future_token_changes_no_earlier_logits(model: Any) -> None:
    source, inputs = batch(steps=5)
    for at in range(1, 5):
        other = inputs.clone()
        other[:, at] = 4 + (other[:, at] - 3) % (W - 4)
        before, after = model(source, inputs), model(source, other)
        torch.testing.assert_close(after[:, :at], before[:, :at], rtol=0, atol=1e-6)
        assert (after[:, at:] - before[:, at:]).abs().amax() > 1e-5


def test_steps_equal_one_pass(model: Any) -> None:
    source, inputs = batch()
    memory = model.encode(source)
    state, found = model.begin(memory), []
    for tokens in inputs.unbind(1):
        logits, state = model.step(tokens, state, memory)
        found.append(logits)
    torch.testing.assert_close(torch.stack(found, 1), model(source, inputs), rtol=1e-5, atol=1e-6)


def test_memory_and_state_have_a_row_for_each_text(model: Any) -> None:
    """A search can repeat and choose rows: the second row's logits depend on that row alone."""
    source, inputs = batch()
    memory = model.encode(source)
    _, state = model.step(inputs[:, 0], model.begin(memory), memory)
    wanted, _ = model.step(inputs[:, 1], state, memory)
    chosen = torch.tensor([1, 1, 0])
    rows = ({name: value[chosen] for name, value in part.items()} for part in (state, memory))
    found, _ = model.step(inputs[chosen, 1], *rows)
    torch.testing.assert_close(found, wanted[chosen], rtol=1e-5, atol=1e-6)


def test_attention_weights_sum_to_one_over_the_source_without_padding(model: Any) -> None:
    source, inputs = batch()
    _, weights = model.decode(model.encode(source), inputs)
    if weights is None:
        assert isinstance(model, Seq2Seq)
        assert model.additive is None
        assert model.query is None
        return
    assert weights.shape == (2, 4, 5)
    torch.testing.assert_close(weights.sum(2), torch.ones(2, 4))
    assert (weights[1, :, 3:] == 0).all()
    assert (weights[:, :, :3] > 0).all()


def test_equations_compute_what_torch_computes() -> None:
    source, inputs = batch()
    for make in (recurrent, transformer):
        one, other = make(impl="torch"), make(impl="equations")
        theirs = one.state_dict()
        other.load_state_dict(
            {n: theirs[m] for n, m in zip(other.state_dict(), theirs, strict=True)}
        )
        torch.testing.assert_close(other(source, inputs), one(source, inputs), rtol=1e-4, atol=1e-5)


def test_tied_embeddings_are_one_parameter() -> None:
    tied, untied = transformer(), transformer(tied=False)
    assert tied.to_logits.weight is tied.target_embedding.weight
    assert (
        sum(p.numel() for p in untied.parameters()) - sum(p.numel() for p in tied.parameters())
        == W * 8
    )
