"""Identifiers of --json, names of run folders, and messages that appear once."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

CHECK_KEYS = {
    "exit_code",
    "parameters",
    "auxiliary_parameters",
    "forward_flops_per_sample",
    "state_bytes",
    "activation_bytes_per_batch",
    "measured_batch_size",
    "evaluation_samples",
    "evaluation_state_bytes",
    "evaluation_batch_size",
    "evaluation_output_bytes",
    "dataset_bytes",
    "initial_loss",
    "step_seconds",
    "epoch_seconds",
    "steps_per_epoch",
    "earlier_stages",
}
SMOKE = ("debug=smoke", "callbacks=quiet")
OWN = """
from torch import Tensor, nn


class Net(nn.Module):
    def __init__(self, in_features: int, num_classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(in_features, num_classes))

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)
"""


def test_what_check_measures_has_identifiers_and_numbers(dltrain) -> None:
    found = dltrain("check", "model=mlp", "--json").json
    assert found.keys() == CHECK_KEYS
    assert all(
        isinstance(value, int | float) for key, value in found.items() if key != "earlier_stages"
    )
    assert found["parameters"] == 50826
    assert found["steps_per_epoch"] == 81
    assert (
        found["state_bytes"] == 4 * 4 * 50826 + 24
    )  # weights, gradients, Adam's two moments; and its six counters


@pytest.mark.parametrize(
    "words",
    [
        ("check",),
        ("check", "model=dcgan", "model.channels=[8]"),
        ("list",),
        ("show", "optimizer.lr"),
    ],
    ids=str,
)
def test_keys_of_json_are_identifiers(words: tuple[str, ...], dltrain) -> None:
    """`show` has the key that was asked for, which has dots in it."""

    def keys_in(value: object) -> list[str]:
        if not isinstance(value, dict):
            return []
        return [*value, *(key for child in value.values() for key in keys_in(child))]

    for key in keys_in(dltrain(*words, "--json").json):
        assert re.fullmatch(r"[a-z0-9_]+(\.[a-z0-9_]+)*", key), key


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["model={_target_: own_model.Net}"], "Net_digits_smoke"),
        (["experiment=cnn_mnist", "model={_target_: own_model.Net}"], "cnn_mnist_Net_smoke"),
        (["name=mine", "model={_target_: own_model.Net}"], "mine_Net_digits_smoke"),
        (["model=mlp", "model.hidden_sizes=[3]"], "mlp_digits_smoke"),
    ],
    ids=str,
)
def test_a_run_of_a_model_of_ones_own_is_called_after_it(
    words: list[str], name: str, dltrain
) -> None:
    Path("own_model.py").write_text(OWN)
    outcome = dltrain("plugins=[own_model]", *words, *SMOKE, "--json")
    assert outcome.code == 0, outcome.err
    assert Path(outcome.json["run"]).name.partition("_")[2] == name


def test_a_class_alone_does_not_replace_the_keys_of_a_choice(dltrain) -> None:
    """One line says how all of it is replaced, instead of one for each key."""
    Path("own_model.py").write_text(OWN)
    outcome = dltrain("check", "plugins=[own_model]", "model._target_=own_model.Net")
    assert outcome.code == 2
    assert len(outcome.err.splitlines()) == 2
    assert 'to replace the whole node: "model={_target_: own_model.Net}"' in outcome.err
    assert dltrain("check", "plugins=[own_model]", "model={_target_: own_model.Net}").code == 0


@pytest.mark.parametrize("verb", ["evaluate", "resume", "predict"])
def test_a_run_that_is_not_found_names_the_key_of_the_place(verb: str, dltrain) -> None:
    outcome = dltrain(verb, "last", *(["x.png"] if verb == "predict" else []))
    assert outcome.code == 3
    assert "there is no run under outputs (paths.output=FOLDER names another place)" in outcome.err
    Path("elsewhere").mkdir()
    assert "no run under elsewhere" in dltrain(verb, "last", "paths.output=elsewhere").err


def test_both_sides_of_a_translation_are_named(dltrain) -> None:
    for side in ("source", "target"):
        Path(f"{side}.txt").write_text("".join(f"{side} {i} word\n" for i in range(60)))
    words = [
        "dataset=translation",
        "dataset.pairs.source=source.txt",
        "dataset.pairs.target=target.txt",
    ]
    outcome = dltrain(
        "check", *words, "dataset.tokenizer=word", "model=seq2seq", "model.hidden_size=4", "--data"
    )
    assert outcome.code == 0, outcome.err
    said = [line for line in outcome.out.splitlines() if line.startswith("tokenizing")]
    assert said == [
        "tokenizing 60 source texts (cached for later runs)",
        "tokenizing 60 target texts (cached for later runs)",
    ]


def test_a_resume_reports_its_data_once(dltrain) -> None:
    """It builds the experiment twice: to see whether the checkpoint fits, and to continue
    from it.
    """
    from PIL import Image

    for name in ("a", "b"):
        Path("images", name).mkdir(parents=True)
        for i in range(8):
            Image.new("RGB", (8, 8), (30 * i, 0, 0)).save(Path("images", name, f"{i}.png"))
    Path("images/a/odd.png").write_text("no image")
    words = [
        "dataset=image_folder",
        "dataset.path=images",
        "model=mlp",
        "model.hidden_sizes=[4]",
        "callbacks=quiet",
    ]
    trained = dltrain(*words, "trainer.epochs=1")
    assert trained.code == 0, trained.err
    resumed = dltrain("resume", "last", "trainer.epochs=2")
    assert resumed.code == 0, resumed.err
    for outcome in (trained, resumed):
        lines = [line for line in outcome.out.splitlines() if "odd.png" in line]
        assert len(lines) == 1
