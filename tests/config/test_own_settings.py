"""The settings of a run that are not the defaults, swept ones first."""

from __future__ import annotations

from typing import Any

import pytest

from dltrain.config.compose import compose
from dltrain.config.own_settings import own_settings


@pytest.mark.parametrize(
    ("overrides", "settings"),
    [
        ([], {"model": "cnn", "dataset": "digits"}),
        (["optimizer.lr=0.001"], {"model": "cnn", "dataset": "digits"}),
        (
            ["optimizer.lr=0.5", "+seed=4"],
            {"model": "cnn", "dataset": "digits", "optimizer.lr": 0.5, "seed": 4},
        ),
        (["optimizer=sgd"], {"model": "cnn", "dataset": "digits", "optimizer": "sgd"}),
        (
            ["optimizer=sgd", "optimizer.lr=0.1"],
            {"model": "cnn", "dataset": "digits", "optimizer": "sgd"},
        ),
        (["regularization=[l2]"], {"model": "cnn", "dataset": "digits", "regularization": "[l2]"}),
        (["callbacks=quiet", "paths.output=x", "name=y"], {"model": "cnn", "dataset": "digits"}),
        (
            ["model={_target_: mine.Net, width: 3}"],
            {"model": "Net", "dataset": "digits", "model.width": 3},
        ),
        (
            ["model=mlp", "model.hidden_sizes=[8]"],
            {"model": "mlp", "dataset": "digits", "model.hidden_sizes": [8]},
        ),
    ],
    ids=str,
)
def test_settings_are_those_that_are_not_the_defaults(
    overrides: list[str], settings: dict[str, Any]
) -> None:
    """Not those of the chosen options either, and nothing that builds, watches or files the run."""
    assert own_settings(compose(overrides)) == settings


def test_an_experiment_is_a_setting_with_what_it_chooses() -> None:
    found = own_settings(compose(["experiment=lenet5_mnist"]))
    assert (found["experiment"], found["model"], found["dataset"]) == (
        "lenet5_mnist",
        "lenet5",
        "mnist",
    )


def test_what_was_swept_comes_first_also_where_it_is_the_default() -> None:
    composed = compose(
        ["dataset.batch_size=32", "optimizer.lr=0.001", "name=x", "+seed=0", "model=cnn"]
    )
    found = own_settings(composed, ["optimizer.lr", "name", "+seed", "model"])
    assert list(found)[:4] == ["optimizer.lr", "name", "seed", "model"]
    assert (found["optimizer.lr"], found["name"], found["seed"], found["model"]) == (
        0.001,
        "x",
        0,
        "cnn",
    )


def test_secrets_are_not_among_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PASSWORD", "hidden")
    found = own_settings(compose(["name=${oc.env:PASSWORD}", "dataset.path=x"]), ["name"])
    assert "hidden" not in str(found)
