"""`dltrain experiment=NAME` trains, or says which data or value is missing and what to type."""

from __future__ import annotations

import urllib.request
from pathlib import Path
from urllib.error import URLError

import pytest

from dltrain.config.compose import compose
from dltrain.config.composing.missing import missing_keys
from dltrain.config.groups import groups
from dltrain.experiment.experiment import Experiment

STARTS = {  # experiments that start from another run, and the setting that names it
    "transfer_ants_bees": "init.from",
    "bilstm_word2vec_imdb": "model.embedding.from",
    "lora_shakespeare": "init.from",
}
# What stands in the place of the data set that an experiment downloads.
OWN_DATA = {
    "mnist": "dataset=image_folder dataset.path=DIR",
    "fashion_mnist": "dataset=image_folder dataset.path=DIR",
    "cifar10": "dataset=image_folder dataset.path=DIR",
    "image_folder": "dataset.path=PATH names the place of the data",
    "yolo": "dataset.path=PATH names the place of the data",
    "digit_scenes": "dataset=image_folder dataset.path=DIR",
    "imdb": "dataset=text_files dataset.path=DIR",
    "imdb_words": "dataset=text_files dataset.path=DIR",
    "shakespeare": "dataset=language_modeling dataset.path=FILE",
    "multi30k": "dataset=translation dataset.pairs.source=FILE",
}
SMALL = ("trainer.steps=1", "callbacks=quiet")


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise URLError("no network in tests")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)


def named(name: str) -> list[str]:
    """Return the words that choose an experiment; one that starts from a run starts without."""
    words = [f"experiment={name}", *(f"{STARTS[one]}=null" for one in STARTS if one == name)]
    if name == "lora_shakespeare":
        words.append("lora.rank=null")
    return words


def dataset_of(name: str) -> str:
    return str(compose(named(name)).choices["dataset"])


NEED_FILES = [name for name in groups()["experiment"] if dataset_of(name) in OWN_DATA]


@pytest.mark.parametrize("name", NEED_FILES)
def test_without_its_data_an_experiment_says_where_to_put_them(
    name: str, dltrain, tmp_path: Path
) -> None:
    outcome = dltrain(*named(name), *SMALL)
    assert outcome.code == 3, outcome.err
    assert str(tmp_path / "no-data") in outcome.err
    assert OWN_DATA[dataset_of(name)] in outcome.err
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize("name", sorted({dataset_of(name) for name in groups()["experiment"]}))
def test_every_data_set_of_an_experiment_needs_files_or_is_here(name: str, dltrain) -> None:
    outcome = dltrain("check", "--data", *fitting(name))
    assert outcome.code == (3 if name in OWN_DATA else 0), outcome.err


def fitting(dataset: str) -> list[str]:
    """Return the words for an experiment with a data set."""
    return named(next(one for one in groups()["experiment"] if dataset_of(one) == dataset))


@pytest.mark.parametrize("name", [n for n in NEED_FILES if dataset_of(n) == "cifar10"])
def test_an_experiment_on_cifar10_takes_a_folder_by_choice(name: str) -> None:
    composed = compose([f"experiment={name}", "dataset=image_folder", "dataset.path=DIR"])
    default = compose([f"experiment={name}"])
    assert composed.problems == default.problems == []
    assert composed.config["dataset"]["path"] == "DIR"
    for key, value in default.config.items():
        assert key == "dataset" or composed.config[key] == value
    for key in ("batch_size", "val_fraction"):
        assert composed.config["dataset"][key] == default.config["dataset"][key]


@pytest.mark.parametrize("name", STARTS)
@pytest.mark.parametrize(
    "command", [(), ("check",), ("-m", "launcher=inline", "seed=1,2")], ids=str
)
def test_an_experiment_that_starts_from_a_run_asks_for_it(
    name: str, command: tuple[str, ...], dltrain, tmp_path: Path
) -> None:
    """Trained from random weights, without a word, it would not be the experiment."""
    outcome = dltrain(*command, f"experiment={name}")
    key = STARTS[name]
    assert outcome.code == 2
    assert f"{key}=???" in outcome.err
    assert f"needs a value: {key}=..." in outcome.err
    assert f"dltrain show experiment/{name}" in outcome.err
    assert not (tmp_path / "outputs").exists()


def test_a_users_file_may_ask_for_values(dltrain, tmp_path: Path) -> None:
    """A value ??? must be typed, as in Hydra."""
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    (tmp_path / "mine" / "experiment" / "asks.yaml").write_text(
        "# @package _global_\n# Asks\ninit:\n  from: ???\nmodel:\n  channels: ???\nseed: ???\n"
    )
    words = ("check", "--config-dir", "mine", "experiment=asks")
    outcome = dltrain(*words)
    assert outcome.code == 2
    for key in ("init.from", "model.channels", "seed"):
        assert outcome.err.count(f"{key}=???") == 1
    assert "init.from=..., or init.from=null to do without" in outcome.err
    assert "model.channels=null" not in outcome.err
    assert "no such key" not in outcome.err
    outcome = dltrain(*words, "init.from=null", "model.channels=[3]", "seed=1")
    assert outcome.code == 0, outcome.err


def test_missing_keys_are_found_at_any_depth() -> None:
    assert missing_keys({"a": "???", "b": {"c": {"d": "???"}, "e": 1}, "f": ["x"]}) == [
        *("a", "b.c.d")
    ]


def test_transfer_is_tested_on_more_than_a_few_images(real_data: Path) -> None:
    data = Experiment.to_train(compose(named("transfer_ants_bees")).config).data
    assert (data.train.samples, data.val.samples, data.test.samples) == (195, 153, 49)
