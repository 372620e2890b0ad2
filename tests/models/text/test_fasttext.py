"""fastText's classifier: its formula, and the rows that a step changes."""

from __future__ import annotations

import pytest
import torch

from dltrain.models.text import fasttext
from dltrain.models.text.fasttext import HASH_FACTOR, FastText
from dltrain.types import PAD


def small(**settings: object) -> FastText:
    torch.manual_seed(0)
    sizes = {"vocab_size": 20, "num_classes": 3, "embedding_dim": 4, "buckets": 50}
    model = FastText(**sizes, **settings)  # type: ignore[arg-type]
    torch.nn.init.normal_(model.output.weight)
    return model


def test_the_logits_are_linear_in_the_mean_of_words_and_bigrams() -> None:
    model = small()
    one = model(torch.tensor([[5, 7, 9, PAD, PAD]]))
    rows = [5, 7, 9, 20 + (5 * HASH_FACTOR + 7) % 50, 20 + (7 * HASH_FACTOR + 9) % 50]
    torch.testing.assert_close(one, model.output(model.weight[rows].mean(0)).unsqueeze(0))


def test_trigrams_fold_the_hash_of_their_bigram() -> None:
    rows, kept = small(ngrams=3).rows(torch.tensor([[5, 7, 9, PAD]]))
    bigram = 5 * HASH_FACTOR + 7
    assert rows[kept].tolist()[-1] == 20 + (bigram * HASH_FACTOR + 9) % 50
    assert int(kept.sum()) == 3 + 2 + 1


def test_padding_changes_nothing() -> None:
    model = small()
    texts = torch.tensor([[5, 7, 9, 11], [6, 8, PAD, PAD]])
    padded = torch.nn.functional.pad(texts, (0, 3))
    torch.testing.assert_close(model(padded), model(texts))
    torch.testing.assert_close(model(texts)[1:], model(texts[1:, :2]))


def test_the_order_of_words_counts_only_with_bigrams() -> None:
    there, back = torch.tensor([[5, 7, 9]]), torch.tensor([[9, 7, 5]])
    torch.testing.assert_close(small(ngrams=1)(there), small(ngrams=1)(back))
    assert not torch.allclose(small()(there), small()(back))


def test_an_empty_text_and_one_of_one_word_have_logits() -> None:
    model = small()
    assert model(torch.tensor([[PAD]])).tolist() == [model.output.bias.tolist()]
    assert model(torch.tensor([[5]])).isfinite().all()


def test_only_the_rows_in_the_batch_have_a_gradient() -> None:
    texts = torch.tensor([[5, 7], [5, 9]])
    gradients = []
    for sparse in (True, False):
        model = small(sparse=sparse)
        model(texts).square().sum().backward()
        gradients.append(model.weight.grad)
    one, other = gradients
    assert one is not None
    assert other is not None
    assert (one.is_sparse, other.is_sparse) == (True, False)
    torch.testing.assert_close(one.to_dense(), other)
    assert int((other.abs().sum(1) > 0).sum()) == 5


@pytest.mark.parametrize("sparse", [True, False])
def test_static_shapes_give_the_same_means_and_gradients(
    sparse: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Padding is left out by zero weights where the number of words must not be waited for."""
    tokens = torch.tensor([[4, 5, 6, 5], [7, 4, PAD, PAD], [PAD] * 4, [4, 4, 4, PAD]])
    outputs, gradients = [], []
    for is_immediate in (True, False):
        monkeypatch.setattr(fasttext, "is_immediate", lambda device, is_it=is_immediate: is_it)
        torch.manual_seed(0)
        model = small(sparse=sparse)
        torch.nn.init.normal_(model.output.weight)
        outputs.append(model(tokens))
        outputs[-1].square().sum().backward()
        assert model.weight.grad is not None
        assert model.weight.grad.is_sparse == sparse
        gradients.append(model.weight.grad.to_dense())
    torch.testing.assert_close(outputs[1], outputs[0])
    torch.testing.assert_close(gradients[1], gradients[0])
    assert not gradients[1][PAD].any()


def test_a_step_reads_no_value() -> None:
    """The meta device has none to read: the host need not wait for a GPU."""
    model = small().to("meta")
    model(torch.ones(3, 4, dtype=torch.int64, device="meta")).sum().backward()
    assert model.weight.grad is not None
    assert model.weight.grad.is_sparse
