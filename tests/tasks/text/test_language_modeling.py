"""Language modeling: perplexity, carried states, generated text, exact resume in mid-epoch."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from dltrain.data.text import blocks
from dltrain.data.text.language import LanguageModeling as Prose
from dltrain.data.text.prose import ProseFiles
from dltrain.losses import CrossEntropy
from dltrain.models.mlp import MLP
from dltrain.models.text.recurrent import RecurrentLanguageModel
from dltrain.models.text.transformer import TransformerLanguageModel
from dltrain.optim import Optim
from dltrain.tasks.text import language_modeling as module
from dltrain.tasks.text.generation import choose, continue_text
from dltrain.tasks.text.language_modeling import LanguageModeling
from dltrain.types import Data, Text

CYCLE = "abcdefgh" * 200  # each letter says which comes next


def data(root: Path, text: str = CYCLE, stream: bool = False, **settings) -> Prose:
    (root / "text.txt").write_text(text)
    source = ProseFiles(root, "text.txt")
    return Prose(root, source, length=8, batch_size=8, stream=stream, **settings)


def optim(module: nn.Module, steps: int) -> Optim:
    return Optim(module, lambda params: torch.optim.Adam(params, lr=0.02))


def task(source: Data, model: nn.Module, epochs: int = 3, **settings) -> LanguageModeling:
    return LanguageModeling(
        source, model, CrossEntropy(), optim, epochs, **{"sample_tokens": 0, **settings}
    )


def trained(one: LanguageModeling) -> list[float]:
    (stage,) = one.stages()
    return [
        float(stage.step(b)["loss"]) for n in range(stage.epochs) for b in stage.batches.epoch(n)
    ]


MODELS: dict[str, Callable[[int], nn.Module]] = {
    "lstm": lambda size: RecurrentLanguageModel(size, "lstm", 16, 16),
    "gru": lambda size: RecurrentLanguageModel(size, "gru", 16, 16),
    "transformer": lambda size: TransformerLanguageModel(size, 8, 1, 16, 2),
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_a_deterministic_text_is_learned_and_generated(
    name: str, stream: bool, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    source = data(tmp_path, stream=stream)
    one = task(source, MODELS[name](source.spec.vocab_size), epochs=10)
    losses = trained(one)
    assert losses[0] > 1.5
    assert losses[-1] < 0.1
    one.eval()
    with torch.no_grad():
        scores = one.evaluate(source.val.epoch(0))
        written = one.generate_text(source.encode_text("defg"), 12, 0.0, 1.0)
    assert scores["perplexity"] == pytest.approx(math.exp(scores["loss"]))
    assert scores["bits"] == pytest.approx(scores["loss"] / math.log(2))
    assert scores["perplexity"] < 1.2
    assert source.decode(written.tolist()) == "habcdefghabc"


def test_the_loss_of_an_evaluation_does_not_depend_on_the_batches(
    tmp_path: Path,
) -> None:
    torch.manual_seed(0)
    source = data(tmp_path, eval_batch_size=3)
    one = task(source, MODELS["lstm"](source.spec.vocab_size)).eval()
    with torch.no_grad():
        few = one.evaluate(source.val.epoch(0))["loss"]
        tokens, following, _ = (
            torch.cat(parts) for parts in zip(*source.val.epoch(0), strict=True)
        )
        expected = CrossEntropy()(one.model(tokens)[0].flatten(0, 1), following.flatten())
    assert few == pytest.approx(float(expected), rel=1e-5)


def test_a_stream_is_read_as_one_long_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In blocks with a carried state, the loss is that of the text in one piece."""
    monkeypatch.setattr(blocks, "EVALUATION_PLACES", 1)
    torch.manual_seed(0)
    source = data(tmp_path, stream=True, eval_batch_size=1)
    one = task(source, MODELS["lstm"](source.spec.vocab_size)).eval()
    batches = list(source.val.epoch(0))
    text = torch.cat([batches[0][0][:, :1], *(following for _, following, _ in batches)], dim=1)
    with torch.no_grad():
        logits, _ = one.model(text[:, :-1])
        expected = float(CrossEntropy()(logits.flatten(0, 1), text[:, 1:].flatten()))
        found = one.evaluate(iter(batches))["loss"]
        apart = [
            float(CrossEntropy()(one.model(x)[0].flatten(0, 1), y.flatten())) for x, y, _ in batches
        ]
    assert found == pytest.approx(expected, rel=1e-5)
    assert found != pytest.approx(sum(apart) / len(apart), rel=1e-5)


@pytest.mark.parametrize("places", [1, 3, 8, 1000])
def test_a_streamed_evaluation_does_not_depend_on_the_batch_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, places: int
) -> None:
    """All blocks are scored, each with the state after the block before it."""
    monkeypatch.setattr(blocks, "EVALUATION_PLACES", places)
    torch.manual_seed(0)
    found = []
    for size in (1000, 5, 2, 1):
        source = data(tmp_path, stream=True, eval_batch_size=size)
        batches = list(source.val.epoch(0))
        assert len(batches) == len(source.val)
        assert max(len(tokens) for tokens, _, _ in batches) <= size
        read = torch.cat([tokens.flatten() for tokens, _, _ in batches])
        assert source.val.samples == (len(source.val.tokens) - 1) // source.length
        assert read.sort().values.equal(source.val.tokens[: len(read)].long().sort().values)
        assert len(read) == source.val.samples * source.length
        torch.manual_seed(0)
        one = task(source, MODELS["lstm"](source.spec.vocab_size)).eval()
        with torch.no_grad():
            found.append(one.evaluate(iter(batches))["loss"])
    assert found == pytest.approx([found[0]] * 4, rel=1e-5)


def test_training_carries_the_state_and_resets_it_in_each_epoch(tmp_path: Path) -> None:
    torch.manual_seed(0)
    source = data(tmp_path, stream=True)
    one = task(source, MODELS["lstm"](source.spec.vocab_size))
    (stage,) = one.stages()
    first, second = list(stage.batches.epoch(0))[:2]
    stage.step(first)
    carried = one.state.clone()
    assert carried.any()
    assert not carried.requires_grad
    seen: list[Tensor] = []
    with torch.no_grad():
        _, expected = one.model(second[0], carried)
    one.model.register_forward_hook(
        lambda module, args, output: seen.append(output[1].detach().clone())
    )
    stage.step(second)
    assert torch.allclose(seen[0], expected, atol=1e-6)
    with torch.no_grad():
        one.model(first[0])
    stage.step(first)  # as in the next epoch, whose rows start new texts
    assert torch.allclose(seen[2], seen[1], atol=1e-6)


def test_the_carried_state_is_saved_and_loaded_for_equal_batch_sizes(
    tmp_path: Path,
) -> None:
    source = data(tmp_path, stream=True)
    one, other = (task(source, MODELS["lstm"](source.spec.vocab_size)) for _ in range(2))
    for t in (one, other):
        next(iter(t.stages()))
    one.state.fill_(3.0)
    other.load_state_dict(one.state_dict())
    assert torch.equal(other.state, one.state)
    smaller = task(data(tmp_path, stream=False), MODELS["lstm"](source.spec.vocab_size))
    smaller.load_state_dict(one.state_dict())
    assert not smaller.state.numel()


def test_the_sampled_text_is_the_same_in_every_evaluation(tmp_path: Path) -> None:
    torch.manual_seed(0)
    source = data(tmp_path)
    one = task(source, MODELS["lstm"](source.spec.vocab_size), sample_tokens=30).eval()
    with torch.no_grad():
        texts = [one.evaluate(source.val.epoch(0))["text"] for _ in range(2)]
    assert isinstance(texts[0], Text)
    assert texts[0] == texts[1]
    assert len(texts[0].markdown) == 4 + 8 + 30


def test_predictions_are_perplexity_and_next_tokens(tmp_path: Path) -> None:
    torch.manual_seed(0)
    source = data(tmp_path)
    one = task(source, MODELS["lstm"](source.spec.vocab_size), epochs=12)
    trained(one)
    one.eval()
    texts = [source.encode_text(text) for text in ("abcdef", "ab")]
    batch = nn.utils.rnn.pad_sequence(texts, batch_first=True)
    with torch.no_grad():
        rows = one.prediction_rows(one.predict(batch))
        alone = one.prediction_rows(one.predict(texts[1].unsqueeze(0)))
    assert [row["next"] for row in rows] == ["g", "c"]
    assert rows[1]["perplexity"] == pytest.approx(alone[0]["perplexity"], rel=1e-4)
    assert rows[0]["top"][0]["probability"] == rows[0]["probability"] > 0.8
    assert len(rows[0]["top"]) == 5


def test_tokens_are_drawn_by_temperature_and_top_p() -> None:
    logits = torch.tensor([[3.0, 2.0, 1.0, -4.0]]).repeat(4000, 1)

    def draw(*settings: float) -> Tensor:
        return choose(logits, *settings, torch.Generator().manual_seed(0))

    assert draw(0.0, 1.0).unique().tolist() == [0]
    shares = torch.bincount(draw(1.0, 1.0), minlength=4) / 4000
    assert torch.allclose(shares, logits[0].softmax(0), atol=0.03)
    assert draw(1.0, 0.5).unique().tolist() == [0]
    assert draw(1.0, 0.8).unique().tolist() == [0, 1]
    assert (draw(0.3, 1.0) == 0).float().mean() > (draw(3.0, 1.0) == 0).float().mean() + 0.3


def test_generation_reads_at_most_the_models_context() -> None:
    torch.manual_seed(0)
    model = TransformerLanguageModel(12, 4, 1, 8, 2).eval()
    with torch.no_grad():
        long = continue_text(
            model, torch.tensor([[9, 8, 4, 5, 6, 7]]), 5, 0.0, 1.0, torch.Generator()
        )
        short = continue_text(model, torch.tensor([[4, 5, 6, 7]]), 5, 0.0, 1.0, torch.Generator())
    assert torch.equal(long, short)
    assert int(long.min()) > 3


def test_incompatible_data_and_models_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not predict the next token"):
        task(data(tmp_path), MLP(8, 3))


def test_a_prediction_in_parts_equals_that_of_the_whole_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """128 texts of 256 tokens have 6.5 GB of logits for a vocabulary of 50,000."""
    source = data(tmp_path)
    one = task(source, MODELS["lstm"](source.spec.vocab_size)).eval()
    batch = torch.stack([source.encode_text(text) for text in ("abcdef", "bcdefg", "cdefgh")])
    shapes: list[int] = []
    one.model.register_forward_pre_hook(lambda module, args: shapes.append(len(args[0])))
    with torch.no_grad():
        whole = one.predict(batch)
        monkeypatch.setattr(
            module, "MAX_PREDICTED_LOGITS", 2 * batch.shape[1] * source.spec.vocab_size
        )
        parts = one.predict(batch)
    assert shapes == [3, 2, 1]
    for expected, found in zip(whole, parts, strict=True):
        torch.testing.assert_close(found, expected)


def test_an_evaluation_keeps_the_logits_of_one_batch(tmp_path: Path) -> None:
    source = data(tmp_path)
    one = task(source, MODELS["lstm"](source.spec.vocab_size), sample_tokens=0).eval()
    kept: list[weakref.ref[Tensor]] = []
    alive: list[int] = []
    one.model.register_forward_pre_hook(
        lambda *call: alive.append(sum(ref() is not None for ref in kept))
    )
    one.model.register_forward_hook(
        lambda module, args, output: kept.append(weakref.ref(output[0]))
    )
    with torch.no_grad():
        one.evaluate(source.train.epoch(0))
    assert len(kept) > 1
    assert alive == [0] * len(kept)


def test_characters_are_counted_however_often_tokens_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An evaluation waits for the device only every so many batches, and misses none."""
    source = data(tmp_path, stream=False)
    one = task(source, MODELS["lstm"](source.spec.vocab_size), epochs=1).eval()
    batches = list(source.val.epoch(0)) * 5
    bits = []
    for count in (1, 2, 64):
        monkeypatch.setattr(module, "BATCHES_PER_READ", count)
        with torch.no_grad():
            bits.append(one.evaluate(batches)["bits"])
    assert bits[0] == bits[1] == bits[2]
    with torch.no_grad():
        scores = one.evaluate(batches)
    assert bits[0] == pytest.approx(scores["loss"] / math.log(2))  # a token is a character
