"""Sweeps through submitit: on its local executor, and on a small SLURM of this machine."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fake_slurm
import pytest
from submitit.core.utils import UncompletedJobError

from dltrain.cli import main
from dltrain.errors import UsageError
from dltrain.sweeps.jobs.job import SweepJob
from dltrain.sweeps.journal import read_journal
from dltrain.sweeps.launchers import submitit as submitit_launcher
from dltrain.sweeps.launchers import submitit_clusters, submitit_job
from dltrain.sweeps.launchers.launcher import Site
from dltrain.sweeps.launchers.submitit import Submitit
from dltrain.sweeps.launchers.submitit_clusters import LocalProcesses, Slurm

HERE = Path(__file__).parent
RUN = (
    "model=perceptron",
    "dataset=digits",
    "trainer.epochs=1",
    "callbacks=quiet",
    "device=cpu",
    "plugins=[cluster_sabotage]",
    "callbacks.sabotage={_target_: cluster_sabotage.ClusterSabotage, how: plain}",
)
LOCAL = ("launcher=submitit", "launcher.cluster=local")


def importable(patch: pytest.MonkeyPatch) -> None:
    """Let the processes of jobs import the plugin."""
    patch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), str(HERE.parents[1])]))


@dataclass
class Outcome:
    """A sweep that has ended."""

    folder: Path
    code: int
    spool: Path

    @property
    def rows(self) -> list[dict[str, Any]]:
        events = read_journal(self.folder)
        return [event["row"] for event in events if event["event"] == "end"]

    def commands(self, name: str) -> list[str]:
        lines = (self.spool / "commands").read_text().splitlines()
        return [line for line in lines if line.startswith(name)]


@pytest.fixture(scope="module")
def on_slurm(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """A sweep on the small SLURM: a job that is preempted, one that dies, one without time."""
    folder = tmp_path_factory.mktemp("slurm")
    fake_slurm.install(folder)
    with pytest.MonkeyPatch.context() as patch, contextlib.chdir(folder):
        importable(patch)
        patch.setenv("FAKE_SLURM", str(folder))
        patch.setenv("FAKE_END", "OUT_OF_MEMORY")
        patch.setenv("PATH", f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}")
        patch.setattr(submitit_clusters, "CHECK_SECONDS", 0.3)
        code = main(
            [
                *("-m", *RUN, "callbacks.sabotage.how=plain,preempt,die"),
                *("launcher=submitit", "launcher.jobs=2", "launcher.grace=20"),
                *("launcher.partition=long", "launcher.gpus=2", "launcher.memory=1.5"),
                *("launcher.cpus=3", 'launcher.constraint="a100|h100"', "launcher.requeues=1"),
                *('launcher.comment="two words; $(touch bad)"', "hydra.sweep.dir=sweep"),
            ]
        )
    return Outcome(folder / "sweep", code, folder)


def test_a_batch_file_has_the_settings(on_slurm: Outcome) -> None:
    assert len(on_slurm.commands("sbatch")) == 1
    script = (on_slurm.spool / "100.sh").read_text()
    for line in (
        "--array=0-2%2",
        "--partition=long",
        "--gpus-per-node=2",
        "--cpus-per-task=3",
        "--mem=1536M",
        "--constraint='a100|h100'",
        "--time=60",
        "--signal=USR2@20",
        "--job-name=dltrain_sweep",
        "--comment='two words; $(touch bad)'",
    ):
        assert f"#SBATCH {line}\n" in script
    assert not list(on_slurm.spool.rglob("bad"))


def test_a_preempted_job_is_requeued_and_gives_the_same_metrics(on_slurm: Outcome) -> None:
    assert on_slurm.commands("scontrol") == ["scontrol requeue 100_1"]
    statuses = {row["job"]: row["status"] for row in on_slurm.rows}
    assert statuses == {0: "completed", 1: "completed", 2: "failed"}
    metrics = [(on_slurm.folder / n / "metrics.jsonl").read_bytes() for n in "01"]
    assert metrics[0]
    assert metrics[1] == metrics[0]
    text = (on_slurm.folder / "jobs" / "1.log").read_text()
    assert "resuming at step 30" in text


def test_a_job_that_dies_fails_alone_with_the_reason_of_slurm(on_slurm: Outcome) -> None:
    assert on_slurm.code == 1
    reason = "it ran out of memory; raise launcher.memory (SLURM job 100_2, OUT_OF_MEMORY)"
    assert [row["reason"] for row in on_slurm.rows if row["job"] == 2] == [reason]
    assert not list((on_slurm.folder / "jobs").glob("*.submitit"))


def test_a_local_job_whose_time_ends_is_requeued_and_gives_the_same_metrics(
    dltrain, monkeypatch: pytest.MonkeyPatch, on_slurm: Outcome
) -> None:
    importable(monkeypatch)
    words = (*RUN, "callbacks.sabotage.how=end_of_time", "hydra.sweep.dir=sweep")
    limits = ("launcher.time=1", "launcher.grace=20", "launcher.requeues=1")
    outcome = dltrain("-m", *words, *LOCAL, *limits)
    assert outcome.code == 0, outcome.out
    assert "resuming at step 30" in Path("sweep/jobs/0.log").read_text()
    metrics = Path("sweep/0/metrics.jsonl").read_bytes()
    assert metrics == (on_slurm.folder / "0" / "metrics.jsonl").read_bytes()


class NoMoreRequeues(submitit_job.Notices):
    """Notices of a job that submitit does not requeue again."""

    def __init__(self) -> None:
        super().__init__()
        self.requeue = self.refuse

    def refuse(self, number: int, frame: object) -> None:
        raise UncompletedJobError("timed-out too many times")


def test_a_job_whose_time_ends_too_often_has_failed(tmp_path: Path) -> None:
    (tmp_path / "jobs").mkdir()
    job = SweepJob(0, (), str(tmp_path))
    submitit_job.SubmittedJob(job.as_json(), 60).requeue(job, NoMoreRequeues())
    outcome = json.loads(job.outcome.read_text())
    assert outcome["status"] == "failed"
    assert outcome["reason"] == "its time of 60 minutes ended too often (launcher.requeues)"


def started(*words: str) -> subprocess.Popen[bytes]:
    """A command whose output is in the file `out`; the jobs that it leaves have it as well."""
    with Path("out").open("wb") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "dltrain", *words], stdout=file, stderr=subprocess.STDOUT
        )


def wait_until(condition: Any, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_resume_adopts_jobs_that_run_and_ctrl_c_saves_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The first process of the sweep is killed, the second one interrupted."""
    importable(monkeypatch)
    sweep = Path("sweep")
    long = ("callbacks.sabotage.how=slow", "trainer.epochs=100", "hydra.sweep.dir=sweep")
    first = started("-m", *RUN, *LOCAL, *long)
    wait_until(Path("slow.done").exists)
    first.kill()
    first.wait()
    record = json.loads((sweep / "jobs" / "0.submitit").read_text())
    second = started("resume", "sweep", "plugins=[cluster_sabotage]")
    adopted = f"it is running already, as job {record['id']}"
    wait_until(lambda: adopted in Path("out").read_text())
    second.send_signal(signal.SIGINT)
    second.wait()
    assert second.returncode == 130
    assert len(list((sweep / "jobs" / "submitit").glob("*_submitted.pkl"))) == 1
    results = json.loads((sweep / "0" / "results.json").read_text())
    assert results["status"] == "interrupted"
    assert list((sweep / "0" / "checkpoints").iterdir())
    controller = Path(f"/proc/{record['id']}/cmdline")
    wait_until(lambda: not controller.exists() or not controller.read_bytes())
    assert not (sweep / "jobs" / "0.submitit").exists()


@pytest.fixture
def launcher(tmp_path: Path) -> Submitit:
    made = Submitit(cluster="local")
    made.warm_up()
    made.open(Site(tmp_path, lambda *args: ""))
    return made


def test_a_killed_job_leaves_no_process(launcher: Submitit, tmp_path: Path) -> None:
    launcher.start(SweepJob(0, ("model=perceptron",), str(tmp_path)))
    launcher.submit()
    (pid,) = [int(handle.job_id) for handle in launcher.handles]
    children = Path(f"/proc/{pid}/task/{pid}/children")
    wait_until(lambda: children.read_text())
    (task,) = children.read_text().split()
    launcher.kill()
    launcher.close()
    wait_until(lambda: not Path(f"/proc/{task}").exists())
    assert not Path(f"/proc/{pid}").exists()


def test_a_submission_that_fails_while_others_run_is_tried_again(
    launcher: Submitit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(calls: Any) -> Any:
        raise RuntimeError("the controller is busy")

    submit_array = launcher.executor.submit_array
    monkeypatch.setattr(launcher.executor, "submit_array", busy)
    launcher.start(SweepJob(0, ("model=perceptron",), str(tmp_path)))
    with pytest.raises(UsageError, match="the controller is busy"):
        launcher.submit()
    monkeypatch.setattr(launcher.executor, "submit_array", submit_array)
    launcher.start(SweepJob(1, ("model=perceptron",), str(tmp_path)))
    launcher.submit()
    monkeypatch.setattr(launcher.executor, "submit_array", busy)
    launcher.start(SweepJob(2, ("model=perceptron",), str(tmp_path)))
    launcher.submit()
    assert [job.number for job in launcher.batch] == [2]
    monkeypatch.setattr(launcher.executor, "submit_array", submit_array)
    launcher.submit()  # not yet
    assert list(launcher.active) == [1]
    launcher.submit_at = 0.0
    launcher.submit()
    assert list(launcher.active) == [1, 2]
    launcher.close()


def test_a_first_array_has_all_jobs_and_later_ones_what_may_run_beside_it(tmp_path: Path) -> None:
    launcher = Submitit(cluster="local", jobs=3)
    launcher.cluster = LocalProcesses()
    launcher.cluster.max_jobs = 1000
    launcher.site = Site(tmp_path, lambda *args: "")
    assert launcher.free() == 1000
    launcher.batch = [SweepJob(0, (), "sweep"), SweepJob(1, (), "sweep")]
    assert launcher.free() == 998
    launcher.site = Site(tmp_path, lambda *args: "", adapts=True)
    assert launcher.free() == 1


def test_a_sampler_that_learns_needs_a_number_of_jobs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(submitit_clusters, "COMMANDS", ())
    launcher = Submitit()
    launcher.warm_up()
    with pytest.raises(UsageError, match=r"launcher\.jobs=4"):
        launcher.open(Site(tmp_path, lambda *args: "", adapts=True))


def test_an_interrupt_removes_waiting_jobs_and_lets_running_ones_save(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake_slurm.install(tmp_path)
    monkeypatch.setenv("FAKE_SLURM", str(tmp_path))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    (tmp_path / "100_0.state").write_text("PENDING")
    (tmp_path / "100_1.state").write_text("RUNNING")
    (tmp_path / "100_1.pid").write_text("1" * 9)
    slurm = Slurm()
    jobs = [slurm.job(tmp_path, "100_0"), slurm.job(tmp_path, "100_1")]
    assert slurm.known() == {"100_0", "100_1"}
    assert not slurm.has_ended(jobs[0])
    slurm.interrupt(jobs)
    slurm.kill(jobs)
    assert Outcome(tmp_path, 0, tmp_path).commands("scancel") == [
        "scancel --quiet --state=PENDING 100_0 100_1",
        "scancel --quiet --signal=INT 100_0 100_1",
        "scancel --quiet 100_0 100_1",
    ]
    assert slurm.has_ended(jobs[0])
    assert slurm.reason(jobs[0]) == "it was canceled (SLURM job 100_0, CANCELLED)"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"partition": "a\nrm x"}, "expected a name of SLURM"),
        ({"account": "a b"}, "expected a name of SLURM"),
        ({"qos": "a'b"}, "expected a name of SLURM"),
        ({"constraint": "`x`"}, "expected a name of SLURM"),
        ({"comment": "a\nrm x"}, "expected one line of text"),
        ({"comment": "a\x85rm x"}, "expected one line of text"),
        ({"grace": 3600}, "not less than time=60 minutes"),
    ],
    ids=str,
)
def test_what_may_not_stand_in_a_batch_file_is_refused(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Submitit(**settings)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("launcher.gpus=-1", ">= 0"),
        ("launcher.setup=[ls]", "no such key"),
        ("launcher.cluster=pbs", "slurm, local"),
        ("launcher.account='a b'", "launcher  account='a b': expected a name of SLURM"),
        ("launcher.comment='a\nb'", "a line break or another control character"),
    ],
)
def test_a_wrong_setting_is_refused_before_anything_starts(
    dltrain, override: str, message: str
) -> None:
    outcome = dltrain("-m", "seed=1,2", "launcher=submitit", override)
    assert outcome.code == 2
    assert message in outcome.err, outcome.err
    assert not Path("outputs").exists()


def test_a_folder_whose_name_would_be_read_as_something_else_is_refused() -> None:
    for name in ("a%j", "a\nrm x"):
        with pytest.raises(UsageError, match=r"paths\.output"):
            submitit_launcher.require_submittable(Path(name))


def test_without_slurm_or_submitit_a_message_says_what_to_do(
    dltrain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submitit_clusters, "COMMANDS", ("no_such_sbatch",))
    outcome = dltrain("-m", "seed=1,2", "launcher=submitit")
    assert outcome.code == 2
    assert "set launcher.cluster=local" in outcome.err
    monkeypatch.setitem(sys.modules, "dltrain.sweeps.launchers.submitit_clusters", None)
    outcome = dltrain("-m", "seed=1,2", "launcher=submitit")
    assert outcome.code == 2
    assert submitit_launcher.MISSING in outcome.err
    assert not Path("outputs").exists()
