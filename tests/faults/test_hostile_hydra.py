"""Settings that Hydra itself would act on, from every place: all are refused.

They come from overrides, files, saved configurations and flags. The full form (DLTRAIN_FAULTS=full)
sets all of them; the quick one a share.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import yaml
from harm import CANARY, FULL, defaults, harm_of

from dltrain.runs.folder import CONFIG

pytestmark = pytest.mark.usefixtures("everything_is_imported")


# what Hydra itself would act on

HYDRA_OVERRIDES = [
    "hydra.callbacks.x._target_=os.system",
    "+hydra.callbacks.x={_target_: os.system, command: touch canary}",
    "++hydra.callbacks={x: {_target_: os.system}}",
    "hydra.job_logging.handlers.x={(): os.system}",
    "+hydra.job_logging={version: 1, formatters: {x: {'()': os.system}}}",
    "hydra/job_logging=colorlog",
    "hydra.hydra_logging=null",
    "hydra/launcher=joblib",
    "hydra.launcher._target_=os.system",
    "hydra/sweeper=optuna",
    "hydra.sweeper._target_=os.system",
    "hydra.run.dir=/tmp/x",
    "hydra.sweep.dir=${now:/tmp/x}",
    "+hydra.sweep.dir=/tmp/x",
    "hydra.sweep.subdir=../../x",
    "hydra.output_subdir=/tmp/x",
    "hydra.job.chdir=true",
    "hydra.job.env_set={LD_PRELOAD: x.so}",
    "hydra.searchpath=[file:///tmp]",
    "+hydra.searchpath=[pkg://os]",
    "hydra.mode=MULTIRUN",
    "hydra={callbacks: {x: {_target_: os.system}}}",
    "~hydra.searchpath",
    "~hydra",
    "model@hydra.callbacks=cnn",
    "+model@hydra.callbacks.x=cnn",
    "hydra/callbacks@hydra.callbacks=x",
]
GLOBAL = "# @package _global_\n"
HYDRA_FILES = [
    (
        "experiment",
        GLOBAL + "hydra:\n  callbacks:\n    x: {_target_: os.system, command: touch canary}\n",
    ),
    ("experiment", GLOBAL + "hydra:\n  job_logging:\n    formatters:\n      x: {(): os.system}\n"),
    ("experiment", GLOBAL + "hydra:\n  hydra_logging: {version: 1}\n"),
    ("experiment", GLOBAL + "hydra:\n  launcher: {_target_: os.system}\n"),
    ("experiment", GLOBAL + "hydra:\n  sweeper: {_target_: os.system}\n"),
    ("experiment", GLOBAL + "hydra:\n  run: {dir: /tmp/x}\n"),
    ("experiment", GLOBAL + "hydra:\n  sweep: {dir: /tmp/x}\n"),
    ("experiment", GLOBAL + "hydra:\n  job: {chdir: true, env_set: {LD_PRELOAD: x.so}}\n"),
    ("experiment", GLOBAL + "hydra:\n  searchpath: [file:///tmp]\n"),
    ("experiment", GLOBAL + "hydra: {mode: MULTIRUN}\n"),
    ("experiment", GLOBAL + "defaults:\n  - override /hydra/job_logging: disabled\n"),
    ("experiment", GLOBAL + "defaults:\n  - override hydra/launcher: basic\n"),
    ("experiment", GLOBAL + "defaults:\n  - /model@hydra.callbacks: cnn\n"),
    ("experiment", GLOBAL + "defaults:\n  - ../../elsewhere/x\n"),
    ("experiment", GLOBAL + "defaults:\n  - override /model: ../../elsewhere/x\n"),
    ("experiment", GLOBAL + "defaults:\n  - override /model: ${oc.env:HOME}\n"),
    ("model", "# @package hydra.callbacks\nx:\n  _target_: os.system\n"),
    ("model", "# @package hydra.job_logging\nformatters:\n  x: {(): os.system}\n"),
    ("model", "# @package hydra\nrun:\n  dir: /tmp/x\n"),
    ("model", GLOBAL + "hydra:\n  callbacks:\n    x: {_target_: os.system}\n"),
    ("experiment", GLOBAL + "_target_: os.system\n"),
    ("experiment", GLOBAL + "plugins: [os]\nmodel: {_target_: os.system}\n"),
]
FLAGS = [
    ["--experimental-rerun", "config.pickle"],
    ["--experimental-rerun=config.pickle"],
    ["--config-path", "/tmp"],
    ["--config-name", "x"],
    ["-cd", "/tmp"],
    ["--hydra-help"],
    ["--cfg", "x"],
    ["--cfg", "job", "--package", "hydra"],
    ["--info", "all"],
    ["--package", "hydra"],
    ["--run"],
]


def refused(words: list[str], dltrain) -> list[str]:
    return [f"{words}: {what}" for what in harm_of(words, dltrain, lines=4)]


def test_nothing_of_hydra_can_be_set_by_an_override(run: Path, dltrain) -> None:
    (run / CONFIG).write_text(yaml.safe_dump(defaults()), encoding="utf-8")
    verbs = [["check"], ["evaluate", str(run)], ["resume", str(run)], ["-m", "launcher=inline"]]
    commands = [[*verb, override] for override in HYDRA_OVERRIDES for verb in verbs]
    commands = commands if FULL else commands[:: 3 * len(verbs) + 1]
    wrong = [what for words in commands for what in refused(words, dltrain)]
    print(f"hydra.* by an override: {len(commands)} commands: {len(wrong)} failed")
    assert wrong == []
    told = dltrain("check", "hydra.run.dir=/tmp/x")
    assert "hydra.* cannot be set" in told.err


def test_nothing_of_hydra_can_be_set_by_a_file(dltrain) -> None:
    Path("elsewhere").mkdir()
    Path("elsewhere/x.yaml").write_text("_target_: dltrain.models.mlp.MLP\n")
    wrong = []
    chosen = HYDRA_FILES if FULL else random.Random(4).sample(HYDRA_FILES, 9)
    for group, text in chosen:
        Path("own", group).mkdir(parents=True, exist_ok=True)
        file = Path("own", group, "evil.yaml")
        file.write_text(text)
        wrong += [
            f"{text}: {what}"
            for what in refused(["check", "--config-dir", "own", f"{group}=evil"], dltrain)
        ]
        file.unlink()
    print(f"hydra.* by a file: {len(chosen)} files: {len(wrong)} failed")
    assert wrong == []


def test_nothing_of_hydra_can_be_set_by_a_saved_configuration(run: Path, dltrain) -> None:
    wrong = []
    for node in (
        {"callbacks": {"x": {"_target_": "os.system"}}},
        {"run": {"dir": "/tmp/x"}},
        None,
        "x",
    ):
        (run / CONFIG).write_text(yaml.safe_dump(defaults() | {"hydra": node}), encoding="utf-8")
        wrong += [
            what for verb in ("evaluate", "resume") for what in refused([verb, str(run)], dltrain)
        ]
    assert wrong == []


def test_flags_of_hydra_are_refused(dltrain) -> None:
    Path("config.pickle").write_bytes(b"cos\nsystem\n(S'touch canary'\ntR.")
    assert [what for words in FLAGS for what in refused(words, dltrain)] == []
    assert not Path(CANARY).exists()
