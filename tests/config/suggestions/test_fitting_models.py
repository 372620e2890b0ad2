"""Every model on every kind of data: it can be built, or one line names the models that fit."""

from __future__ import annotations

import re
from typing import Any

import pytest

from dltrain.config import check
from dltrain.config.compose import compose
from dltrain.config.groups import groups, read_option
from dltrain.config.suggestions.fitting import fitting_models, kind_of, option_of
from dltrain.errors import ConfigError
from dltrain.experiment.experiment import Experiment

KINDS = {  # a data set of each kind that needs no file under debug=smoke
    "digits": "images",
    "digit_scenes": "images with boxes",
    "wine": "a table",
    "diabetes": "a table",
    "mackey_glass": "a time series",
    "imdb": "texts with classes",
    "shakespeare": "running text",
    "imdb_words": "running text",
    "reversal": "pairs of texts",
    "frozenlake": "an environment with numbered states",
    "cartpole": "an environment",
}
BIG_TABLES = ("fasttext", "fasttext_vectors")  # of hashed n-grams
OTHER_REASONS = ("are too few", "images of")  # the images are too small for the network
TO_TYPE = re.compile(r"\b(model|dataset|task)(\.\w+)?=\w")  # what a task says to choose instead
LISTED = re.compile(r"; for ([a-z ]+): (\w+(?:, \w+)*)(?: and \d+ more \(dltrain list model\))?$")


def one_of_each_class() -> list[str]:
    """Return an option of every class of models: the others differ in size."""
    by_target = {str(read_option("model", name)["_target_"]): name for name in groups()["model"]}
    return sorted(by_target.values())


MODELS = one_of_each_class()


def experiment(dataset: str, model: str, *more: str) -> Experiment:
    size = ["model.buckets=100"] if model in BIG_TABLES else []
    words = [f"dataset={dataset}", f"model={model}", "debug=smoke", "dataset.batch_size=2"]
    composed = compose([*words, *size, *more])
    check.raise_all(composed)
    return Experiment.on_fake_data(composed.config)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("dataset", KINDS)
def test_a_model_is_built_or_one_line_names_those_that_fit(dataset: str, model: str) -> None:
    built = experiment(dataset, model)
    try:
        _ = built.task
    except ConfigError as e:
        ((_, why),) = e.problems
        listed = LISTED.search(why)
        if listed is None:
            assert TO_TYPE.search(why) or any(reason in why for reason in OTHER_REASONS), why
            return
        assert listed[1] == KINDS[dataset]
        assert model not in listed[2].split(", ")
        assert "\n" not in why
        assert "set model." not in why


@pytest.mark.parametrize("dataset", KINDS)
def test_the_models_that_are_named_learn_from_the_data(dataset: str) -> None:
    one = experiment(dataset, compose([f"dataset={dataset}"]).choices["model"])
    spec = one.selected_data.spec
    assert kind_of(spec).name == KINDS[dataset]
    models = fitting_models(one.config, spec)
    assert models[0] == compose([f"dataset={dataset}"]).choices["model"]
    for model in models:
        if model in MODELS and model not in ("inception_v3", "torchvision"):  # for larger images
            fitting = experiment(dataset, model)
            task = fitting.task.to(fitting.device.torch_device())
            stage: Any = next(iter(task.stages()))
            stage.step(next(iter(stage.batches.epoch(0))))


def test_an_image_model_on_a_table_names_models_of_tables(dltrain) -> None:
    outcome = dltrain("model=cnn", "dataset=wine")
    assert outcome.code == 2
    assert (
        "model=cnn  needs images; for a table: mlp, deep_mlp, perceptron, tabular_mlp"
        in outcome.err
    )
    assert "in_channels" not in outcome.err


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("mlp", "model=mlp  reads numbers, not texts; for texts with classes: lstm, fasttext"),
        (
            "q_network",
            "model=q_network  needs an environment, such as dataset=acrobot; for texts with",
        ),
        (
            "seq2seq",
            "model=seq2seq  needs pairs of texts, such as dataset=multi30k; for texts with classes",
        ),
    ],
)
def test_a_model_that_cannot_read_texts_says_so(model: str, expected: str) -> None:
    with pytest.raises(ConfigError) as error:
        _ = experiment("imdb", model).model
    assert expected in str(error.value)


def test_a_language_model_on_single_words_and_a_gan_on_boxes_are_refused() -> None:
    with pytest.raises(ConfigError, match="not running text"):
        _ = experiment("imdb_words", "gru_lm").task
    with pytest.raises(ConfigError, match="images with a class each"):
        _ = experiment("digit_scenes", "dcgan").task


def test_options_are_found_by_their_nodes() -> None:
    for group in ("model", "dataset"):
        for name in ("resnet34", "vgg11", "wine", "diabetes", "mnist", "imdb", "cartpole"):
            if name in groups()[group]:
                node = compose([f"{group}={name}"]).config[group]
                assert option_of(group, node) == name
