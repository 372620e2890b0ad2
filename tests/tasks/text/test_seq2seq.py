"""Translation: losses without padding, scores, scheduled sampling, and exact resume."""

from __future__ import annotations

import math
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dltrain.config.compose import compose
from dltrain.data.text.fake_tokens import FakeTokens
from dltrain.experiment.experiment import Experiment
from dltrain.losses import CrossEntropy
from dltrain.models.mlp import MLP
from dltrain.models.text.seq2seq import Seq2Seq as Model
from dltrain.models.text.transformer_seq2seq import TransformerSeq2Seq
from dltrain.optim import Optim
from dltrain.optimizers.adam import adam
from dltrain.runs.checkpoint import Store, load
from dltrain.tasks.text.seq2seq import Seq2Seq, overlap
from dltrain.types import END, PAD, Spec, Table, Text

pytest.importorskip("sacrebleu")
V = 7  # tokens of the target: four special ones and three words
TINY = (
    "experiment=seq2seq_reverse",
    "model.hidden_size=8",
    "model.embedding_dim=4",
    "dataset.pairs.train_samples=120",
    "dataset.pairs.val_samples=20",
    "dataset.pairs.test_samples=20",
    "dataset.pairs.longest=4",
    "dataset.batch_size=16",
    "callbacks=quiet",
)


def spelled(tokens: Tensor) -> list[tuple[int, ...]]:
    return [tuple(t for t in row if t != PAD) for row in tokens.tolist()]


def fake() -> FakeTokens:
    spec = Spec((6,), (), 8, 8, vocab_size=12, target_vocab_size=V, target_length=6)
    return FakeTokens(spec, 8, 0)


def task(model: nn.Module | None = None, **settings: Any) -> Seq2Seq:
    torch.manual_seed(0)
    model = model or Model(12, V, embedding_dim=6, hidden_size=8, attention="additive")
    data, loss = fake(), settings.pop("loss", None) or CrossEntropy()
    return Seq2Seq(
        data,
        model,
        loss,
        lambda modules, total: Optim(modules, lambda p: adam(p, lr=0.01)),
        1,
        **settings,
    )


def tokens_only(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return the logits (N, V) of all target tokens (N,), without those of padding."""
    truth = target[:, 1:]
    return logits[truth != PAD], truth[truth != PAD]


def test_logits_do_not_depend_on_padding() -> None:
    for made in (
        task(),
        task(TransformerSeq2Seq(12, V, 20, 20, num_layers=1, dim=8, num_heads=2, dropout=0.0)),
    ):
        source, target = next(made.data.val.epoch(0))
        logits, truth = tokens_only(made.logits(source, target), target)
        assert len(truth) < target[:, 1:].numel()
        rows = [
            made.logits(s[s != PAD].unsqueeze(0), t[t != PAD].unsqueeze(0))[0]
            for s, t in zip(source, target, strict=True)
        ]
        torch.testing.assert_close(torch.cat(rows), logits, rtol=1e-4, atol=1e-5)
        source, target = F.pad(source, (0, 3)), F.pad(target, (0, 2))
        padded, same_truth = tokens_only(made.logits(source, target), target)
        torch.testing.assert_close(padded, logits, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(same_truth, truth)


def first_step_of(made: Seq2Seq, batch: tuple[Tensor, Tensor]) -> tuple[Any, dict[str, Tensor]]:
    """Return the loss of the first step on `batch`, and the weights after it."""
    stage = next(iter(made.stages()))
    made.train()
    loss = stage.step(batch)["loss"]
    return loss, {name: value.clone() for name, value in made.model.state_dict().items()}


@pytest.mark.parametrize("teacher_forcing", [1.0, 0.5])
def test_a_step_does_not_depend_on_padding(teacher_forcing: float) -> None:
    """A row of padding, and more of it in every row, change neither the loss nor the update."""
    batch = next(task().data.val.epoch(0))
    settings = {"teacher_forcing": teacher_forcing, "loss": CrossEntropy(label_smoothing=0.1)}
    plain = task(**settings)
    plain.scheduled_sampling = forced(plain)  # type: ignore[method-assign]
    loss, weights = first_step_of(plain, batch)
    padded = task(**settings)
    padded.scheduled_sampling = forced(padded)  # type: ignore[method-assign]
    source, target = (F.pad(tokens, (0, 2, 0, 1)) for tokens in batch)
    same_loss, same_weights = first_step_of(padded, (source, target))
    assert float(loss.weight) == float(same_loss.weight) == int((batch[1][:, 1:] != PAD).sum())
    torch.testing.assert_close(same_loss.value, loss.value)
    torch.testing.assert_close(same_weights, weights, rtol=1e-4, atol=1e-5)


def forced(made: Seq2Seq) -> Any:
    """Return scheduled sampling with the same draws for every shape of a batch: none."""

    def sample(memory: Any, inputs: Tensor) -> Tensor:
        state = made.model.begin(memory)
        steps = []
        for t in range(inputs.shape[1]):
            logits, state = made.model.step(inputs[:, t], state, memory)
            steps.append(logits)
        return torch.stack(steps, dim=1)

    return sample


@pytest.mark.parametrize("beam_size", [1, 3])
def test_padding_of_the_source_does_not_change_a_translation(beam_size: int) -> None:
    made = task(beam_size=beam_size, length_ratio=0.1).eval()
    source = next(made.data.val.epoch(0))[0]
    tokens, scores = made.predict(source)
    padded, same = made.predict(F.pad(source, (0, 30)))
    assert spelled(padded) == spelled(tokens)
    torch.testing.assert_close(same, scores)
    assert made.prediction_rows((tokens, scores)) == made.prediction_rows((padded, scores))


def test_a_translation_is_limited_by_its_source_and_the_target_length() -> None:
    never = task(length_ratio=0.5)
    with torch.no_grad():
        never.model.to_logits.bias[END] = -1e9
    never.data.described = Spec(
        (99,), (), 8, 8, vocab_size=12, target_vocab_size=V, target_length=13
    )  # type: ignore[misc]
    source = torch.tensor([[4, 5, 0, 0], [4, 5, 6, 7]])
    assert [len(written) for written in spelled(never.predict(source)[0])] == [11, 12]
    assert len(spelled(never.predict(torch.full((1, 40), 5))[0])[0]) == 12


def test_an_evaluation_scores_free_translations_and_shows_some() -> None:
    made = task(loss=CrossEntropy(label_smoothing=0.3)).eval()
    with torch.no_grad():
        scores = made.evaluate(made.data.val.epoch(0))
        parts = [tokens_only(made.logits(*batch), batch[1]) for batch in made.data.val.epoch(0)]
    logits, truth = (torch.cat(part) for part in zip(*parts, strict=True))
    assert scores["perplexity"] == pytest.approx(
        math.exp(float(F.cross_entropy(logits, truth))), rel=1e-4
    )
    assert scores["loss"] == pytest.approx(
        float(F.cross_entropy(logits, truth, label_smoothing=0.3)), rel=1e-4
    )
    assert isinstance(scores["translations"], Text)
    assert scores["translations"].markdown.startswith(
        "| source | reference | translation |\n| --- | --- | --- |\n|"
    )
    shown = scores["attention_1"]
    assert isinstance(shown, Table)
    assert shown.rows[-1] == "end"
    assert shown.values.shape == (len(shown.rows), len(shown.columns))
    assert ((shown.values.sum(1) - 100).abs() < 5).all()
    assert not [
        name
        for name in evaluated(Model(12, V, embedding_dim=6, hidden_size=8))
        if name.startswith("attention")
    ]


def evaluated(model: nn.Module) -> dict[str, Any]:
    made = task(model).eval()
    with torch.no_grad():
        return made.evaluate(made.data.val.epoch(0))


def test_perfect_translations_have_perfect_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    made = task().eval()
    batches = list(made.data.val.epoch(0))
    answers = iter([target[:, 1:] for _, target in batches])
    monkeypatch.setattr(made, "translate", lambda source: (next(answers), torch.zeros(len(source))))
    with torch.no_grad():
        scores = made.evaluate(batches)
    assert (scores["bleu"], scores["chrf"], scores["exact_match"]) == (
        pytest.approx(100),
        pytest.approx(100),
        1,
    )
    wrong = iter([target.flip(0)[:, 1:] for _, target in batches])
    monkeypatch.setattr(made, "translate", lambda source: (next(wrong), torch.zeros(len(source))))
    with torch.no_grad():
        assert made.evaluate(batches)["exact_match"] < 0.5


def test_bleu_and_chrf_match_the_formulas() -> None:
    """Computed by hand: the fractions of matching 1-grams to 4-grams, and the brevity penalty."""
    found = overlap(["a b c d e"], ["a b c d f"])
    by_hand = 100 * (4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25
    assert found["bleu"] == pytest.approx(by_hand)
    assert overlap(["a b c d"], ["a b c d e"])["bleu"] == pytest.approx(100 * math.exp(1 - 5 / 4))
    assert 0 < found["chrf"] < 100


@pytest.mark.parametrize(
    "texts", [["a"], ["a b", "c"], ["a b c"], ["a", "b c d e f"], [""], ["", "a b"]]
)
def test_bleu_of_a_perfect_corpus_is_100_at_any_length(texts: list[str]) -> None:
    assert overlap(texts, list(texts)) == {"bleu": 100, "chrf": 100}


def test_bleu_of_short_texts_counts_the_n_grams_that_they_have() -> None:
    """Two words at most: 3 of 4 single words match, and 1 of 2 pairs.

    If one reference has four words, all n-grams count as in sacrebleu, so that short translations
    of long texts get no more than before.
    """
    found = overlap(["a b", "c x"], ["a b", "c d"])
    assert found["bleu"] == pytest.approx(100 * (3 / 4 * 1 / 2) ** 0.5)
    assert overlap(["x", "y"], ["a", "b c"])["bleu"] == 0
    assert overlap(["", ""], ["a b", "c"]) == {"bleu": 0, "chrf": 0}
    assert overlap(["a b", "c d e"], ["a b", "c d e f"])["bleu"] == 0


def test_teacher_forcing_of_one_half_feeds_predictions_half_of_the_time() -> None:
    made = task(teacher_forcing=0.5)
    seen: list[Tensor] = []
    step = made.model.step

    def spying(tokens: Tensor, state: Any, memory: Any) -> Any:
        seen.append(tokens)
        return step(tokens, state, memory)

    made.model.step = spying
    with torch.no_grad():
        made.model.to_logits.bias[PAD] = 1e9  # what the model would write, and no target has
    source, _ = next(made.data.train.epoch(0))
    target = torch.full((len(source), 200), 5)
    made.logits(source, target)
    fed = torch.stack(seen[1:])
    assert all((tokens == 5).all() for tokens in seen[:1])
    assert 0.45 < float((fed == PAD).float().mean()) < 0.55
    seen.clear()
    made.eval().logits(source, target)
    assert not seen  # an evaluation sees the targets


@pytest.mark.parametrize("ratio", [0.0, 1.0])
def test_scheduled_sampling_without_predictions_equals_one_pass(ratio: float) -> None:
    made = task(teacher_forcing=ratio)
    source, target = next(made.data.train.epoch(0))
    memory = made.model.encode(source)
    one_pass = made.model.output(made.model.decode(memory, target[:, :-1])[0])
    same = torch.allclose(made.scheduled_sampling(memory, target[:, :-1]), one_pass, atol=1e-5)
    assert same == (ratio == 1)


def test_data_and_models_for_other_tasks_are_refused() -> None:
    data = fake()
    with pytest.raises(ValueError, match="no decoder: model=seq2seq"):
        Seq2Seq(
            data, MLP(6, 3), CrossEntropy(), lambda m, n: Optim(m, lambda p: adam(p, lr=0.1)), 1
        )
    data.described = Spec((6,), ("a", "b"), 8, 8, vocab_size=12)
    with pytest.raises(ValueError, match="no target texts: dataset=translation"):
        Seq2Seq(
            data, Model(12, V), CrossEntropy(), lambda m, n: Optim(m, lambda p: adam(p, lr=0.1)), 1
        )


def test_a_missing_sacrebleu_is_reported_with_its_installation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "sacrebleu.metrics.bleu", None)
    with pytest.raises(ImportError, match="pip install sacrebleu"):
        overlap(["a"], ["a"])


@pytest.mark.parametrize("model", ["seq2seq_attention", "transformer_seq2seq"])
def test_a_few_steps_learn_to_reverse_texts(model: str) -> None:
    small = (
        ["model.hidden_size=32", "model.embedding_dim=8"]
        if model == "seq2seq_attention"
        else ["model.dim=32"]
    )
    overrides = [
        "dataset=reversal",
        f"model={model}",
        "dataset.pairs.longest=4",
        "dataset.pairs.train_samples=500",
    ]
    overrides += [
        "dataset.pairs.val_samples=50",
        "dataset.pairs.test_samples=50",
        "optimizer.lr=0.01",
        *small,
    ]
    experiment = Experiment.to_train(compose(overrides).config)
    stage = next(experiment.task.stages())
    losses = [
        float(stage.step(batch)["loss"])
        for epoch in range(3)
        for batch in stage.batches.epoch(epoch)
    ]
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.usefixtures("save_every_epoch")
def test_a_run_killed_in_mid_epoch_resumes_bit_for_bit(
    dltrain: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With bucketing, dropout and scheduled sampling, which draw from the process's generator."""
    monkeypatch.setattr("dltrain.callbacks.checkpoint.KEEP", 1000)
    run = (
        *TINY,
        "trainer.epochs=2",
        "trainer.save_every=3",
        "trainer.log_every=1",
        "model.dropout=0.2",
    )
    outcome = dltrain(*run, "task.teacher_forcing=0.7", "--json")
    assert outcome.code == 0, outcome.err
    whole, killed = Path(outcome.json["run"]), Path("killed")
    names = [path.name for path in Store(whole / "checkpoints").steps()]
    end = load(Store(whole / "checkpoints").steps()[-1])["task"]
    shutil.copytree(whole, killed, symlinks=True)
    for name in names[1:]:  # as it was at step 3 of 8 in the first epoch
        shutil.rmtree(killed / "checkpoints" / name)
    for name in ("last", "best"):
        (killed / "checkpoints" / name).unlink(missing_ok=True)
    (killed / "results.json").unlink()
    outcome = dltrain("resume", str(killed), "--json")
    assert outcome.code == 0, outcome.err
    assert (killed / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    torch.testing.assert_close(
        load(Store(killed / "checkpoints").steps()[-1])["task"], end, rtol=0, atol=0
    )


def test_a_run_translates_raw_text(dltrain: Any) -> None:
    outcome = dltrain(*TINY, "trainer.steps=3", "--json")
    assert outcome.code == 0, outcome.err
    assert {"test/bleu", "test/chrf", "test/exact_match", "test/perplexity"} <= outcome.json[
        "metrics"
    ].keys()
    Path("lines.txt").write_text("12\n3456\n")
    answer = dltrain("predict", outcome.json["run"], "789", "lines.txt", "--json")
    assert answer.code == 0, answer.err
    rows = answer.json["rows"]
    assert [row["input"] for row in rows] == ["789", "lines.txt:1", "lines.txt:2"]
    assert all(set(row["translation"]) <= set("0123456789") for row in rows)
    assert all(row["log_probability"] < 0 for row in rows)


def test_a_missing_sacrebleu_is_reported_before_training(
    monkeypatch: pytest.MonkeyPatch, dltrain
) -> None:
    monkeypatch.delitem(sys.modules, "sacrebleu", raising=False)
    monkeypatch.setattr("dltrain.tasks.text.seq2seq.find_spec", lambda name: None)
    outcome = dltrain("dataset=reversal", "debug=smoke", "callbacks=quiet")
    assert outcome.code == 2
    assert "sacrebleu: pip install sacrebleu" in outcome.err
    assert not list(Path("outputs").glob("*/*"))
