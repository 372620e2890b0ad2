"""A trained run needs its folder only: its training data is gone, and it lies elsewhere."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from own_data import OWN_DATA, picture_input

from dltrain.cli import main
from dltrain.config.composing.composition import compose_files
from dltrain.config.groups import groups

BRIEF = ("trainer.epochs=1", "trainer.steps=2", "callbacks=quiet", "paths.data=data")
FAMILIES = list(OWN_DATA)
SPLIT_KEYS = {  # the setting that names the data of a split, where it is not dataset.path
    "coco": "dataset.annotations",
    "translation": "dataset.pairs.source",
    "translation bpe": "dataset.pairs.source",
}
GENERATORS = ("image_folder vae", "image_folder dcgan")
WRITERS = ("language_modeling", "language_modeling streamed")
WITH_VECTORS = ("words", "words fasttext")
EXPLAINED = ("image_folder", "coco")
VERB_OF_TASK = {  # what a run is asked for without inputs; runs of other tasks predict
    "adversarial": ["generate", "--samples", "2"],
    "language_modeling": ["generate", "a fine film", "--tokens", "3"],
    "embedding": ["export", "--format", "word2vec"],
    "seq2seq": ["predict", "a fine film"],
}
AGENTS = ("temporal_difference", "dqn")  # tasks of agents, which have a test of their own
SMALL_MODELS = ("mlp", "cnn", "lenet5", "perceptron", "gru", "q_table", "gan")
# Sets that are made or published, so that no setting names the user's files.
NOT_OWN = set(groups()["dataset"]) - {own.dataset for own in OWN_DATA.values()}


def experiments_of_families() -> dict[tuple[str, str], str]:
    """Return an experiment for each data set and task of an experiment, with a small model."""

    def is_large(name: str) -> bool:
        return compose_files({"experiment": name})[1]["model"] not in SMALL_MODELS

    families: dict[tuple[str, str], str] = {}
    for name in sorted(groups()["experiment"], key=lambda name: (is_large(name), name)):
        choices = compose_files({"experiment": name})[1]
        if choices["task"] not in AGENTS:
            families.setdefault((str(choices["dataset"]), str(choices["task"])), name)
    return families


EXPERIMENTS = experiments_of_families()


@pytest.fixture(scope="module")
def trained_runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """The runs that were trained so far, by the name of their data."""
    runs: dict[str, Path] = {}
    yield runs
    for run in runs.values():
        shutil.rmtree(run)


@pytest.fixture
def lone_run(
    name: str,
    trained_runs: dict[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """A run of some own data, moved away; the folder that it was trained in is deleted."""
    if name not in trained_runs:
        home = tmp_path_factory.mktemp("home")
        trained_runs[name] = tmp_path_factory.mktemp("kept") / "run"
        shutil.move(train(name, home, monkeypatch), trained_runs[name])
        shutil.rmtree(home)
    return trained_runs[name]


def train(name: str, home: Path, monkeypatch: pytest.MonkeyPatch, *more: str) -> Path:
    """Write the data of a kind into the folder `home`, train on it there, and return the run."""
    own = OWN_DATA[name]
    own.write(home)
    with monkeypatch.context() as patch:
        patch.chdir(home)
        assert main([f"dataset={own.dataset}", *own.overrides, *BRIEF, *more]) == 0
    return next((home / "outputs").glob("*/*"))


@pytest.mark.parametrize("name", FAMILIES)
def test_predict_needs_no_training_data(name: str, lone_run: Path, tmp_path: Path, dltrain) -> None:
    inputs = OWN_DATA[name].write_inputs(tmp_path)
    outcome = dltrain("predict", str(lone_run), *inputs, "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.json["predicted"] >= len(inputs)
    assert not outcome.json["problems"]


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("words", [["evaluate"], ["predict", "split=test"]], ids=str)
def test_a_split_needs_the_data_and_names_its_setting(
    words: list[str], name: str, lone_run: Path, dltrain
) -> None:
    verb, *settings = words
    outcome = dltrain(verb, str(lone_run), *settings)
    assert outcome.code == 3
    key = SPLIT_KEYS.get(name, "dataset.path")
    assert f"{key}=PATH names" in outcome.err
    assert "dltrain predict RUN INPUT" in outcome.err


@pytest.mark.parametrize("name", GENERATORS)
def test_generate_needs_no_training_data(name: str, lone_run: Path, dltrain) -> None:
    outcome = dltrain("generate", str(lone_run), "--samples", "3", "--out", "made", "--json")
    assert outcome.code == 0, outcome.err
    assert len(list(Path("made").glob("*.png"))) == 4  # and a grid


@pytest.mark.parametrize("name", WRITERS)
def test_texts_are_continued_without_training_data(name: str, lone_run: Path, dltrain) -> None:
    outcome = dltrain("generate", str(lone_run), "a fine", "--tokens", "5", "--json")
    assert outcome.code == 0, outcome.err
    (text,) = outcome.json["written"]
    assert text.startswith("a fine")
    assert len(text) > len("a fine")


@pytest.mark.parametrize("name", WITH_VECTORS)
def test_word_vectors_are_exported_without_training_data(
    name: str, lone_run: Path, dltrain
) -> None:
    outcome = dltrain("export", str(lone_run), "--format", "word2vec", "--out", "x.vec", "--json")
    assert outcome.code == 0, outcome.err
    words = {line.split()[0] for line in Path("x.vec").read_text().splitlines()[1:]}
    assert {"film", "dull", "warm"} <= words


@pytest.mark.parametrize("name", EXPLAINED)
def test_explanations_need_no_training_data(
    name: str, lone_run: Path, tmp_path: Path, dltrain
) -> None:
    inputs = OWN_DATA[name].write_inputs(tmp_path)
    outcome = dltrain("predict", str(lone_run), *inputs, "--explain", "--json")
    assert outcome.code == 0, outcome.err
    assert list((lone_run / "explained").glob("*.png"))


@pytest.mark.parametrize("dataset", ["frozenlake", "cartpole"])
def test_an_agent_plays_from_its_folder_alone(dataset: str, tmp_path: Path, dltrain) -> None:
    task = ["model=q_network", "task=dqn"] if dataset == "cartpole" else []
    assert dltrain(f"dataset={dataset}", *task, *BRIEF).code == 0
    kept = shutil.move(next(Path("outputs").glob("*/*")), tmp_path / "kept")
    outcome = dltrain("rollout", str(kept), "--out", "episode.gif")
    assert outcome.code == 0, outcome.err
    assert Path("episode.gif").stat().st_size


def test_a_run_that_began_with_other_runs_does_not_need_them(
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    dltrain,
) -> None:
    """init.from and model.embedding.from name runs that are gone when the run predicts."""
    for name, from_first in {
        "image_folder": "init.from=../first",
        "text_files": "model.embedding.from=../first",
    }.items():
        place = tmp_path_factory.mktemp("place")
        (place / "one").mkdir()
        (place / "two").mkdir()
        first = {"image_folder": "image_folder", "text_files": "words"}[name]
        shutil.move(train(first, place / "one", monkeypatch), place / "first")
        run = train(name, place / "two", monkeypatch, from_first)
        kept = tmp_path / name
        shutil.move(run, kept)
        shutil.rmtree(place)
        inputs = OWN_DATA[name].write_inputs(tmp_path)
        outcome = dltrain("predict", str(kept), *inputs, "--json")
        assert outcome.code == 0, outcome.err


@pytest.mark.parametrize("name", ["tabular", "timeseries", "text_files", "translation"])
def test_a_run_on_fake_data_says_that_it_cannot_read_inputs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dltrain
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    run = train(name, home, monkeypatch, "debug=smoke")
    outcome = dltrain("predict", str(run), *OWN_DATA[name].write_inputs(tmp_path))
    assert outcome.code == 3
    assert "was trained on fake data (debug=smoke)" in outcome.err


@pytest.mark.parametrize(("dataset", "task"), EXPERIMENTS)
def test_the_experiments_need_no_data_once_they_are_trained(
    dataset: str, task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dltrain
) -> None:
    """A run of a published set on fake data, of the same shapes, asks for no data set.

    Where only the data set would tell how texts and tables are read, the run says so.
    """
    small = ["model.buckets=100"] if "fasttext" in EXPERIMENTS[dataset, task] else []
    words = [f"experiment={EXPERIMENTS[dataset, task]}", "debug=smoke", "callbacks=quiet"]
    alone = ["init.from=null"] if EXPERIMENTS[dataset, task].startswith("transfer") else []
    words += ["dataset.batch_size=2", "paths.data=data", *small, *alone, "--json"]
    trained = dltrain(*words)
    assert trained.code == 0, trained.err
    kept = tmp_path / "kept"
    shutil.move(trained.json["run"], kept)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    verb, *inputs = VERB_OF_TASK.get(task, ["predict", "new.png"])
    picture_input(elsewhere)
    outcome = dltrain(verb, str(kept), *inputs)
    if "so it knows no words" in outcome.err:
        assert outcome.code == 3
        assert dataset in ("imdb", "multi30k", "reversal", "diabetes", "mackey_glass")
        return
    assert outcome.code == 0, outcome.err


def test_every_data_set_that_reads_own_files_is_covered() -> None:
    """A new data set of the user's own files comes into OWN_DATA, so into the tests above."""
    from dltrain.config.compose import compose

    for dataset in NOT_OWN:
        node = compose([f"dataset={dataset}"]).config["dataset"]
        parts = [node, *(part for part in node.values() if isinstance(part, dict))]
        named = {key for part in parts for key in part if key in ("path", "images", "source")}
        paths = {
            key for key in named if any(part.get(key) is None for part in parts if key in part)
        }
        assert not paths, f"{dataset} has {paths}"


def test_an_error_says_which_run_last_is(tmp_path: Path, dltrain) -> None:
    """After a training that failed, `last` is an earlier run than the one in mind."""
    assert dltrain("model=mlp", *BRIEF).code == 0
    run = next(Path("outputs").glob("*/*"))
    with (tmp_path / "new.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["area", "city"], [1, "Rome"]])
    assert dltrain("dataset=tabular", "dataset.path=absent.csv", "dataset.target=city").code == 3
    for words in (
        ["predict", "last", "new.csv"],
        ["predict", run.name[-12:], "new.csv"],
        ["generate", "last", "a text"],
        ["rollout", "last"],
        ["evaluate", "last", "dataset=tabular", "dataset.path=new.csv", "dataset.target=city"],
    ):
        outcome = dltrain(*words, "--json")
        assert outcome.code in (2, 3)
        assert f"({words[1]} is the run {run})" in outcome.err, words
        assert outcome.json["run"] == str(run)
    named = dltrain("predict", str(run), "new.csv")
    assert named.code == 3
    assert "is the run" not in named.err
