"""Runs on texts from end to end: training, scores, exact resume, predictions, generation."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from dltrain.cli import main
from dltrain.runs.checkpoint import Store, load

SMALL = ("callbacks=quiet", "model.embedding_dim=8", "model.hidden_size=8", "optimizer.lr=0.02")
PROSE = (
    "dataset=language_modeling",
    "dataset.path=prose.txt",
    "dataset.length=8",
    "dataset.batch_size=16",
)


def reviews(path: Path, count: int = 60) -> None:
    rows = [
        f"{'fine' if i % 2 else 'dull'} {'very ' * (i % 7)}film {i},{'good' if i % 2 else 'bad'}"
        for i in range(count)
    ]
    path.write_text("\n".join(["text,label", *rows]) + "\n")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that tells fine films from dull ones."""
    root = tmp_path_factory.mktemp("texts")
    reviews(root / "reviews.csv")
    words = (
        "dataset=text_files",
        f"dataset.path={root}/reviews.csv",
        "dataset.batch_size=8",
        "trainer.epochs=6",
    )
    assert main([*words, *SMALL, f"paths.output={root}/outputs", f"paths.data={root}"]) == 0
    return next((root / "outputs").glob("*/*"))


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that knows how the alphabet continues."""
    root = tmp_path_factory.mktemp("prose")
    (root / "prose.txt").write_text("abcdefgh" * 300)
    words = [word.replace("prose.txt", f"{root}/prose.txt") for word in PROSE]
    more = ("model=lstm_lm", "dataset.stream=true", "trainer.epochs=6", "task.sample_tokens=0")
    assert main([*words, *more, *SMALL, f"paths.output={root}/outputs", f"paths.data={root}"]) == 0
    return next((root / "outputs").glob("*/*"))


def rows_of(outcome: Any) -> list[dict[str, Any]]:
    assert outcome.code == 0, outcome.err
    found: list[dict[str, Any]] = outcome.json["rows"]
    return found


def test_texts_files_and_tables_are_predicted(trained: Path, dltrain) -> None:
    Path("one.txt").write_text("a dull film")
    Path("rows.csv").write_text("text\nfine film\ndull film\n")
    inputs = ("is this fine?", "dull", "one.txt", "rows.csv", "a fine film " * 300)
    rows = rows_of(dltrain("predict", str(trained), *inputs, "--json"))
    assert [row["class"] for row in rows] == ["good", "bad", "bad", "good", "bad", "good"]
    assert [row["input"] for row in rows[:5]] == [
        "is this fine?",
        "dull",
        "one.txt",
        "rows.csv:2",
        "rows.csv:3",
    ]
    assert len(rows[5]["input"]) < 70


def test_a_prediction_does_not_depend_on_other_texts(trained: Path, dltrain) -> None:
    texts = ("fine very very very film", "dull")
    together = rows_of(dltrain("predict", str(trained), *texts, "--json"))
    alone = [rows_of(dltrain("predict", str(trained), text, "--json"))[0] for text in texts]
    assert [row["probability"] for row in together] == pytest.approx(
        [row["probability"] for row in alone], rel=1e-5
    )


def test_the_samples_of_a_split_have_their_own_numbers(trained: Path, dltrain) -> None:
    rows = rows_of(dltrain("predict", str(trained), "split=test", "--json"))
    lines = [row["input"].rpartition("reviews.csv:")[2] for row in rows]
    assert len(set(map(int, lines))) == 12
    assert sum(row["label"] == row["class"] for row in rows) >= 11


def test_a_run_on_texts_is_evaluated_again(trained: Path, dltrain) -> None:
    results = json.loads((trained / "results.json").read_text())["metrics"]
    outcome = dltrain("evaluate", str(trained), "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.json["metrics"]["test/accuracy"] == results["test/accuracy"] > 0.9


def test_the_tokenizer_lies_beside_the_manifest_and_is_checked(
    trained: Path, tmp_path: Path, dltrain
) -> None:
    run = Path(shutil.copytree(trained, tmp_path / "outputs" / "today" / "copy"))
    described = json.loads((run / "manifest.json").read_text())["data"]["tokenizer"]
    assert set(described) == {"file", "sha256"}
    assert "fine" in json.loads((run / described["file"]).read_text())["model"]["vocab"]
    content = (run / "tokenizer.json").read_text()
    (run / "tokenizer.json").write_text(content.replace('"fine"', '"feni"'))
    outcome = dltrain("predict", str(run), "fine")
    assert outcome.code == 3
    assert "tokenizer.json is not what the run wrote" in outcome.err
    (run / "tokenizer.json").unlink()
    outcome = dltrain("predict", str(run), "fine")
    assert outcome.code == 3
    assert "tokenizer.json cannot be read" in outcome.err


@pytest.mark.parametrize("settings", [(), ("dataset.tokens_per_batch=40",)], ids=str)
@pytest.mark.parametrize("steps", [1, 4, 9])
def test_a_resume_within_an_epoch_of_buckets_ends_the_same(
    settings: tuple[str, ...], steps: int, dltrain
) -> None:
    reviews(Path("reviews.csv"))
    words = (
        "dataset=text_files",
        "dataset.path=reviews.csv",
        "dataset.batch_size=8",
        "trainer.epochs=2",
        "schedule=constant",
    )
    whole = dltrain(*words, *settings, *SMALL, "--json").json
    part = dltrain(*words, *settings, *SMALL, f"trainer.steps={steps}", "--json").json
    rest = dltrain("resume", part["run"], "trainer.steps=null", "--json")
    assert rest.code == 0, rest.err
    assert scores(rest.json) == scores(whole)
    assert same_weights(whole["run"], part["run"])


@pytest.mark.parametrize("model", ["lstm_lm", "transformer_lm"])
@pytest.mark.parametrize("stream", ["true", "false"])
def test_a_resume_within_an_epoch_of_running_text_ends_the_same(
    model: str, stream: str, dltrain
) -> None:
    Path("prose.txt").write_text("abcdefgh, " * 200)
    sizes = (
        SMALL if model == "lstm_lm" else ("callbacks=quiet", "model.dim=8", "model.num_layers=1")
    )
    sizes += ("trainer.epochs=2", "schedule=constant", "task.sample_tokens=2")
    words = (*PROSE, f"model={model}", f"dataset.stream={stream}", *sizes)
    whole = dltrain(*words, "--json").json
    part = dltrain(*words, "trainer.steps=5", "--json").json
    rest = dltrain("resume", part["run"], "trainer.steps=null", "--json")
    assert rest.code == 0, rest.err
    assert scores(rest.json) == scores(whole)
    assert same_weights(whole["run"], part["run"])


def scores(results: dict[str, Any]) -> dict[str, float]:
    """Return the scores of the last evaluation.

    A resumed run has one evaluation more, at the end of its first part, which may have been the
    best.
    """
    return {name: value for name, value in results["metrics"].items() if name.startswith("val/")}


def same_weights(*runs: str) -> bool:
    folders = [Store(Path(run) / "checkpoints").pointed("last") for run in runs]
    one, other = (load(folder)["task"] for folder in folders if folder is not None)
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_language_model_continues_a_text(writer: Path, dltrain) -> None:
    written = [
        dltrain("generate", str(writer), "cdef", "--tokens", "12", "temperature=0", "--json").json[
            "written"
        ]
    ]
    assert written[0] == ["cdefghabcdefghab"]
    warm = ("temperature=5", "top_p=1.0", "--tokens", "40", "--json")
    draws = [
        dltrain("generate", str(writer), "cdef", *warm, f"seed={seed}").json["written"][0]
        for seed in (1, 1, 2)
    ]
    assert draws[0] == draws[1] != draws[2]


def test_continued_texts_are_written_to_a_file(writer: Path, dltrain) -> None:
    words = ("abcd", "efgh", "--tokens", "4", "temperature=0", "--json")
    outcome = dltrain("generate", str(writer), *words, "--out", "texts.txt")
    assert outcome.code == 0, outcome.err
    assert outcome.json["written"] == ["abcdefgh", "efghabcd"]
    assert Path("texts.txt").read_text() == "abcdefgh\nefghabcd\n"
    assert outcome.json["out"] == "texts.txt"


def test_generate_needs_what_the_run_can_do(writer: Path, trained: Path, dltrain) -> None:
    for run, words, reason in (
        (writer, (), 'this run continues texts: dltrain generate RUN "TEXT"'),
        (writer, ("--tokens", "5"), "--tokens continues a text"),
        (trained, (), "a run of Classification generates no images"),
    ):
        outcome = dltrain("generate", str(run), *words)
        assert (outcome.code, reason in outcome.err) == (2, True), outcome.err


def test_a_language_model_predicts_the_next_token(writer: Path, dltrain) -> None:
    rows = rows_of(dltrain("predict", str(writer), "abcd", "hab", "--json"))
    assert [row["next"] for row in rows] == ["e", "c"]


@pytest.mark.parametrize("out", [(), ("--out", "rows.csv")])
def test_unknown_tokens_are_reported_with_their_counts(
    out: tuple[str, ...], trained: Path, dltrain
) -> None:
    """Texts on the command line, in files and in tables get one message for all of them."""
    Path("one.txt").write_text("fine zebra film zebra")
    Path("rows.csv").write_text("text\nfine yak\ndull film\n")
    outcome = dltrain(
        "predict", str(trained), "a dull zebra", "one.txt", "rows.csv", *out, "--json"
    )
    assert outcome.code == 0, outcome.err
    assert outcome.json["unknown_tokens"] == {"zebra": 3, "a": 1, "yak": 1}
    assert outcome.out.count("5 of 11 tokens are not in the run's vocabulary") == 1
    assert "'zebra' (3), 'a' (1), 'yak' (1)" in outcome.out
    known = dltrain("predict", str(trained), "fine film", "--json")
    assert "vocabulary" not in known.out
    assert "unknown_tokens" not in known.json


def test_a_language_model_reports_unknown_tokens_of_a_text(writer: Path, dltrain) -> None:
    for words in (("predict",), ("generate", "--tokens", "3")):
        outcome = dltrain(*words, str(writer), "ab 猫", "--json")
        assert outcome.json["unknown_tokens"] == {" ": 1, "猫": 1}
        assert "2 of 4 tokens" in outcome.out


def test_spaces_between_digits_are_unknown_to_a_run_that_reverses_strings(dltrain) -> None:
    shape = (
        "model.hidden_size=8",
        "model.embedding_dim=8",
        "dataset.pairs.train_samples=100",
        "trainer.epochs=1",
    )
    pairs = (
        "dataset.pairs.longest=4",
        "dataset.pairs.val_samples=10",
        "dataset.pairs.test_samples=10",
    )
    run = dltrain("dataset=reversal", "model=seq2seq", *shape, *pairs, "callbacks=quiet", "--json")
    assert run.code == 0, run.err
    outcome = dltrain("predict", run.json["run"], "1 2 3", "--json")
    assert outcome.json["unknown_tokens"] == {" ": 2}
    assert "2 of " in outcome.out
    Path("lines.txt").write_text("12\n3x\n")
    assert dltrain("predict", run.json["run"], "lines.txt", "--json").json["unknown_tokens"] == {
        "x": 1
    }


def test_impossible_settings_of_generate_are_refused(writer: Path, trained: Path, dltrain) -> None:
    for words, expected in {
        ("--tokens", "0"): "expected a whole number from 1 to",
        ("--tokens", "many"): "expected a whole number from 1 to",
        ("--tokens", "5", "temperature=hot"): "temperature=hot: expected a number",
        ("--tokens", "5", "top_p=1.5"): "top_p=1.5: expected a number above 0 and at most 1",
    }.items():
        outcome = dltrain("generate", str(writer), "abc", *words)
        assert outcome.code == 2
        assert expected in outcome.err
    outcome = dltrain("generate", str(trained), "abc", "--tokens", "5")
    assert outcome.code == 2
    assert "a run of Classification writes no text" in outcome.err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("model=lstm", *PROSE, "task=classification"), "model=lstm  needs classes"),
        (("model=lstm", *PROSE, "task=language_modeling"), "for running text: transformer_lm"),
        (("model=lstm_lm", "dataset=digits"), "model=lstm_lm  needs texts, such as dataset="),
        (("dataset=text_files",), "name the texts to train on"),
        (("dataset=imdb", "dataset.vocab_size=3"), "> 4"),
        (("dataset=imdb", "dataset.tokenizer=words"), "word"),
    ],
    ids=str,
)
def test_choices_that_do_not_fit_are_refused(
    words: tuple[str, ...], expected: str, dltrain
) -> None:
    Path("prose.txt").write_text("abcdefgh" * 50)
    outcome = dltrain(*words, "callbacks=quiet")
    assert outcome.code == 2
    assert expected in outcome.err
    assert not list(Path("outputs").glob("*/*"))
