"""Word embedding: scores, neighbors, learning, and an exact resume."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from outcome import Outcome
from torch import nn
from toys import Points

from dltrain.commands.export import write_word2vec
from dltrain.data.text.words import WordFiles, Words
from dltrain.models.text.word_vectors import WordVectors
from dltrain.optim import Optim
from dltrain.optimizers.row_adagrad import RowAdagrad
from dltrain.rng import keyed
from dltrain.tasks.text.embedding import WordEmbedding, spearman
from dltrain.types import Embedding, Text

KINDS = {"animal": ["cat", "dog", "cow", "hen"], "food": ["bread", "milk", "egg", "rice"]}
BESIDE = {
    "animal": ["runs", "sleeps", "old", "black"],
    "food": ["tastes", "cooks", "salty", "sweet"],
}


def write(root: Path, documents: int = 200) -> None:
    """Write a text in which animals occur beside other words than food does."""
    generator, lines = keyed(5), []
    for i in range(documents):
        kind = list(KINDS)[i % 2]
        draws = torch.randint(4, (12, 2), generator=generator).tolist()
        lines.append(" ".join(f"{BESIDE[kind][b]} {KINDS[kind][a]}" for a, b in draws))
    (root / "text.txt").write_text("\n".join(lines), encoding="utf-8")
    (root / "wordsim").mkdir(exist_ok=True)
    similar = "cat,dog,9\ncow,hen,9\nmilk,egg,9\n"
    different = "cat,egg,1\ndog,rice,1\nhen,milk,1\n"
    table = f"Word 1,Word 2,Human (mean)\n{similar}{different}"
    (root / "wordsim" / "wordsim353-combined.csv").write_text(table, encoding="utf-8")


def made(root: Path, **settings: Any) -> WordEmbedding:
    write(root)
    data = Words(
        root, WordFiles(root, "text.txt"), 40, 1, sample=0, batch_size=128, val_fraction=0.1
    )
    torch.manual_seed(0)
    model = WordVectors(40, 8, window=2, chunk=16, shared=16, buckets=100, **settings)

    def optim(modules: nn.Module, steps: int) -> Optim:
        return Optim(modules, functools.partial(RowAdagrad, lr=0.2))

    return WordEmbedding(data, model, optim, epochs=4)


WAYS = [
    {},
    {"method": "cbow"},
    {"output": "hierarchical_softmax"},
    {"method": "cbow", "output": "hierarchical_softmax"},
    {"subwords": True},
]


@pytest.mark.parametrize(
    "settings", WAYS, ids=lambda s: "-".join(map(str, s.values())) or "skip_gram"
)
def test_words_in_similar_contexts_get_similar_vectors(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    task = made(tmp_path, **settings)
    stage = next(task.stages())
    with torch.no_grad():
        before = stage.evaluate(stage.held_out.epoch(0))  # type: ignore[union-attr]
    for number in range(4):
        for batch in stage.batches.epoch(number):
            stage.step(batch)
    with torch.no_grad():
        after = stage.evaluate(stage.held_out.epoch(0))  # type: ignore[union-attr]
        cat = torch.tensor([task.words.index("cat")])
        answers = task.prediction_rows(task.predict(cat))
    assert after["loss"] < before["loss"]
    assert after["wordsim353"] > 0.8
    assert {row["word"] for row in answers[0]["top"][:3]} <= {*KINDS["animal"], *BESIDE["animal"]}
    assert isinstance(after["nearest"], Text)
    assert isinstance(after["words"], Embedding)
    assert set(after["words"].rows) == {
        word for kinds in (KINDS, BESIDE) for some in kinds.values() for word in some
    }


def test_an_evaluation_is_repeatable(tmp_path: Path) -> None:
    task = made(tmp_path)
    nn.init.normal_(task.model.output)  # else the loss is that of chance for any draws
    with torch.no_grad():
        one, other = (task.evaluate(task.data.val.epoch(0))["loss"] for _ in range(2))
    assert one == other


def test_the_word_itself_and_special_tokens_are_never_nearest(tmp_path: Path) -> None:
    task = made(tmp_path)
    words = torch.arange(4, len(task.words))
    _, near = task.predict(words)
    assert int(near[:, :-8].min()) >= 4
    assert not (near[:, :-8] == words.unsqueeze(1)).any()


def test_an_analogy_is_answered_by_the_difference_of_vectors(tmp_path: Path) -> None:
    task = made(tmp_path)
    unit = nn.functional.normalize(torch.randn(20, 8, generator=keyed(0)), dim=1)
    unit[9] = nn.functional.normalize(unit[7] - unit[6] + unit[8], dim=0)
    assert task.answer_analogies(unit, torch.tensor([[6, 7, 8, 9]])) == [9]


def test_equal_values_share_their_mean_rank() -> None:
    from scipy.stats import spearmanr

    x, y = torch.tensor([1.0, 2, 2, 3, 5, 4]), torch.tensor([2.0, 1, 4, 4, 4, 9])
    assert float(spearman(x, y)) == pytest.approx(spearmanr(x, y).statistic)
    assert float(spearman(x, -x)) == pytest.approx(-1)


def test_data_without_words_and_models_without_word_vectors_are_refused(tmp_path: Path) -> None:
    task = made(tmp_path)
    with pytest.raises(ValueError, match="dataset=imdb_words"):
        WordEmbedding(Points(3), task.model, task.optim, 1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="model=word2vec"):
        WordEmbedding(task.data, nn.Linear(2, 2), task.optim, 1)


def test_vectors_are_exported_in_word2vec_format(tmp_path: Path) -> None:
    task = made(tmp_path)
    write_word2vec(*task.vectors(), tmp_path / "vectors.txt")
    header, *lines = (tmp_path / "vectors.txt").read_text(encoding="utf-8").splitlines()
    assert header == f"{len(task.words) - 4} 8"
    first, *numbers = lines[0].split(" ")
    assert first == task.words[4]
    torch.testing.assert_close(
        torch.tensor([float(n) for n in numbers]), task.model.vectors(5)[4].detach()
    )
    assert len(lines) == len(task.words) - 4


def test_a_run_trains_scores_and_resumes_exactly(
    dltrain: Callable[..., Outcome], tmp_path: Path
) -> None:
    write(tmp_path)
    run: tuple[str, ...] = (
        "dataset=words",
        "dataset.source.path=text.txt",
        f"paths.data={tmp_path}",
        "dataset.min_count=1",
    )
    run += (
        "dataset.vocab_size=40",
        "model.embedding_dim=8",
        "trainer.epochs=3",
        "schedule=constant",
        "device=cpu",
    )
    run += (
        "dataset.batch_size=128",
        "callbacks=quiet",
        "dataset.val_fraction=0.1",
        "dataset.test_fraction=0.1",
    )
    whole = dltrain(*run, "--json", "paths.output=whole")
    half = dltrain(*run, "--json", "paths.output=half", "trainer.steps=7")
    assert whole.code == half.code == 0, (whole.err, half.err)
    resumed = dltrain("resume", half.json["run"], "trainer.steps=null", "--json")
    assert resumed.code == 0, resumed.err
    one, other = (outcome.json["metrics"] for outcome in (whole, resumed))
    assert one == other
    assert {"test/loss", "test/wordsim353"} <= one.keys()
