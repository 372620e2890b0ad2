"""Transfer learning: weights of a run or published ones, freezing, standardization of inputs."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torchvision import models
from torchvision.models import ResNet18_Weights

from dltrain.runs import checkpoint
from dltrain.runs.checkpoint import Store

SMALL = ("model.channels=[4,6]", "callbacks=quiet", "--json", "dataset.batch_size=256")
DIGITS = ("dataset=digits", "model=cnn", *SMALL, "trainer.epochs=1")
FIRST = (
    "model.0.weight",
    "model.1.weight",
    "model.1.bias",
    "model.1.running_mean",
    "model.1.running_var",
)


def weights(run: Path, which: str = "last") -> dict[str, Tensor]:
    folder = Store(run / "checkpoints").pointed(which)
    assert folder is not None
    state: dict[str, Tensor] = checkpoint.load(folder)["task"]
    return state


def folder_of(outcome) -> Path:
    assert outcome.code == 0, outcome.err
    return Path(outcome.json["run"])


def test_frozen_layers_are_bit_equal_after_an_epoch_and_are_named(dltrain) -> None:
    before = weights(folder_of(dltrain(*DIGITS, "name=teacher")), "best")
    outcome = dltrain(*DIGITS, "init.from=teacher", "freeze=['0','1']", "seed=1")
    after = weights(folder_of(outcome))
    assert "frozen: 3 parameters (44 numbers): 0.weight, 1.weight, 1.bias" in outcome.out
    assert all(torch.equal(after[name], before[name]) for name in FIRST)
    assert not any(
        torch.equal(after[name], before[name])
        for name in ("model.4.weight", "model.5.running_mean")
    )


def test_thawed_layers_are_trained_by_a_stage_of_their_own(dltrain) -> None:
    two = (*DIGITS, "trainer.epochs=2", "freeze=['0','1']")
    run = folder_of(dltrain(*two, "unfreeze_epoch=1"))
    events = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert list(dict.fromkeys(event["stage"] for event in events)) == ["frozen", "train"]
    ends = [e for e in events if "val/loss" in e]
    assert [(e["stage"], e["epoch"]) for e in ends] == [("frozen", 1), ("train", 1)]
    end = checkpoint.load(next((run / "checkpoints").glob("stage-0-*")))["task"]
    first = weights(folder_of(dltrain(*DIGITS, "freeze=['0','1']", "trainer.steps=1")))
    last = weights(run)
    assert all(torch.equal(end[name], first[name]) for name in FIRST)
    assert not any(torch.equal(last[name], end[name]) for name in FIRST)


def test_a_run_that_unfreezes_resumes_to_the_same_result(dltrain) -> None:
    three = (
        *DIGITS,
        "trainer.epochs=3",
        "freeze=['0','1']",
        "unfreeze_epoch=1",
        "schedule=constant",
        "trainer.save_every=1",
    )
    whole = weights(folder_of(dltrain(*three)))
    run = folder_of(dltrain(*three, "name=cut", "trainer.steps=8"))
    resumed = dltrain("resume", str(run), "trainer.steps=null", "--json")
    assert resumed.code == 0, resumed.err
    again = weights(run)
    assert whole.keys() == again.keys()
    assert all(torch.equal(whole[name], again[name]) for name in whole)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            ["freeze=[layer9]"],
            "layer9 matches no parameter of this model: its parts are 0, 1, 4, 5, 9",
        ),
        (["freeze=['*']"], "nothing is left to train"),
        (["unfreeze_epoch=1"], 'nothing is frozen: "freeze=[...]" says what'),
        (["freeze=['0']", "unfreeze_epoch=5", "trainer.epochs=5"], "the run has 5 epochs"),
        (["lr_factors={nope: 0.1}"], "nope matches no parameter"),
        (["lr_factors={0: -1}"], "lr_factors"),
        (
            ["lr_factors={0: 0.1}", "optimizer=muon", "freeze=[0]"],
            "takes one learning rate for all layers",
        ),
        (["init.weights=default"], "there are no published weights of this model"),
        (["init.weights=default", "init.from=x"], "begin with one of them"),
        (["model=autoencoder", "freeze=['*decoder*']", "unfreeze_epoch=1"], "does not unfreeze"),
    ],
)
def test_impossible_transfer_settings_are_refused_before_training(
    words: list[str], says: str, dltrain, tmp_path: Path
) -> None:
    known = [] if words[0].startswith("model=") else ["model=cnn"]
    outcome = dltrain("dataset=digits", *known, *words)
    assert outcome.code == 2, outcome.err
    assert says in " ".join(outcome.err.split())
    assert not list(tmp_path.iterdir())


def test_inputs_are_standardized_as_those_of_the_pretrained_run(dltrain) -> None:
    wide = (
        "dataset=synthetic",
        "dataset.source.channels=1",
        *SMALL,
        "model=cnn",
        "trainer.epochs=1",
    )
    teacher = folder_of(dltrain(*wide, "name=teacher"))
    pupil = folder_of(dltrain(*DIGITS, "preprocessing=[resize]", "init.from=teacher"))
    about = [json.loads((run / "manifest.json").read_text())["data"] for run in (teacher, pupil)]
    own = json.loads((folder_of(dltrain(*DIGITS, "name=own")) / "manifest.json").read_text())[
        "data"
    ]
    assert about[0]["mean"] == about[1]["mean"] != own["mean"]
    assert about[0]["std"] == about[1]["std"] != own["std"]


def test_layers_learn_at_rates_of_their_own(dltrain) -> None:
    run = folder_of(dltrain(*DIGITS, "lr_factors={0: 1e-20, 1: 1e-20}", "trainer.steps=2"))
    fresh = weights(folder_of(dltrain(*DIGITS, "optimizer.lr=1e-30", "trainer.steps=2")))
    after = weights(run)
    assert torch.equal(after["model.0.weight"], fresh["model.0.weight"])
    assert not torch.equal(after["model.4.weight"], fresh["model.4.weight"])


@pytest.fixture
def resnet(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return torch's cache with weights of a ResNet-18, under the name of their sha256."""
    home = tmp_path_factory.mktemp("torch")
    monkeypatch.setenv("TORCH_HOME", str(home))
    folder = home / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.manual_seed(5)
    torch.save(models.resnet18().state_dict(), folder / "new.pth")
    digest = hashlib.sha256((folder / "new.pth").read_bytes()).hexdigest()
    file = (folder / "new.pth").rename(folder / f"resnet18-{digest[:8]}.pth")
    monkeypatch.setattr(
        type(ResNet18_Weights.DEFAULT), "url", f"http://127.0.0.1:9/{file.name}", raising=False
    )
    return file


RESNET = (
    "dataset=synthetic",
    "dataset.source.channels=3",
    "dataset.source.height=64",
    "dataset.source.width=64",
)
RESNET += (
    "dataset.source.train_samples=16",
    "dataset.source.test_samples=8",
    "model=resnet18",
    "model.stem=large",
)
RESNET += (
    "init.weights=default",
    "trainer.steps=1",
    "callbacks=quiet",
    "--json",
    "optimizer.lr=1e-30",
)


def test_published_weights_are_loaded_except_the_head(dltrain, resnet: Path) -> None:
    outcome = dltrain(*RESNET)
    run = folder_of(outcome)
    theirs, own = torch.load(resnet, weights_only=True), weights(run)
    name = next(n for n in own if n.endswith("layer3.1.conv2.weight"))
    assert torch.allclose(own[name], theirs["layer3.1.conv2.weight"])
    assert "120 of 122 tensors loaded" in outcome.out
    assert "fc.weight (10, 512): the published network's is (1000, 512)" in outcome.out
    about = json.loads((run / "manifest.json").read_text())["data"]
    assert about["mean"] == pytest.approx([123.675, 116.28, 103.53])
    assert about["std"] == pytest.approx([58.395, 57.12, 57.375])


def test_damaged_weights_exit_3_and_say_so(dltrain, resnet: Path) -> None:
    damaged = bytearray(resnet.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    resnet.write_bytes(damaged)
    outcome = dltrain(*RESNET)
    assert outcome.code == 3
    assert f"{resnet} is damaged" in outcome.err


def test_unavailable_weights_exit_3_and_say_where_to_put_them(dltrain, resnet: Path) -> None:
    resnet.unlink()
    outcome = dltrain(*RESNET)
    assert outcome.code == 3
    assert f"Put it into {resnet.parent}" in outcome.err


def test_unknown_weights_exit_2_and_list_the_known_ones(dltrain, resnet: Path) -> None:
    outcome = dltrain(*[word.replace("=default", "=IMAGENET1K_V2") for word in RESNET])
    assert outcome.code == 2
    assert "did you mean IMAGENET1K_V1?" in outcome.err
