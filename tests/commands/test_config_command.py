"""`dltrain config`: nothing but YAML on standard output, and it composes again to the same."""

from __future__ import annotations

import pytest
import yaml

from dltrain.config.compose import compose, compose_over
from dltrain.config.groups import groups

NEEDED_VALUES = {"transfer_ants_bees": ["init.from=null"]}  # of experiments that have ??? in them


@pytest.mark.parametrize("experiment", [None, *groups()["experiment"][::9]])
def test_the_whole_configuration_is_printed(experiment: str | None, dltrain) -> None:
    words = [f"experiment={experiment}"] if experiment else []
    words += NEEDED_VALUES.get(experiment, [])
    outcome = dltrain("config", *words)
    assert outcome.code == 0, outcome.err
    printed = yaml.safe_load(outcome.stdout)
    composed = compose(words)
    assert printed["trainer"]["epochs"] in (
        "${oc.select:dataset.epochs,5}",
        composed.config["trainer"]["epochs"],
    )
    assert compose_over(printed, []).config == composed.config
    resolved = yaml.safe_load(dltrain("config", *words, "--resolve").stdout)
    assert resolved == composed.public
    assert "${" not in outcome.stdout.replace("${oc.select:dataset.epochs,5}", "").replace(
        "${oc.env:DLTRAIN_DATA,data}", ""
    )


@pytest.mark.parametrize(
    "words",
    [
        ("config", "model=mlp"),
        ("--cfg", "job", "model=mlp"),
        ("--cfg=all", "model=mlp"),
        ("model=mlp", "-c", "job"),
        ("--json", "--cfg", "job", "model=mlp"),
    ],
    ids=" ".join,
)
def test_hydra_spellings_print_the_same(words: tuple[str, ...], dltrain) -> None:
    outcome = dltrain(*words)
    assert outcome.code == 0, outcome.err
    printed = outcome.json["config"] if "--json" in words else yaml.safe_load(outcome.stdout)
    assert printed == compose(["model=mlp"]).as_written()


@pytest.mark.parametrize(
    ("words", "printed"),
    [
        (("config", "optimizer.lr", "optimizer=sgd"), 0.1),
        (("--cfg", "job", "--package", "optimizer.lr"), 0.001),
        (("--cfg", "job", "-p", "paths.output"), "outputs"),
        (("config", "trainer.epochs"), "${oc.select:dataset.epochs,5}"),
        (("config", "trainer.epochs", "--resolve"), 10),
        (("config", "dataset.noise", "dataset=synthetic"), 2.0),
        (("--cfg", "hydra"), None),
    ],
    ids=str,
)
def test_a_part_is_printed(words: tuple[str, ...], printed: object, dltrain) -> None:
    outcome = dltrain(*words)
    assert outcome.code == 0, outcome.err
    assert yaml.safe_load(outcome.stdout) == printed


def test_problems_go_to_standard_error(dltrain) -> None:
    outcome = dltrain("config", "optimizer.lr=-1", "sede=3")
    assert outcome.code == 2
    assert yaml.safe_load(outcome.stdout)["optimizer"]["lr"] == -1
    assert "expected a number > 0" in outcome.stderr
    assert "did you mean seed" in outcome.stderr


def test_a_key_that_does_not_exist(dltrain) -> None:
    outcome = dltrain("config", "optimizer.lrr")
    assert (outcome.code, outcome.stdout) == (2, "")
    assert "did you mean optimizer.lr" in outcome.stderr
    assert "--cfg=jib: expected one of job" in dltrain("--cfg", "jib").err


def test_a_secret_is_printed_as_it_was_typed(dltrain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PASSWORD", "hunter2")
    for flags in ([], ["--resolve"], ["--resolve", "--json"], ["--json"]):
        outcome = dltrain("config", "name=${oc.env:PASSWORD}", *flags)
        assert outcome.code == 0
        assert "hunter2" not in outcome.stdout + outcome.stderr
        assert "${oc.env:PASSWORD}" in outcome.stdout


def test_show_prints_the_comment_beside_the_key(dltrain) -> None:
    found = dltrain("show", "trainer.accumulate", "--json").json["trainer.accumulate"]
    assert found["means"] == "number of batches whose gradients make one update"
    outcome = dltrain("show", "dataset.path", "dataset=image_folder")
    assert "here or in the data root: DIR/<class>/*" in outcome.out
    rate = "task.optimizers.generator.lr"
    found = dltrain("show", rate, "experiment=dcgan_mnist", "--json").json[rate]
    assert found["means"].startswith("2.5 times the paper's")
    assert "means" not in dltrain("show", "model.activation", "model=cnn", "--json").json


@pytest.mark.parametrize("words", [("--resolve",), ("-p", "model"), ("train", "--resolve")])
def test_a_flag_of_cfg_alone_trains_nothing(words: tuple[str, ...], dltrain) -> None:
    outcome = dltrain(*words)
    assert outcome.code == 2
    assert "add --cfg job, or type `dltrain config`" in outcome.err
