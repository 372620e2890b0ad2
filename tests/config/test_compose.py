"""Composing: overrides set their keys; all mistakes are reported at once, with what to type."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dltrain.config.check import problems_of
from dltrain.config.compose import Composed, compose, compose_over
from dltrain.errors import ConfigError


def problems(*overrides: str) -> dict[str, str]:
    return dict(problems_of(compose(list(overrides))))


def only_problem(*overrides: str) -> str:
    found = problems_of(compose(list(overrides)))
    assert len(found) == 1, found
    return found[0][1]


# what people type


@pytest.mark.parametrize(
    ("overrides", "key", "value"),
    [
        (["optimizer.lr=3e-3"], "optimizer.lr", 3e-3),
        (["+optimizer.lr=0.5"], "optimizer.lr", 0.5),
        (["++optimizer.lr=0.5"], "optimizer.lr", 0.5),
        (["model.num_classes=7"], "model.num_classes", 7),
        (["+model.num_classes=7"], "model.num_classes", 7),
        (["optimizer=sgd", "optimizer.momentum=0.9"], "optimizer.momentum", 0.9),
        (["optimizer.momentum=0.9", "optimizer=sgd"], "optimizer.momentum", 0.9),
        (["optimizer={lr: 0.5}"], "optimizer.lr", 0.5),
        (
            ["regularization=[l2,dropout]", "regularization.l2.weight=0.5"],
            "regularization.l2.weight",
            0.5,
        ),
        (["regularization=l2"], "regularization.l2.weight", 1e-4),
        (["dataset.batch_size=all"], "dataset.batch_size", "all"),
        (["dataset.epochs=3"], "trainer.epochs", 3),
        (["dataset.epochs=3", "trainer.epochs=4"], "trainer.epochs", 4),
        (["seed=${dataset.split_seed}", "dataset.split_seed=9"], "seed", 9),
        (["debug=smoke", "trainer.steps=7"], "trainer.steps", 7),
        (["debug=null"], "debug", None),
        (["~debug"], "debug", None),
        (["debug=smoke", "debug=null"], "trainer.steps", None),
        (["model=cnn", "model=mlp"], "model.hidden_sizes", [256, 128]),
        (["name=a:b c"], "name", "a:b c"),
        (["optimizer.lr=3", "~optimizer.lr"], "optimizer", {"lr": None}),
        (["~trainer.log_every"], "trainer.log_every", 50),
        (["callbacks.tensorboard=null"], "callbacks.tensorboard", None),
        (["expect={test/accuracy: '>=0.9'}"], "expect", {"test/accuracy": ">=0.9"}),
        (["paths.output=~/runs"], "paths.output", str(Path.home() / "runs")),
        (["model.channels=[8,16]", "model.activation=gelu"], "model.channels", [8, 16]),
    ],
    ids=str,
)
def test_a_valid_override_sets_its_key(overrides: list[str], key: str, value: Any) -> None:
    composed = compose(overrides)
    assert problems_of(composed) == []
    found = composed.config
    for part in key.split("."):
        found = found[part]
    if value == {"lr": None}:
        assert "lr" not in found, "a deleted key leaves its target to its own default"
    else:
        assert found == value
        assert type(found) is type(value)


@pytest.mark.parametrize("root", ["DLTRAIN_DATA", None])
def test_the_data_root_comes_from_the_environment_else_from_here(
    root: str | None, monkeypatch
) -> None:
    monkeypatch.delenv("DLTRAIN_DATA")
    if root:
        monkeypatch.setenv(root, "elsewhere")
    assert compose([]).config["paths"]["data"] == ("elsewhere" if root else "data")


# typos


@pytest.mark.parametrize(
    ("override", "suggestion"),
    [
        # keys
        ("optimizer.lrr=0.1", "did you mean optimizer.lr (now 0.001)?"),
        ("+optimizer.lrr=0.1", "did you mean optimizer.lr (now 0.001)?"),
        ("++optimizer.lrr=0.1", "did you mean optimizer.lr (now 0.001)?"),
        ("~optimizer.lrr", "did you mean optimizer.lr (now 0.001)?"),
        ("optimzer.lr=0.1", "did you mean optimizer.lr (now 0.001)?"),
        ("lr=0.1", "did you mean optimizer.lr (now 0.001)?"),
        ("learning_rate=0.1", "did you mean optimizer.lr (now 0.001)?"),
        ("optimizer.learning_rate=0.1", "did you mean optimizer.lr (now 0.001)?"),
        ("epochs=5", "did you mean trainer.epochs (now 10)?"),
        ("trainer.epoch=5", "did you mean trainer.epochs (now 10)?"),
        ("batch_size=5", "did you mean dataset.batch_size (now 16)?"),
        ("batchsize=5", "did you mean dataset.batch_size (now 16)?"),
        ("trainer.batch_size=5", "did you mean dataset.batch_size (now 16)?"),
        ("precision=bf16", "did you mean device.precision (now fp32)?"),
        ("device.presision=bf16", "did you mean device.precision (now fp32)?"),
        ("dropout=0.5", "did you mean model.dropout (now 0.0)?"),
        ("sed=1", "did you mean seed (now 0)?"),
        ("seed.x=1", "did you mean seed (now 0)?"),
        ("optimizer.lr.x=1", "did you mean optimizer.lr (now 0.001)?"),
        ("paths.out=x", "did you mean paths.output (now outputs)?"),
        ("model.num_clases=4", "did you mean model.num_classes?"),
        ("callbacks.tensorbord=null", "did you mean callbacks.tensorboard?"),
        ("optimizer.momentum=0.9", "optimizer=sgd have it"),
        ("loss.gamma=1", "loss=focal has it"),
        ("regularization.l2.weight=1", "regularization=[l2]"),
        ("optimizer.zzz=1", "no such key (dltrain show optimizer)"),
        ("callbacks.tensorboard.zzz=1", "no such key (dltrain show callbacks)"),
        ("zzzzzz=1", "no such key (dltrain list, dltrain show)"),
        ("hydra.run.dir=x", "hydra.* cannot be set"),
        ("hydra/launcher=x", "hydra.* cannot be set"),
        ("model@hydra.callbacks=cnn", "model=NAME, without @hydra.callbacks"),
        ("dataste.epochs=3", "did you mean dataset.epochs (now 10)?"),
        ("model={_target_: dltrain.models.mlp.MLP, _partial_: true}", "this is built at once"),
        ("dataset={_target_: torch.nn.ReLU}", "not a choice of dataset"),
        ("optimizer={lrr: 1}", "did you mean optimizer.lr?"),
        # options
        ("model=ccn", "did you mean cnn? (dltrain list model)"),
        ("optimizer=Adam", "did you mean adam? (dltrain list optimizer)"),
        ("dataset=MNST", "did you mean mnist or kmnist? (dltrain list dataset)"),
        ("regularization=[l2,dropuot]", "did you mean dropout? (dltrain list regularization)"),
        ("debug=smok", "did you mean smoke? (dltrain list debug)"),
        ("device=gpu", "no such device"),
        ("experiment=zzz", "no such experiment (dltrain list experiment)"),
        ("model=null", "a run needs this group: choose model=NAME (dltrain list model)"),
        ("~model", "a run needs this group: choose model=NAME (dltrain list model)"),
        ("~callbacks", "to turn the callbacks off: callbacks=quiet"),
        ("~regularization", 'to choose no option: "regularization=[]"'),
        ("optimizer=[adam,sgd]", "dltrain -m optimizer=a,b"),
        ("model=cnn,mlp", "dltrain -m model=cnn,mlp"),
        ("optimizer.lr=1,2", "dltrain -m optimizer.lr=1,2"),
        # values
        ("optimizer.lr=abc", "expected a number > 0, got 'abc'"),
        ("optimizer.lr=-1", "expected a number > 0, got -1"),
        ("optimizer.lr=nan", "expected a number > 0, got nan"),
        ("optimizer.lr=inf", "expected a number > 0, got inf"),
        ("optimizer.lr=null", "expected a number > 0, got null"),
        ("optimizer.lr={_target_: torch.nn.ReLU}", "expected a number > 0"),
        (
            "loss={_target_: torch.nn.CrossEntropyLoss, reduction: sum}",
            "has to be the mean over a batch",
        ),
        ("loss={_target_: torch.nn.MSELoss, reduction: none}", "has to be the mean over a batch"),
        (
            "loss={_target_: torch.nn.CrossEntropyLoss, weight: [1, 2]}",
            'takes "loss.class_weights=[NUMBER, ...]"',
        ),
        ("trainer.epochs=1.5", "expected a whole number > 0 or null, got 1.5"),
        ("seed=true", "expected a whole number >= 0 and < 9.22337e+18, got true"),
        ("dataset.batch_size=0", "expected a whole number > 0 or all, got 0"),
        ("dataset.batch_size=al", "did you mean all?"),
        ("device.precision=fp8", "did you mean fp32?"),
        ("model.activation=rellu", "did you mean relu?"),
        (
            "model.channels=32",
            "expected a list, each a whole number > 0 or a list, each a whole number > 0, got 32",
        ),
        ("model.image_size=[1,2,3]", "expected a list of 2, each a whole number, got [1, 2, 3]"),
        ("paths=null", "expected a mapping of data, output"),
        ("paths.output=null", "expected text, got null"),
        ("plugins=foo", "expected a list, each text, got 'foo'"),
        ("expect={x: 3}", "expected a mapping to text, got {'x': 3}"),
        ("expect={x: about}", "expected a comparison with a number"),
        ("dataset.source=null", "expected a choice with a _target_"),
        ("dataset.source=3", "expected a choice with a _target_"),
        ("task.model=3", "expected a choice with a _target_"),
        ("model._target_=os.system", "os.system is not imported"),
        ("model._target_=torch.load", "torch.load may not be built"),
        ("loss._target_=dltrain.losses.CrossEntropi", "did you mean dltrain.losses.CrossEntropy?"),
        # interpolations
        ("name=${nope}", "cannot be resolved: Interpolation key 'nope' not found"),
        ("optimizer.lr=${foo.bar}", "cannot be resolved: Interpolation key 'foo.bar' not found"),
        (
            "seed=${oc.env:NO_SUCH_VARIABLE}",
            "cannot be resolved: Environment variable 'NO_SUCH_VARIABLE' not found",
        ),
        ("dataset.epochs=${nope}", "cannot be resolved: Interpolation key 'nope' not found"),
        ("seed=${nope:1}", "cannot be resolved: Unsupported interpolation type nope"),
        # grammar
        ("optimizer.lr", "settings are KEY=VALUE; did you mean optimizer.lr=...?"),
        ("model.channels=[1", "cannot be read as KEY=VALUE"),
        ("=3", "no such key"),
    ],
)
def test_a_mistake_is_one_problem_with_what_to_type(override: str, suggestion: str) -> None:
    composed = compose([override])
    found = problems_of(composed)
    assert len(found) == 1, found
    _, why = found[0]
    assert suggestion in why
    assert "\n" not in why
    shown = str(ConfigError(found))
    assert len(shown.splitlines()) == 2
    assert "+" + override not in shown, "Hydra's hint would bless the typo"


@pytest.mark.parametrize(
    "override",
    [
        "optimizer.lr=-1",
        "+optimizer.lr=-1",
        "model=ccn",
        "seed=true",
        "name=${nope}",
        "paths.output=null",
    ],
)
def test_a_problem_names_the_override_as_it_was_typed(override: str) -> None:
    assert list(problems(override)) == [override]


def test_every_problem_is_reported_at_once_a_line_each() -> None:
    mistakes = [
        "model=ccn",
        "dataset=MNST",
        "optimizer.lrr=0.1",
        "trainer.epochs=1.5",
        "device.precision=fp8",
        "regularization=[l2,l3]",
        "name=${nope}",
        "seed",
        "schedule=cosine,constant",
        "callbacks.progress.refresh=fast",
    ]
    found = problems_of(compose(mistakes))
    assert len(found) == len(mistakes), found
    lines = str(ConfigError(found)).splitlines()
    assert lines[0] == f"{len(mistakes)} problems in the configuration"
    assert len(lines) == 1 + len(mistakes)
    for mistake in mistakes:
        name = "l3" if "l3" in mistake else mistake
        assert sum(name in line.split("  ")[1] for line in lines[1:]) == 1, name


def test_a_node_with_a_target_of_its_own_replaces_the_chosen_one() -> None:
    composed = compose(["model={_target_: dltrain.models.mlp.MLP}", "optimizer={lr: 0.5}"])
    assert problems_of(composed) == []
    assert composed.config["model"] == {"_target_": "dltrain.models.mlp.MLP"}
    assert composed.config["optimizer"] == {**compose([]).config["optimizer"], "lr": 0.5}


def test_the_valid_rest_of_a_command_line_is_composed_beside_its_problems() -> None:
    composed = compose(["model=ccn", "optimizer=sgd", "optimizer.lrr=1", "optimizer.momentum=0.9"])
    assert composed.config["optimizer"]["momentum"] == 0.9
    assert composed.choices["optimizer"] == "sgd"
    assert len(composed.problems) == 2


# combinations


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["trainer.epochs=null"], "set trainer.epochs, .steps or .max_seconds"),
        (["trainer.epochs=null", "trainer.max_seconds=5"], "this schedule needs to know the end"),
        (
            ["trainer.epochs=null", "trainer.max_seconds=5", "schedule=warmup"],
            "this schedule needs to know the end",
        ),
        (["regularization=[dropout]", "model=perceptron"], "model=perceptron has none"),
        (["regularization=[label_smoothing]", "loss=perceptron"], "loss=perceptron has none"),
    ],
    ids=str,
)
def test_a_combination_that_cannot_be_is_one_problem(overrides: list[str], message: str) -> None:
    assert message in only_problem(*overrides)


@pytest.mark.parametrize(
    "overrides",
    [
        ["trainer.epochs=null", "trainer.steps=5"],
        ["trainer.epochs=null", "trainer.max_seconds=5", "schedule=constant"],
        [
            "trainer.epochs=null",
            "trainer.max_seconds=5",
            "schedule=constant",
            "schedule.warmup=100",
        ],
        ["regularization=[dropout,l1,l2,clip,ema,early_stopping,label_smoothing]"],
    ],
    ids=str,
)
def test_a_possible_combination_is_not_reported(overrides: list[str]) -> None:
    assert problems(*overrides) == {}


# over a saved configuration


def over(saved: dict[str, Any], *overrides: str) -> Composed:
    return compose_over(saved, list(overrides))


def test_a_group_override_over_a_saved_configuration_replaces_the_whole_node() -> None:
    saved = compose(["optimizer=sgd", "optimizer.momentum=0.9"]).config
    composed = over(saved, "optimizer=adam", "optimizer.lr=0.5")
    assert problems_of(composed) == []
    assert composed.config["optimizer"] == {**compose([]).config["optimizer"], "lr": 0.5}


def test_overrides_over_a_saved_configuration_are_checked_alike() -> None:
    saved = compose(["model=mlp"]).config
    found = dict(problems_of(over(saved, "optimizer.lrr=1", "model=ccn", "debug=smoke", "seed=-1")))
    assert list(found) == ["model=ccn", "debug=smoke", "optimizer.lrr=1", "seed=-1"]
    assert "did you mean optimizer.lr" in found["optimizer.lrr=1"]
    assert "keeps its debug" in found["debug=smoke"]


def test_a_saved_configuration_is_what_it_was_unless_overridden() -> None:
    saved = compose(["model=mlp", "regularization=[l2]", "trainer.epochs=3"]).config
    assert over(saved).config == saved


def test_what_is_composed_once_is_everyones_own() -> None:
    """Setting keys of one configuration leaves the next of the same choices as it was."""
    first = compose(["model=mlp", "model.hidden_sizes=[7]"])
    first.config["model"]["hidden_sizes"].append(8)
    first.choices["model"] = "other"
    second = compose(["model=mlp"])
    assert second.config["model"]["hidden_sizes"] == [256, 128]
    assert second.choices["model"] == "mlp"
