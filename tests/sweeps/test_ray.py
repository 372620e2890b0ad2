"""A sweep on a Ray of this machine."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dltrain.sweeps.launchers import ray as ray_launcher
from dltrain.sweeps.launchers.ray import MISSING, Ray, variables_of_jobs

HERE = Path(__file__).parent
RUN = (
    *("model=perceptron", "dataset=digits", "trainer.epochs=30", "callbacks=quiet", "device=cpu"),
    "plugins=[cluster_sabotage]",
    "callbacks.sabotage={_target_: cluster_sabotage.ClusterSabotage, how: plain}",
)
needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="ray is not installed (pip install ray)"
)


def wait_until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def ray_processes(group: int) -> list[str]:
    """The processes of a session, but for zombies, which nobody may wait for in a container."""
    answer = subprocess.run(
        ["ps", "-e", "-o", "pgid=,stat=,args="], capture_output=True, text=True, check=True
    )
    rows = [line.split(maxsplit=2) for line in answer.stdout.splitlines()]
    return [row[-1] for row in rows if row[0] == str(group) and not row[1].startswith("Z")]


@needs_ray
def test_a_dying_job_costs_itself_and_ctrl_c_saves_the_others(
    dltrain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), str(HERE.parents[1])]))
    words = (*RUN, "callbacks.sabotage.how=die,plain,slow", "hydra.sweep.dir=sweep")
    with Path("out").open("wb") as file:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "dltrain", "-m", *words),
                *("launcher=ray", "launcher.cpus=0.5", "launcher.jobs=2"),
            ],
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    sweep = Path("sweep")
    results = sweep / "results.csv"
    wait_until(lambda: results.exists() and "completed" in results.read_text())
    wait_until(Path("slow.done").exists)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    printed = Path("out").read_text()
    assert "trial 0 failed: its process was killed, or ended itself" in printed
    assert "trial 2 interrupted by SIGINT" in printed
    assert "Token" not in printed
    assert json.loads((sweep / "2" / "results.json").read_text())["status"] == "interrupted"
    assert list((sweep / "2" / "checkpoints").iterdir())
    wait_until(lambda: ray_processes(process.pid) == [])
    assert dltrain(*RUN, "hydra.run.dir=alone").code == 0
    metrics = (sweep / "1" / "metrics.jsonl").read_bytes()
    assert metrics == Path("alone/metrics.jsonl").read_bytes()


class FakeCluster:
    """A Ray with some CPUs and GPUs."""

    def __init__(self, **resources: float) -> None:
        self.resources = resources

    def cluster_resources(self) -> dict[str, float]:
        return self.resources


@pytest.mark.parametrize(
    ("settings", "count"),
    [
        ({}, 8),
        ({"cpus": 3}, 2),
        ({"gpus": 1}, 2),
        ({"gpus": 0.5}, 4),
        ({"cpus": 16}, 0),
        ({"jobs": 5, "cpus": 16}, 5),
    ],
    ids=str,
)
def test_as_many_jobs_run_as_there_is_room_for(settings: dict[str, float], count: int) -> None:
    launcher = Ray(**settings)
    launcher.ray = FakeCluster(CPU=8, GPU=2)
    assert launcher.free() == count


def test_jobs_get_the_variables_that_decide_about_runs() -> None:
    variables = {"DLTRAIN_DATA": "/data", "HOME": "/root"}
    assert variables_of_jobs(variables) == {"DLTRAIN_DATA": "/data"}


def test_without_ray_a_message_names_it(dltrain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setattr(ray_launcher, "QUIET", {})
    outcome = dltrain("-m", "seed=1,2", "launcher=ray", "dataset=gates")
    assert outcome.code == 2
    assert MISSING in outcome.err
    assert not Path("outputs").exists()
