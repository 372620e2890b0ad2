"""The commands of docs/sweeps.md are run in order, in one folder; its Hydra table is typed.

Sweeps on a cluster, or on a library that starts processes of its own, are checked up to the first
job, since tests/sweeps runs such ones. The others run in this process unless a launcher is typed.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from dltrain.cli import parse
from dltrain.options import Options
from dltrain.sweeps.launchers import submitit_clusters
from dltrain.sweeps.plan import planned

PAGE = (Path(__file__).parents[1] / "docs" / "sweeps.md").read_text(encoding="utf-8")
COMMANDS = [
    line
    for block in re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    for line in block.splitlines()
]
ELSEWHERE = ("launcher=submitit", "launcher=ray")


def run(dltrain: Callable, line: str) -> str:
    """Run a command of the page, or check it if its jobs would run elsewhere."""
    words = shlex.split(line)
    assert words.pop(0) == "dltrain"
    if any(word in ELSEWHERE for word in words):
        options = Options(argv=words)
        parse(options)
        with planned(options.overrides) as plan:
            assert plan.sampler.total() >= 2
        return ""
    is_sweep = "-m" in words or "dataset.folds=3" in words
    if is_sweep and not any(word.startswith("launcher") for word in words):
        words += ["launcher=inline", "callbacks=quiet"]
    outcome = dltrain(*words)
    assert outcome.code == 0, f"{line}\n{outcome.out}{outcome.err}"
    return outcome.out


def test_the_commands_work_as_written(dltrain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submitit_clusters, "COMMANDS", ())
    pytest.importorskip("ray", reason="a command of the page needs it: pip install ray")
    assert len(COMMANDS) >= 14
    printed = {line: run(dltrain, line) for line in COMMANDS}
    assert "6 of 8 trials are done" in printed["dltrain resume search sweep.trials=8"]
    for name in re.findall(r"^\| `([\w.]+)` \|", PAGE.partition("## The folder")[2], re.MULTILINE):
        assert Path("first", name).exists(), name


def test_names_of_hydra_mean_what_the_page_says() -> None:
    rows = re.findall(r"^\| `(hydra\S* ?\S*)` \| `([^`]*)`", PAGE, re.MULTILINE)
    typed = [(words, meant) for words, meant in rows if "=" in words]
    assert len(typed) >= 8
    for words, meant in typed:
        options = Options(argv=["-m", *words.split()])
        parse(options)
        assert options.overrides == [
            *meant.split(),
            *(["launcher.cluster=slurm"] if words.endswith("submitit_slurm") else []),
        ]
