"""`dltrain schema`: JSON Schemas that accept what the checks accept, and refuse typos."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import yaml
from jsonschema import Draft7Validator

from dltrain.config.check import problems_of
from dltrain.config.checking.annotations import fits
from dltrain.config.compose import compose, compose_over
from dltrain.config.editor.documents import WHOLE, document, documents
from dltrain.config.editor.values import value_schema
from dltrain.config.groups import OVERLAYS, conf_dir, groups, read_option
from dltrain.config.policy import locate
from dltrain.config.schema import arguments
from dltrain.types import BatchSize, ColumnName, Fraction, Ge, Le, Often, PositiveFloat, PositiveInt

DOCUMENTS: dict[str, Draft7Validator] = {}


def validator(kind: str) -> Draft7Validator:
    """Return the validator of a kind of files, made once."""
    if kind not in DOCUMENTS:
        content = document(kind)
        Draft7Validator.check_schema(content)
        DOCUMENTS[kind] = Draft7Validator(content)
    return DOCUMENTS[kind]


def problems(kind: str, content: Any) -> list[str]:
    """Return what the schema of a kind of files has against one."""
    errors = validator(kind).iter_errors(content)
    return [f"{'.'.join(map(str, error.absolute_path))}: {error.message}" for error in errors]


# what is right


@pytest.mark.parametrize("group", documents()[1:])
def test_every_shipped_file_is_valid(group: str) -> None:
    kind = WHOLE if group in OVERLAYS else group
    for option in groups()[group]:
        assert problems(kind, read_option(group, option)) == [], option


def test_the_defaults_of_every_run_are_valid() -> None:
    content = yaml.safe_load((conf_dir() / "config.yaml").read_text(encoding="utf-8"))
    assert problems(WHOLE, content) == []


@pytest.mark.parametrize("experiment", groups()["experiment"])
def test_every_composed_experiment_is_valid(experiment: str) -> None:
    composed = compose([f"experiment={experiment}"])
    for content in (composed.as_written(), composed.public, composed.config):
        assert problems(WHOLE, content) == []


@pytest.mark.parametrize(
    "overrides",
    [
        ["dataset=tabular", "dataset.path=x.csv", "dataset.target=1"],
        ["dataset=image_folder", "dataset.path=x", "dataset.image_size=[8,9]"],
        ["regularization=[l2,early_stopping]", "preprocessing=[flip,random_crop]"],
        ["callbacks=diagnosis", "callbacks.progress=null"],
        ["dataset.batch_size=all", "trainer.save_every=10min"],
        ["model={_target_: torch.nn.Linear, in_features: 64, out_features: 10}"],
        ["name=${oc.env:HOME}", "trainer.log_every=${dataset.batch_size}"],
    ],
    ids=str,
)
def test_what_a_user_composes_is_valid(overrides: list[str]) -> None:
    composed = compose(overrides)
    assert composed.problems == []
    assert problems(WHOLE, composed.as_written()) == []


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("model", "defaults: [cnn]\nchannels: [8]"),
        ("model", "_target_: mymodels.Net\nwidth: 3"),
        ("model", "_target_: torch.nn.Identity"),
        ("regularization", "mine:\n  _target_: mine.Penalty\n  weight: 1"),
        ("callbacks", "defaults: [default]\nexplain: null"),
        ("dataset", "defaults: [mnist]\nbatch_size: ${seed}"),
        ("config", "defaults:\n- override /dataset: tabular\ndataset: {path: x.csv, target: y}"),
        ("config", "defaults:\n- override /regularization: [l2, dropout]\n- _self_"),
        ("config", "dataset: {path: here}"),
        ("config", "model: ${oc.select:x}"),
    ],
)
def test_a_file_of_a_users_own_is_valid(kind: str, text: str) -> None:
    assert problems(kind, yaml.safe_load(text)) == []


# what is wrong


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("model", "_target_: dltrain.models.images.cnn.CNN\nchanels: [8]"),
        ("model", "_target_: dltrain.models.images.cnn.CNM"),
        ("model", "_target_: dltrain.models.images.cnn.CNN\nactivation: rellu"),
        ("model", "_target_: dltrain.models.images.cnn.CNN\ndropout: 1.5"),
        ("model", "_target_: 3"),
        ("model", "defaults: [cnn]\nchanels: [8]"),
        ("optimizer", "_target_: dltrain.optimizers.sgd.sgd\nlr: -1"),
        ("optimizer", "_target_: dltrain.optimizers.sgd.sgd\nlr: fast"),
        ("optimizer", "_target_: dltrain.optimizers.sgd.sgd\n_partial_: maybe"),
        ("trainer", "_target_: dltrain.config.settings.Trainer\nepochs: 1.5"),
        ("trainer", "_target_: dltrain.config.settings.Trainer\nmode: biggest"),
        ("regularization", "l2:\n  weight: heavy"),
        ("regularization", "l2:\n  wait: 0.1"),
        ("config", "sede: 3"),
        ("config", "seed: -3"),
        ("config", "init: {form: last}"),
        ("config", "optimizer: {lrr: 0.1}"),
        ("config", "optimizer: {lr: -1}"),
        ("config", "defaults:\n- override /model: cnm"),
        ("config", "defaults:\n- override /modle: cnn"),
        ("config", "defaults:\n- override /model: lenet5\nmodel: {channels: [8]}"),
        ("config", "defaults:\n- override /optimizer: sgd\noptimizer: {beta1: 0.9}"),
        ("config", "task: {optimizers: {generater: {lr: 0.1}}}"),
        ("config", "task: {optimizers: {generator: {lr: -0.1}}}"),
        ("config", "dataset: {pth: x}"),
        ("config", "callbacks: {progress: {refresh: 0}}"),
        ("config", "debug: smoked"),
    ],
)
def test_a_typo_is_not_valid(kind: str, text: str) -> None:
    assert problems(kind, yaml.safe_load(text)) != []


def nodes_in(value: Any) -> Iterator[dict[str, Any]]:
    """Yield the nodes of a configuration that have a target."""
    if isinstance(value, dict):
        if "_target_" in value:
            yield value
        for child in value.values():
            yield from nodes_in(child)


@pytest.mark.parametrize("group", [name for name in documents()[1:] if name not in OVERLAYS])
def test_a_misspelled_key_of_any_shipped_file_is_not_valid(group: str) -> None:
    """Each key of each node is misspelled once, and typed with a value of another type."""
    for option in groups()[group]:
        content = copy.deepcopy(read_option(group, option))
        for node in list(nodes_in(content)):
            for key in [key for key in node if not key.startswith("_")]:
                node[f"{key}x"] = node.pop(key)
                assert problems(group, content), (option, key)
                node[key] = node.pop(f"{key}x")
            assert problems(group, content) == []


VALUES = [
    *(None, True, False, -1, 0, 1, 2, 5, 7, 2**70, -0.5, 0.5, 1.5, 1e-9),  # 1.0 is 1 in JSON
    *("", "relu", "all", "auto", "x", "1", "best", [], [1], [0.5], ["x"], [1, 2], [[1]], [None]),
    *({}, {"x": 1}, {"x": "y"}, {"x": 0.5}),
]
ANNOTATIONS = [
    *(int, float, bool, str, None, list[int], tuple[int, int], tuple[float, ...], dict[str, int]),
    *(int | None, str | int | None, Literal["a", "relu"], Literal[1, True], list[int | list[int]]),
    *(PositiveInt, PositiveFloat, Fraction, BatchSize, Often, ColumnName, list[PositiveInt]),
    *(Annotated[int, Ge(0), Le(5)], Annotated[float | Literal["auto"], Ge(1)], PositiveInt | None),
    *(dict[str, PositiveFloat], dict[str, str | int | None], Annotated[int | None, Ge(2)]),
]


def arguments_of_all() -> list[Any]:
    """Return the annotation of every argument that a shipped file could set."""
    found: dict[str, Any] = {}
    for group, options in groups().items():
        for option in options:
            for node in nodes_in(read_option(group, option)):
                for argument in arguments(locate(node["_target_"])).values():
                    found.setdefault(str(argument.annotation), argument.annotation)
    return list(found.values())


def test_a_schema_admits_what_the_check_admits() -> None:
    annotations = [*ANNOTATIONS, *arguments_of_all()]
    assert len(annotations) > 60
    for annotation in annotations:
        schema = value_schema(annotation)
        if "/definitions/node" in json.dumps(schema):
            continue  # objects are nodes here, and anything for `fits`
        definitions = {"interpolation": {"type": "string", "pattern": "\\$\\{"}}
        checker = Draft7Validator({**schema, "definitions": definitions})
        for value in VALUES:
            assert checker.is_valid(value) == fits(value, annotation), (annotation, value)
        assert checker.is_valid("${seed}"), annotation


def test_random_settings_are_valid_where_the_check_finds_no_problem() -> None:
    """Ranges and types agree with the check of a whole configuration."""
    chooser = random.Random(0)
    composed = compose(["model=mlp", "optimizer=sgd"]).as_written()
    keys = [
        (group, key)
        for group in ("trainer", "optimizer", "model", "dataset", "device")
        for key in composed[group]
        if not key.startswith("_") and key != "source"
    ]
    compared = 0
    for _ in range(150):
        content = copy.deepcopy(composed)
        group, key = chooser.choice(keys)
        content[group][key] = chooser.choice(VALUES)
        whys = [why for _, why in problems_of(compose_over(content, []))]
        wrong_types = [why for why in whys if why.startswith("expected")]
        if len(wrong_types) == len(whys):
            compared += 1
            assert bool(wrong_types) == bool(problems(WHOLE, content)), (group, key, content[group])
    assert compared > 100


# the command


def test_the_schema_is_printed_or_written(dltrain, tmp_path: Path) -> None:
    printed = json.loads(dltrain("schema").stdout)
    assert printed == document(WHOLE) == dltrain("schema", "--json").json["schema"]
    assert printed["$schema"] == "http://json-schema.org/draft-07/schema#"
    assert dltrain("schema", "model", "--out", "model.json").code == 0
    assert json.loads((tmp_path / "model.json").read_text()) == document("model")
    assert dltrain("schema", "--out", "schemas").code == 0
    assert {path.stem for path in (tmp_path / "schemas").iterdir()} == set(documents())


def test_a_comment_describes_its_key() -> None:
    keys = document("trainer")["definitions"]["dltrain.config.settings.Trainer"]["properties"]
    expected = "number of batches whose gradients make one update; default: 1"
    assert keys["accumulate"]["description"] == expected


def test_options_and_classes_of_ones_own(dltrain, tmp_path: Path) -> None:
    (tmp_path / "ownnet.py").write_text(
        '"""A network."""\n\n\nclass Net:\n'
        '    """A network."""\n\n    def __init__(self, width: int = 3) -> None: ...\n'
    )
    (tmp_path / "own" / "model").mkdir(parents=True)
    (tmp_path / "own" / "model" / "mine.yaml").write_text("_target_: ownnet.Net\nwidth: 4\n")
    words = ("schema", "--config-dir", "own", "--json")
    typo = {"model": {"_target_": "ownnet.Net", "width": "wide"}}
    chosen = {"defaults": [{"override /model": "mine"}]}
    for plugins, is_typo in (([], False), (["plugins=[ownnet]"], True)):
        content = Draft7Validator(dltrain(*words, *plugins).json["schema"])
        assert content.is_valid(chosen)
        assert content.is_valid(typo) != is_typo
    assert problems(WHOLE, chosen) != []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("modle",), "schema modle: no such kind of files; did you mean model?"),
        (("model=cnn",), "schema takes no model=cnn: it has every option"),
        (("model", "--out", "folder"), "the name of one schema ends in .json"),
        (("--out", "nowhere/x.json"), "cannot be written"),
    ],
)
def test_mistakes(words: tuple[str, ...], message: str, dltrain) -> None:
    outcome = dltrain("schema", *words)
    assert outcome.code == 2
    assert message in outcome.err


def test_the_line_for_the_editor_is_no_description(dltrain, tmp_path: Path) -> None:
    (tmp_path / "own" / "model").mkdir(parents=True)
    (tmp_path / "own" / "model" / "mine.yaml").write_text(
        "# yaml-language-server: $schema=../../schemas/model.json\n# Mine\ndefaults: [cnn]\n"
    )
    found = dltrain("list", "model", "--config-dir", "own", "--json").json["model"]
    assert found["mine"] == "Mine"
