"""The commands of docs/clusters.md are run, in order and in one folder.

Sweeps are checked up to the first job, since tests/sweeps runs such ones. torchrun on two nodes is
two torchrun commands of one process each, on one address; on one machine tests/distributed runs it.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from free_ports import free_port

from dltrain.cli import parse
from dltrain.options import Options
from dltrain.sweeps.launchers import submitit_clusters
from dltrain.sweeps.plan import planned

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "clusters.md").read_text(encoding="utf-8")
COMMANDS = [
    line
    for block in re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    for line in block.splitlines()
]
SINGLE = [line for line in COMMANDS if line.startswith("dltrain ") and " -m " not in line]
SWEEPS = [line for line in COMMANDS if line.startswith("dltrain -m ")]
TORCHRUN = [line for line in COMMANDS if line.startswith("torchrun ")]
SCRIPT = re.search(r"^```bash train.sbatch\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
STAND_INS = {
    "scontrol": 'test "$1 $2" = "show hostnames" && echo 127.0.0.1 && echo other',
    "srun": '"$@" > second.log 2>&1 & "$@"; code=$?; wait; exit $code',
}


def test_every_command_of_the_page_is_tested() -> None:
    assert sorted(SINGLE + SWEEPS + TORCHRUN) == sorted(COMMANDS)
    assert (len(SINGLE), len(SWEEPS), len(TORCHRUN)) == (2, 3, 3)


def test_runs_work_as_written(dltrain: Callable) -> None:
    for line in SINGLE:
        outcome = dltrain(*shlex.split(line)[1:], "callbacks=quiet")
        assert outcome.code == 0, f"{line}\n{outcome.err}"
    (folder,) = Path("outputs").glob("*/*")
    assert '"epoch": 3' in (folder / "metrics.jsonl").read_text()


@pytest.mark.parametrize("line", SWEEPS)
def test_sweeps_are_planned(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if "launcher=ray" in line:
        pytest.importorskip("ray", reason="a command of the page needs it: pip install ray")
    monkeypatch.setattr(submitit_clusters, "COMMANDS", ())
    options = Options(argv=shlex.split(line)[1:])
    parse(options)
    with planned(options.overrides) as plan:
        assert plan.sampler.total() == 2


@pytest.mark.parametrize("line", TORCHRUN)
def test_what_torchrun_starts_is_a_command(line: str, dltrain: Callable) -> None:
    words = shlex.split(line)
    outcome = dltrain("check", *words[words.index("dltrain") + 1 :])
    assert outcome.code == 0, outcome.err


def programs(folder: Path) -> dict[str, str]:
    """Write torchrun and stand-ins for SLURM's commands; return an environment that has them."""
    scripts = {"torchrun": f'exec {sys.executable} -m torch.distributed.run "$@"', **STAND_INS}
    for name, script in scripts.items():
        (folder / name).write_text(f"#!/bin/bash\n{script}\n", encoding="utf-8")
        (folder / name).chmod(0o755)
    return {
        **os.environ,
        "PATH": f"{folder}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "SLURM_JOB_ID": "7",
        "SLURM_NNODES": "2",
        "SLURM_JOB_NODELIST": "two",
    }


def test_the_batch_script_trains_on_two_nodes(tmp_path: Path) -> None:
    """Its line is the one of torchrun on two nodes, with restarts and resume=auto."""
    assert SCRIPT is not None
    script = SCRIPT[1].replace(":29500", f":{free_port()}")
    script = script.replace("resume=auto", "resume=auto callbacks=quiet")
    environment = programs(tmp_path)
    done = subprocess.run(
        ["bash", "-c", script], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    (folder,) = Path("outputs").glob("*/*_mlp_digits")
    assert '"completed"' in (folder / "results.json").read_text()
    assert '"epoch": 2' in (folder / "metrics.jsonl").read_text()
