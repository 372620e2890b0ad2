"""Trials that are pruned by their evaluations: decided once, marked, and left alone by a resume."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from outcome import Outcome

from dltrain.callbacks.pruning import Pruning
from dltrain.config.command_groups import of_run
from dltrain.config.compose import compose
from dltrain.errors import ConfigError, Interrupted
from dltrain.runs.folder import RESULTS
from dltrain.runs.identity import identity
from dltrain.sweeps.jobs import reports
from dltrain.sweeps.jobs.job import SweepJob, perform
from dltrain.sweeps.jobs.reports import Mailbox, Reporter
from dltrain.sweeps.journal import read_journal
from dltrain.sweeps.samplers.grid import GridSampler
from dltrain.sweeps.samplers.optuna_trials import OptunaTrials, quiet_optuna
from dltrain.sweeps.samplers.outlook import outlook_of
from dltrain.sweeps.samplers.pruning import Judge, PrunerName, PruningRule
from dltrain.sweeps.samplers.tpe import TpeSampler
from dltrain.sweeps.summary.ranking import Criterion
from dltrain.sweeps.trial import Trial

Command = Callable[..., Outcome]
TINY = ("model=perceptron", "callbacks=quiet", "trainer.epochs=3")
RATES = "optimizer.lr=1e-1,1e-2,1e-6,1e-7"  # the last two learn nothing
MEDIAN = ("sweep.pruner=median", "sweep.pruner_trials=1")


@pytest.fixture(autouse=True)
def quick(quick_disk: None) -> None:
    """Wait for no disk."""


class Court:
    """A judge with trials that report values of their own, one trial after the other."""

    def __init__(
        self,
        name: PrunerName,
        total: int | None = 9,
        mode: str = "max",
        **settings: int,
    ) -> None:
        rule = PruningRule(name, **{"trials": 2, "evaluations": 1, "factor": 3} | settings)
        with quiet_optuna():
            trials = OptunaTrials([Criterion("val/score", mode)])
            self.judge = Judge(rule, trials, total)
        self.count = 0

    def train(self, *values: float | None) -> str:
        """Report the values of a new trial; return the reason for which it is pruned, or ""."""
        trial = Trial(self.count, [])
        self.count += 1
        with quiet_optuna():
            self.judge.trials.add(trial.number)
            for step, value in enumerate(values, start=1):
                reason = self.judge.report(trial, step, value)
                if reason:
                    trial.row = {"status": "pruned"}
                    self.judge.trials.end(trial)
                    return reason
            metrics = {"val/score": values[-1]}
            trial.row = {"status": "completed", "metrics": metrics}
            self.judge.trials.end(trial)
        return ""


def test_the_median_prunes_what_is_worse_than_half_of_the_trials() -> None:
    court = Court("median")
    assert court.train(0.1, 0.1, 0.1) == ""  # nothing to compare with, however bad
    assert court.train(0.5, 0.6, 0.7) == ""
    assert court.train(0.4, 0.2, 0.8) == ""  # its best counts: 0.4 is above the median 0.35
    assert court.train(0.3, 0.9) == (
        "pruned after evaluation 1 of 9: val/score 0.3000 (median pruner)"
    )


def test_no_trial_is_pruned_before_its_evaluation_or_at_the_last() -> None:
    court = Court("median", total=3, mode="min")
    late = Court("median", total=3, mode="min", evaluations=3)
    for one in (court, late):
        one.train(1.0, 1.0, 1.0)
        one.train(1.0, 1.0, 1.0)
    assert "evaluation 1 of 3" in court.train(9.0, 9.0, 9.0)
    assert late.train(9.0, 9.0, 9.0) == ""  # the third is the last: nothing is left to train


def test_halving_keeps_one_of_three_at_each_rung() -> None:
    """Rungs are evaluations 1, 3 and 9; every third trial or so comes through."""
    court = Court("halving")
    assert court.train(*[0.5] * 9) == ""
    assert "evaluation 1 of 9" in court.train(0.4, 0.9)
    assert court.train(0.6, 0.6, 0.3)[:28] == "pruned after evaluation 3 of"
    assert "successive halving pruner" in court.train(0.2)


def test_hyperband_gives_some_trials_more_time() -> None:
    """Its brackets begin at evaluations 1, 3 and 9, so not every bad trial ends at the first."""
    court = Court("hyperband")
    reasons = [court.train(*[0.9 - number / 100] * 9) for number in range(40)]
    ends = {reason.split()[3] if reason else "" for reason in reasons}
    assert ends == {"1", "3", ""}
    assert any("Hyperband pruner" in reason for reason in reasons)
    again = Court("hyperband")
    assert [again.train(*[0.9 - number / 100] * 9) for number in range(40)] == reasons


@pytest.mark.parametrize("name", ["median", "halving", "hyperband"])
def test_what_is_not_a_number_is_pruned_and_harms_no_other(name: PrunerName) -> None:
    court = Court(name)
    assert court.train(*[0.5] * 9) == ""
    assert court.train(*[0.5] * 9) == ""
    reasons = [court.train(*[None] * 8) for _ in range(6)]
    assert all("val/score not finite" in reason for reason in reasons if reason)
    assert any(reasons)
    assert court.train(*[0.99] * 9) == ""


def test_an_unknown_number_of_evaluations_is_left_out_of_the_reason() -> None:
    court = Court("median", total=None)
    for _ in range(2):
        court.train(0.5, 0.5)
    assert court.train(0.1) == "pruned after evaluation 1: val/score 0.1000 (median pruner)"


@pytest.mark.parametrize(
    ("words", "count"),
    [
        (["trainer.epochs=4"], 4),
        (["trainer.epochs=4", "trainer.evaluate_every=5"], None),
        (["trainer.epochs=null", "trainer.steps=9"], None),
        (["trainer.epochs=4", "trainer.steps=9"], None),
        (["trainer.epochs=null", "trainer.max_seconds=1"], None),
        (["debug=smoke"], None),
        (["model=unrolled_autoencoder", "dataset.scaling=unit", "trainer.epochs=2"], 2),
    ],
)
def test_the_evaluations_of_a_run_are_known_from_its_epochs(
    words: list[str], count: int | None
) -> None:
    composed = compose(["dataset=digits", *words])
    assert not composed.problems
    assert outlook_of([composed], with_training=False).evaluations == count


def test_runs_of_different_lengths_have_no_common_number_of_evaluations() -> None:
    configurations = [compose(["dataset=digits", f"trainer.epochs={n}"]) for n in (2, 3)]
    assert outlook_of(configurations, with_training=False).evaluations is None


@pytest.mark.parametrize(
    ("metric", "answer"),
    [
        (["val/loss", "seconds"], "compares one metric, not val/loss, seconds"),
        ("test/accuracy", "evaluations, which do not measure test/accuracy; choose a val/ metric"),
        ("seconds", "do not measure seconds"),
    ],
)
def test_what_no_evaluation_measures_is_refused(metric: Any, answer: str) -> None:
    words = ["model=mlp", "dataset=digits", "optimizer.lr=0.1,0.2"]
    for sampler in (GridSampler, TpeSampler):
        with pytest.raises(ConfigError, match=answer):
            sampler(metric=metric, pruner="median").open(words)


def test_a_grid_is_pruned_and_the_pruned_are_left_alone(dltrain: Command) -> None:
    words = (*TINY, RATES, *MEDIAN)
    outcome = dltrain("-m", *words, "launcher=inline", "--json")
    assert outcome.code == 0, outcome.err
    rows = outcome.json["jobs"]
    assert [row["status"] for row in rows] == ["completed", "completed", "pruned", "pruned"]
    assert rows[2]["reason"].startswith("pruned after evaluation 1 of 3: val/accuracy 0.")
    assert "(median pruner)" in outcome.out
    sweep = Path(outcome.json["sweep"])
    assert json.loads((sweep / "2" / RESULTS).read_text())["status"] == "pruned"
    events = read_journal(sweep)
    judged = [one for one in events if one["event"] == "report"]
    assert [(one["number"], one["step"]) for one in judged] == [
        (0, 1),
        (0, 2),
        (0, 3),
        (1, 1),
        (1, 2),
        (1, 3),
        (2, 1),
        (3, 1),
    ]
    assert [one["reason"] for one in judged if one["reason"]] == [
        rows[2]["reason"],
        rows[3]["reason"],
    ]
    again = dltrain("resume", str(sweep), "--json")
    assert again.code == 0, again.err
    assert again.json["jobs"] == rows
    assert sum(one["event"] == "start" for one in read_journal(sweep)) == 4


def test_jobs_of_other_processes_are_pruned_through_files(dltrain: Command) -> None:
    """Two side by side: the coordinator answers each report, and removes the files."""
    words = (*TINY, "optimizer.lr=1e-1,1e-2,1e-6,1e-7", *MEDIAN, "launcher=local")
    outcome = dltrain("-m", *words, "launcher.jobs=1", "--json")
    assert outcome.code == 0, outcome.err
    rows = outcome.json["jobs"]
    assert [row["status"] for row in rows] == ["completed", "completed", "pruned", "pruned"]
    assert not list(Path(outcome.json["sweep"]).rglob("*.reports"))
    assert not list(Path(outcome.json["sweep"]).rglob("*.answers"))


def test_a_job_waits_for_a_coordinator_that_is_gone_only_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It trains on, and when a coordinator is there again it gets answers again."""
    monkeypatch.setattr(reports, "ANSWER_SECONDS", 0.3)
    monkeypatch.setattr(reports, "SILENT_SECONDS", 0.05)
    (tmp_path / "jobs").mkdir()
    reporter = Reporter(SweepJob(3, (), str(tmp_path)))
    mailbox = Mailbox(tmp_path)
    mailbox.answered[3] = 0
    seconds = []
    for step in (1, 2):
        start = time.monotonic()
        assert reporter.decide(step, math.nan) == ""
        seconds.append(time.monotonic() - start)
    assert seconds[0] >= 0.3 > seconds[1]
    assert "nobody answered to evaluation 2; the run continues" in caplog.text
    (first, second) = mailbox.new_reports()
    assert first[:2] == (3, 1)
    assert math.isnan(second[2])
    assert mailbox.new_reports() == []
    mailbox.answer(3, 3, "worse")
    assert reporter.decide(3, 0.5) == "worse"
    assert reporter.seconds == 0.3
    mailbox.end(3)
    assert list((tmp_path / "jobs").iterdir()) == []


class Recorder:
    """Records reports, and interrupts the run at one of them."""

    def __init__(self, end_at: int = -1) -> None:
        self.end_at = end_at
        self.values: dict[int, float] = {}

    def decide(self, step: int, value: float) -> str:
        if step in self.values:
            assert self.values[step] == value
        self.values[step] = value
        if step == self.end_at:
            self.end_at = -1
            raise Interrupted(15)
        return ""


@pytest.mark.parametrize("metric", [None, "val/loss"])
@pytest.mark.parametrize("end_at", [1, 4, 5, 7])
def test_a_resumed_run_numbers_its_evaluations_alike(
    end_at: int, metric: str | None, tmp_path: Path, save_every_epoch: None
) -> None:
    """Within epochs, a best state is saved before the evaluation is reported."""
    words = ("model=perceptron", "callbacks=quiet", "trainer.epochs=2", "dataset.batch_size=128")
    overrides = (*words, "trainer.evaluate_every=3", "paths.output=runs")
    name = identity(of_run(compose(list(overrides))).public)
    recorders = []
    for folder, recorder in (("whole", Recorder()), ("killed", Recorder(end_at))):
        (tmp_path / folder / "jobs").mkdir(parents=True)
        job = SweepJob(
            0, overrides, str(tmp_path / folder), identity=name, reports=True, metric=metric
        )
        perform(job, recorder.decide)
        if folder == "killed":
            assert json.loads(job.outcome.read_text())["status"] == "interrupted"
            perform(job, recorder.decide)
        assert json.loads(job.outcome.read_text())["status"] == "completed"
        recorders.append(recorder.values)
    assert len(recorders[0]) >= 8
    assert recorders[1] == recorders[0]


class Stopped:
    """An engine after an evaluation."""

    def __init__(self, exhausted: bool, epoch: int, halted: bool = False) -> None:
        self.exhausted = exhausted
        self.epoch = epoch
        self.halted = halted
        self.step = 5
        self.scores = {"val/score": math.nan}
        self.stage = type("", (), {"epochs": 2, "watch": "val/score"})


@pytest.mark.parametrize(
    ("engine", "ends"),
    [
        (Stopped(True, 0), True),
        (Stopped(False, 1), True),  # within the last epoch
        (Stopped(True, 1), False),
        (Stopped(False, 0, halted=True), False),
    ],
)
def test_the_last_evaluation_ends_no_run(engine: Any, ends: bool) -> None:
    from dltrain.errors import PrunedError

    seen: list[int] = []

    def decide(step: int, value: float) -> str:
        assert math.isnan(value)
        seen.append(step)
        return "pruned"

    callback = Pruning(None, decide)
    callback.evaluation_end(engine)
    copy = Pruning(None, decide)
    copy.load_state_dict(callback.state_dict())
    for hook in (callback.step_end, callback.epoch_end, copy.epoch_end):
        if ends:
            with pytest.raises(PrunedError):
                hook(engine)
        else:
            hook(engine)
    assert seen == [1]
    Pruning("val/other", decide).evaluation_end(engine)
    assert seen == [1]  # an evaluation without the metric is not counted
