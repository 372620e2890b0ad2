"""Settings of one network over the shared optimizer (`task.optimizers.NETWORK`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from dltrain.config.check import problems_of
from dltrain.config.checking.nodes import own_optimizer
from dltrain.config.compose import compose
from dltrain.experiment.experiment import Experiment
from dltrain.optim import Optim
from dltrain.optimizers.direct import DirectAdam, DirectAdamW
from dltrain.runs.checkpoint import Store, load

NETWORKS = ("judge", "generator", "discriminator")
SMALL = (
    "dataset=digits",
    "model=gan",
    "model.generator_sizes=[8]",
    "model.discriminator_sizes=[8]",
)
ADAMW = "{_target_: dltrain.optimizers.adamw.adamw, _partial_: true, lr: 0.05}"


def optims(*overrides: str) -> dict[str, Optim]:
    """Return the optimizer of each network; the configuration has no problems."""
    composed = compose([*SMALL, *overrides])
    assert problems_of(composed) == []
    stages = list(Experiment.on_fake_data(composed.config).task.stages())
    judging, (generating, discriminating) = stages[0].optims[0], stages[1].optims
    return dict(zip(NETWORKS, (judging, generating, discriminating), strict=True))


def rates(*overrides: str) -> dict[str, float]:
    return {network: optim.lrs[0] for network, optim in optims(*overrides).items()}


def betas(optim: Optim) -> Any:
    return optim.optimizer.param_groups[0]["betas"]


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([], (0.001, 0.0002, 0.0002)),
        (["task.optimizers.generator.lr=1e-3"], (0.001, 0.001, 0.0002)),
        (["task.optimizers.discriminator.lr=0.5"], (0.001, 0.0002, 0.5)),
        (["optimizer.lr=0.03"], (0.03, 0.0002, 0.0002)),
        (["optimizer.lr=0.03", "task.optimizers.judge.lr=0.04"], (0.04, 0.0002, 0.0002)),
        (["optimizer.lr=0.03", "~task.optimizers.generator.lr"], (0.03, 0.03, 0.0002)),
        (["optimizer.lr=0.03", "~task.optimizers"], (0.03, 0.03, 0.03)),
        (["optimizer.lr=0.03", "~task.optimizers.discriminator"], (0.03, 0.0002, 0.03)),
        (["optimizer.lr=0.03", f"task.optimizers.discriminator={ADAMW}"], (0.03, 0.0002, 0.05)),
        (["optimizer.lr=0.03", "task.optimizers.generator={lr: 0.07}"], (0.03, 0.07, 0.0002)),
    ],
    ids=str,
)
def test_a_networks_own_rate_stands_over_the_shared_one(
    overrides: list[str], expected: tuple[float, ...]
) -> None:
    assert rates(*overrides) == dict(zip(NETWORKS, expected, strict=True))


def test_all_settings_of_the_optimizer_may_be_refined_also_those_that_no_file_sets() -> None:
    """Only the generator has its own weight_decay; beta1 is the file's, beta2 the shared one."""
    found = optims(
        "optimizer.weight_decay=0.1",
        "task.optimizers.generator.weight_decay=0.2",
        "optimizer.beta2=0.9",
    )
    decays = {
        network: optim.optimizer.param_groups[0]["weight_decay"] for network, optim in found.items()
    }
    assert decays == {"judge": 0.1, "generator": 0.2, "discriminator": 0.1}
    assert [betas(found[network]) for network in NETWORKS] == [(0.9, 0.9), (0.5, 0.9), (0.5, 0.9)]


def test_another_optimizer_for_one_network_takes_nothing_of_the_shared_one() -> None:
    """Not its weight decay, nor the settings that the file has for that network."""
    found = optims("optimizer.weight_decay=0.1", f"task.optimizers.discriminator={ADAMW}")
    kinds = {network: type(optim.optimizer) for network, optim in found.items()}
    assert kinds == {
        "judge": DirectAdam,
        "generator": DirectAdam,
        "discriminator": DirectAdamW,
    }
    assert betas(found["discriminator"]) == (0.9, 0.999)
    assert found["discriminator"].optimizer.param_groups[0]["weight_decay"] != 0.1


def test_settings_are_those_of_the_shared_optimizer_when_it_is_another() -> None:
    """optimizer=rmsprop for all, once the networks have no betas of their own."""
    without = ("~task.optimizers.generator.beta1", "~task.optimizers.discriminator.beta1")
    found = optims("optimizer=rmsprop", *without)
    assert {type(optim.optimizer) for optim in found.values()} == {torch.optim.RMSprop}
    assert [found[network].lrs for network in NETWORKS[1:]] == [[0.0002], [0.0002]]


def test_no_two_optimizers_own_the_same_weights() -> None:
    found = optims()
    owned = [{id(p) for p in optim.params} for optim in found.values()]
    assert all(owned)
    assert not owned[0] & owned[1]
    assert not owned[1] & owned[2]
    assert not owned[0] & owned[2]


def test_own_settings_do_not_change_the_shared_node() -> None:
    config: dict[str, Any] = {
        "optimizer": {"_target_": "a", "lr": 1},
        "task": {"optimizers": {"one": {"lr": 2}}},
    }
    assert own_optimizer(config, "one") == {"_target_": "a", "lr": 2}
    assert config["optimizer"] == {"_target_": "a", "lr": 1}


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("task.optimizers.generator.lrr=1", "did you mean task.optimizers.generator.lr"),
        ("task.optimizers.generater.lr=1", "did you mean task.optimizers.generator.lr"),
        ("task.optimizers.generator.lr=fast", "task.optimizers.generator.lr=fast"),
        ("task.optimizers.generator.lr=-1", "task.optimizers.generator.lr=-1"),
        ("task.optimizers.judge.momentum=0.9", "momentum"),
        (
            "task.optimizers.generator.weight_decy=1",
            "did you mean task.optimizers.generator.weight_decay",
        ),
        ("task.optimizers.generator=0.1", "expected settings of an optimizer, such as {lr: 0.001}"),
        ("task.optimizers=0.1", "expected settings of an optimizer, such as {lr: 0.001}"),
        (
            "task.optimizers.discriminator={_target_: dltrain.optimizers.sgd.sgd, lrr: 1}",
            "did you mean",
        ),
        ("optimizer=sgd", "sgd takes no beta1"),
    ],
    ids=str,
)
def test_settings_that_no_optimizer_takes_are_refused_by_name(
    override: str, reason: str, dltrain
) -> None:
    outcome = dltrain("check", *SMALL, override)
    assert outcome.code == 2, outcome.err + outcome.out
    assert reason in outcome.err
    assert "1 problem" in outcome.err or override == "optimizer=sgd"


def test_a_network_that_the_task_does_not_have_is_refused(dltrain) -> None:
    """A file may name it, too: not only overrides are checked."""
    Path("conf").mkdir()
    Path("conf/task").mkdir()
    node = {
        "_target_": "dltrain.tasks.images.adversarial.Adversarial",
        "optimizers": {"critic": {"lr": 0.1}},
    }
    Path("conf/task/mine.yaml").write_text(yaml.safe_dump(node))
    outcome = dltrain("check", "--config-dir", "conf", *SMALL, "task=mine")
    assert outcome.code == 2, outcome.err + outcome.out
    assert "this task has no such network: generator, discriminator, judge" in outcome.err


def test_a_task_of_one_network_takes_no_optimizers(dltrain) -> None:
    outcome = dltrain("check", "dataset=digits", "model=mlp", "task.optimizers.model.lr=0.1")
    assert outcome.code == 2
    assert "task.optimizers.model.lr" in outcome.err


@pytest.mark.usefixtures("save_every_epoch")
def test_a_run_trains_with_them_and_a_resume_keeps_them(dltrain) -> None:
    """The configuration and the rates of later steps have them; a resume may set others."""
    own = (
        "task.optimizers.generator.lr=0.004",
        f"task.optimizers.discriminator={ADAMW}",
        "optimizer.lr=0.002",
    )
    once = ("trainer.epochs=1", "schedule=constant", "callbacks=quiet", "--json")
    outcome = dltrain(*SMALL, *own, *once)
    assert outcome.code == 0, outcome.err
    folder = Path(outcome.json["run"])
    assert _rates_of(folder) == [0.004, 0.05]
    again = dltrain("resume", str(folder), "trainer.epochs=2", "--json")
    assert again.code == 0, again.err
    assert _rates_of(Path(again.json["run"])) == [0.004, 0.05]
    assert _saved(Path(again.json["run"])) == {
        "generator": 0.004,
        "discriminator": 0.05,
        "judge": None,
    }
    other = dltrain(
        "resume",
        again.json["run"],
        "trainer.epochs=3",
        "task.optimizers.generator.lr=0.006",
        "--json",
    )
    assert other.code == 0, other.err
    assert _rates_of(Path(other.json["run"])) == [0.006, 0.05]


def _rates_of(folder: Path) -> list[float]:
    """The rates of the adversarial stage's last step: the generator's, the discriminator's."""
    state = load(Store(folder / "checkpoints").steps()[-1])
    assert state["index"] == 1
    return [optim["optimizer"]["param_groups"][0]["lr"] for optim in state["optims"]]


def _saved(folder: Path) -> dict[str, float | None]:
    config = yaml.safe_load((folder / "config.yaml").read_text())
    return {network: node.get("lr") for network, node in config["task"]["optimizers"].items()}
