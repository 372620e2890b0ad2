"""--json: the outcome is the only text on standard output, for every command and every ending."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from dltrain.verbs import VERBS

QUICK = ("callbacks=quiet", "trainer.epochs=1")
NOISY = '''
import os

from torch import Tensor, nn


class Net(nn.Module):
    """A network that prints in every way."""

    def __init__(self, in_features: int, num_classes: int) -> None:
        super().__init__()
        self.layer = nn.Linear(in_features, num_classes)
        print("printed")
        os.write(1, b"written\\n")

    def forward(self, inputs: Tensor) -> Tensor:
        return self.layer(inputs.flatten(1))
'''


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A run for each command that takes one, by the command."""
    from dltrain.cli import main

    root = tmp_path_factory.mktemp("runs")
    commands = {
        "evaluate": ("dataset=digits", "model=mlp", "trainer.steps=2", *QUICK),
        "generate": ("experiment=autoencoder_mnist", "model=vae", "debug=smoke", *QUICK),
        "export": ("experiment=word2vec_imdb", "dataset.batch_size=4", "debug=smoke", *QUICK),
        "rollout": ("experiment=qlearning_frozenlake", "debug=smoke", *QUICK),
    }
    found = {}
    for command, words in commands.items():
        assert main([*words, f"hydra.run.dir={root / command}"]) == 0
        found[command] = str(root / command)
    same = found["evaluate"]
    return found | {"predict": same, "resume": same, "reproduce": same}


WORDS = {  # after each command; None: it is tested elsewhere
    "train": ("dataset=gates", *QUICK),
    "check": ("model=mlp",),
    "list": ("task",),
    "show": ("optimizer.lr", "optimizer/sgd"),
    "config": ("optimizer",),
    "evaluate": ("RUN",),
    "predict": ("RUN", "split=test"),
    "generate": ("RUN", "--samples", "2"),
    "rollout": ("RUN",),
    "export": ("RUN", "--format", "word2vec"),
    "resume": ("RUN", "trainer.steps=3"),
    "completion": ("bash",),
    "schema": ("trainer",),
    "help": ("predict",),
}


@pytest.mark.parametrize("command", WORDS)
def test_a_command_prints_nothing_but_json(command: str, runs: dict[str, str], dltrain) -> None:
    words = [runs.get(command, "") if word == "RUN" else word for word in WORDS[command]]
    outcome = dltrain(command, *words, "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.json["exit_code"] == 0
    assert len(outcome.json) > 1


@pytest.mark.parametrize("command", VERBS)
def test_a_mistake_is_json_too(command: str, dltrain) -> None:
    """A flag that no command has, before anything is read."""
    outcome = dltrain(command, "--nonsense", "--json")
    assert (outcome.code, outcome.json["exit_code"]) == (2, 2)
    assert "no such flag: --nonsense" in outcome.json["error"]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--json", "-m", "launcher=inline", "dataset=gates", "seed=1,2", *QUICK), 0),
        (("--version", "--json"), 0),
        (("--json", "--help"), 0),
        (("--json", "model=ccn"), 2),
        (("evaluate", "nowhere", "--json"), 3),
        (("dataset=tabular", "dataset.path=none.csv", "dataset.target=x", "--json"), 3),
        (("model=mlp", "optimizer=sgd", "optimizer.lr=1e38", *QUICK, "--json"), 4),
        (("predict", "--out", "--json"), 2),
    ],
    ids=str,
)
def test_every_ending_is_json(words: tuple[str, ...], code: int, dltrain) -> None:
    outcome = dltrain(*words)
    assert (outcome.code, outcome.json["exit_code"]) == (code, code), outcome.err
    assert ("error" in outcome.json) == (code != 0)


def test_ctrl_c_is_json(dltrain, monkeypatch: pytest.MonkeyPatch) -> None:
    import dltrain.commands.check as command

    def interrupted(options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "check", interrupted)
    outcome = dltrain("check", "--json")
    assert outcome.code == 130
    assert outcome.json == {"exit_code": 130, "status": "interrupted", "error": "interrupted"}


def test_what_a_users_code_prints_is_not_on_standard_output(tmp_path: Path) -> None:
    """A whole process: print and a write to the descriptor both go to standard error."""
    (tmp_path / "noisy.py").write_text(NOISY)
    words = ("plugins=[noisy]", "model={_target_: noisy.Net}", "debug=smoke", *QUICK)
    done = subprocess.run(
        [sys.executable, "-m", "dltrain", *words, "--json"],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["status"] == "completed"
    assert "printed" in done.stderr
    assert "written" in done.stderr


def test_the_words_after_two_dashes_are_no_flags(dltrain) -> None:
    outcome = dltrain("predict", "nowhere", "--", "--json")
    assert (outcome.code, outcome.stdout) == (3, "")
