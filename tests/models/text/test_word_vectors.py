"""Word vectors: the losses against their formulas, pair by pair; trees and subwords."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dltrain.models.text.word_vectors import NOISE_TABLE_SIZE, WordVectors, huffman
from dltrain.types import PAD

COUNTS = torch.tensor([0, 0, 0, 0, 8, 5, 4, 3, 2, 1])
WORDS = ["<pad>", "<unk>", "<bos>", "<eos>", "the", "film", "films", "was", "good", "bad"]
TEXT = torch.tensor([4, 5, 7, 8, 4, 6, 7, 9, 4, 5, 5])
DOCUMENTS = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, 1, 2, 2])


def small(**settings: Any) -> WordVectors:
    torch.manual_seed(0)
    model = WordVectors(
        len(WORDS), 6, **{"chunk": 4, "shared": 3, "window": 1, "buckets": 30, **settings}
    )
    model.set_vocabulary(WORDS, COUNTS)
    torch.nn.init.normal_(model.input)
    torch.nn.init.normal_(model.output)
    return model


def pairs(window: int, text: Tensor, documents: Tensor) -> Iterator[tuple[int, int]]:
    """Return the places (center, context), one by one."""
    for i in range(len(text)):
        for j in range(max(0, i - window), min(len(text), i + window + 1)):
            if i != j and documents[i] == documents[j] and text[i] != PAD:
                yield i, j


def fixed_noise(model: WordVectors, monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """Replace the negative samples by known ones, a row for each chunk."""
    rows = -(-len(TEXT) // model.chunk)
    drawn = torch.arange(rows * model.shared).view(rows, model.shared) % 6 + 4
    monkeypatch.setattr(model, "draw", lambda count: drawn[:count])
    return drawn


def test_the_loss_of_skip_gram_is_the_formula_of_negative_sampling(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = small()
    drawn = fixed_noise(model, monkeypatch)
    loss, count = model(TEXT, DOCUMENTS)
    terms = []
    for i, j in pairs(1, TEXT, DOCUMENTS):
        v = model.input[TEXT[i]]
        noise = (
            F.logsigmoid(-(model.output[drawn[i // 4]] @ v)).sum() * model.negative / model.shared
        )
        terms.append(-F.logsigmoid(model.output[TEXT[j]] @ v) - noise)
    expected = torch.stack(terms)
    assert int(count) == len(terms)
    torch.testing.assert_close(loss, expected.mean())
    for sparse, dense in zip(
        torch.autograd.grad(loss, [model.input, model.output]),
        torch.autograd.grad(expected.mean(), [model.input, model.output]),
        strict=True,
    ):
        torch.testing.assert_close(sparse.to_dense(), dense)


def test_cbow_predicts_the_middle_from_the_mean_of_its_context(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = small(method="cbow")
    drawn = fixed_noise(model, monkeypatch)
    loss, count = model(TEXT, DOCUMENTS)
    around: dict[int, list[int]] = {}
    for i, j in pairs(1, TEXT, DOCUMENTS):
        around.setdefault(i, []).append(int(TEXT[j]))
    terms = []
    for i, context in around.items():
        h = model.input[context].mean(0)
        noise = (
            F.logsigmoid(-(model.output[drawn[i // 4]] @ h)).sum() * model.negative / model.shared
        )
        terms.append(-F.logsigmoid(model.output[TEXT[i]] @ h) - noise)
    expected = torch.stack(terms).mean()
    assert int(count) == len(terms)
    torch.testing.assert_close(loss, expected)
    for sparse, dense in zip(
        torch.autograd.grad(loss, [model.input, model.output]),
        torch.autograd.grad(expected, [model.input, model.output]),
        strict=True,
    ):
        torch.testing.assert_close(sparse.to_dense(), dense)


@pytest.mark.parametrize("method", ["skip_gram", "cbow"])
def test_the_tree_gives_probabilities_that_sum_to_one_and_the_loss_is_their_logarithm(
    method: str,
) -> None:
    model = small(method=method, output="hierarchical_softmax")
    text, documents = TEXT[:2], DOCUMENTS[:2]
    loss, count = model(text, documents)
    assert int(count) == 2

    def log_probability(word: int, v: Tensor) -> Tensor:
        steps = range(int(model.depths[word]))
        signed = [model.codes[word, e] * (model.output[model.paths[word, e]] @ v) for e in steps]
        return F.logsigmoid(torch.stack(signed)).sum()

    known = [word for word in range(len(WORDS)) if COUNTS[word]]
    v = model.input[text[0]]
    assert float(
        torch.stack([log_probability(word, v) for word in known]).exp().sum().detach()
    ) == pytest.approx(1, abs=1e-5)
    expected = (
        -(log_probability(int(text[1]), v) + log_probability(int(text[0]), model.input[text[1]]))
        / 2
    )
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("output", ["negative_sampling", "hierarchical_softmax"])
@pytest.mark.parametrize("method", ["skip_gram", "cbow"])
def test_half_precision_gives_gradients_near_those_of_full(method: str, output: str) -> None:
    model = small(method=method, output=output)

    def gradients(half: bool) -> list[Tensor]:
        torch.manual_seed(1)
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            loss, _ = model(TEXT, DOCUMENTS)
        return [
            sparse.to_dense() for sparse in torch.autograd.grad(loss, [model.input, model.output])
        ]

    for full, half in zip(gradients(False), gradients(True), strict=True):
        assert full.any()
        assert half.dtype == torch.float32
        torch.testing.assert_close(half, full, atol=0.01, rtol=0.02)


def test_frequent_words_have_short_codes_and_their_mean_length_is_minimal() -> None:
    _, signs, depths = huffman(COUNTS)
    assert depths.tolist() == [0, 0, 0, 0, 2, 2, 2, 3, 4, 4]
    assert int((depths * COUNTS).sum()) == 17 * 2 + 9 + 12
    assert torch.equal((signs != 0).sum(1), depths)


def test_negative_samples_follow_the_counts_to_the_power_of_three_quarters() -> None:
    shares = torch.bincount(small().noise, minlength=len(WORDS)) / NOISE_TABLE_SIZE
    expected = COUNTS**0.75 / (COUNTS**0.75).sum()
    torch.testing.assert_close(shares, expected, atol=1e-5, rtol=0)


def test_windows_have_every_size_up_to_the_largest() -> None:
    torch.manual_seed(0)
    model = small(window=4)
    text = torch.full((4000,), 5)
    _, count = model(text, torch.zeros(4000, dtype=torch.int64))
    assert float(count) / 4000 == pytest.approx(2 * 2.5, rel=0.03)


def test_padding_is_not_a_word() -> None:
    model = small(shared=1)
    torch.manual_seed(0)
    loss, count = model(F.pad(TEXT, (0, 5)), F.pad(DOCUMENTS, (0, 5), value=-1))
    assert int(count) == len(list(pairs(1, TEXT, DOCUMENTS)))
    gradient = torch.autograd.grad(loss, model.input)[0].to_dense()
    assert not gradient[PAD].any()
    assert loss.isfinite()


def test_a_text_of_one_word_has_a_loss_of_zero() -> None:
    loss, count = small()(TEXT[:1], DOCUMENTS[:1])
    assert (float(loss.detach()), float(count)) == (0.0, 0.0)


def test_a_word_is_the_mean_of_its_own_vector_and_its_ngrams() -> None:
    model = small(subwords=True, min_n=3, max_n=4)
    rows = [9, *model.ngrams("bad")]
    assert len(rows) == 1 + 3 + 2  # <ba bad ad> <bad bad>
    torch.testing.assert_close(model.vectors(len(WORDS))[9], model.input[rows].mean(0))
    assert min(rows[1:]) >= len(WORDS)
    assert len(set(model.ngrams("film")) & set(model.ngrams("films"))) >= 3


def test_gradients_reach_the_ngrams() -> None:
    model = small(subwords=True)
    loss, _ = model(TEXT, DOCUMENTS)
    gradient = torch.autograd.grad(loss, model.input)[0]
    assert gradient.is_sparse
    assert gradient.to_dense()[len(WORDS) :].any()
    assert not gradient.to_dense()[:4].any()


def test_ngrams_from_longer_to_shorter_are_refused() -> None:
    with pytest.raises(ValueError, match=r"model\.min_n=5"):
        small(min_n=5, max_n=4)


def test_an_untrained_model_has_the_loss_of_chance() -> None:
    model = WordVectors(len(WORDS), 6)
    model.set_vocabulary(WORDS, COUNTS)
    loss, _ = model(TEXT, DOCUMENTS)
    assert float(loss.detach()) == pytest.approx(6 * math.log(2), rel=1e-3)
