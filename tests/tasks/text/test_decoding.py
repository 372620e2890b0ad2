"""Search for translations: greedy by its definition, beams against brute force."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from dltrain.tasks.text import decoding
from dltrain.tasks.text.decoding import beam_search, greedy, penalty
from dltrain.types import BEGIN, END, PAD, UNKNOWN

V = 7  # tokens of the toy language: four special ones and three words


class Language:
    """Logits that are a random function of all tokens so far, for each of `count` texts."""

    def __init__(self, count: int, sharpness: float = 1.5) -> None:
        self.count, self.sharpness = count, sharpness
        self.memory = {"text": torch.arange(count)}

    def begin(self, memory: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"so_far": torch.zeros(len(memory["text"]), 0, dtype=torch.int64)}

    def step(
        self, tokens: Tensor, state: dict[str, Tensor], memory: dict[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        so_far = torch.cat([state["so_far"], tokens.unsqueeze(1)], 1)
        pairs = zip(memory["text"].tolist(), so_far.tolist(), strict=True)
        return torch.stack([self.logits(text, tuple(row)) for text, row in pairs]), {
            "so_far": so_far
        }

    def logits(self, text: int, so_far: tuple[int, ...]) -> Tensor:
        seed = sum((token + 1) * 11**i for i, token in enumerate((text, *so_far)))
        return torch.randn(V, generator=torch.Generator().manual_seed(seed)) * self.sharpness

    def log_probability(self, text: int, written: tuple[int, ...]) -> float:
        so_far: tuple[int, ...] = (BEGIN,)
        total = 0.0
        for token in written:
            total += float(self.logits(text, so_far).log_softmax(0)[token])
            so_far = (*so_far, token)
        return total


def spelled(tokens: Tensor) -> list[tuple[int, ...]]:
    return [tuple(t for t in row if t != PAD) for row in tokens.tolist()]


def every_ended(limit: int) -> list[tuple[int, ...]]:
    """Return every sequence with an end token of at most so many tokens."""
    words = range(END + 1, V)
    return [
        (*rest, END) for length in range(limit) for rest in itertools.product(words, repeat=length)
    ]


@pytest.mark.parametrize("alpha", [0.0, 0.6, 2.0])
def test_a_beam_as_wide_as_the_search_space_finds_the_best(
    alpha: float,
) -> None:
    language, limits = Language(12), torch.tensor([4, 3, 4, 1, 2, 4] * 2)
    tokens, scores = beam_search(language, language.memory, limits, 4, 200, alpha)
    lengths = set()
    for text, (found, score) in enumerate(zip(spelled(tokens), scores.tolist(), strict=True)):
        all_scores = {
            written: language.log_probability(text, written) / ((5 + len(written)) / 6) ** alpha
            for written in every_ended(int(limits[text]))
        }
        assert found == max(all_scores, key=all_scores.__getitem__)
        assert score == pytest.approx(language.log_probability(text, found), abs=1e-4)
        lengths.add(len(found))
    assert len(lengths) > 1 or alpha == 0


def test_a_larger_penalty_prefers_longer_translations() -> None:
    language, limits = Language(40), torch.full((40,), 4)
    mean = [
        sum(map(len, spelled(beam_search(language, language.memory, limits, 4, 60, alpha)[0])))
        for alpha in (0.0, 3.0)
    ]
    assert mean[0] < mean[1]
    assert penalty(torch.tensor([1, 7]), 0.6).tolist() == pytest.approx([1.0, 2**0.6])


@pytest.mark.parametrize("alpha", [0.0, 0.6])
def test_one_beam_is_greedy(alpha: float) -> None:
    language, limits = Language(60), torch.arange(60) % 6 + 1
    tokens, scores = greedy(language, language.memory, limits, 6)
    found, found_scores = beam_search(language, language.memory, limits, 6, 1, alpha)
    assert spelled(found) == spelled(tokens)
    torch.testing.assert_close(found_scores, scores)
    kinds = {written[-1] == END for written in spelled(tokens)}
    assert kinds == {True, False}  # some end, some are cut off


def test_greedy_writes_the_best_token_and_never_a_special_one() -> None:
    language, limits = Language(60), torch.full((60,), 6)
    for text, written in enumerate(spelled(greedy(language, language.memory, limits, 6)[0])):
        so_far: tuple[int, ...] = (BEGIN,)
        for token in written:
            logits = language.logits(text, so_far)
            logits[[PAD, UNKNOWN, BEGIN]] = -math.inf
            assert token == int(logits.argmax())
            so_far = (*so_far, token)


def test_a_wider_beam_is_rarely_worse_and_texts_are_independent() -> None:
    language, limits = Language(50), torch.arange(50) % 5 + 2
    totals = [
        float(beam_search(language, language.memory, limits, 6, width, 0.0)[1].sum())
        for width in (1, 3, 10)
    ]
    assert totals[0] < totals[1] <= totals[2]
    together = spelled(beam_search(language, language.memory, limits, 6, 3, 0.6)[0])
    for text in range(0, 50, 7):
        alone = beam_search(
            language, {"text": torch.tensor([text])}, limits[text : text + 1], 6, 3, 0.6
        )[0]
        assert spelled(alone) == [together[text]]


@pytest.mark.parametrize("width", [1, 3])
@pytest.mark.parametrize("tokens_per_check", [2, 5, 100])
def test_asking_rarely_if_all_texts_have_ended_changes_nothing(
    width: int, tokens_per_check: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search on a GPU asks every few tokens, and continues a little longer than it had to."""
    language, limits = Language(30, sharpness=0.5), torch.arange(30) % 5 + 2

    def search(max_length: int) -> tuple[Tensor, Tensor]:
        if width == 1:
            return greedy(language, language.memory, limits, max_length)
        return beam_search(language, language.memory, limits, max_length, width, 0.6)

    expected = search(6)
    monkeypatch.setattr(decoding, "is_check", lambda length, device: not length % tokens_per_check)
    found = search(12)  # a bound that is known without the values of the limits
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])


def test_a_search_on_a_device_asks_every_few_tokens() -> None:
    device = torch.device("meta")
    asks = [length for length in range(1, 33) if decoding.is_check(length, device)]
    assert asks == [8, 16, 24, 32]
    assert all(decoding.is_check(length, torch.device("cpu")) for length in range(1, 33))
