"""The command line: output, exit codes, and mistakes that leave nothing behind."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from pathlib import Path
from urllib.error import URLError

import pytest
import torch

from dltrain import __version__
from dltrain.config.groups import groups, summary
from dltrain.verbs import VERBS

SMOKE = ("debug=smoke", "callbacks=quiet")


def python(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, timeout=100, check=False
    )


def nothing_written(folder: Path) -> bool:
    return not list(folder.iterdir())


# help and version


@pytest.mark.parametrize(
    "argv", [("--help",), ("-h",), ("help",), ("nonsense", "--help")], ids=" ".join
)
def test_help_names_every_verb_and_group(argv: tuple[str, ...], dltrain) -> None:
    outcome = dltrain(*argv)
    assert outcome.code == 0
    for verb in VERBS:
        assert f"dltrain {VERBS[verb].usage}" in outcome.out
    lines = [line.split() for line in outcome.out.splitlines()]
    for group, options in groups().items():
        if options:
            assert any(
                words[:1] == [group] and words[1].startswith(options[0]) for words in lines if words
            ), group
    assert max(map(len, outcome.out.splitlines())) <= 130


def test_version(dltrain) -> None:
    outcome = dltrain("--version")
    assert (outcome.code, outcome.out) == (0, f"dltrain {__version__}\n")


def test_python_m_dltrain_is_the_same_command() -> None:
    done = python("-m", "dltrain", "--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"dltrain {__version__}\n", "")
    failed = python("-m", "dltrain", "trian")
    assert failed.returncode == 2
    assert failed.stderr == "dltrain: trian is not a command; did you mean `dltrain train`?\n"


@pytest.mark.parametrize(
    "argv",
    [
        *(["--help"], ["help", "predict"], ["predict", "--help"], ["--version"]),
        *(["list"], ["list", "model"], ["trian"], ["--epochs", "5"]),
    ],
    ids=str,
)
def test_what_only_prints_does_not_import_torch(argv: list[str]) -> None:
    code = (
        f"import sys; from dltrain.cli import main; main({argv});"
        "sys.exit(99 if 'torch' in sys.modules else 0)"
    )
    assert python("-c", code).returncode == 0


@pytest.mark.parametrize("words", ["list", "--help", "list --json"])
def test_a_reader_that_has_gone_is_no_error(words: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "dltrain", *words.split()],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=100) == 0
    assert "dltrain: " not in errors
    assert "--json" in words or errors == ""


def test_a_pipe_into_head_prints_one_line_and_no_traceback() -> None:
    command = f"'{sys.executable}' -m dltrain list | head -1"
    done = subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, timeout=100, check=False
    )
    assert (done.stdout, done.stderr) == ("callbacks\n", "")


# list and show


def test_list_has_a_line_for_every_option(dltrain) -> None:
    outcome = dltrain("list", "--json")
    assert outcome.code == 0
    for group, options in groups().items():
        for option in options:
            assert any(
                line.split()[:1] == [option] and line.endswith(summary(group, option))
                for line in outcome.out.splitlines()
            ), f"{group}/{option}"
            assert outcome.json[group][option] == summary(group, option)


def test_list_of_a_group_has_that_group_alone(dltrain) -> None:
    outcome = dltrain("list", "model", "--json")
    assert outcome.out.splitlines()[0] == "model"
    assert outcome.json == {
        "exit_code": 0,
        "model": {option: summary("model", option) for option in groups()["model"]},
    }
    assert "adamw" not in outcome.out


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("list", "modle"), "no such group: modle; did you mean model?"),
        (("list", "zzzz"), "no such group: zzzz (there are callbacks,"),
        (("list", "model=cnn"), "list takes groups, not settings: dltrain list model"),
        (("show",), "show needs a key"),
        (("show", "optimizer.lrr"), "did you mean optimizer.lr (now 0.001)?"),
        (("show", "model/ccn"), "did you mean cnn?"),
        (("show", "modle/cnn"), "did you mean model?"),
        (("show", "optimizer.lr", "optimizer=sgdd"), "did you mean sgd?"),
    ],
    ids=str,
)
def test_list_and_show_say_what_was_meant(
    argv: tuple[str, ...], message: str, dltrain, tmp_path: Path
) -> None:
    outcome = dltrain(*argv)
    assert outcome.code == 2
    assert message in outcome.err
    assert nothing_written(tmp_path)


@pytest.mark.parametrize(
    ("argv", "value", "expects", "origin"),
    [
        (("optimizer.lr",), 0.001, "a number > 0", "conf/optimizer/adam.yaml"),
        (("optimizer.lr", "optimizer=sgd"), 0.1, "a number > 0", "conf/optimizer/sgd.yaml"),
        (
            ("optimizer.lr", "optimizer.lr=0.5"),
            0.5,
            "a number > 0",
            "the command line: optimizer.lr=0.5",
        ),
        (
            ("optimizer.lr", "optimizer={lr: 0.5}"),
            0.5,
            "a number > 0",
            "the command line: optimizer={lr: 0.5}",
        ),
        (
            ("optimizer.eps", "optimizer={lr: 0.5}"),
            1e-8,
            "a number > 0",
            "conf/optimizer/adam.yaml",
        ),
        (("trainer.steps",), None, "a whole number > 0 or null", "conf/trainer/default.yaml"),
        (
            ("trainer.stage_steps", "debug=smoke"),
            2,
            "a whole number > 0 or null",
            "conf/debug/smoke.yaml",
        ),
        (
            ("trainer.stage_steps", "debug=smoke", "trainer.stage_steps=3"),
            3,
            "a whole number > 0 or null",
            "the command line: trainer.stage_steps=3",
        ),
        (("model.image_size",), None, "a list of 2, each a whole number", None),
        (
            ("regularization.l2.weight", "regularization=[l1,l2]"),
            1e-4,
            "a number > 0",
            "conf/regularization/l2.yaml",
        ),
        (
            ("dataset.source.noise", "dataset=synthetic"),
            2.0,
            "a number >= 0",
            "conf/dataset/synthetic.yaml",
        ),
        (("seed",), 0, "a whole number >= 0 and < 9.22337e+18", "conf/config.yaml"),
        (("paths.output",), "outputs", "text", "conf/config.yaml"),
    ],
    ids=str,
)
def test_show_key_says_what_it_is_and_where_it_was_set(
    argv: tuple[str, ...], value, expects, origin, dltrain
) -> None:
    outcome = dltrain("show", *argv, "--json")
    assert outcome.code == 0, outcome.err
    found = outcome.json[argv[0]]
    assert found["value"] == value
    assert found["expects"] == expects
    assert found.get("set_by") == origin
    assert outcome.out.splitlines()[0] == argv[0]
    assert origin is None or f"set by   {origin}" in outcome.out


def test_show_key_names_the_experiment_that_set_it(dltrain) -> None:
    name = "cnn_mnist"
    outcome = dltrain("show", "expect", f"experiment={name}", "--json")
    assert outcome.json["expect"]["set_by"] == f"conf/experiment/{name}.yaml"


def test_show_option_prints_its_file_and_its_target(dltrain) -> None:
    outcome = dltrain("show", "optimizer/sgd")
    assert outcome.code == 0
    assert "_target_: dltrain.optimizers.sgd.sgd" in outcome.out
    rows = [line.split() for line in outcome.out.splitlines()]
    assert ["lr", "0.1", "a", "number", ">", "0"] in rows


# check


def test_check_prints_layers_parameters_and_flops_and_writes_nothing(
    dltrain, tmp_path: Path
) -> None:
    outcome = dltrain("check", "model=mlp", "dataset=digits", "--json")
    assert outcome.code == 0, outcome.err
    weights = (
        64 * 256 + 256 * 128 + 128 * 10
    )  # digits are 8x8, hidden_sizes [256, 128], ten classes
    assert outcome.json["parameters"] == weights + 256 + 128 + 10 == 50826
    assert outcome.json["forward_flops_per_sample"] == 2 * weights
    assert "50,826" in outcome.out
    rows = [line.split() for line in outcome.out.splitlines()]
    assert ["model.1", "Linear", "(16,", "256)", "16,640"] in rows
    assert ["model.5", "Linear", "(16,", "10)", "1,290"] in rows
    assert "(81 steps)" in outcome.out  # 1438 training samples, a tenth held out, 16 a step
    assert nothing_written(tmp_path)


def test_check_names_the_stages_before_the_one_that_it_measures(dltrain) -> None:
    """Layers are those of a step, of both networks of a pair; a single stage is not named."""
    outcome = dltrain("check", "model=dcgan", "model.channels=[8]", "--json")
    assert outcome.code == 0
    assert outcome.json["earlier_stages"] == ["judge"]
    assert "model.generator.0 " in outcome.out
    assert "model.discriminator.head " in outcome.out
    assert outcome.out.count("model.discriminator.head ") == 1
    assert dltrain("check", "model=mlp", "--json").json["earlier_stages"] == []


def test_check_needs_no_data(dltrain, tmp_path: Path) -> None:
    outcome = dltrain("check", "dataset=mnist", "model=perceptron")
    assert outcome.code == 0, outcome.err
    assert "7,850" in outcome.out  # 28 * 28 * 10 + 10
    assert nothing_written(tmp_path)


def test_check_counts_one_step_an_epoch_of_full_batches(dltrain) -> None:
    outcome = dltrain("check", "dataset=mnist", "model=perceptron", "dataset.batch_size=all")
    assert "(1 steps)" in outcome.out


def test_check_says_which_typed_keys_are_not_read(dltrain) -> None:
    outcome = dltrain("check", "model=mlp", "model.dropout=0.3", "regularization=[dropout]")
    assert outcome.code == 0, outcome.err
    assert "model.dropout=0.3 is not read: regularization=dropout sets model.dropout" in outcome.out


# mistakes


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            ("--epochs", "5"),
            "settings are KEY=VALUE without dashes; did you mean trainer.epochs=5?",
        ),
        (("--lr=0.1",), "did you mean optimizer.lr=0.1?"),
        (("--batch-size", "8"), "did you mean dataset.batch_size=8?"),
        (("--epoch", "8"), "did you mean trainer.epochs=8?"),
        (("--jsn",), "did you mean --json?"),
        (("-v",), "did you mean --version?"),
        (("trian",), "trian is not a command; did you mean `dltrain train`?"),
        (("zzz",), "zzz is not a command (train, check, list, show,"),
        (("check", "-m"), "-m is a flag of `dltrain train` only: it runs a sweep"),
        (("model=a,b",), "several values are a sweep: dltrain -m model=a,b"),
        (
            ("regularization=l1,l2",),
            'dltrain -m regularization=l1,l2; all at once: "regularization=[l1,l2]"',
        ),
        (("optimizer.lr=abc",), "expected a number > 0, got 'abc'"),
        (("optimizer.lr=-1",), "expected a number > 0, got -1"),
        (("trainer.epochs=1.5",), "expected a whole number > 0 or null, got 1.5"),
        (
            ("device.precision=fp8",),
            "expected one of auto, fp32, tf32, bf16, fp16, got 'fp8'; did you mean fp32?",
        ),
        (("dataset.batch_size=0",), "expected a whole number > 0 or all, got 0"),
        (("model.channels=[8,8,8,8]",), "model.channels fewer entries"),
        (("model._target_=os.system",), "os.system is not imported"),
        (("evaluate",), "name a run: its folder"),
        (("train", "model=mlp", "model"), "model  is not an override"),
        (("device=cuda",), "device=cuda: torch cannot use this device on this machine"),
    ],
    ids=str,
)
def test_a_usage_mistake_exits_2_in_a_few_lines_and_leaves_nothing(
    argv: tuple[str, ...], message: str, dltrain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    outcome = dltrain(*argv)
    assert outcome.code == 2
    assert outcome.err.startswith("dltrain: ")
    assert message in outcome.err
    assert len(outcome.err.splitlines()) <= 3
    assert "Traceback" not in outcome.err
    assert outcome.out == ""
    assert nothing_written(tmp_path)


@pytest.mark.parametrize("verb", ["train", "check"])
def test_all_mistakes_come_at_once(verb: str, dltrain, tmp_path: Path) -> None:
    outcome = dltrain(verb, "optimizer.lrr=0.1", "model=ccn", *SMOKE)
    assert outcome.code == 2
    assert outcome.err == (
        "dltrain: 2 problems in the configuration\n"
        "  model=ccn          no such model; did you mean cnn? (dltrain list model)\n"
        "  optimizer.lrr=0.1  no such key; did you mean optimizer.lr (now 0.001)?\n"
    )
    assert nothing_written(tmp_path)


def test_absent_data_exits_3_naming_files_and_folder_and_leaves_no_run(
    dltrain, tmp_path: Path, monkeypatch
) -> None:
    def offline(*args: object, **kwargs: object) -> None:
        raise URLError("no network in tests")

    monkeypatch.setattr(urllib.request, "urlopen", offline)
    outcome = dltrain("dataset=mnist")
    assert outcome.code == 3
    assert "no network in tests" in outcome.err
    assert "train-images-idx3-ubyte.gz" in outcome.err
    assert "t10k-labels-idx1-ubyte.gz" in outcome.err
    assert str(tmp_path / "no-data" / "MNIST" / "raw") in outcome.err
    assert "DLTRAIN_DATA" in outcome.err
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize("argv", [("evaluate", "last"), ("resume", "nope")], ids=" ".join)
def test_a_run_that_is_not_there_exits_3(argv: tuple[str, ...], dltrain, tmp_path: Path) -> None:
    outcome = dltrain(*argv)
    assert outcome.code == 3
    assert "there is no run under outputs" in outcome.err
    assert nothing_written(tmp_path)


# --json and --debug


def test_json_of_a_run_has_its_results(dltrain) -> None:
    last = dltrain("model=mlp", *SMOKE, "--json").json
    assert last["exit_code"] == 0
    assert last["status"] == "completed"
    assert 0 <= last["metrics"]["test/accuracy"] <= 1
    assert (
        json.loads((Path(last["run"]) / "results.json").read_text(encoding="utf-8"))["metrics"]
        == last["metrics"]
    )


def test_json_of_a_mistake_says_what_is_wrong(dltrain) -> None:
    outcome = dltrain("--json", "model=ccn")
    assert outcome.code == 2
    assert outcome.json["exit_code"] == 2
    assert "did you mean cnn?" in outcome.json["error"]


def test_debug_shows_the_traceback_of_a_mistake(dltrain) -> None:
    outcome = dltrain("model=ccn", "--debug")
    assert outcome.code == 2
    assert "Traceback (most recent call last)" in outcome.err
    assert "did you mean cnn?" in outcome.err.splitlines()[-1]


def test_an_unexpected_failure_exits_1_and_points_to_debug(
    dltrain, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("dltrain.commands.list.summary", broken)
    outcome = dltrain("list")
    assert outcome.code == 1
    assert (
        outcome.err
        == "dltrain: RuntimeError: a bug\n(an unexpected failure; add --debug for the traceback)\n"
    )
    assert "in broken" in dltrain("list", "--debug").err


def test_ctrl_c_outside_a_run_exits_130(dltrain, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("dltrain.commands.list.summary", interrupted)
    outcome = dltrain("list")
    assert (outcome.code, outcome.err) == (130, "dltrain: interrupted\n")
