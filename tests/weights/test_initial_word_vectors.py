"""`model.embedding.from=RUN`: the tokens of a text begin with the vectors that another run has
learned of words.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from dltrain.config.compose import compose
from dltrain.experiment.experiment import Experiment
from dltrain.runs.checkpoint import Store, load

WORDS = (
    "dataset=words",
    "dataset.source.path=text.txt",
    "dataset.min_count=1",
    "dataset.batch_size=64",
    "dataset.sample=0",
)
TEXTS = (
    "dataset=text_files",
    "dataset.path=texts.csv",
    "model=lstm",
    "model.embedding_dim=6",
    "dataset.batch_size=8",
)
QUICK = ("callbacks=quiet", "trainer.epochs=1", "--json")


@pytest.fixture
def run(dltrain) -> str:
    """The folder of a run that has vectors of six words."""
    Path("text.txt").write_text("a fine film and a dull one\n" * 60)
    Path("texts.csv").write_text("text,label\n" + "a fine film,good\na dull plot,bad\n" * 20)
    outcome = dltrain(*WORDS, "model=word2vec", "model.embedding_dim=6", *QUICK)
    assert outcome.code == 0, outcome.err
    return str(outcome.json["run"])


def vectors(run: str) -> dict[str, Tensor]:
    """The vector of each word as the run's own task has it."""
    composed = compose([*WORDS, "model=word2vec", "model.embedding_dim=6"])
    task = Experiment.to_train(composed.config).task
    task.load_state_dict(load(Store(Path(run) / "checkpoints").pointed("best"))["task"])
    words, found = task.vectors()
    return dict(zip(words, found, strict=True))


@pytest.mark.parametrize("frozen", ["true", "false"])
def test_known_words_begin_with_their_vectors_and_stay_if_frozen(
    frozen: str, run: str, dltrain
) -> None:
    begin = (f"model.embedding.from={run}", f"model.embedding.frozen={frozen}")
    experiment = Experiment.to_train(compose([*TEXTS, *begin]).config)
    tokenizer = experiment.data.tokenizer
    layer = experiment.task.model.steps.embedding
    learned = vectors(run)
    for i in range(4, tokenizer.vocab_size):
        known = tokenizer.token(i) in learned
        assert known == (tokenizer.token(i) != "plot")
        same = torch.equal(layer.weight[i], learned[tokenizer.token(i)]) if known else False
        assert same == known
    outcome = dltrain(*TEXTS, *begin, *QUICK)
    assert outcome.code == 0, outcome.err
    assert "4 of 5 words begin with its vectors" in outcome.out
    state = load(Store(Path(outcome.json["run"]) / "checkpoints").pointed("last"))["task"]
    stayed = torch.equal(state["model.steps.embedding.weight"], layer.weight)
    assert stayed == (frozen == "true")
    again = dltrain("evaluate", outcome.json["run"], "--json")
    assert again.json["metrics"]["test/accuracy"] == outcome.json["metrics"]["test/accuracy"]


def test_a_run_that_has_no_such_vectors_is_refused(run: str, dltrain) -> None:
    outcome = dltrain(*TEXTS, "model.embedding_dim=7", f"model.embedding.from={run}", *QUICK)
    assert outcome.code == 3
    assert "have 6 numbers: set model.embedding_dim=6" in outcome.err
    texts = dltrain(*TEXTS, *QUICK).json["run"]
    outcome = dltrain(*TEXTS, f"model.embedding.from={texts}", *QUICK)
    assert outcome.code == 3
    assert "has learned no vectors of words" in outcome.err
    Path("text.txt").write_text("nothing alike here\n" * 60)
    other = dltrain(*WORDS, "model=word2vec", "model.embedding_dim=6", *QUICK).json["run"]
    outcome = dltrain(*TEXTS, f"model.embedding.from={other}", *QUICK)
    assert outcome.code == 3
    assert "knows none of the words" in outcome.err
    outcome = dltrain("dataset=digits", "model=lstm", f"model.embedding.from={run}", *QUICK)
    assert outcome.code == 2
    assert "the data has no words" in outcome.err


def test_vectors_are_exported_in_word2vec_format_and_nearest_words_predicted(
    run: str, dltrain
) -> None:
    outcome = dltrain("export", run, "--format", "word2vec", "--out", "all.vec", "--json")
    assert outcome.code == 0, outcome.err
    header, *lines = Path("all.vec").read_text().splitlines()
    learned = vectors(run)
    assert header == f"{len(learned)} 6" == f"{outcome.json['vectors']} 6"
    for line in lines:
        word, *numbers = line.split(" ")
        assert torch.equal(torch.tensor([float(n) for n in numbers]), learned[word])
    rows = dltrain("predict", run, "fine", "top=2", "--json").json["rows"]
    near = {
        w: float(torch.cosine_similarity(learned["fine"], v, dim=0))
        for w, v in learned.items()
        if w != "fine"
    }
    assert [row["word"] for row in rows[0]["top"]] == sorted(near, key=lambda w: -near[w])[:2]
    assert dltrain("export", run, "--format", "word2vec").code == 0
    assert (Path(run) / "vectors.vec").read_bytes() == Path("all.vec").read_bytes()
