"""Completion: the words offered, without importing torch, and the scripts of the shells."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import get_type_hints

import pytest

from dltrain.commands.completion import NAMED_VALUES, SCRIPTS
from dltrain.config.checking.annotations import literals
from dltrain.config.compose import compose
from dltrain.config.groups import OVERLAYS, groups, read_option
from dltrain.config.suggestions.suggest import dotted_keys
from dltrain.device import Device
from dltrain.runs.folder import CONFIG
from dltrain.verbs import FLAGS, RUN_VERBS, VERBS


@pytest.fixture
def offered(dltrain):
    def ask(*words: str) -> list[str]:
        outcome = dltrain("__complete", "--", *words)
        assert outcome.code == 0, outcome.err
        return [line.partition("\t")[0] for line in outcome.stdout.splitlines()]

    return ask


@pytest.fixture
def runs(tmp_path: Path) -> list[str]:
    """Three runs, oldest first: their names."""
    names = [
        "outputs/2026-01-01/01_mlp",
        "outputs/2026-01-02/02_sweep/0",
        "outputs/2026-01-02/03_cnn",
    ]
    for name in names:
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / CONFIG).touch()
    return ["01_mlp", "02_sweep/0", "03_cnn"]


def test_the_first_word_is_a_verb_or_a_setting(offered) -> None:
    found = offered("")
    assert set(VERBS) <= set(found)
    assert not any("__" in word for word in found)
    assert {"model=", "dataset=", "experiment=", "debug=", "trainer.", "seed=", "paths."} <= set(
        found
    )
    assert offered("mo") == ["model="]
    assert offered("ev") == ["evaluate"]
    assert offered("zz") == []


@pytest.mark.parametrize("group", [group for group, options in groups().items() if options])
def test_every_group_offers_its_options(group: str, offered) -> None:
    assert offered(f"{group}=") == [f"{group}={option}" for option in groups()[group]]
    first = groups()[group][0]
    assert f"{group}={first}" in offered("seed=1", f"{group}={first[:2]}")


@pytest.mark.parametrize(
    "choice",
    [
        f"{group}={option}"
        for group, options in groups().items()
        for option in options
        if group not in OVERLAYS
        and (option == options[0] or "defaults" in read_option(group, option))
    ],
)
def test_the_keys_below_a_choice_are_those_of_its_composition(choice: str, offered) -> None:
    from omegaconf import OmegaConf

    group = choice.partition("=")[0]
    word = (
        f"{group}=[{choice.partition('=')[2]}]"
        if group in ("regularization", "preprocessing")
        else choice
    )
    node = compose([word]).config[group]
    expected = {key.partition(".")[0] for key in dotted_keys(OmegaConf.create(node))}
    if group == "dataset":  # the keys of its source may be written without `source.`
        expected |= node.get("source", {}).keys() - {"_target_"}
    found = {key.removeprefix(f"{group}.").rstrip("=.") for key in offered(word, f"{group}.")}
    assert found == expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["optimizer.l"], ["optimizer.lr="]),
        (["model=mlp", "model.h"], ["model.hidden_sizes="]),
        (["model=cnn", "model.hidden"], ["model.hidden_sizes="]),
        (["model=lenet5", "model.hidden"], []),
        (["train", "model=mlp", "model.h"], ["model.hidden_sizes="]),
        (["experiment=mlp_mnist", "model.h"], ["model.hidden_sizes="]),
        (["model=nope", "model."], []),
        (
            ["regularization=[l1,l2]", "regularization."],
            ["regularization.l1.", "regularization.l2."],
        ),
        (["regularization=[l1]", "regularization.l1."], ["regularization.l1.weight="]),
        (
            ["regularization=[l2,drop"],
            ["regularization=[l2,dropout]", "regularization=[l2,dropout,"],
        ),
        (
            ["regularization=[l1,l"],
            [
                "regularization=[l1,l2",
                "regularization=[l1,label_smoothing",
                "regularization=[l1,lookahead",
            ],
        ),
        (["model=lenet5,p"], []),
        (["-m", "model=lenet5,p"], ["model=lenet5,perceptron"]),
        (["--multirun", "optimizer=sgd,adamw"], ["optimizer=sgd,adamw"]),
        (["dataset.so"], ["dataset.source="]),
        (["dataset=synthetic", "dataset.source.no"], ["dataset.source.noise="]),
        (["dataset=synthetic", "dataset.no"], ["dataset.noise="]),
        (["device.comp"], ["device.compile="]),
        (
            ["device.compile="],
            [f"device.compile={value}" for value in ("off", "model", "step", "auto")],
        ),
        (["device.compile=m"], ["device.compile=model"]),
        (["device.det"], ["device.deterministic="]),
        (["device.deterministic="], ["device.deterministic=true", "device.deterministic=false"]),
        (["trainer.ep"], ["trainer.epochs="]),
        (["init."], ["init.from=", "init.weights="]),
        (["seed"], ["seed="]),
        (["--con"], ["--config-dir"]),
        (["--config-dir", ""], []),
        (["predict", "last", "--out", ""], []),
        (["completion", ""], ["bash", "zsh", "fish"]),
        (["help", "ev"], ["evaluate"]),
        (["schema", "t"], ["task", "trainer"]),
        (["schema", "co"], ["config"]),
        (["list", "mo"], ["model"]),
        (["show", "model/cn"], ["model/cnn", "model/cnn_roi"]),
        (["show", "optimizer.l"], ["optimizer.lr"]),
        (["show", "see"], ["seed"]),
    ],
    ids=str,
)
def test_what_is_offered(words: list[str], expected: list[str], offered) -> None:
    assert offered(*words) == expected


@pytest.mark.parametrize("key", NAMED_VALUES)
def test_named_values_are_those_that_the_signature_admits(key: str) -> None:
    annotation = get_type_hints(Device)[key.removeprefix("device.")]
    assert set(NAMED_VALUES[key]) == set(literals(annotation))


def test_a_dash_offers_flags(offered) -> None:
    assert set(offered("--")) == {flag for flag in FLAGS if flag.startswith("--")}


@pytest.mark.parametrize("verb", sorted(RUN_VERBS))
def test_verbs_of_a_run_offer_the_runs_newest_first(verb: str, offered, runs: list[str]) -> None:
    assert offered(verb, "") == ["last", "last-any", *reversed(runs)]
    assert offered(verb, "02") == ["02_sweep/0"]
    assert offered(verb, "--json", "la") == ["last", "last-any"]
    assert offered("paths.output=nowhere", verb, "") == []


def test_after_its_run_predict_leaves_files_to_the_shell(offered, runs: list[str]) -> None:
    assert offered("predict", "last", "") == []
    assert offered("predict", "last", "pictures/a") == []
    assert "dataset=" in offered("evaluate", "last", "da")


def test_every_run_of_a_comparison_is_offered(offered, runs: list[str]) -> None:
    for typed in (["compare"], ["compare", "03_cnn"], ["runs", "--delete"]):
        assert [one for one in offered(*typed, "") if not one.startswith("last")] == runs[::-1]
    assert offered("runs", "") == []


def test_a_run_to_begin_with_is_offered(offered, runs: list[str]) -> None:
    assert offered("init.from=03") == ["init.from=03_cnn"]


@pytest.mark.parametrize("flags", [["--config-dir", "mine"], ["--config-dir=mine"]], ids=str)
def test_options_of_a_config_dir_are_offered(flags: list[str], offered, tmp_path: Path) -> None:
    (tmp_path / "mine" / "model").mkdir(parents=True)
    (tmp_path / "mine" / "model" / "my_net.yaml").write_text(
        "# Mine\n_target_: mine.Net\nwidth: 3\n"
    )
    assert offered(*flags, "model=my") == ["model=my_net"]
    assert offered(*flags, "model=my_net", "model.") == ["model.width="]
    assert offered("model=my") == []


def test_it_answers_without_torch_or_hydra() -> None:
    code = (
        "import sys; from dltrain.cli import main;"
        "main(['__complete', '--', 'experiment=mlp_mnist', 'model.']);"
        "sys.exit(99 if {'torch', 'hydra', 'numpy'} & set(sys.modules) else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "model.hidden_sizes=\tnow [800, 800]" in done.stdout


# the scripts


@pytest.mark.parametrize("shell", SCRIPTS)
def test_a_script_is_one_of_its_shell(shell: str, dltrain, tmp_path: Path) -> None:
    outcome = dltrain("completion", shell)
    assert outcome.code == 0
    assert "__complete" in outcome.out
    if shutil.which(shell):
        (tmp_path / "script").write_text(outcome.out)
        done = subprocess.run([shell, "-n", "script"], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("words", [[], ["tcsh"]], ids=str)
def test_completion_asks_for_which_shell(words: list[str], dltrain) -> None:
    outcome = dltrain("completion", *words)
    assert outcome.code == 2
    assert 'eval "$(dltrain completion bash)"' in outcome.err


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(
    ("line", "words", "breaks", "expected"),
    [
        ("dltrain mo", ["dltrain", "mo"], "=:", ["model="]),
        ("dltrain model=cn", ["dltrain", "model", "=", "cn"], "=:", ["cnn", "cnn_roi"]),
        ("dltrain model=cn", ["dltrain", "model=cn"], ":", ["model=cnn", "model=cnn_roi"]),
        (
            "dltrain model=mlp model.h",
            ["dltrain", "model", "=", "mlp", "model.h"],
            "=:",
            ["model.hidden_sizes="],
        ),
        (
            "dltrain regularization=[l2,dr",
            ["dltrain", "regularization", "=", "[l2,dr"],
            "=:",
            [r"\[l2,dropout\]", r"\[l2,dropout,"],
        ),
        (
            'dltrain "regularization=[l2,dr',
            ["dltrain", '"regularization=[l2,dr'],
            "=:",
            ["regularization=[l2,dropout]", "regularization=[l2,dropout,"],
        ),
        ("dltrain completion ", ["dltrain", "completion", ""], "=:", ["bash", "zsh", "fish"]),
    ],
    ids=str,
)
def test_bash_completes_a_line_cut_at_every_equals_sign(
    line: str, words: list[str], breaks: str, expected: list[str], tmp_path: Path
) -> None:
    """Bash cuts words at COMP_WORDBREAKS, and a reply replaces the part after the last break."""
    command = tmp_path / "dltrain"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m dltrain "$@"\n')
    command.chmod(0o755)
    quoted = " ".join(f"'{word}'" for word in words)
    script = (
        f"{SCRIPTS['bash']}\nCOMP_LINE='{line}' COMP_POINT={len(line)} COMP_WORDBREAKS='{breaks}'\n"
        f"COMP_WORDS=({quoted}) COMP_CWORD={len(words) - 1}\n"
        f"_dltrain '{command}' '{words[-1]}' '{words[-2]}'\n"
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, timeout=100, check=False
    )
    assert (done.stdout.splitlines(), done.stderr) == (expected, "")
