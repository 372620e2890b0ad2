"""The loop of a sweep, with a launcher and a sampler that do what a test tells them."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dltrain.files import to_json
from dltrain.runs.identity import identity
from dltrain.sweeps.coordinator import Coordinator, interruption
from dltrain.sweeps.jobs.job import JOB_FILES, SweepJob
from dltrain.sweeps.jobs.reports import Mailbox, files_of
from dltrain.sweeps.journal import VERSION, Journal, read_journal
from dltrain.sweeps.launchers.launcher import Ended, Launcher, Site
from dltrain.sweeps.samplers.grid import GridSampler
from dltrain.sweeps.samplers.optuna_trials import OptunaTrials, quiet_optuna
from dltrain.sweeps.samplers.pruning import Judge, PruningRule
from dltrain.sweeps.samplers.sampler import Proposal, Sampler
from dltrain.sweeps.summary.ranking import Criterion
from dltrain.sweeps.trial import Trial, trials_of

Act = Callable[[SweepJob, Site], Ended]


class ScriptedLauncher(Launcher):
    """Ends each job as `act` says, the newest first."""

    def __init__(self, act: Act, slots: int = 1) -> None:
        self.act = act
        self.slots = slots
        self.jobs: list[SweepJob] = []
        self.calls: list[str] = []
        self.started: list[int] = []
        self.most = 0

    def open(self, site: Site) -> None:
        self.site = site
        self.calls.append("open")

    def free(self) -> int:
        return self.slots - len(self.jobs)

    def start(self, job: SweepJob) -> None:
        self.jobs.append(job)
        self.started.append(job.number)
        self.most = max(self.most, len(self.jobs))

    def wait(self, seconds: float) -> list[Ended]:
        if not self.jobs:
            return []
        return [self.act(self.jobs.pop(), self.site)]

    def interrupt(self, signal_number: int) -> None:
        self.calls.append(f"interrupt {signal_number}")

    def kill(self) -> None:
        self.calls.append("kill")
        self.jobs.clear()

    def close(self) -> None:
        self.calls.append("close")


class Counting(Sampler):
    """Proposes seeds, and prunes values below a threshold."""

    def __init__(self, count: int, threshold: float | None = None) -> None:
        self.count = count
        self.threshold = threshold
        self.judges = threshold is not None
        self.swept = ["seed"]
        self.space = {}
        self.told: list[tuple[int, str]] = []

    def open(self, overrides: list[str]) -> None:
        pass

    def total(self) -> int:
        return self.count

    def key(self) -> str:
        return "counting"

    def ask(self, number: int) -> Proposal | None:
        return Proposal([f"seed={number}"], identity({})) if number < self.count else None

    def report(self, trial: Trial, step: int, value: float) -> str:
        return f"pruned at {value}" if self.threshold is not None and value < self.threshold else ""

    def tell(self, trial: Trial) -> None:
        self.told.append((trial.number, trial.status))


def completed(job: SweepJob, site: Site) -> Ended:
    write_outcome(job, {"status": "completed", "metrics": {"test/loss": float(job.number)}})
    return Ended(job.number)


def write_outcome(job: SweepJob, results: dict[str, Any]) -> None:
    job.outcome.write_text(to_json(results))


class Recorder:
    """Notes the ends of jobs."""

    def __init__(self, ends: list[int]) -> None:
        self.ends = ends

    def started(self, trial: Trial) -> None:
        pass

    def ended(self, rows: list[dict[str, Any]], row: dict[str, Any]) -> None:
        self.ends.append(row["job"])

    def waiting(self) -> None:
        pass


def run(
    folder: Path, sampler: Sampler, launcher: Launcher, trials: dict[int, Trial] | None = None
) -> tuple[list[dict[str, Any]], list[int]]:
    """Run a sweep; return its rows, and the numbers of the jobs in the order of their ends."""
    if trials is None:
        Journal(folder).append("sweep", version=VERSION, overrides=[], config_dir=None)
    ends: list[int] = []
    coordinator = Coordinator(
        folder,
        sampler,
        launcher,
        {} if trials is None else trials,
        None,
        False,
        Recorder(ends),
    )
    return coordinator.run(), ends


def test_every_trial_runs_once_and_rows_come_by_number(tmp_path: Path) -> None:
    launcher = ScriptedLauncher(completed, slots=3)
    sampler = Counting(5)
    rows, ends = run(tmp_path, sampler, launcher)
    assert [row["job"] for row in rows] == [0, 1, 2, 3, 4]
    assert rows[3] == {
        "job": 3,
        "overrides": ["seed=3"],
        "status": "completed",
        "metrics": {"test/loss": 3.0},
    }
    assert launcher.most == 3
    assert ends == [2, 3, 4, 1, 0]
    assert sampler.told == [(number, "completed") for number in ends]
    assert launcher.calls == ["open", "close"]


def test_a_job_that_dies_is_a_row_with_its_reason(tmp_path: Path) -> None:
    def act(job: SweepJob, site: Site) -> Ended:
        if job.number == 1:
            return Ended(1, "killed by SIGKILL")
        if job.number == 2:
            return Ended(2)  # without results
        return completed(job, site)

    rows, _ = run(tmp_path, Counting(4), ScriptedLauncher(act))
    assert [row["status"] for row in rows] == ["completed", "failed", "failed", "completed"]
    assert rows[1]["reason"] == "killed by SIGKILL"
    assert rows[2]["reason"] == "it left no results"


def test_a_run_that_finished_counts_even_if_its_process_died_later(tmp_path: Path) -> None:
    def act(job: SweepJob, site: Site) -> Ended:
        job.folder.mkdir()
        (job.folder / "results.json").write_text('{"status": "completed", "metrics": {"a": 1.0}}')
        return Ended(job.number, "killed by SIGSEGV")

    rows, _ = run(tmp_path, Counting(1), ScriptedLauncher(act))
    assert (rows[0]["status"], rows[0]["metrics"]) == ("completed", {"a": 1.0})
    assert rows[0]["run"] == str(tmp_path / "0")


@pytest.mark.parametrize("text", ['{"status": "completed"}', "[]", "{"])
def test_damaged_results_do_not_count(tmp_path: Path, text: str) -> None:
    def act(job: SweepJob, site: Site) -> Ended:
        job.folder.mkdir()
        (job.folder / "results.json").write_text(text)
        return Ended(job.number, "killed by SIGSEGV")

    rows, _ = run(tmp_path, Counting(1), ScriptedLauncher(act))
    assert (rows[0]["status"], rows[0]["reason"]) == ("failed", "killed by SIGSEGV")


def test_an_outcome_of_an_earlier_attempt_is_not_read(tmp_path: Path) -> None:
    (tmp_path / JOB_FILES).mkdir()
    (tmp_path / JOB_FILES / "0.json").write_text('{"status": "completed", "metrics": {}}')
    rows, _ = run(tmp_path, Counting(1), ScriptedLauncher(lambda job, site: Ended(job.number)))
    assert rows[0]["status"] == "failed"


def test_a_resume_runs_what_is_not_done_and_keeps_the_rest(tmp_path: Path) -> None:
    statuses = ["completed", "failed", "pruned", "diverged", "interrupted", "stopped"]

    def first(job: SweepJob, site: Site) -> Ended:
        write_outcome(job, {"status": statuses[job.number], "metrics": {}})
        return Ended(job.number)

    sampler = Counting(6)
    journal = Journal(tmp_path)
    journal.append("sweep", version=VERSION, overrides=[], config_dir=None)
    trials = {}
    for number, status in enumerate(statuses):
        row = {"job": number, "overrides": [f"seed={number}"], "status": status, "metrics": {}}
        trials[number] = Trial(number, [f"seed={number}"], row=row)
    launcher = ScriptedLauncher(completed)
    rows, ends = run(tmp_path, Counting(8), launcher, trials)
    assert launcher.started == ends == [1, 3, 4, 6, 7]
    expected = ["completed", "completed", "pruned", "completed", "completed", "stopped"]
    assert [row["status"] for row in rows] == [*expected, "completed", "completed"]
    assert sampler.told == []


def test_a_trial_that_finished_while_no_coordinator_was_alive_is_not_trained_again(
    tmp_path: Path,
) -> None:
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "results.json").write_text('{"status": "completed", "metrics": {}}')
    launcher = ScriptedLauncher(completed)
    sampler = Counting(2)
    trial = Trial(0, ["seed=0"], identity({}), attempts=1)
    rows, ends = run(tmp_path, sampler, launcher, {0: trial})
    assert launcher.started == [1]
    assert ends == [0, 1]
    assert sampler.told == [(0, "completed"), (1, "completed")]
    assert [row["status"] for row in rows] == ["completed", "completed"]


def test_a_run_of_another_configuration_is_not_a_result(tmp_path: Path) -> None:
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "results.json").write_text('{"status": "completed", "metrics": {}}')
    launcher = ScriptedLauncher(completed)
    run(tmp_path, Counting(1), launcher, {0: Trial(0, ["seed=0"], "another", attempts=1)})
    assert launcher.started == [0]


def test_the_journal_alone_rebuilds_the_rows(tmp_path: Path) -> None:
    rows, _ = run(tmp_path, Counting(3), ScriptedLauncher(completed, slots=2))
    trials = trials_of(read_journal(tmp_path), tmp_path)
    assert [trials[number].row for number in range(3)] == rows


def test_reports_are_judged_and_noted_once(tmp_path: Path) -> None:
    answers = []

    def act(job: SweepJob, site: Site) -> Ended:
        value = 0.9 if job.number else 0.1
        answers.extend(site.decide(job.number, step, value) for step in (1, 1, 2))
        return completed(job, site)

    run(tmp_path, Counting(2, threshold=0.5), ScriptedLauncher(act))
    assert answers == ["pruned at 0.1"] * 3 + [""] * 3
    events = [event for event in read_journal(tmp_path) if event["event"] == "report"]
    assert [(event["number"], event["step"], event["value"]) for event in events] == [
        (0, 1, 0.1),
        (0, 2, 0.1),
        (1, 1, 0.9),
        (1, 2, 0.9),
    ]


def test_after_ctrl_c_no_job_starts_and_the_running_ones_save(tmp_path: Path) -> None:
    def act(job: SweepJob, site: Site) -> Ended:
        if job.number == 1:
            os.kill(os.getpid(), signal.SIGINT)
        if job.number == 0:  # ends after it was asked to
            write_outcome(job, {"status": "interrupted", "metrics": {}, "signal": 2})
            return Ended(0)
        return completed(job, site)

    launcher = ScriptedLauncher(act, slots=2)
    before = signal.getsignal(signal.SIGINT)
    rows, _ = run(tmp_path, Counting(4), launcher)
    assert [row["status"] for row in rows] == ["interrupted", "completed"]
    assert launcher.calls == ["open", "interrupt 2", "kill", "close"]
    assert interruption(rows) == 2
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_signal_kills(tmp_path: Path) -> None:
    def act(job: SweepJob, site: Site) -> Ended:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        return completed(job, site)

    launcher = ScriptedLauncher(act, slots=3)
    rows, _ = run(tmp_path, Counting(4), launcher)
    assert [row["status"] for row in rows] == ["interrupted", "interrupted", "completed"]
    assert launcher.calls == ["open", "interrupt 15", "kill", "close"]
    assert interruption(rows) == signal.SIGTERM


def test_an_inline_job_that_a_signal_ended_ends_the_sweep(tmp_path: Path) -> None:
    def act(job: SweepJob, site: Site) -> Ended:
        write_outcome(job, {"status": "interrupted", "metrics": {}, "signal": 2})
        return Ended(job.number)

    launcher = ScriptedLauncher(act)
    rows, _ = run(tmp_path, Counting(4), launcher)
    assert [row["status"] for row in rows] == ["interrupted"]
    assert launcher.started == [0]


def test_jobs_save_for_as_long_as_they_may_however_many_there_are(tmp_path: Path) -> None:
    """Each of many jobs ends at once when it is asked to: none is killed."""

    def act(job: SweepJob, site: Site) -> Ended:
        if job.number == 199:
            os.kill(os.getpid(), signal.SIGINT)
            return completed(job, site)
        write_outcome(job, {"status": "interrupted", "metrics": {"a": 1.0}, "signal": 2})
        return Ended(job.number)

    rows, _ = run(tmp_path, Counting(200), ScriptedLauncher(act, slots=200))
    assert [row["metrics"] for row in rows[:-1]] == [{"a": 1.0}] * 199


def test_a_job_that_a_signal_ended_leaves_the_others_time_to_save(tmp_path: Path) -> None:
    """The launcher did not know that the signal came from elsewhere."""

    def act(job: SweepJob, site: Site) -> Ended:
        write_outcome(job, {"status": "interrupted", "metrics": {"a": 1.0}, "signal": 15})
        return Ended(job.number)

    launcher = ScriptedLauncher(act, slots=3)
    rows, _ = run(tmp_path, Counting(5), launcher)
    assert [(row["status"], row["metrics"]) for row in rows] == [("interrupted", {"a": 1.0})] * 3
    assert launcher.calls == ["open", "interrupt 15", "kill", "close"]
    assert interruption(rows) == 15


def test_a_job_that_a_signal_ended_with_the_sweep_has_not_failed(tmp_path: Path) -> None:
    """SLURM and `kill` of a group send the signal to all processes at once."""

    def act(job: SweepJob, site: Site) -> Ended:
        os.kill(os.getpid(), signal.SIGTERM)
        write_outcome(job, {"status": "interrupted", "metrics": {}, "signal": 15})
        return Ended(job.number, "interrupted, which another program has sent")

    rows, _ = run(tmp_path, Counting(3), ScriptedLauncher(act))
    assert [(row["status"], row["signal"]) for row in rows] == [("interrupted", 15)]


def test_a_job_that_waits_for_an_answer_gets_it_while_the_sweep_ends(tmp_path: Path) -> None:
    reports, answers = files_of(tmp_path, 0)

    def act(job: SweepJob, site: Site) -> Ended:
        if job.number == 1:
            os.kill(os.getpid(), signal.SIGINT)
            reports.write_text('{"step": 1, "value": 0.9}\n')
            return completed(job, site)
        assert answers.read_text() == '{"step": 1, "reason": ""}\n'
        return completed(job, site)

    launcher = ScriptedLauncher(act, slots=2)
    rows, _ = run(tmp_path, Counting(2, threshold=0.5), launcher)
    assert [row["status"] for row in rows] == ["completed"] * 2


def test_an_answer_that_cannot_be_written_ends_no_sweep(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mailbox = Mailbox(tmp_path / "absent")
    mailbox.answer(3, 1, "")
    assert "3.answers cannot be written: No such file" in caplog.text


def test_a_pruned_run_counts_even_if_its_process_died_later(tmp_path: Path) -> None:
    def act(job: SweepJob, site: Site) -> Ended:
        job.folder.mkdir()
        text = '{"status": "pruned", "reason": "bad", "metrics": {"a": 1.0}}'
        (job.folder / "results.json").write_text(text)
        return Ended(job.number, "killed by SIGSEGV")

    rows, _ = run(tmp_path, Counting(1), ScriptedLauncher(act))
    assert (rows[0]["status"], rows[0]["reason"]) == ("pruned", "bad")


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_the_journal_has_what_the_sampler_was_told(tmp_path: Path, value: float) -> None:
    """A resume tells it the same: infinite values are not numbers, as in the journal."""
    with quiet_optuna():
        rule = PruningRule("halving", trials=1, evaluations=1, factor=2)
        judge = Judge(rule, OptunaTrials([Criterion("val/loss", "min")]), 9)
        sampler = GridSampler(pruner="halving")
        sampler.judge = judge
        judge.trials.add(0)
    sampler.report(Trial(0, []), 1, value)
    assert math.isnan(judge.trials.frozen(0).intermediate_values[1])


def test_an_unexpected_error_leaves_no_job_running(tmp_path: Path) -> None:
    def act(job: SweepJob, site: Site) -> Ended:
        raise RuntimeError("a defect")

    launcher = ScriptedLauncher(act)
    with pytest.raises(RuntimeError, match="a defect"):
        run(tmp_path, Counting(2), launcher)
    assert launcher.calls == ["open", "kill", "close"]
