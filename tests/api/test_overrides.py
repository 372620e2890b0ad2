"""Settings that a Python program passes are those that would be typed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import dltrain as library
from dltrain.api.overrides import overrides_of, plugins_in
from dltrain.config.overrides import parse


class Net(torch.nn.Module):
    """A model of the program's own."""

    def __init__(self, in_features: int, num_classes: int, width: int = 8) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Flatten(),
            torch.nn.Linear(in_features, width),
            torch.nn.ReLU(),
            torch.nn.Linear(width, num_classes),
        )

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.layers(inputs)
        return outputs


TEXTS = [
    "cnn",
    "a, b",
    "a=b",
    "it's",
    'a "word"',
    "a b",
    "",
    " padded ",
    "${oc.env:HOME}",
    "null",
    "True",
    "3",
    "1e5",
    "nan",
    "[a]",
    "{a: b}",
    "~/runs",
    "C:\\data\\",
    "größe ü 中",
    "a'b\\",
]


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_stays_the_text(text: str) -> None:
    (override,) = overrides_of(({"key": text},), {})
    (parsed,), problems = parse([override])
    assert not problems
    value = parsed.value()
    assert isinstance(value, str)
    assert value.replace("\\${", "${") == text


@pytest.mark.parametrize(
    ("value", "read"),
    [
        (None, None),
        (True, True),
        (False, False),
        (3, 3),
        (np.int64(3), 3),
        (1e-05, 1e-05),
        (float("inf"), float("inf")),
        (np.float32(0.5), 0.5),
        ([1, "a,b", None], [1, "a,b", None]),
        ((), []),
        ([[1, 2], [3]], [[1, 2], [3]]),
        ({"a": 1, "b": {"c": "x y"}}, {"a": 1, "b": {"c": "x y"}}),
        (Path("a folder/it's"), "a folder/it's"),
    ],
    ids=repr,
)
def test_a_value_is_read_as_it_was_passed(value: Any, read: Any) -> None:
    (override,) = overrides_of((), {"key": value})
    (parsed,), problems = parse([override])
    assert not problems
    assert parsed.value() == read


def test_settings_may_be_nested_or_not() -> None:
    parts = ("seed=1", {"optimizer": {"lr": 1e-3}, "paths": {"data": "d"}, "model": "cnn"})
    named = {"trainer.epochs": 2, "regularization": ["l2", "dropout"], "lr_factors": {"head": 2.0}}
    assert overrides_of(parts, named) == [
        "seed=1",
        "optimizer.lr=0.001",
        "paths.data=d",
        "model=cnn",
        "trainer.epochs=2",
        "regularization=[l2,dropout]",
        "lr_factors={head:2.0}",
    ]


def test_a_class_is_a_target_and_names_its_package() -> None:
    assert overrides_of(("plugins=[mine]", {"model": Net}), {}) == [
        f"plugins=[mine,{__name__}]",
        f"model={{_target_:{__name__}.Net}}",
    ]
    assert overrides_of((), {"model": {"_target_": torch.nn.Flatten}}) == [
        "model={_target_:torch.nn.modules.flatten.Flatten}"
    ]
    assert plugins_in(["plugins=[a, b]"]) == ("a", "b")
    assert plugins_in([]) == ()


def test_texts_set_arguments_of_a_class_that_follows_by_name() -> None:
    """A node would replace what was set in it before; the class comes first."""
    net = f"model={{_target_:{__name__}.Net}}"
    overrides = overrides_of(("seed=1", "model.width=4,8"), {"model": Net, "name": "x"})
    assert overrides == [f"plugins=[{__name__}]", net, "seed=1", "model.width=4,8", "name=x"]
    # what sets the same key before it stays before it: the class counts
    assert overrides_of(("model=cnn",), {"model": Net})[1:] == ["model=cnn", net]


def test_a_sweep_over_an_argument_of_a_class_of_the_program() -> None:
    texts = ("dataset=digits", "debug=smoke", "callbacks=quiet", "model.width=4,8")
    sweep = library.sweep(*texts, model=Net)
    assert [run.config["model"]["width"] for run in sweep.runs] == [4, 8]


@pytest.mark.parametrize("part", [3, ["model=cnn"], None, {3: "a"}], ids=repr)
def test_what_is_no_setting_is_refused(part: Any) -> None:
    with pytest.raises(library.UsageError, match="expected a text"):
        overrides_of((part,), {})


def test_a_value_that_no_configuration_can_hold_is_refused() -> None:
    with pytest.raises(library.ConfigError, match="object cannot be written"):
        overrides_of((), {"model": object()})

    class Local:
        pass

    with pytest.raises(library.ConfigError, match="defined inside a function"):
        overrides_of((), {"model": Local})


def test_a_model_of_the_program_is_trained_and_loaded() -> None:
    run = library.train(
        {"dataset": "digits", "trainer": {"steps": 2, "epochs": 1}},
        model={"_target_": Net, "width": 4},
    )
    assert run.config["model"] == {"_target_": f"{__name__}.Net", "width": 4}
    assert run.plugins == (__name__,)
    assert isinstance(run.load().model, Net)
    assert library.evaluate(run).metrics["test/accuracy"] == run.metrics["test/accuracy"]
    with pytest.raises(library.ConfigError, match="plugins="):
        library.load(run.folder)
    assert isinstance(library.load(run.folder, plugins=[__name__]).model, Net)


def test_options_of_ones_own_are_read_from_a_folder(tmp_path: Path) -> None:
    (tmp_path / "mine" / "model").mkdir(parents=True)
    (tmp_path / "mine" / "model" / "small.yaml").write_text(
        "# a small network\n_target_: dltrain.models.mlp.MLP\nhidden_sizes: [4]\n"
    )
    report = library.check("model=small", "dataset=digits", config_dir=tmp_path / "mine")
    assert report.parameters == 64 * 4 + 4 + 4 * 10 + 10
